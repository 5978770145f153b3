"""Which files of a hub's repository make the model that was asked for. Pure: names in, names out.

    a quantization   the files whose own label is exactly that, in any case: `f16` is no `bf16`, and
                     `UD-Q4_K_XL` no `Q4_K_XL`. A split set comes whole and in order.
    a file's name    that file, with the rest of its set.
    nothing          Q4_K_M, else the first of `PREFERENCE` that is there, and the choice says so. That is for where
                     nobody knows the machine: `api` names the one that fits best.

With GGUF weights come the projector of a model that sees (F16 where there are several), the licence and the model
card. Importance matrices, adapters, drafters and MTP heads are never taken for the model. A repository without
GGUF is taken whole as safetensors, with what its tokenizer and configuration need, and no other framework's files.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.errors import FormatError, NotFoundError, UsageError
from lading.formats.shards import check_safetensors, shard_of, shard_sets
from lading.model import Role, chat_templates, role_of
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DEFAULT = "Q4_K_M"

PREFERENCE = (
    DEFAULT, "UD-Q4_K_XL", "Q4_K_L", "Q4_K_XL", "Q4_K_S", "Q4_K", "UD-Q4_K_M", "UD-Q4_K_S", "IQ4_NL", "IQ4_XS",
    "Q4_1", "Q4_0", "MXFP4_MOE", "MXFP4", "NVFP4",
    "Q5_K_M", "UD-Q5_K_XL", "Q5_K_L", "Q5_K_S", "Q5_K", "Q5_1", "Q5_0", "Q6_K", "UD-Q6_K_XL", "Q6_K_L",
    "Q3_K_L", "Q3_K_XL", "UD-Q3_K_XL", "Q3_K_M", "IQ3_M", "Q3_K_S", "Q3_K", "IQ3_S", "IQ3_XS", "IQ3_XXS",
    "Q8_0", "UD-Q8_K_XL", "Q2_K_L", "UD-Q2_K_XL", "Q2_K", "IQ2_M", "Q2_K_S", "IQ2_S", "IQ2_XS", "IQ2_XXS",
    "BF16", "F16", "FP16", "F32", "TQ2_0", "IQ1_M", "TQ1_0", "IQ1_S",
)  # fmt: skip
"""The order in which quantizations stand in for Q4_K_M when none was asked for: near in quality first."""

_LABEL = re.compile(
    r"(?<![A-Z0-9])"
    r"((?:UD[-_])?(?:I?Q[1-9]_(?:0_[48]_[48]|[01]|(?:K|KV|XXS|XS|S|M|L|XL|NL|KS|KSS|KL|KT)(?:_(?:XXS|XS|S|M|L|XL|XXL|P))?)"
    r"(?:_R[48])?|TQ[12]_0|Q[1-8]|MXFP[48](?:_MOE)?|NVFP4|BF16|FP?(?:16|32|64)|FP8))"
    r"(?![A-Z0-9])",
    re.IGNORECASE | re.ASCII,
)
_BOUNDS = re.compile(r"[-._/]")
_SAFETENSORS_SHARD = re.compile(r"(?P<stem>.+)-[0-9]{5}-of-(?P<count>[0-9]{5})\.safetensors", re.DOTALL)
_ASIDE = frozenset({"imatrix", "draft", "drafter", "mtp", "nextn", "eagle", "eagle3", "speculator", "calibration"})
_PROJECTORS = ("F16", "FP16", "BF16", "Q8_0", "F32", "FP32")
_COPIES = "consolidated"
_MMPROJ = "mmproj"
_FOREIGN = (".bin", ".pth", ".pt", ".ckpt", ".onnx", ".h5", ".msgpack", ".tflite", ".ot", ".mlmodel", ".pdparams")
_KEPT = frozenset({Role.TOKENIZER, Role.CONFIG, Role.TEMPLATE, Role.LICENCE})
_TEMPLATE = "chat_template.jinja"
_NAMED = 12
_LONGEST = 1024  # what may be the name of a file in a model


@dataclass(frozen=True, slots=True)
class Choice:
    """The files of a model. `quant` is the label as the files spell it, "" where they have none.

    `told` are sentences for the user: what was chosen where nothing had been asked for.
    """

    weights: tuple[str, ...]
    projector: str | None = None
    others: tuple[str, ...] = ()
    quant: str = ""
    told: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All files: weights in their order, projector, the others by name."""
        return (*self.weights, *((self.projector,) if self.projector else ()), *self.others)

    def role(self, name: str) -> Role:
        """Return what a chosen file is to the model."""
        if name in self.weights:
            guess = role_of(name)
            return guess if guess is Role.ADAPTER else Role.WEIGHTS
        if name == self.projector:
            return Role.PROJECTOR
        role = role_of(name)
        return Role.CONFIG if role is Role.TEMPLATE and name != self._template else role

    @property
    def _template(self) -> str | None:
        """The chat template; None where several could be it, for then the one inside the weights, or none, is."""
        found = chat_templates(name for name in self.others if role_of(name) is Role.TEMPLATE)
        return found[0] if len(found) == 1 else next((name for name in found if name == _TEMPLATE), None)


