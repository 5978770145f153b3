"""Candidates from headers, wherever these lie: several at a time, each once, and none that is known by its digest."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from lading.errors import FormatError, LadingError
from lading.fit.row import Candidate
from lading.formats.gguf import read_header
from lading.formats.tensor import Tensor
from lading.hparams import Hparams, config_hparams, gguf_hparams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lading.content import RangeReader
    from lading.fit.ahead import Vocabulary
    from lading.fit.cache import HeaderCache, Known
    from lading.formats.gguf import GgufHeader

PARALLEL = 8
"""Headers read at a time over a network."""

_NO_MODELS = {"adapter": "an adapter", "mmproj": "a projector", "imatrix": "an importance matrix"}

# Named tuples, as in the readers: a whole command may take no longer than some dozens of dataclasses do.


class HeaderAt(NamedTuple):
    """A GGUF file to be opened if its header is not known.

    `key` is what it is remembered by, a digest or what else tells these bytes from others, None where nothing does; who
    says that it is the digest belongs to it unless that was verified. `remote` says that each read is a request.
    """

    name: str
    open: Callable[[], RangeReader]
    key: str | None = None
    remote: bool = False


class Tensors(NamedTuple):
    """Weights that are no GGUF: their bytes, and what reads their config.json, if there is one."""

    size: int
    config: Callable[[], bytes] | None = None


class Variant(NamedTuple):
    """One quantization or variant before its headers are read; names as in `Candidate`.

    `weights` are a model's shards in order, or something else than GGUF; `outline`, if not "", saves reading them.
    """

    name: str
    weights: tuple[HeaderAt, ...] | Tensors
    select: str = ""
    label: str = ""
    projectors: tuple[HeaderAt, ...] = ()
    drafters: tuple[HeaderAt, ...] = ()
    adapters: tuple[HeaderAt, ...] = ()
    outline: str = ""
    notes: tuple[str, ...] = ()


class _Read(NamedTuple):
    hparams: Hparams
    label: str
    part: tuple[int, int]
    kind: str = ""


_Outcome = _Read | LadingError


def candidates(
    variants: Sequence[Variant], cache: HeaderCache | None, warn: Callable[[str], None] = lambda _text: None
) -> tuple[Candidate, ...]:
    """Read what is not known of the variants' headers and return their candidates in order; without `cache` nothing is kept.

    `warn` hears of a variant that cannot be read, which is left out; if none can, the first one's error is raised.
    """
    outlined = [_outlined(variant) for variant in variants]
    places = [
        place
        for variant, known in zip(variants, outlined, strict=True)
        for place in _places(variant, known=known is not None)
    ]
    read = _read_all(places, cache)
    found = []
    troubles: list[LadingError] = []
    for variant, known in zip(variants, outlined, strict=True):
        try:
            found.append(_candidate(variant, known, read))
        except LadingError as error:
            troubles.append(error)
    if cache is not None:
        cache.save()
    if troubles and not found:
        raise troubles[0]
    for trouble in troubles:
        warn(f"left out: {trouble.message}")
    return tuple(found)


def gguf_candidate(hparams: Hparams, name: str, **more: str) -> Candidate:
    """Return the candidate of hyperparameters that are at hand."""
    return Candidate(name, hparams, parameters=_parameters(hparams), **more)  # type: ignore[arg-type]  # select and label


def _outlined(variant: Variant) -> Hparams | None:
    if not variant.outline:
        return None
    from lading.outline import read_outline  # noqa: PLC0415 - a file on disk is weighed without JSON

    try:
        return read_outline(variant.outline)
    except FormatError:
        return None  # the header tells the same, and is believed


def _places(variant: Variant, *, known: bool) -> list[HeaderAt]:
    own = () if known or isinstance(variant.weights, Tensors) else variant.weights
    return [*own, *variant.projectors, *variant.drafters, *variant.adapters]


def _candidate(variant: Variant, outlined: Hparams | None, read: Mapping[object, _Outcome]) -> Candidate:
    label = variant.label
    if outlined is not None:
        hparams = outlined
    elif isinstance(variant.weights, Tensors):
        hparams = _tensors(variant.weights)
    else:
        shards = [_got(place, read) for place in variant.weights]
        _check_kind(variant.weights[0], shards[0])
        _check_parts(variant.weights, shards)
        # Only the first part of a split model says more than its tensors.
        hparams = replace(shards[0].hparams, tensors=tuple(one for shard in shards for one in shard.hparams.tensors))
        label = label or shards[0].label
    return Candidate(
        name=variant.name or label or "model",
        model=hparams,
        select=variant.select,
        label=label,
        parameters=_parameters(hparams) if hparams.format == "gguf" else 0,
        drafters=tuple(_got(place, read).hparams for place in variant.drafters),
        adapters=tuple(_got(place, read).hparams for place in variant.adapters),
        projectors=tuple(_got(place, read).hparams for place in variant.projectors),
        notes=variant.notes,
    )


def _parameters(hparams: Hparams) -> int:
    return sum(tensor.elements for tensor in hparams.tensors)


def _tensors(weights: Tensors) -> Hparams:
    config = None
    if weights.config is not None:
        config = weights.config()
    said = config_hparams((), config)
    return replace(said, tensors=(Tensor("weights", (weights.size,), "U8", 0, weights.size),))


def _check_kind(place: HeaderAt, read: _Read) -> None:
    if what := _NO_MODELS.get(read.kind):
        msg = f"{place.name} is {what}, and no model by itself"
        raise FormatError(msg, hint="name the model that it goes with")


def _check_parts(places: Sequence[HeaderAt], shards: Sequence[_Read]) -> None:
    for index, (place, shard) in enumerate(zip(places, shards, strict=True)):
        if shard.part != (index, len(shards)):
            number, count = shard.part
            msg = f"{place.name} is part {number + 1} of {count}, and stands as {index + 1} of {len(shards)}"
            raise FormatError(
                msg, hint="a split model is read from all its parts, under the names that they were given"
            )


def _got(place: HeaderAt, read: Mapping[object, _Outcome]) -> _Read:
    outcome = read[_identity(place)]
    if isinstance(outcome, LadingError):
        raise outcome
    return outcome


def _identity(place: HeaderAt) -> object:
    return place.key or id(place)


def _read_all(places: Iterable[HeaderAt], cache: HeaderCache | None) -> dict[object, _Outcome]:
    read: dict[object, _Outcome] = {}
    waiting: dict[object, HeaderAt] = {}
    for place in places:
        known = cache.get(place.key) if place.key and cache is not None else None
        remembered = _remembered(known) if known else None
        if remembered is not None:
            read[_identity(place)] = remembered
        else:
            waiting.setdefault(_identity(place), place)
    if not waiting:
        return read
    far = [place for place in waiting.values() if place.remote]
    for place in waiting.values():
        if not place.remote:
            read[_identity(place)] = _outcome(lambda one=place: _read_near(one))  # type: ignore[misc]  # called at once
    if far:
        # The first one's vocabulary saves the others reading theirs.
        first, *rest = far
        vocabulary: list[Vocabulary | None] = []
        read[_identity(first)] = _outcome(lambda: _read_far(first, None, vocabulary))
        like = vocabulary[0] if vocabulary else None
        read.update(_read_together(rest, like))
    if cache is not None:
        for identity, place in waiting.items():
            _remember(place, read[identity], cache)
    return read


def _remember(place: HeaderAt, outcome: _Outcome, cache: HeaderCache) -> None:
    from lading.fit.cache import Known  # noqa: PLC0415 - as above
    from lading.outline import MAX_OUTLINE, outline_of  # noqa: PLC0415 - as above

    if place.key and isinstance(outcome, _Read) and len(text := outline_of(outcome.hparams)) <= MAX_OUTLINE:
        cache.put(place.key, Known(text, outcome.label, outcome.part, outcome.kind))


def _read_together(places: Sequence[HeaderAt], like: Vocabulary | None) -> dict[object, _Outcome]:
    if not places:
        return {}
    from lading.crew import Crew  # noqa: PLC0415 - for several remote files only

    def one(place: HeaderAt) -> _Outcome:
        return _outcome(lambda: _read_far(place, like, []))

    with Crew(min(PARALLEL, len(places))) as crew:
        return dict(zip(map(_identity, places), crew.map(one, places), strict=True))


def _outcome(work: Callable[[], _Read]) -> _Outcome:
    try:
        return work()
    except LadingError as error:
        return error


def _read_near(place: HeaderAt) -> _Read:
    with closing(place.open()) as reader:
        return _read_from(reader)


def _read_far(place: HeaderAt, like: Vocabulary | None, vocabulary: list[Vocabulary | None]) -> _Read:
    from lading.fit.ahead import Ahead  # noqa: PLC0415 - as above

    with closing(Ahead(place.open(), like)) as reader:
        header = read_header(reader)
        vocabulary.append(reader.vocabulary(header))
        return _read_of(gguf_hparams([header], reader), header)


def _read_from(reader: RangeReader) -> _Read:
    header = read_header(reader)
    return _read_of(gguf_hparams([header], reader), header)


def _read_of(hparams: Hparams, header: GgufHeader) -> _Read:
    split = header.split
    kind = "mmproj" if hparams.architecture == "clip" else header.metadata.get("general.type")
    part = (split.number, split.parts) if split else (0, 1)
    return _Read(hparams, header.file_type or "", part, kind if isinstance(kind, str) and kind in _NO_MODELS else "")


def _remembered(known: Known) -> _Read | None:
    from lading.outline import read_outline  # noqa: PLC0415 - as above

    try:
        return _Read(read_outline(known.outline), known.label, known.part, known.kind)
    except FormatError:
        return None
