"""One stage carried out: what it is FROM, then its steps, each at once if what it would make is here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from lading.build.bring import Bringing, cat
from lading.build.transform import Transforming
from lading.build.tree import Tree
from lading.errors import LadingError, StoppedError
from lading.events import Noted, StepBegan, StepEnded
from lading.plan import parse_platform
from lading.recipe.instructions import Add, Arg, Cat, Cmd, Convert, Copy, Label, Quantize
from lading.recipe.sources import (
    Artifact,
    Context,
    Git,
    Hub,
    Image,
    LayoutModel,
    OllamaModel,
    Place,
    Scratch,
    StageFiles,
    Url,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lading.build.bench import Bench
    from lading.build.executor import Executor
    from lading.build.fetch_model import Fetched
    from lading.build.outcome import Held
    from lading.build.tree import Shelf
    from lading.convert.bases import Base
    from lading.events import Event, Reporter
    from lading.manifest import Platform
    from lading.recipe.place import Range
    from lading.recipe.plan import Stage, Step
    from lading.recipe.sources import Origin

_SILENT = (Arg, Cmd, Label)
"""Instructions that make no files, and are no steps."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A stage at its end: its files, its labels, the image it is upon, and how many of its steps were cached."""

    tree: Tree
    labels: Mapping[str, str]
    base: Base | None
    steps: int
    cached: int


def count_steps(stage: Stage) -> int:
    """Return how many steps a stage has: its instructions that make files, and its FROM if that fetches some."""
    fetches = not isinstance(stage.base.base, Scratch | StageFiles)
    return sum(not isinstance(step.instruction, _SILENT) for step in stage.steps) + fetches


class StageRun:
    """One run through a stage; `finished` has the stages that it needs."""

    def __init__(self, executor: Executor, stage: Stage, finished: Mapping[int, Finished]) -> None:
        self._build = executor
        self._stage = stage
        self._finished = finished
        self._tree = Tree()
        self._labels: dict[str, str] = {}
        self._base: Base | None = None
        self._cached = self._number = 0
        self._steps = count_steps(stage)

    def run(self) -> Finished:
        """Carry the stage out; raises the first failure, which tells the place of its step."""
        self._begin()
        for step in self._stage.steps:
            self._build.bench.check()
            if isinstance(step.instruction, Label):
                self._labels |= dict(step.instruction.labels)
            elif not isinstance(step.instruction, _SILENT):
                self._make(step)
        return Finished(self._tree, self._labels, self._base, self._steps, self._cached)

    def _begin(self) -> None:
        origin = self._place(self._stage.base.base)
        match origin:
            case Scratch():
                pass
            case StageFiles(index=index):
                below = self._finished[index]
                self._tree, self._labels, self._base = below.tree, dict(below.labels), below.base
            case _:
                self._tell(f"FROM {_words(origin)}", self._stage.where, lambda bench: self._found(origin, bench))

    def _found(self, origin: Origin | Place, bench: Bench) -> bool:
        """Put the stage upon what it is FROM, and say whether that was here."""
        if isinstance(origin, Image | Artifact | OllamaModel | LayoutModel):
            wanted = self._stage.base.platform
            platforms = (parse_platform(wanted),) if wanted else self._build.platforms
            fetched = _model(origin, platforms, bench)
            self._tree, self._base = fetched.tree, fetched.base
            return fetched.present
        shelf, _what, here = self._shelf(origin, bench)
        self._tree = Tree(dict(shelf.take(shelf.names("/"))))
        return here

    def _make(self, step: Step) -> None:
        def make(bench: Bench) -> bool:
            files, cached = self._made(step, bench)
            self._tree = self._tree.with_files(files)
            return cached

        self._tell(step.text, step.where, make)

    def _made(self, step: Step, bench: Bench) -> tuple[dict[str, Held], bool]:
        told = step.instruction
        if isinstance(told, Cat):
            return cat(told, self._tree, bench)
        if isinstance(told, Add | Copy):
            origin = told.origin if isinstance(told, Copy) else None
            shelf, what, here = self._shelf(origin or Context(), bench)
            bringing = Bringing(bench, shelf, what, self._tree, self._build.platforms)
            return bringing.bring(told), bringing.cached and here
        assert isinstance(told, Convert | Quantize)  # noqa: S101 - the others make no files
        shelf, what, here = self._shelf(told.origin, bench)
        transforming = Transforming(bench, shelf, what, self._tree, self._build.allow_pickle)
        files = transforming.convert(told) if isinstance(told, Convert) else transforming.quantize(told)
        return files, transforming.cached and here

    def _shelf(self, origin: Origin | Place | None, bench: Bench) -> tuple[Shelf, str, bool]:
        """Return the files that something is taken from, what messages call that, and whether it was here."""
        match origin and self._place(origin):
            case None:
                return self._tree, "the stage", True
            case StageFiles(index=index):
                return self._finished[index].tree, f"the stage `{self._name_of(index)}`", True
            case Context(name=name):
                folder = cast("Shelf", self._build.contexts[name])
                return folder, f"the context `{name}`" if name else "the context", True
            case (Image() | Artifact() | OllamaModel() | LayoutModel()) as named:
                fetched = _model(named, self._build.platforms, bench)
                return fetched.tree, fetched.name, fetched.present
            case (Hub() | Git() | Url()) as named:
                tree, cached = _download(named, bench)
                return tree, _words(named), cached
            case Scratch():
                return Tree(), "scratch", True

    def _place(self, origin: Origin | Place) -> Origin | Place:
        """Return where the files of a context come from that is no folder; any other origin as it is."""
        found = self._build.contexts.get(origin.name) if isinstance(origin, Context) else None
        return found if isinstance(found, Place) else origin

    def _tell(self, text: str, where: Range, work: Callable[[Bench], bool]) -> None:
        """Do a step's work, tell of it, and give a failure its place."""
        self._number += 1
        key = f"{self._name} {self._number}/{self._steps}".strip()
        shown = " ".join(text.partition("\n")[0].split())
        bench = self._build.bench
        listening = _Listening(bench.reporter)
        began = time.monotonic()
        bench.reporter.emit(StepBegan(key, shown))
        try:
            cached = work(replace(bench, reporter=listening))
        except StoppedError:
            raise
        except LadingError as error:
            self._build.script.point(error, where)
            raise
        self._cached += cached
        seconds = round(time.monotonic() - began, 3)
        bench.reporter.emit(StepEnded(key, shown, seconds, cached, tuple(listening.keys)))

    @property
    def _name(self) -> str:
        is_target = self._stage is self._build.plan.target
        return "" if is_target and self._stage.name is None else self._name_of(self._stage.index)

    def _name_of(self, index: int) -> str:
        found = next(stage for stage in self._build.plan.stages if stage.index == index)
        return found.name or f"stage-{index}"