def choose(names: Iterable[str], select: str | None, source: str) -> Choice:
    """Choose the files that make a model.

    `select` is a quantization, a file's path or name, or None; `source` is what messages call the repository,
    `hf://owner/name`. Raises NotFoundError, naming what there is, UsageError where several models match, and
    FormatError for a split model that lacks parts. What was asked for is never replaced by something else.
    """
    every = sorted({name for name in names if len(name) <= _LONGEST})
    ggufs = [name for name in every if name.lower().endswith(".gguf")]
    tensors = [name for name in every if name.lower().endswith(".safetensors")]
    if select and select.lower().endswith((".gguf", ".safetensors")):
        file = _one_file(select, [*ggufs, *tensors], source)
        if file in ggufs:
            return _with_company(_whole(file, ggufs), every, ())
        return _folder(_shards(file, tensors), every)
    if ggufs:
        return _gguf(ggufs, every, select, source)
    if select:
        msg = f"{source} has no `{clean(select)}`: it holds no GGUF file"
        hint = "its weights are safetensors; leave the quantization out" if tensors else _contents(every)
        raise NotFoundError(msg, hint=hint)
    tensors = _without_copies(tensors)
    if not tensors or all(role_of(name) is Role.ADAPTER for name in tensors):
        what = "an adapter and no model" if tensors else "neither GGUF nor safetensors"
        msg = f"{source} holds {what}"
        raise NotFoundError(msg, hint=_contents(every))
    return _folder(tensors, every)


def every(names: Iterable[str], source: str) -> tuple[Choice, ...]:
    """Return each model that a repository's files make, one for each GGUF file or split set; without these, the one of safetensors.

    Split sets of GGUF that lack parts are left out. Raises NotFoundError and FormatError as `choose` does.
    """
    known = sorted({name for name in names if len(name) <= _LONGEST})
    own = _words(source)
    models = [name for name in known if name.lower().endswith(".gguf") and _is_model(name, own)]
    found = []
    for files in _sets(models).values():
        with suppress(FormatError):
            found.append(_with_company(shard_sets(files)[0], known, ()))
    return tuple(found) or (choose(known, None, source),)


def label(name: str) -> str:
    """Return the quantization that a file's name tells, as it is spelled there; "" if none.

    The last one in the name itself counts, else the last one in its folders.
    """
    folders, _, base = name.rpartition("/")
    found = _LABEL.findall(base) or _LABEL.findall(folders)
    return str(found[-1]) if found else ""


