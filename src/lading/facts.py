"""ModelFacts read from the headers of weights."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from lading.errors import FormatError
from lading.formats import gguf, safetensors
from lading.formats.foreign import ENOUGH, hint_for
from lading.formats.gguf import ArrayRef, read_array
from lading.formats.shards import check_split, shard_sets
from lading.hparams import config_hparams, gguf_hparams
from lading.model import OPAQUE, ModelFacts, Role
from lading.outline import outline_of
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lading.content import RangeReader
    from lading.formats.gguf import GgufHeader, Scalar
    from lading.formats.safetensors import SafetensorsHeader

_GGUF = b"GGUF"
_MAX_TEXT = 4 * 1024 * 1024
_MAX_NUMBER = 2**63 - 1
_SHORT_ARRAY = 50
_NAMED = 5
_GGUF_KINDS = {
    "model": Role.WEIGHTS,
    "adapter": Role.ADAPTER,
    "mmproj": Role.PROJECTOR,
    "imatrix": Role.OTHER,
}
# Mistral ships its models twice in one folder, once in its own layout.
_SECOND_COPY = "consolidated"
# Transformers' names for the trained context, in the order that Docker Model Runner tries them.
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_ctx",
    "n_positions",
    "max_length",
    "max_sequence_length",
    "model_max_length",
)


@dataclass(frozen=True, slots=True)
class HeaderFile:
    """One file of a model, to be opened if its header is needed."""

    role: Role
    name: str
    open: Callable[[], RangeReader]


def gguf_facts(headers: Sequence[GgufHeader], reader: RangeReader) -> ModelFacts:
    """Return the facts of a GGUF model from its shards' headers, the first one first.

    `reader` is the first shard's: short arrays are read from it. Only the first shard carries metadata.
    """
    first = headers[0]
    said = first.metadata
    architecture = _text(said, "general.architecture")
    parameters = sum(header.parameters for header in headers)
    data_size = sum(header.data_size for header in headers)
    tokens = said.get("tokenizer.ggml.tokens")
    vocabulary = _number(said, f"{architecture or ''}.vocab_size")
    if vocabulary is None and isinstance(tokens, ArrayRef):
        vocabulary = tokens.length
    return ModelFacts(
        format="gguf",
        architecture=architecture,
        name=_text(said, "general.name"),
        parameters=parameters or None,
        bits_per_weight=8 * data_size / parameters if parameters else None,
        file_type=first.file_type,
        context_length=_number(said, f"{architecture or ''}.context_length"),
        vocabulary_size=vocabulary,
        chat_template=_text(said, "tokenizer.chat_template"),
        licence=_text(said, "general.license"),
        vendor=_text(said, "general.organization"),
        description=_text(said, "general.description"),
        metadata={
            key: text for key, value in said.items() if (text := _as_text(first, reader, key, value)) is not None
        },
        outline=_outline(headers, reader) if architecture else "",
    )


def _outline(headers: Sequence[GgufHeader], reader: RangeReader) -> str:
    try:
        return outline_of(gguf_hparams(headers, reader))
    except FormatError:
        return ""  # an estimate reads the header, and says what is odd about it


def safetensors_facts(
    headers: Sequence[SafetensorsHeader], config: bytes | None, template: str | None = None
) -> ModelFacts:
    """Return the facts of a safetensors model from its shards' headers and its `config.json`, if there is one."""
    tree = _tree(config)
    # Models that see or hear keep what concerns their language model one level down.
    inner = tree.get("text_config")
    trees = (tree, inner) if isinstance(inner, dict) else (tree,)
    dtypes = {dtype for header in headers for dtype in header.dtypes}
    parameters = sum(header.parameters for header in headers)
    size = sum(tensor.size for header in headers for tensor in header.tensors)
    shape = config_hparams(headers, config)
    metadata = {key: text for header in headers for key, text in header.metadata.items()}
    contexts = (_number(one, key) for one in trees for key in _CONTEXT_KEYS)
    vocabularies = (_number(one, "vocab_size") for one in trees)
    return ModelFacts(
        format="safetensors",
        architecture=_text(tree, "model_type") or metadata.get("architecture") or None,
        name=_public_name(_text(tree, "_name_or_path")),
        parameters=parameters or None,
        bits_per_weight=8 * size / parameters if parameters else None,
        file_type=dtypes.pop() if len(dtypes) == 1 else "mixed" if dtypes else None,
        context_length=next((context for context in contexts if context), None),
        vocabulary_size=next((vocabulary for vocabulary in vocabularies if vocabulary), None),
        chat_template=template,
        metadata={**metadata, "tensor_count": str(sum(len(header.tensors) for header in headers))},
        outline=outline_of(shape) if headers and shape.architecture else "",
    )


def _public_name(name: str | None) -> str | None:
    # transformers records what the model was loaded from: often a folder of whoever saved it.
    return name if name and not name.startswith(("/", ".", "~")) and "\\" not in name else None


def _tree(raw: bytes | None) -> Mapping[str, object]:
    # config.json only adds to what the headers say; one that cannot be read adds nothing.
    try:
        tree = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _text(said: Mapping[str, object], key: str) -> str | None:
    value = said.get(key)
    # JSON can hold half a surrogate pair, which no UTF-8 can.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and value else None


