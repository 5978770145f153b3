"""The variants in an artifact: a manifest's model, or those of an index, by what they say or by their files' headers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lading import artifact, media
from lading.api._once import Once
from lading.artifact.contents import part_ranges, read_part
from lading.artifact.layers import LOOK, list_archives
from lading.convert.found import read_small
from lading.crew import Crew
from lading.errors import FormatError, NotFoundError
from lading.facts import gguf_facts
from lading.fit.headers import HeaderAt, Tensors, Variant
from lading.formats.shards import shard_sets
from lading.manifest import MANIFEST_KINDS, Index
from lading.model import Role, body
from lading.plan import MAX_DOCUMENTS, shown_platform
from lading.ranges import BytesRanges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.api._anatomy import Place
    from lading.content import Source
    from lading.manifest import Descriptor, Manifest
    from lading.model import Model, Part

_MAX_CONFIG = 4 * 1024 * 1024
_PARALLEL = 8


def of_artifact(place: Place, *, near: bool) -> tuple[Variant, ...]:
    """Return the variants of an artifact: itself, or of an index one for each model it names, platforms aside.

    `near` says that reading costs no request. Raises FormatError for what holds no model, and the errors of the place.
    """
    document = place.document
    # What several manifests name is read once.
    place = place if near else replace(place, source=Once(place.source))
    if not isinstance(document, Index):
        return (_of_manifest(place, document, "", near=near),)
    entries = _entries(document)
    read = partial(_of_entry, place, near=near)
    if near or len(entries) < 2:  # noqa: PLR2004 - one
        found = [read(entry) for entry in entries]
    else:
        with Crew(min(_PARALLEL, len(entries))) as crew:
            found = list(crew.map(read, entries))
    variants = distinct([variant for variants in found for variant in variants])
    if not variants:
        msg = f"{place.shown} is an index, and none of its manifests is a model that is here"
        raise FormatError(msg, hint=f"`lading inspect {place.shown}` shows what it names")
    return variants


def _entries(index: Index) -> list[Descriptor]:
    return [entry for entry in index.manifests if entry.media_type in MANIFEST_KINDS][:MAX_DOCUMENTS]


def _of_entry(place: Place, entry: Descriptor, *, near: bool) -> tuple[Variant, ...]:
    try:
        document = place.source.document(str(entry.digest))
    except NotFoundError:
        return ()  # of an index that was fetched in part
    if isinstance(document, Index):
        return ()
    try:
        return (_of_manifest(place, document, _called(entry), near=near),)
    except FormatError:
        return ()  # statements about an image, signatures, whatever else an index may name


def _called(entry: Descriptor) -> str:
    form = entry.annotations.get(media.FORM) or entry.annotations.get(media.TITLE)
    return form or (shown_platform(entry.platform) if entry.platform else entry.digest.short)


def _of_manifest(place: Place, manifest: Manifest, called: str, *, near: bool) -> Variant:
    row = artifact.detect(manifest, place.shown)
    config = read_small(manifest.config, place.source)
    digest, origin = str(manifest.digest), None if near else place.shown
    if not near and row.glance and (seen := row.glance(manifest, config)):
        model = seen.model
        if seen.header is not None:
            told = gguf_facts([seen.header], BytesRanges(b"", place.shown))
            model = replace(model, facts=replace(model.facts, outline=told.outline, file_type=told.file_type))
        return of_model(model, place.source, called, digest, origin=origin)
    archives = row.archives(manifest, config)
    listing = place.look(archives) if near else list_archives(archives, place.source, within=LOOK)
    return of_model(row.read(manifest, config, listing), place.source, called, digest, origin=origin)


def of_model(model: Model, source: Source, called: str, digest: str, *, origin: str | None) -> Variant:
    """Return the variant that a manifest of that digest is; `origin` is its reference where reading from `source` costs requests."""

    def places(role: Role) -> tuple[HeaderAt, ...]:
        return tuple(_part(part, source, origin) for part in model.of(role) if part.name.lower().endswith(".gguf"))

    weights = body(model.parts)
    if not weights:
        msg = "there are no weights among the files"
        raise FormatError(msg, hint="`lading inspect` shows what there is")
    ggufs = _in_order([part for part in weights if _is_gguf(part, model)])
    label = model.facts.file_type or ""
    drafters, adapters = places(Role.DRAFTER), places(Role.ADAPTER)
    notes = [
        f"counted as if it were served: {part.name}" for part in (*model.of(Role.DRAFTER), *model.of(Role.ADAPTER))
    ]
    return Variant(
        name=" ".join(filter(None, (label, called))),
        select=digest,
        label=label,
        weights=tuple(_part(part, source, origin) for part in ggufs) or _tensors(model, weights, source),
        projectors=places(Role.PROJECTOR),
        drafters=drafters,
        adapters=adapters,
        outline=model.facts.outline if ggufs else "",
        notes=tuple(notes),
    )


def _is_gguf(part: Part, model: Model) -> bool:
    # Ollama's and Docker's layers need not be named like files.
    return part.name.lower().endswith(".gguf") or (
        model.facts.format == "gguf" and not part.name.lower().endswith((".safetensors", ".bin"))
    )


def _in_order(parts: Sequence[Part]) -> list[Part]:
    by_name = {part.name: part for part in parts}
    sets = shard_sets(by_name)
    if len(sets) > 1:
        msg = f"there are {len(sets)} models side by side"
        raise FormatError(msg, hint="a model is one GGUF file, or one split set")
    return [by_name[name] for name in sets[0]] if sets else []


def _tensors(model: Model, weights: Sequence[Part], source: Source) -> Tensors:
    config = next((part for part in model.parts if part.name.rpartition("/")[2] == "config.json"), None)
    read = None if config is None else partial(read_part, config, source, _MAX_CONFIG)
    return Tensors(sum(part.size for part in weights), read)


def _part(part: Part, source: Source, origin: str | None) -> HeaderAt:
    within = f"{part.blob.digest}#{part.member.offset}+{part.member.size}" if part.member else str(part.blob.digest)
    # What one registry shows of a digest is not believed of another's blob.
    host = "" if origin is None else f"{origin.rpartition('://')[2].partition('/')[0]} "
    return HeaderAt(part.name, partial(part_ranges, part, source), host + within, remote=origin is not None)


def distinct(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """Return one variant of each that differ in their platform alone, with names of their own."""
    seen: dict[object, Variant] = {}
    for variant in variants:
        keys = variant.weights if isinstance(variant.weights, Tensors) else tuple(one.key for one in variant.weights)
        seen.setdefault((variant.name, keys), variant)
    names = [variant.name for variant in seen.values()]
    return tuple(
        variant if names.count(variant.name) == 1 else variant._replace(name=f"{variant.name} {variant.select[7:19]}")
        for variant in seen.values()
    )
