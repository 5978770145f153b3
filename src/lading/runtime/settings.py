"""What a runtime is told: typed values with their ranges, from the user and, fewer of them, from an artifact."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path  # noqa: TC003  # msgspec reads the annotations
from typing import TYPE_CHECKING

from lading.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_UNSAFE_IN_ALIAS = re.compile(r"[\x00-\x1f\x7f,]")
_UNSAFE_IN_KEY = re.compile(r"[\x00-\x20\x7f,]")
_POOLINGS = ("none", "mean", "cls", "last", "rank")
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
"""What keys and values may be kept as."""

_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_MOST_STOPS = 16
_LONGEST_STOP = 128


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are picked where a request does not say; None leaves it to the model and the runtime."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """All that a runtime is told.

    `model` is the weights' file, of a split model the first one. `port` 0 picks a free one. `ctx_size` is in tokens,
    None leaves it to the runtime (what the model was trained for). `threads` None takes the usable cores.
    `n_gpu_layers` None lets the runtime place what fits. `parallel` slots share the context, each its part. `cache_ram`
    is how much of finished conversations is kept for their return, in MiB; `repack` lets the processor have a second
    copy of weights in an order that it likes. `n_cpu_moe` keeps the experts of so many first layers on the host. `pooling` (none, mean, cls, last, rank) is for `embeddings`;
    None takes the one that the model names, and a model that names none then answers no `/v1/embeddings`.
    Raises UsageError for values that no runtime could take.
    """

    model: Path
    mmproj: Path | None = None
    chat_template: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    ctx_size: int | None = None
    threads: int | None = None
    n_gpu_layers: int | None = None
    alias: str | None = None
    embeddings: bool = False
    pooling: str | None = None
    parallel: int = 1
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    cache_ram: int = 0
    repack: bool = True
    n_cpu_moe: int = 0
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("port", self.port, 0, 65535),
            ("ctx-size", self.ctx_size, 1, 2**31 - 1),
            ("threads", self.threads, 1, 4096),
            ("n-gpu-layers", self.n_gpu_layers, 0, 2**31 - 1),
            ("parallel", self.parallel, 1, 256),
            ("cache-ram", self.cache_ram, 0, 2**31 - 1),
        ):
            if value is not None and not least <= value <= most:
                msg = f"{name} {value} is not between {least} and {most}"
                raise UsageError(msg)
        if self.alias is not None and (not self.alias or _UNSAFE_IN_ALIAS.search(self.alias)):
            msg = f"the alias {self.alias!r} is empty or holds a comma or control character"
            raise UsageError(msg)
        if self.pooling is not None and self.pooling not in _POOLINGS:
            msg = f"unknown pooling `{self.pooling}`"
            raise UsageError(msg, hint=f"one of {', '.join(_POOLINGS)}")
        for kind in (self.cache_type_k, self.cache_type_v):
            if kind not in CACHE_TYPES:
                msg = f"unknown cache type `{kind}`"
                raise UsageError(msg, hint=f"one of {', '.join(CACHE_TYPES)}")
        if any(not key or _UNSAFE_IN_KEY.search(key) or not key.isascii() for key in self.api_keys):
            msg = "an API key is empty, or holds a space, comma, control or non-ASCII character"
            raise UsageError(msg)

    def absolute(self) -> ServeSettings:
        """Return the same with paths that mean the same in every folder."""
        return replace(
            self,
            model=self.model.absolute(),
            mmproj=self.mmproj and self.mmproj.absolute(),
            chat_template=self.chat_template and self.chat_template.absolute(),
        )


@dataclass(frozen=True, slots=True)
class ArtifactSettings:
    """What an artifact may decide about its serving, and the names of what it asked for in vain."""

    sampling: Sampling = Sampling()
    ctx_size: int | None = None
    ignored: tuple[str, ...] = ()


_ALIASES = {"temp": "temperature", "num_ctx": "ctx_size", "context_size": "ctx_size", "n_ctx": "ctx_size"}
_RANGES: dict[str, tuple[type, float, float]] = {
    "temperature": (float, 0.0, 5.0),
    "top_p": (float, 0.0, 1.0),
    "top_k": (int, 0, 1_000_000),
    "min_p": (float, 0.0, 1.0),
    "repeat_penalty": (float, 0.1, 10.0),
    "seed": (int, 0, 2**32 - 1),
    "ctx_size": (int, 256, 2**24),
}


_ANY_SEED = ("seed", -1)
"""How llama-server is told what it does unasked."""


def from_words(words: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Read the parameters that a packager gives as name and text; raises UsageError, naming the one that is wrong.

    The result has the names of `ArtifactSettings` and is what `from_artifact` takes whole. `stop` may come repeatedly.
    """
    said: dict[str, object] = {}
    stops: list[str] = []
    for raw_name, text in words:
        name = _canonical(raw_name)
        if name == "stop":
            stops.append(text)
        elif name not in _RANGES:
            msg = f"an artifact has no say in `{raw_name}`"
            raise UsageError(msg, hint=f"it may set {', '.join(sorted((*_RANGES, 'stop')))}")
        elif name in said:
            msg = f"`{raw_name}` is given twice"
            raise UsageError(msg)
        else:
            said[name] = _ranged(raw_name, name, text)
    if stops and not _stop_strings(stops):
        msg = f"`stop` takes up to {_MOST_STOPS} strings of 1 to {_LONGEST_STOP} characters"
        raise UsageError(msg)
    return dict(sorted({**said, **({"stop": stops} if stops else {})}.items()))