def _number(said: Mapping[str, object], key: str) -> int | None:
    value = said.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_NUMBER else None


def _as_text(header: GgufHeader, reader: RangeReader, key: str, value: Scalar | ArrayRef) -> str | None:
    # As Docker Model Runner writes them: long arrays left out, short ones joined, floats with six digits.
    if isinstance(value, ArrayRef):
        if value.length > _SHORT_ARRAY:
            return None
        return ", ".join(_scalar_text(element) for element in read_array(reader, header, key))
    return _scalar_text(value)


def _scalar_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:f}" if isinstance(value, float) else str(value)


def read_facts(files: Sequence[HeaderFile], *, known: Mapping[str, GgufHeader] | None = None) -> ModelFacts:
    """Read the headers of a model's weights, wherever they lie, and return its facts.

    Of a model that has checkpoints (`bin`) alone, only what its config.json says is known. `known` are GGUF headers read before, by file name, which are not read again. Besides weights only small files
    are opened (config.json, a chat template). Raises FormatError, naming the file, for weights that break their
    format's rules, and for files that are not the weights of one model.
    """
    roles = {file.role for file in files}
    if Role.BIN in roles and Role.WEIGHTS not in roles:
        said = safetensors_facts((), _small(_named(files, "config.json")), _template(files))
        return replace(said, format=OPAQUE, metadata={})
    weights = _in_order([file for file in files if file.role is Role.WEIGHTS])
    with closing(weights[0].open()) as first:
        head = first.read_at(0, ENOUGH)
        suffix = _suffix(weights[0].name)
        if head.startswith(_GGUF) or suffix == ".gguf":
            shards = [
                _gguf_header(weights[0], first, known),
                *(_gguf_header(file, None, known) for file in weights[1:]),
            ]
            check_split(shards)
            return gguf_facts(shards, first)
        if suffix != ".safetensors" and head[8:9] != b"{":
            msg = f"{first.name} is neither GGUF nor safetensors"
            raise FormatError(msg, hint=hint_for(head) if head else "it is empty: fetch it again")
        counted = [file for file in weights if not _base(file.name).startswith(_SECOND_COPY)] or weights
        headers = [_safetensors_header(file, first if file is weights[0] else None) for file in counted]
    return safetensors_facts(headers, _small(_named(files, "config.json")), _template(files))


def role_in_header(header: GgufHeader) -> Role | None:
    """Return what a GGUF file says it is (general.type, clip); None if it does not say."""
    if header.metadata.get("general.architecture") == "clip":
        return Role.PROJECTOR
    kind = header.metadata.get("general.type")
    return _GGUF_KINDS.get(kind) if isinstance(kind, str) else None


def _in_order(weights: Sequence[HeaderFile]) -> Sequence[HeaderFile]:
    if not weights:
        msg = "the model has no weights"
        raise FormatError(msg, hint="weights are .gguf or .safetensors files")
    names = [file.name for file in weights]
    ggufs = [name for name in names if _suffix(name) == ".gguf"]
    others = [name for name in names if _suffix(name) == ".safetensors"]
    if ggufs and others:
        msg = f"there are weights of two formats: {_listed([ggufs[0], others[0]])}"
        raise FormatError(msg, hint="a model has weights in one format; name a single file, or part them into folders")
    sets = shard_sets(ggufs)
    if len(sets) > 1:
        msg = f"there are {len(sets)} models side by side: {_listed([first for first, *_ in sets])}"
        raise FormatError(msg, hint="name one of the files")
    place = {name: index for index, name in enumerate(sets[0])} if sets else {}
    return sorted(weights, key=lambda file: place.get(file.name, 0))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return clean(", ".join(names[:_NAMED])) + more


def _gguf_header(file: HeaderFile, reader: RangeReader | None, known: Mapping[str, GgufHeader] | None) -> GgufHeader:
    if known and file.name in known:
        return known[file.name]
    if reader:
        return gguf.read_header(reader)
    with closing(file.open()) as own:
        return gguf.read_header(own)


def _safetensors_header(file: HeaderFile, reader: RangeReader | None) -> SafetensorsHeader:
    if reader:
        return safetensors.read_header(reader)
    with closing(file.open()) as own:
        return safetensors.read_header(own)


def _template(files: Sequence[HeaderFile]) -> str | None:
    """Return the chat template that has a file of its own, or else the tokenizer's, as transformers looks for it."""
    own = _small(next((file for file in files if file.role is Role.TEMPLATE and _suffix(file.name) != ".json"), None))
    if own is not None:
        return own.decode("utf-8", "replace")
    said = _tree(_small(_named(files, "tokenizer_config.json"))).get("chat_template")
    if isinstance(said, list):
        # Several by name; the one for chats is called default.
        entries = [entry for entry in said if isinstance(entry, dict)]
        said = next((entry.get("template") for entry in entries if entry.get("name") == "default"), None)
    return _text({"said": said}, "said")


def _named(files: Sequence[HeaderFile], base: str) -> HeaderFile | None:
    """Return the file of that name that lies highest."""
    found = [file for file in files if _base(file.name) == base]
    return min(found, key=lambda file: file.name.count("/"), default=None)


def _small(file: HeaderFile | None) -> bytes | None:
    if file is None:
        return None
    with closing(file.open()) as reader:
        return reader.read_at(0, min(reader.size, _MAX_TEXT))


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
