"""How a model is run on a machine: settings that fit, why, and whether the runtime took what was expected."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lading.errors import FormatError
from lading.estimate import EstimateSettings, estimate
from lading.events import Noted
from lading.fit import Candidate, Fits, settle, unfit_error, weigh
from lading.formats.tensor import Tensor
from lading.hparams import Hparams
from lading.outline import read_outline
from lading.text import memory

if TYPE_CHECKING:
    from lading.api.session import Session
    from lading.fit import Machine, Row
    from lading.model import ModelFacts
    from lading.server import Allocated

_MEBIBYTE = 1024 * 1024
_MOST_PROMPT_CACHE = 8192
_LEAST_PROMPT_CACHE = 64
_DEVIATION = 0.1
_UNTOLD = 16 * _MEBIBYTE


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for of what an estimate decides; None is free."""

    ctx_size: int | None = None
    gpu_layers: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    cache_ram: int | None = None
    parallel: int = 1
    embeddings: bool = False

    @property
    def settings(self) -> EstimateSettings:
        """The same as an estimate is asked."""
        return EstimateSettings(
            ctx_size=self.ctx_size,
            gpu_layers=self.gpu_layers,
            cache_type_k=self.cache_type_k or "f16",
            cache_type_v=self.cache_type_v or "f16",
            parallel=self.parallel,
            embeddings=self.embeddings,
        )


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model as it will be run: the row that says what it needs, and `cache_ram`, MiB for prompts seen before."""

    row: Row
    machine: Machine
    cache_ram: int


def candidate_of(name: str, facts: ModelFacts, projector: int | None = None) -> Candidate | None:
    """Return a model as it is weighed; None where its outline is not known. `projector` is that file's size in bytes."""
    if not facts.outline:
        return None
    try:
        model = read_outline(facts.outline)
    except FormatError:
        return None  # somebody else's words; the header says it again
    beside = Hparams("gguf", "clip", {}, (Tensor("", (projector,), "I8", 0, projector),)) if projector else None
    return Candidate(
        name=name,
        model=model,
        label=facts.file_type or "",
        parameters=facts.parameters or 0,
        projectors=(beside,) if beside else (),
    )


def fitted(
    session: Session, candidate: Candidate, machine: Machine, wanted: Wanted, others: tuple[Row, ...] = ()
) -> Fitted | None:
    """Return how to run a model on a machine; None where its memory is not known.

    What nobody asked for is chosen: first the usual context in f16 with all on devices, then without a second copy of weights,
    a smaller cache, less context. Where there is plenty, half of what is left goes to more context, as far as the model
    was trained for it. Raises UnfitError, saying what would fit.
    """
    free_cache = wanted.cache_type_k is None and wanted.cache_type_v is None
    try:
        row = settle(candidate, machine, wanted.settings, free_cache=free_cache)
    except FormatError as error:
        session.reporter.emit(Noted(f"what it needs is not known: {error.message}", warning=True))
        return None
    if row.fits is Fits.NO:
        raise unfit_error(candidate.name, row, machine, others)
    if row.fits is Fits.UNKNOWN:
        return None
    given_up = row.settings != replace(
        wanted.settings,
        ctx_size=row.settings.ctx_size,
        devices=row.settings.devices,
        tensor_split=row.settings.tensor_split,
    )
    if wanted.ctx_size is None and not given_up:
        row = _longer(candidate, machine, row)
    left = machine.host - row.found.host.total
    kept = min(_MOST_PROMPT_CACHE, left // 4 // _MEBIBYTE) if wanted.cache_ram is None else wanted.cache_ram
    return Fitted(row, machine, kept if kept >= _LEAST_PROMPT_CACHE or wanted.cache_ram is not None else 0)


def _longer(candidate: Candidate, machine: Machine, row: Row) -> Row:
    """Return the row with as long a context as half of the memory that is left allows."""
    if row.max_context is None or row.max_context <= row.found.context:
        return row
    left = machine.host - row.found.host.total
    host = machine.memory if machine.available is None else machine.available
    if host is None:
        return row
    longest = weigh(candidate, replace(machine, available=host - left // 2), row.settings).max_context
    trained = candidate.model.number("context_length")
    if not longest or not trained or longest <= (row.settings.ctx_size or 0):
        return row
    return weigh(candidate, machine, replace(row.settings, ctx_size=min(longest, trained)))


def remarks(found: Fitted, wanted: Wanted) -> list[str]:
    """Return a sentence on each thing that is not as it is elsewhere."""
    settings, said = found.row.settings, []
    if found.row.fits is Fits.PARTLY:
        experts = f", the experts of {settings.n_cpu_moe} on the host" if settings.n_cpu_moe else ""
        said.append(f"{found.row.gpu_layers} of {found.row.layers} layers on the device{experts}")
    if wanted.cache_type_k is None and settings.cache_type_k != "f16":
        said.append(f"keys and values are kept as {settings.cache_type_k}, for f16 would not fit")
    if not settings.repack:
        said.append(
            "weights are not kept a second time for the processor, which would not fit; prompts are read slower"
        )
    if wanted.parallel > 1:
        # llama-server gives a slot no more than the model was trained for.
        trained = found.row.candidate.model.number("context_length")
        each = min(found.row.found.context // wanted.parallel, trained or found.row.found.context)
        said.append(f"{wanted.parallel} slots of {each:,} tokens each")
    if found.cache_ram:
        said.append(f"up to {memory(found.cache_ram * _MEBIBYTE)} more for prompts seen before (--cache-ram)")
    return said


def deviation(expected: Fitted, taken: Allocated | None) -> str:
    """Return a sentence on a runtime that took more than 10 % more or less than was expected; "" for one that did not.

    Less than 16 MiB are never worth a word.
    """
    if taken is None:
        return ""
    found = estimate(expected.row.candidate.model, expected.row.settings)
    pairs = {
        "weights": (taken.weights, sum(use.weights + use.repacked for use in found.uses)),
        "cache": (taken.cache, sum(use.kv + use.state for use in found.uses)),
        "compute": (taken.compute, sum(use.compute for use in found.uses)),
        "output": (taken.output, sum(use.output for use in found.uses)),
    }
    foreseen = sum(pair[1] for pair in pairs.values())
    off = taken.total - foreseen
    if abs(off) <= max(_UNTOLD, _DEVIATION * foreseen):
        return ""
    name, (real, thought) = max(pairs.items(), key=lambda item: abs(item[1][0] - item[1][1]))
    return f"it took {memory(taken.total)}, and {memory(foreseen)} were expected ({name} {memory(real)}, not {memory(thought)})"
