"""Forms: one model written in one format or several, which share every blob that can be shared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from lading import artifact, media
from lading.artifact import Written
from lading.artifact.format import PLATFORMS, decode_config
from lading.artifact.layers import list_archives, plain_part, wrapped_part
from lading.convert import original
from lading.convert.overlay import Inside, Overlay, Small, Wrapped
from lading.errors import FormatError
from lading.events import Noted
from lading.manifest import Descriptor, Index, Manifest, Platform
from lading.model import Model, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lading.artifact import Format
    from lading.content import Source
    from lading.convert.bases import Base
    from lading.convert.found import Found
    from lading.convert.press import Press
    from lading.digest import Digest
    from lading.events import Reporter
    from lading.manifest import Document


@dataclass(frozen=True, slots=True)
class Form:
    """A model in one format: its manifest, or an index of those for several platforms."""

    name: str
    manifests: tuple[tuple[Manifest, Platform | None], ...]

    @property
    def root(self) -> Document:
        """The document that stands for the form by itself."""
        return self.manifests[0][0] if len(self.manifests) == 1 else Index.build(self.entries)

    @property
    def inner(self) -> tuple[Manifest, ...]:
        """What the root names."""
        return () if len(self.manifests) == 1 else tuple(manifest for manifest, _platform in self.manifests)

    @property
    def entries(self) -> tuple[Descriptor, ...]:
        """What stands for the form in an index; engines choose by platform, others by annotation.

        None has an `artifactType`, which OCI leaves open: skopeo 1.9 could not keep such an index as it is.
        """
        return tuple(
            msgspec.structs.replace(
                manifest.descriptor,
                artifact_type=None,
                annotations={media.FORM: self.name},
                platform=platform,
            )
            for manifest, platform in self.manifests
        )


@dataclass(frozen=True, slots=True)
class Made:
    """A model in the formats that were asked for: the root to be named, what it names, and where all blobs are read."""

    root: Document
    inner: tuple[Document, ...]
    forms: tuple[Form, ...]
    source: Overlay


class _Platformed(msgspec.Struct, frozen=True, kw_only=True):
    architecture: str
    os: str
    variant: str | None = None


def make(
    found: Found,
    rows: Sequence[Format],
    press: Press,
    reporter: Reporter,
    *,
    has: Callable[[Descriptor], bool],
    platforms: Sequence[Platform] = PLATFORMS,
    base: Base | None = None,
) -> Made:
    """Write a model in each of the formats; where it is in one already, that stays byte for byte.

    `press` finds out digests, `has` says whether a blob is at hand for a way back, `platforms` are those of a form that
    names one. `base` is the image that such a form is put upon. Raises FormatError for a model that a format cannot
    hold, and the source's errors.
    """
    maker = _Maker(found, press, reporter, has, platforms=platforms, base=base)
    forms = tuple(Form(row.name, maker.form(row)) for row in rows)
    return gather(forms, maker.overlay)


def gather(forms: tuple[Form, ...], overlay: Overlay) -> Made:
    """Put forms of a model together; `overlay` holds what they are made of, and their documents from then on."""
    root = forms[0].root if len(forms) == 1 else Index.build(tuple(entry for form in forms for entry in form.entries))
    every = [manifest for form in forms for manifest, _platform in form.manifests]
    inner = tuple({manifest.digest: manifest for manifest in every if manifest.digest != root.digest}.values())
    for document in (*inner, *(form.root for form in forms), root):
        overlay.add_document(document)
    return Made(root, inner, forms, overlay)


class _Maker:
    def __init__(
        self,
        found: Found,
        press: Press,
        reporter: Reporter,
        has: Callable[[Descriptor], bool],
        *,
        platforms: Sequence[Platform],
        base: Base | None,
    ) -> None:
        self.overlay = Overlay(found.source)
        self._found = found
        self._press = press
        self._reporter = reporter
        self._has = has
        self._platforms = platforms
        self._base = base
        self._plain: tuple[Part, ...] = ()

    def form(self, row: Format) -> tuple[tuple[Manifest, Platform | None], ...]:
        """Return the manifests of a form, their configs and layers held by the overlay."""
        found = self._found
        based = self._base is not None and row.write_upon is not None
        if row is found.row and not based:
            return self._same(row)
        kept = None if based else self._restored(row)
        written = [kept] if kept else self._written(row)
        for one in written:
            self._hold(one)
        for sentence in written[0].left_out:
            self._reporter.emit(Noted(sentence, warning=True))
        return tuple((one.manifest, _platform(row, one)) for one in written)

    def _of(self, row: Format) -> Sequence[Platform | None]:
        return self._platforms if row.write_for else (None,)

    def _is_written_again(self, first: Written, model: Model) -> bool:
        """Say whether a model, written in the format that was found, is what was found; for whichever platform."""
        row, carried = self._found.row, original.carried(self._found.manifest)
        if not artifact.is_written(row):
            return False
        usual = dict.fromkeys((*PLATFORMS, *self._platforms)) if row.write_for else (None,)
        try:
            return any(_same(one, first) for one in self._all(row, model, carried, usual))
        except FormatError:
            # Somebody wrote in a format what we would not.
            return False

    def _same(self, row: Format) -> tuple[tuple[Manifest, Platform | None], ...]:
        """Return the artifact itself; its twins for other platforms too, if it is one of ours that has some."""
        first = Written(self._found.manifest, self._found.config)
        if row.write_for and self._is_written_again(first, self._found.model):
            twins = self._again(row, self._found.model.parts)
            for twin in twins:
                self._hold(twin)
            return tuple((twin.manifest, _platform(row, twin)) for twin in twins)
        return ((first.manifest, _platform(row, first)),)

    def _again(self, row: Format, parts: Iterable[Part]) -> list[Written]:
        """Write the model in a format, for every platform, with what all forms of it carry."""
        model = Model(tuple(parts), self._found.model.facts)
        return self._all(row, model, original.carried(self._found.manifest), self._of(row))

    def _all(
        self, row: Format, model: Model, annotations: Mapping[str, str], platforms: Iterable[Platform | None]
    ) -> list[Written]:
        created = model.facts.created
        written = (
            row.write_for(model, created, platform) if row.write_for and platform else row.write(model, created)
            for platform in platforms
        )
        return [annotated(one, annotations) for one in written]

    def _restored(self, row: Format) -> Written | None:
        annotations = self._found.manifest.annotations
        if original.MANIFEST not in annotations:
            return None
        present = {part.blob.digest for part in self._parts()}
        return original.restored(annotations, row, present, self._has)

    def _written(self, row: Format) -> list[Written]:
        parts = self._parts()
        if row.wrap is not None:
            parts = tuple(self._wrapped(row, part) for part in parts)
        written = self._again(row, parts)
        for one in written:
            # What follows is read back from what is written here.
            self._hold(one)
        words = {} if row is self._found.row or self._comes_back(row, written[0]) else self._words()
        if self._base is not None and row.write_upon is not None:
            written = self._upon(self._base, row, Model(parts, self._found.model.facts))
        return [annotated(one, words) for one in written]

    def _upon(self, base: Base, row: Format, model: Model) -> list[Written]:
        assert row.write_upon is not None  # noqa: S101 - asked only of rows that can
        carried = original.carried(self._found.manifest)
        images = [base.image(platform, self.overlay) for platform in self._platforms]
        return [annotated(row.write_upon(*image, model, model.facts.created), carried) for image in images]

    def _words(self) -> dict[str, str]:
        """Return what keeps the first artifact's own words; nothing, and a warning, where they are too long."""
        kept = original.kept(self._found)
        if kept is None:
            text = f"the way back to {self._found.row.name} is not kept: the manifest and config are too long"
            self._reporter.emit(Noted(text, warning=True))
        return kept or {}

    def _comes_back(self, row: Format, written: Written) -> bool:
        """Say whether the first artifact can be written again from what was written of it, byte for byte."""
        found = self._found
        listing = list_archives(row.archives(written.manifest, written.config), self.overlay)
        read = row.read(written.manifest, written.config, listing)
        before = {part.name: part for part in found.model.parts}
        parts = []
        for part in read.parts:
            plain = plain_part(part)
            first = before.get(part.name)
            if plain is None or first is None:
                return False
            if found.row.wrap is not None:
                wrapping = found.row.wrap(plain.name, plain.size)
                if first.blob.size != wrapping.size:
                    return False
                plain = wrapped_part(plain, wrapping, first.blob.digest)
            parts.append(plain)
        return self._is_written_again(Written(found.manifest, found.config), Model(tuple(parts), read.facts))

    def _parts(self) -> tuple[Part, ...]:
        """Return the model's files as blobs of their own, of which the overlay gives those that lie in layers."""
        if not self._plain:
            self._plain = unpacked(self._found.model.parts, self._found.source, self._press, self.overlay)
        return self._plain

    def _wrapped(self, row: Format, part: Part) -> Part:
        assert row.wrap is not None  # noqa: S101 - asked only of rows that wrap
        wrapping = row.wrap(part.name, part.size)
        digest = self._press.layer(part, wrapping, self.overlay)
        self.overlay.add(digest, Wrapped(part.name, wrapping, part.blob, self.overlay))
        return wrapped_part(part, wrapping, digest)

    def _hold(self, written: Written) -> None:
        if written.manifest.config.digest != self._found.manifest.config.digest:
            self.overlay.add(written.manifest.config.digest, Small(written.config))
        for data in written.blobs:
            self.overlay.write(data)