@dataclass(slots=True)
class _Listening:
    """A reporter that remembers which items a step worked on."""

    inner: Reporter
    keys: list[str] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        if not isinstance(event, Noted) and event.key not in self.keys:
            self.keys.append(event.key)
        self.inner.emit(event)


def _model(
    origin: Image | Artifact | OllamaModel | LayoutModel, platforms: Sequence[Platform], bench: Bench
) -> Fetched:
    from lading.build.fetch_model import (  # noqa: PLC0415 - only recipes that name one need it
        fetch_layout,
        fetch_model,
        stored_model,
    )

    if isinstance(origin, LayoutModel):
        return fetch_layout(origin, platforms, bench)
    bare = origin.bare if isinstance(origin, Image) else None
    stored = stored_model(bare, platforms, bench) if bare else None
    return stored or fetch_model(origin.reference, platforms, bench)


def _download(origin: Hub | Git | Url, bench: Bench) -> tuple[Tree, bool]:
    """Return the files of a repository or an archive, or a file by itself, and whether they were here."""
    from lading.build.fetch_git import fetch_git  # noqa: PLC0415 - as above
    from lading.build.fetch_hub import fetch_hub  # noqa: PLC0415 - as above
    from lading.build.fetch_url import fetch_url  # noqa: PLC0415 - as above
    from lading.build.unpack import unpack  # noqa: PLC0415 - as above

    match origin:
        case Hub():
            files, cached = fetch_hub(origin, bench)
        case Git():
            files, cached = fetch_git(origin, bench, keep_git_dir=False)
        case Url():
            held, here = fetch_url(origin, None, bench)
            files, cached = unpack(held, bench) or ({origin.name: held}, True)
            cached = cached and here
    return Tree({f"/{name}": held for name, held in files.items()}), cached


def _words(origin: Origin | Place) -> str:
    match origin:
        case Image(reference=reference, bare=bare):
            return bare or str(reference)
        case Artifact(reference=reference) | OllamaModel(reference=reference) | LayoutModel(reference=reference):
            return str(reference)
        case Hub():
            revision = f"@{origin.revision}" if origin.revision else ""
            return f"{origin.hub}://{origin.owner}/{origin.repository}{revision}"
        case Git(url=url) | Url(url=url):
            return url
        case Context(name=name):
            return name
        case _:
            return "scratch"