def _gguf(ggufs: Sequence[str], every: Sequence[str], select: str | None, source: str) -> Choice:
    own = _words(source)
    models = [name for name in ggufs if _is_model(name, own)]
    sets = _sets(models)
    if not sets:
        msg = f"{source} holds no model among its GGUF files"
        raise NotFoundError(msg, hint=f"a file can be named: {named(ggufs)}")
    if select:
        matching = [key for key in sets if _matches(sets[key][0], select)]
        if not matching:
            msg = f"{source} has no `{clean(select)}`"
            raise NotFoundError(msg, hint=f"it has {named(_labels(sets))}")
        return _with_company(_only(matching, sets, select, source), every, ())
    chosen, told = _default(sets, source)
    return _with_company(chosen, every, told)


def _default(sets: dict[str, list[str]], source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if len(sets) == 1:
        return shard_sets(next(iter(sets.values())))[0], ()
    by_label: dict[str, list[str]] = {}
    for key, files in sets.items():
        by_label.setdefault(label(files[0]).upper(), []).append(key)
    if set(by_label) == {""}:
        return _only(list(sets), sets, "", source), ()
    by_label.pop("", None)
    order = {quant: rank for rank, quant in enumerate(PREFERENCE)}
    best = min(by_label, key=lambda quant: (order.get(quant, len(order)), quant))
    chosen = _only(by_label[best], sets, label(sets[by_label[best][0]][0]), source)
    which = label(chosen[0]) if best == DEFAULT else f"{label(chosen[0])}, the nearest to {DEFAULT}"
    return chosen, (f"{which} of {len(by_label)} quantizations, as none was named",)


def _only(keys: Sequence[str], sets: dict[str, list[str]], what: str, source: str) -> tuple[str, ...]:
    """Return the one set there is, whole and in order; `what` is the label that several share."""
    if len(keys) > 1:
        msg = f"{source} has {len(keys)} models" + (f" in `{clean(what)}`" if what else "")
        raise UsageError(msg, hint=f"name one by its file: {named([sets[key][0] for key in keys])}")
    return shard_sets(sets[keys[0]])[0]


def _sets(names: Iterable[str]) -> dict[str, list[str]]:
    """Put the shards of a model together, whole or not; every other file is a set of its own."""
    sets: dict[str, list[str]] = {}
    for name in names:
        sets.setdefault(_set_of(name), []).append(name)
    return sets


def _set_of(name: str) -> str:
    try:
        shard = shard_of(name)
    except FormatError:
        return name  # senseless numbers: nothing belongs to it, and whoever chooses it hears why
    return f"{shard.stem} {shard.count}" if shard else name


def _whole(file: str, ggufs: Sequence[str]) -> tuple[str, ...]:
    return shard_sets(_sets(ggufs)[_set_of(file)])[0]


def _shards(file: str, tensors: Sequence[str]) -> list[str]:
    match = _SAFETENSORS_SHARD.fullmatch(file)
    if match is None:
        return [file]
    others = ((name, _SAFETENSORS_SHARD.fullmatch(name)) for name in tensors)
    return [name for name, other in others if other and other.groups() == match.groups()]


def _matches(name: str, select: str) -> bool:
    own = label(name)
    if own and label(select) == select:
        return own.casefold() == select.casefold()
    # Not a label that is known here: its words must stand in the name, around the label if there is one.
    pattern = rf"(?:^|[-._/])({re.escape(select)})(?:$|[-._/])"
    stem = name[: -len(".gguf")]
    return any(own in match[1] for match in re.finditer(pattern, stem, re.IGNORECASE))


def _is_model(name: str, own: frozenset[str]) -> bool:
    # A mark that the repository's own name carries says nothing about one of its files.
    return role_of(name) is Role.WEIGHTS and _MMPROJ not in _words(name) and not _words(name) & (_ASIDE - own)


def _words(name: str) -> frozenset[str]:
    return frozenset(_BOUNDS.split(name.lower()))


def _one_file(select: str, files: Sequence[str], source: str) -> str:
    found = [name for name in files if name == select] or [name for name in files if name.rpartition("/")[2] == select]
    if not found:
        msg = f"{source} has no file `{clean(select)}`"
        raise NotFoundError(msg, hint=f"it has {named(files)}" if files else "it holds no weights")
    if len(found) > 1:
        msg = f"{source} has {len(found)} files named `{clean(select)}`"
        raise UsageError(msg, hint=f"name one with its folder: {named(found)}")
    return found[0]


def _with_company(weights: tuple[str, ...], every: Sequence[str], told: tuple[str, ...]) -> Choice:
    folders = _ways_up(weights[0])
    others = [name for name in every if _folder_of(name) in folders and (_is_licence(name) or _is_card(name))]
    projector, more = _projector(weights[0], every)
    return Choice(weights, projector, tuple(others), label(weights[0]), (*told, *more))


def _projector(weights: str, every: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return the projector that stands nearest to the weights: F16 if it is there, of several the most alike in name."""
    words = _words(weights)
    if _MMPROJ in words:
        return None, ()
    found = [name for name in every if name.lower().endswith(".gguf") and _MMPROJ in _words(name)]
    ways = _ways_up(weights)
    near = [name for name in found if _folder_of(name) in ways] or found
    if not near:
        return None, ()
    # Where models lie side by side, another one's projector shares fewer words with the weights.
    alike = {name: len(_model_words(name) & words) for name in near}
    most = max(alike.values())
    order = {quant: rank for rank, quant in enumerate(_PROJECTORS)}
    best = min(
        (name for name in near if alike[name] == most),
        key=lambda name: (order.get(label(name).upper(), len(order)), name),
    )
    return best, (f"{clean(best)} of {len(near)} projectors",) if len(near) > 1 else ()


def _model_words(name: str) -> frozenset[str]:
    return _words(name.replace(label(name), "")) if label(name) else _words(name)


def _folder(weights: Sequence[str], every: Sequence[str]) -> Choice:
    """Return a safetensors model with the files that its tokenizer and configuration need."""
    check_safetensors(weights)
    held = {_folder_of(name) for name in weights}
    foreign = {_folder_of(name) for name in every if name.lower().endswith(_FOREIGN)} - held - {""}

    def is_kept(name: str) -> bool:
        folder = _folder_of(name)
        if name.startswith(".") or not _ways_up(name).isdisjoint(foreign):
            return False
        return role_of(name) in _KEPT or (_is_card(name) and folder in held | {""})

    return Choice(tuple(sorted(weights)), None, tuple(name for name in every if is_kept(name)))


def _without_copies(tensors: Sequence[str]) -> list[str]:
    # Mistral ships its models twice in one folder, once in its own layout.
    copies = {name for name in tensors if name.rpartition("/")[2].startswith(_COPIES)}
    doubled = {_folder_of(name) for name in tensors if name not in copies}
    return [name for name in tensors if name not in copies or _folder_of(name) not in doubled]


def _is_licence(name: str) -> bool:
    return role_of(name) is Role.LICENCE


def _is_card(name: str) -> bool:
    return name.rpartition("/")[2].lower() == "readme.md"


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _ways_up(name: str) -> frozenset[str]:
    folders = name.split("/")[:-1]
    return frozenset("/".join(folders[:depth]) for depth in range(len(folders) + 1))


def _labels(sets: dict[str, list[str]]) -> list[str]:
    order = {quant: rank for rank, quant in enumerate(PREFERENCE)}
    told = {label(files[0]) or files[0] for files in sets.values()}
    return sorted(told, key=lambda quant: (order.get(quant.upper(), len(order)), quant))


def _contents(every: Sequence[str]) -> str:
    return f"it has {named(every)}" if every else "it is empty"


def named(names: Sequence[str], most: int = _NAMED) -> str:
    """Name some files or quantizations of a stranger in a sentence: `a, b and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(clean(name)[:120] for name in names[:most]) + more