def annotated(written: Written, annotations: Mapping[str, str]) -> Written:
    """Return an artifact with more annotations on its manifest."""
    first = written.manifest
    if not annotations:
        return written
    manifest = Manifest.build(
        first.config,
        first.layers,
        artifact_type=first.artifact_type,
        annotations={**first.annotations, **annotations},
        subject=first.subject,
        media_type=first.media_type,
    )
    return replace(written, manifest=manifest)


def unpacked(parts: Sequence[Part], source: Source, press: Press, overlay: Overlay) -> tuple[Part, ...]:
    """Return parts as blobs of their own, of which the overlay gives those that lie in layers of `source`."""
    unknown = [part for part in parts if part.digest is None]
    digests = press.files(unknown, source) if unknown else {}
    return tuple(_unpacked(part, digests.get(part.name), source, overlay) for part in parts)


def _unpacked(part: Part, found: Digest | None, source: Source, overlay: Overlay) -> Part:
    if part.member is None:
        return part
    known = replace(part, member=replace(part.member, digest=part.digest or found))
    plain = plain_part(known)
    assert plain is not None  # noqa: S101 - its digest was said or found out
    overlay.add(plain.blob.digest, Inside(part, source))
    return plain


def _same(one: Written, other: Written) -> bool:
    return (one.manifest.raw, one.config) == (other.manifest.raw, other.config)


def _platform(row: Format, written: Written) -> Platform | None:
    if not row.write_for:
        return None
    said = decode_config(written.config, _Platformed, row.name)
    return Platform(architecture=said.architecture, os=said.os, variant=said.variant)
