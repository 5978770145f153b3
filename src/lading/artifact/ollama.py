"""Ollama's models: a Docker manifest whose layers have types of Ollama's own. They are read, and not written.

A layer has no file name; each gets one from its type. The template is text for Go's text/template and no Jinja, so
it never has the role of a chat template: llama.cpp takes the one inside the weights.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

import msgspec

from lading.artifact.format import Format, decode_config, described
from lading.errors import FormatError, UsageError
from lading.model import Model, ModelFacts, Part, Role, parse_count

if TYPE_CHECKING:
    from lading.artifact.layers import Listing
    from lading.manifest import Descriptor, Manifest

PREFIX = "application/vnd.ollama.image."
_KINDS = {
    "model": (Role.WEIGHTS, "model", ".gguf"),
    "projector": (Role.PROJECTOR, "mmproj", ".gguf"),
    "adapter": (Role.ADAPTER, "adapter", ".gguf"),
    "draft": (Role.DRAFTER, "draft", ".gguf"),
    "template": (Role.OTHER, "template", ".gotmpl"),
    "prompt": (Role.OTHER, "template", ".gotmpl"),
    "system": (Role.SYSTEM, "system", ".txt"),
    "params": (Role.PARAMS, "params", ".json"),
    "messages": (Role.OTHER, "messages", ".json"),
    "license": (Role.LICENCE, "LICENSE", ""),
}
_LEFT_OUT = frozenset({"embed"})  # of early models; Ollama leaves it out, too
_IN_PIECES = frozenset({"tensor", "json"})
_KIND = re.compile(r"[a-z][a-z0-9-]{0,39}", re.ASCII)
_MAX_CONTEXT = 2**31 - 1
_UNKNOWN = "unknown"


class _Config(msgspec.Struct, frozen=True, kw_only=True):
    # What is used and no more: Ollama adds and removes keys.
    model_format: str | None = None
    model_family: str | None = None
    model_type: str | None = None
    file_type: str | None = None
    context_length: int | None = None
    remote_host: str | None = None
    remote_model: str | None = None


def _detect(manifest: Manifest) -> bool:
    return any(blob.media_type.startswith(PREFIX) for blob in manifest.layers)


def _read(manifest: Manifest, raw: bytes, _listing: Listing) -> Model:
    config = decode_config(raw, _Config, "Ollama model")
    if config.remote_host or config.remote_model:
        msg = "the Ollama model has no weights: it stands for one that runs at Ollama's"
        raise FormatError(msg, hint="a model to run here has another name or tag")
    parts: list[Part] = []
    counts: dict[str, int] = {}
    for blob in manifest.layers:
        kind = _kind_of(blob)
        if kind in _LEFT_OUT:
            continue
        role, stem, suffix = _KINDS.get(kind, (Role.OTHER, kind, ""))
        count = counts[stem] = counts.get(stem, 0) + 1
        parts.append(Part(role, f"{stem}{suffix}" if count == 1 else f"{stem}-{count}{suffix}", blob))
    if not any(part.role is Role.WEIGHTS for part in parts):
        msg = "the Ollama model has no weights layer"
        raise FormatError(msg, hint="it is no model, or of a kind that is not known here")
    context = config.context_length or 0
    return Model(
        tuple(parts),
        described(
            ModelFacts(
                format=config.model_format or "gguf",
                architecture=config.model_family or None,
                parameters=parse_count(config.model_type or ""),
                file_type=config.file_type if config.file_type not in ("", _UNKNOWN) else None,
                context_length=context if 0 < context <= _MAX_CONTEXT else None,
            )
        ),
    )


def _kind_of(blob: Descriptor) -> str:
    kind = blob.media_type.removeprefix(PREFIX)
    if kind in _IN_PIECES:
        msg = f"layer {blob.digest.short} of the Ollama model is a piece of one: it has the type {blob.media_type[:80]}"
        raise FormatError(msg, hint="models in one GGUF file are read")
    if not blob.media_type.startswith(PREFIX) or not _KIND.fullmatch(kind):
        msg = f"layer {blob.digest.short} has the unknown media type {blob.media_type[:80]}"
        raise FormatError(msg, hint="it is none of Ollama's layer types")
    return kind


def _write(_model: Model, _created: str | None) -> NoReturn:
    msg = "models are not written in Ollama's format"
    raise UsageError(msg, hint="`docker` and `modelpack` are, and Ollama reads a GGUF file by itself")


ROW = Format("ollama", _detect, _read, _write)
