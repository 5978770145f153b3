"""Which of several variants of a model to take: the one that was asked for, else the best that fits the machine."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lading import artifact, media
from lading.api._fitting import Wanted, candidate_of, fitted
from lading.api._machine import machine_here
from lading.artifact.layers import LOOK, list_archives
from lading.convert.found import read_small
from lading.errors import FormatError, LadingError, NotFoundError, UnfitError, UsageError
from lading.events import Noted
from lading.fit import SEVERAL, Fits, unfit_error, weigh
from lading.fit import choose as choose_row
from lading.manifest import Index, Manifest
from lading.model import Role, body
from lading.plan import PREFERRED, is_for, is_note, parse_platform, single_manifest
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lading.api.session import Session
    from lading.content import Source
    from lading.digest import Digest
    from lading.fit import Candidate, Machine, Row
    from lading.fit.headers import Variant
    from lading.manifest import Descriptor, Document, Platform
    from lading.model import Model, ModelFacts, Part
    from lading.reference import Hub
    from lading.runtime import Runtime
    from lading.transport.choice import Choice
    from lading.transport.listing import Listing

_MOST = 64
"""Variants of an index that are looked at."""

_FIT = (Fits.WHOLE, Fits.PARTLY)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which variant is wanted, and how it is to be run; None leaves it to what fits.

    With a `runtime` the model is to be run here at once: one that does not fit is refused before it is fetched.
    """

    quant: str | None = None
    platform: str | None = None
    wanted: Wanted = field(default_factory=Wanted)
    runtime: Runtime | None = None
    fit: bool = True

    @property
    def parsed_platform(self) -> Platform | None:
        """The platform; raises UsageError for what is none."""
        return parse_platform(self.platform) if self.platform else None

    def refuse_unfit(
        self,
        session: Session,
        name: str,
        facts: ModelFacts,
        parts: Iterable[Part],
        others: Callable[[], Iterable[Candidate]] = tuple,
    ) -> None:
        """Raise UnfitError for a model that is to be run, and would not fit; `others` are asked for what would."""
        if self.runtime is None or not self.fit:
            return
        projector = next((part.size for part in parts if part.role is Role.PROJECTOR), None)
        candidate = candidate_of(name, facts, projector)
        if candidate is None or facts.format != "gguf":
            return
        machine = machine_here(session, self.runtime)
        try:
            fitted(session, candidate, machine, self.wanted)
        except UnfitError:
            rows: list[Row] = []
            for other in others():
                # What contradicts itself is no advice.
                with suppress(FormatError):
                    rows.append(weigh(other, machine, self.wanted.settings))
            fitted(session, candidate, machine, self.wanted, tuple(rows))


ANY = Selection()
"""Whatever fits best."""


def from_hub(session: Session, reference: Hub, listing: Listing, selection: Selection, before: str) -> Choice:
    """Choose the files of a hub's model, and tell of what was not asked for in so many words.

    `before` is the quantization that was taken the last time, "" if none: it stays while it fits. Raises UnfitError where
    nothing fits, UsageError where there are different models.
    """
    from lading.transport.choice import choose  # noqa: PLC0415 - for hubs only

    source = listing.source.partition("@")[0]
    best = None
    if reference.select is None and selection.fit:
        from lading.api._variants import of_hub  # noqa: PLC0415 - where there may be a choice

        variants = of_hub(session, reference, listing).variants
        best = _best(session, variants, selection, source, before) if len(variants) > 1 else None
    choice = choose(listing.names, best.candidate.select if best else reference.select, source)
    for text in (*((best.sentence,) if best else ()), *choice.told):
        session.reporter.emit(Noted(text))
    return choice


def others_of_hub(session: Session, reference: Hub, listing: Listing) -> list[Candidate]:
    """Return the variants of a hub's model beside the one that a reference names; none where they cannot be read.

    Their `select` is a reference.
    """
    from lading.api._variants import of_hub  # noqa: PLC0415 - as above

    plain = replace(reference, select=None)
    try:
        found = _read(session, of_hub(session, plain, listing).variants)
    except LadingError:
        return []
    return [
        replace(one, select=str(replace(reference, select=one.select)))
        for one in found
        if one.select.casefold() != (reference.select or "").casefold()
    ]


def shown_of_hub(session: Session, reference: Hub, listing: Listing) -> Choice:
    """Choose the files that `from_hub` would; where it would refuse, those that stand for the repository elsewhere."""
    from lading.api._pull_hub import chosen  # noqa: PLC0415 - for hubs only

    try:
        return from_hub(session, reference, listing, ANY, "")
    except (UnfitError, UsageError):
        return chosen(session, reference, listing)


def from_document(session: Session, source: Source, document: Document, name: str, selection: Selection) -> Manifest:
    """Return the one model of what a reference names: by quantization and platform if they are given, else what fits best.

    Raises NotFoundError for a quantization or platform that is not there, UnfitError where nothing fits, FormatError for an
    index of models that nobody can choose from.
    """
    platform = selection.parsed_platform
    several = _several(document, source, platform) if isinstance(document, Index) else []
    if len(several) < 2:  # noqa: PLR2004 - a choice is one of two at least
        manifest = single_manifest(document, source.document, name, platform)
        if selection.quant:
            _named([(manifest, _model(manifest, source, name))], selection.quant, name)
        return manifest
    looked = [(manifest, _model(manifest, source, name)) for manifest in several]
    if selection.quant:
        named = _named(looked, selection.quant, name)
        # Of its formats one whose layers are the files themselves.
        return next((one for one, _model in named if artifact.detect(one, name).wrap is None), named[0][0])
    if len({_weights(model) for _manifest, model in looked}) > 1 and selection.fit:
        near = source is session.store
        if chosen := _fitting(session, source, looked, name, selection, near=near):
            return chosen
    return single_manifest(document, source.document, name, platform)