def _ranged(raw_name: str, name: str, text: str) -> float | int:
    kind, least, most = _RANGES[name]
    number = _in_range(name, float(text)) if _NUMBER.fullmatch(text) else None
    if number is None:
        what = "a whole number" if kind is int else "a number"
        msg = f"`{raw_name}` is {what} between {least} and {most}, not {text!r}"
        raise UsageError(msg)
    return number


def from_artifact(values: Mapping[str, object]) -> ArtifactSettings:
    """Take from an artifact's parameters what is on the list and in range; the rest is ignored and named.

    Names may be written with `-` or `_`, and as Ollama and Docker write them (`num_ctx`, `context-size`, `temp`).
    No path, address, port or raw flag is on the list, so none can come from an artifact.
    """
    taken: dict[str, float | int] = {}
    stop: tuple[str, ...] = ()
    ignored: list[str] = []
    for raw_name, value in values.items():
        name = _canonical(raw_name)
        if name == "stop" and (strings := _stop_strings(value)):
            stop = strings
        elif (number := _in_range(name, value)) is not None:
            taken[name] = number
        else:
            ignored.append(raw_name)
    ctx_size = taken.pop("ctx_size", None)
    sampling = Sampling(stop=stop, **taken)  # type: ignore[arg-type]  # _in_range gave each the type of its field
    return ArtifactSettings(sampling, None if ctx_size is None else int(ctx_size), tuple(ignored))


def taken(raw_name: str, value: object) -> str:
    """Return what an artifact may set a parameter to, where `value` is something else, as in `256 to 16,777,216`.

    Empty where the value is taken, and where an artifact has no say in the parameter at all.
    """
    name = _canonical(raw_name)
    if name not in _RANGES or _in_range(name, value) is not None or (name, value) == _ANY_SEED:
        return ""
    _kind, least, most = _RANGES[name]
    return f"{least:,} to {most:,}"


def _canonical(raw_name: str) -> str:
    name = raw_name.replace("-", "_")
    return _ALIASES.get(name, name)


def merged(chosen: Sampling, fallback: Sampling) -> Sampling:
    """Return what was chosen, with the gaps filled from `fallback`."""
    values = {}
    for one in fields(Sampling):
        value = getattr(chosen, one.name)
        values[one.name] = getattr(fallback, one.name) if value is None or value == () else value
    return Sampling(**values)


def _in_range(name: str, value: object) -> float | int | None:
    if name not in _RANGES or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    kind, least, most = _RANGES[name]
    if not least <= value <= most or (kind is int and value != int(value)):
        return None
    return int(value) if kind is int else float(value)


def _stop_strings(value: object) -> tuple[str, ...]:
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list | tuple) or len(strings) > _MOST_STOPS:
        return ()
    if not all(isinstance(one, str) and 0 < len(one) <= _LONGEST_STOP and "\0" not in one for one in strings):
        return ()
    return tuple(strings)
