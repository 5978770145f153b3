"""ModelFacts read from the headers of weights."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.formats import gguf, safetensors
from lading.formats.gguf import ArrayRef, read_array
from lading.formats.shards import check_split
from lading.model import ModelFacts, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lading.content import RangeReader
    from lading.formats.gguf import GgufHeader, Scalar
    from lading.formats.safetensors import SafetensorsHeader

_GGUF = b"GGUF"
_MAX_TEXT = 4 * 1024 * 1024

_SHORT_ARRAY = 50
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
    vocabulary = _number(said, f"{architecture}.vocab_size")
    if vocabulary is None and isinstance(tokens, ArrayRef):
        vocabulary = tokens.length
    return ModelFacts(
        format="gguf",
        architecture=architecture,
        name=_text(said, "general.name"),
        parameters=parameters or None,
        bits_per_weight=8 * data_size / parameters if parameters else None,
        file_type=first.file_type,
        context_length=_number(said, f"{architecture}.context_length"),
        vocabulary_size=vocabulary,
        chat_template=_text(said, "tokenizer.chat_template"),
        licence=_text(said, "general.license"),
        vendor=_text(said, "general.organization"),
        description=_text(said, "general.description"),
        metadata={
            key: text for key, value in said.items() if (text := _as_text(first, reader, key, value)) is not None
        },
    )


def safetensors_facts(
    headers: Sequence[SafetensorsHeader], config: bytes | None, template: str | None = None
) -> ModelFacts:
    """Return the facts of a safetensors model from its shards' headers and its `config.json`, if there is one."""
    tree = _config(config)
    dtypes = {dtype for header in headers for dtype in header.dtypes}
    parameters = sum(header.parameters for header in headers)
    size = sum(tensor.size for header in headers for tensor in header.tensors)
    metadata = {key: text for header in headers for key, text in header.metadata.items()}
    contexts = (_number(tree, key) for key in _CONTEXT_KEYS)
    return ModelFacts(
        format="safetensors",
        architecture=_text(tree, "model_type") or metadata.get("architecture"),
        name=_text(tree, "_name_or_path") or None,
        parameters=parameters or None,
        bits_per_weight=8 * size / parameters if parameters else None,
        file_type=dtypes.pop() if len(dtypes) == 1 else "mixed" if dtypes else None,
        context_length=next((context for context in contexts if context), None),
        vocabulary_size=_number(tree, "vocab_size"),
        chat_template=template,
        metadata={**metadata, "tensor_count": str(sum(len(header.tensors) for header in headers))},
    )


def _config(raw: bytes | None) -> Mapping[str, object]:
    # config.json only adds to what the headers say; one that cannot be read adds nothing.
    try:
        tree = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _text(said: Mapping[str, object], key: str) -> str | None:
    value = said.get(key)
    return value if isinstance(value, str) and value else None


def _number(said: Mapping[str, object], key: str) -> int | None:
    value = said.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


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


def read_facts(files: Sequence[HeaderFile]) -> ModelFacts:
    """Read the headers of a model's weights, wherever they lie, and return its facts.

    Only small files besides weights are opened (config.json, a chat template). Raises FormatError, naming the
    file, for weights that break their format's rules.
    """
    weights = [file for file in files if file.role is Role.WEIGHTS]
    with ExitStack() as stack:

        def opened(file: HeaderFile) -> RangeReader:
            return stack.enter_context(closing(file.open()))

        readers = [opened(file) for file in weights]
        if readers[0].read_at(0, len(_GGUF)) == _GGUF or weights[0].name.endswith(".gguf"):
            shards = [gguf.read_header(reader) for reader in readers]
            check_split(shards)
            return gguf_facts(shards, readers[0])
        config = next((file for file in files if file.name.rpartition("/")[2] == "config.json"), None)
        template = next((file for file in files if file.role is Role.TEMPLATE), None)
        return safetensors_facts(
            [safetensors.read_header(reader) for reader in readers],
            _small(opened(config)) if config else None,
            _small(opened(template)).decode("utf-8", "replace") if template else None,
        )


def role_in_header(header: GgufHeader) -> Role | None:
    """Return what a GGUF file says it is, when that is not the model itself (general.type, clip)."""
    kind = header.metadata.get("general.type")
    if kind == "adapter":
        return Role.ADAPTER
    if kind == "mmproj" or header.metadata.get("general.architecture") == "clip":
        return Role.PROJECTOR
    return None


def _small(reader: RangeReader) -> bytes:
    return reader.read_at(0, min(reader.size, _MAX_TEXT))