def _fitting(
    session: Session,
    source: Source,
    looked: Sequence[tuple[Manifest, Model]],
    name: str,
    selection: Selection,
    *,
    near: bool,
) -> Manifest | None:
    from lading.api._artifact_variants import distinct, of_model  # noqa: PLC0415 - where there is a choice

    by_digest = {str(manifest.digest): manifest for manifest, _model in looked}
    first: dict[tuple[Digest, ...], Variant] = {}
    for manifest, model in looked:
        # Of one quantization in several formats the first is taken; runtimes here serve GGUF.
        if model.facts.format == "gguf":
            variant = of_model(model, source, "", str(manifest.digest), origin=None if near else name)
            first.setdefault(_weights(model), variant)
    best = _best(session, distinct(tuple(first.values())), selection, name, "") if first else None
    if best is None:
        return None
    session.reporter.emit(Noted(best.sentence))
    return by_digest[best.candidate.select]


def _weights(model: Model) -> tuple[Digest, ...]:
    return tuple(part.digest or part.blob.digest for part in body(model.parts))


@dataclass(frozen=True, slots=True)
class _Best:
    candidate: Candidate
    sentence: str


def _best(
    session: Session, variants: Sequence[Variant], selection: Selection, source: str, before: str
) -> _Best | None:
    """Return the best variant that fits; None where nobody can say which that is. Raises UnfitError where none fits."""
    try:
        found = _read(session, variants)
    except FormatError:
        return None  # who opens the file that names choose says what is wrong with it
    machine = machine_here(session, selection.runtime)
    rows = [weigh(one, machine, selection.wanted.settings) for one in found]
    # In the order in which `fit` shows them, so that of equals it marks the same.
    rows.sort(key=lambda row: -row.candidate.model.data_size)
    for row in rows:
        if before and row.candidate.label.upper() == before.upper() and row.fits in _FIT:
            return _Best(row.candidate, f"{row.name}, as before")
    choice = choose_row(rows, machine)
    if choice.row is not None:
        return _Best(choice.row.candidate, f"{choice.row.name}: {choice.why}")
    if choice.why == SEVERAL:
        from lading.transport.choice import named  # noqa: PLC0415 - as above

        msg = f"{source} holds different models, and none was named"
        raise UsageError(msg, hint=f"one of {named([row.name for row in rows])}")
    if any(row.fits is not Fits.NO for row in rows):
        return None
    return _squeezed(session, rows, machine, selection, source)


def _read(session: Session, variants: Sequence[Variant]) -> tuple[Candidate, ...]:
    from lading.fit.cache import HeaderCache  # noqa: PLC0415 - where there is a choice
    from lading.fit.headers import candidates  # noqa: PLC0415 - as above

    def warn(text: str) -> None:
        session.reporter.emit(Noted(text, warning=True))

    return candidates(variants, HeaderCache(session.config.store / "cache"), warn)


def _squeezed(
    session: Session, rows: Sequence[Row], machine: Machine, selection: Selection, source: str
) -> _Best | None:
    """Return the smallest variant if it fits with a smaller cache or less context; raises UnfitError if it does not."""
    smallest = min(rows, key=lambda row: row.total)
    try:
        less = fitted(session, smallest.candidate, machine, selection.wanted)
    except UnfitError:
        called = f"{smallest.name}, the smallest of {len(rows)} in {source},"
        raise unfit_error(called, smallest, machine) from None
    if less is None:
        return None
    settings, context = less.row.settings, less.row.found.context
    kept = "" if settings.cache_type_k == "f16" else f", keys and values kept as {settings.cache_type_k}"
    sentence = f"{smallest.name}: the smallest of {len(rows)} fits, with a context of {context:,}{kept}"
    return _Best(smallest.candidate, sentence)


def _several(index: Index, source: Source, platform: Platform | None) -> list[Manifest]:
    """Return the manifests among which there may be a choice: of images those for one platform."""
    entries = _entries(index)
    placed = [entry for entry in entries if entry.platform]
    if placed and (platform is not None or len(placed) == len(entries)):
        entries = [one for one in placed if one.platform and is_for(one.platform, platform or PREFERRED)]
    forms = [(entry.annotations.get(media.FORM), entry.platform) for entry in entries]
    # Each format once is one model in several formats, which need not be looked at.
    if len(entries) < 2 or all(form and forms.count((form, place)) == 1 for form, place in forms):  # noqa: PLR2004 - as above
        return []
    found = [source.document(str(entry.digest)) for entry in entries]
    return [document for document in found if isinstance(document, Manifest)]


def _entries(index: Index) -> list[Descriptor]:
    return [entry for entry in index.manifests[:_MOST] if not is_note(entry)]


def _model(manifest: Manifest, source: Source, name: str) -> Model:
    row = artifact.detect(manifest, name)
    config = read_small(manifest.config, source)
    return row.read(manifest, config, list_archives(row.archives(manifest, config), source, within=LOOK))


def _named(looked: list[tuple[Manifest, Model]], quant: str, name: str) -> list[tuple[Manifest, Model]]:
    found = [pair for pair in looked if (pair[1].facts.file_type or "").casefold() == quant.casefold()]
    if not found:
        there = dict.fromkeys(model.facts.file_type or "unnamed" for _manifest, model in looked)
        msg = f"{name} has no `{clean(quant)}`"
        raise NotFoundError(msg, hint=f"it has {clean(', '.join(there))}")
    return found
