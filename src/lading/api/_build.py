"""Build: a recipe becomes a model in the store, and goes from there to where it is wanted."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lading import __version__, artifact, media, recipe
from lading.api._lint import Linted, ignored_by, lint, read_stream, read_text
from lading.api.clock import now
from lading.api.lookup import check_forms, tag_name
from lading.api.results import Built, DeliveredForm
from lading.artifact.format import PLATFORMS
from lading.build.bench import Bench, described
from lading.build.executor import Executor
from lading.build.stage import count_steps
from lading.config import epoch
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError, NotFoundError
from lading.events import Noted
from lading.manifest import Platform
from lading.plan import make_plan, shown_platform
from lading.recipe.directives import names_a_recipe
from lading.recipe.scope import read_platform
from lading.recipe.sources import read_place
from lading.reference import form_tag
from lading.text import clean, count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from lading.api.session import Session
    from lading.build.outcome import Outcome
    from lading.build.tree import Shelf
    from lading.manifest import Document
    from lading.recipe.sources import Place

_NAME = "GGUFPackerfile"
_OTHERS = ("Dockerfile",)
_EPOCH = "SOURCE_DATE_EPOCH"
"""A build argument, as with docker, besides the variable of the environment."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is built, and how.

    `file` None looks in the context for a GGUFPackerfile, else a Dockerfile whose syntax line names gguf-packer or lading;
    with `stream`, from which the recipe is read, it is only what messages call it. `contexts` are folders, images,
    models, repositories and URLs, by the names that the recipe has for them. `fresh` uses nothing that was cached;
    `allow_pickle` lets CONVERT read weights in .bin files, locked up.
    """

    file: Path | None = None
    stream: BinaryIO | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    contexts: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None
    formats: str = "image"
    fresh: bool = False
    allow_pickle: bool = False


def build(
    session: Session,
    context: Path,
    names: Sequence[str],
    wanted: Recipe,
    environment: Mapping[str, str],
    *,
    heard: Callable[[Linted], object] = lambda _found: None,
    dry_run: bool = False,
) -> Built:
    """Build the recipe of a folder and give the result its names in the store; without any it stays until `prune`.

    `environment` is the user's, for the tools that are run. `heard` is told what is doubtful in the recipe, before
    anything is done; `dry_run` ends there. Raises RecipeError, with the place, for a recipe that cannot be meant, and
    what a step raises, with the step's place: then nothing is named, and what steps made whole is cached.
    """
    began = time.monotonic()
    tags = tuple(dict.fromkeys(tag_name(name) for name in names))
    rows = tuple(artifact.named(row.name) for row in artifact.several(wanted.formats))
    said = wanted.build_args.get(_EPOCH)
    config = replace(session.config, created=epoch(said)) if said else session.config
    for tag in tags:
        check_forms(tag, [row.name for row in rows])
    if not context.is_dir():
        msg = f"{clean(str(context))} is no folder"
        raise NotFoundError(msg, hint="the context is the folder that a recipe takes its files from")
    file = wanted.file or find_recipe(context)
    text = read_stream(wanted.stream, str(file)) if wanted.stream else read_text(file)
    found = lint(
        file,
        wanted.build_args,
        wanted.target,
        contexts=wanted.contexts,
        session=session,
        context=context,
        text=text,
    )
    heard(found)
    if found.error is not None:
        raise found.error
    read = recipe.parse(text, str(file))
    plan, platform = _plan(session, read, wanted)
    steps = sum(map(count_steps, plan.stages))
    session.reporter.emit(Noted(f"{clean(file.name)}: {count(len(plan.stages), 'stage')}, {count(steps, 'step')}"))
    if dry_run:
        return Built(tags, None, ",".join(row.name for row in rows), 0, steps, 0, 0.0)
    with ExitStack() as stack:
        store = session.store
        lease = stack.enter_context(store.lease())
        bench = Bench(
            store,
            lease,
            session.reporter,
            config,
            lambda: session.client,
            environment,
            insecure=session.insecure,
            offline=session.offline or session.config.offline,
            fresh=wanted.fresh,
        )
        contexts = _contexts(context, file, wanted, bench)
        platforms = (platform,) if platform else PLATFORMS
        done = Executor(plan, read.script, bench, contexts, platforms, allow_pickle=wanted.allow_pickle).run()
        outcome = replace(done.outcome, platform=platform)
        try:
            root, forms = _written(session, bench, outcome, rows)
        except FormatError as error:  # of what CMD names, or does not name
            read.script.point(error, plan.command_where)
            raise
        named = _form_tags(tags, [name for name, _document in forms])
        several = {named[tag, name]: document for name, document in forms for tag in tags if named}
        documents = {**dict.fromkeys(tags, root), **several}
        store.tag_all({tag: (document, {media.PULLED: now()}) for tag, document in documents.items()})
        told = tuple(DeliveredForm(name, named[tags[0], name] if named else "", one.digest) for name, one in forms)
        return Built(
            names=tags,
            digest=root.digest,
            format=",".join(name for name, _one in forms),
            size=sum(blob.size for blob in store.reach(root)),
            steps=done.steps,
            cached=done.cached,
            seconds=time.monotonic() - began,
            forms=told,
        )


def _form_tags(tags: Sequence[str], forms: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return the names that each of several forms gets besides; a model in one form has none."""
    if len(forms) == 1:
        return {}
    return {(tag, form): form_tag(tag, form) for tag in tags for form in forms}


def find_recipe(context: Path) -> Path:
    """Return the recipe of a folder; raises NotFoundError where there is none."""
    for name in (_NAME, _NAME.lower()):
        if (context / name).is_file():
            return context / name
    for name in _OTHERS:
        file = context / name
        if file.is_file():
            if names_a_recipe(read_text(file)):
                return file
            msg = f"{clean(str(file))} is a recipe for containers: its syntax line names no builder of models"
            raise NotFoundError(msg, hint=f"write a {_NAME}, or name the file with -f")
    msg = f"{clean(str(context))} has no {_NAME}"
    raise NotFoundError(msg, hint="write one, or name it with -f")


def _plan(session: Session, read: recipe.Recipe, wanted: Recipe) -> tuple[recipe.Plan, Platform | None]:
    """Return the plan, and the platform it is for; None where it is the same for all that images are written for."""

    def planned(platform: str) -> recipe.Plan:
        return recipe.plan(read, wanted.build_args, wanted.target, platform, contexts=wanted.contexts)

    if wanted.platform:
        said = read_platform(wanted.platform)
        platform = Platform(architecture=said.architecture, os=said.system, variant=said.variant or None)
        plan = planned(str(said))
    else:
        plans = [planned(f"{one.os}/{one.architecture}") for one in PLATFORMS]
        plan, platform = plans[0], None
        if any(one.stages != plan.stages for one in plans):
            platform = PLATFORMS[0]
            text = f"the recipe is another for each platform: built for {platform.os}/{platform.architecture}"
            session.reporter.emit(Noted(text, warning=True))
    if unused := [name for name in plan.unused if name != _EPOCH]:
        text = f"no ARG of the recipe is named {', '.join(map(clean, unused))}"
        session.reporter.emit(Noted(text, warning=True))
    return plan, platform


def _contexts(context: Path, file: Path, wanted: Recipe, bench: Bench) -> dict[str, Shelf | Place]:
    from lading.build.context import open_context  # noqa: PLC0415 - the rest of a build is loaded with it

    found: dict[str, Shelf | Place] = {"": open_context(context, bench, ignored_by(file, context))}
    for name, place in wanted.contexts.items():
        if (origin := read_place(place)) is not None:
            found[name] = origin
            continue
        folder = Path(place).expanduser()
        if not folder.is_dir():
            msg = f"the context `{clean(name)}` is no folder: {clean(place)}"
            raise NotFoundError(
                msg, hint="a folder, a URL, or git, oci-layout://DIR, docker-image://NAME, oci://NAME, hf://OWNER/NAME"
            )
        found[name] = open_context(folder, bench)
    return found


def _written(
    session: Session, bench: Bench, outcome: Outcome, rows: Sequence[artifact.Format]
) -> tuple[Document, tuple[tuple[str, Document], ...]]:
    """Return what a build came to, written into the store in several formats; not again what was written before."""
    of = described("result", __version__, [row.name for row in rows], _told(outcome))
    if (kept := _kept(bench, of)) is not None:
        return kept
    from lading import copy  # noqa: PLC0415 - an unchanged build writes nothing
    from lading.api._deliver import Untold, documents_of, keep  # noqa: PLC0415 - as above
    from lading.build.result import write  # noqa: PLC0415 - as above
    from lading.convert import Press  # noqa: PLC0415 - as above

    store = session.store
    press = Press(store, session.reporter, store)
    made = write(outcome, rows, store, press, session.reporter)
    inner = documents_of(made)
    keep(bench.lease, made.root, inner)
    plan = make_plan(made.root, store.has, inner)
    store.require_space(plan.missing_bytes)
    files = {held.digest for held in outcome.files.values()}
    copy.run(plan, made.source, store, None, Untold(session.reporter, frozenset((*files, *press.sent))))
    forms = tuple((form.name, form.root) for form in made.forms)
    bench.note(of, [made.root.digest.file_name, *(f"{name}={root.digest.file_name}" for name, root in forms)])
    return made.root, forms


def _kept(bench: Bench, of: str) -> tuple[Document, tuple[tuple[str, Document], ...]] | None:
    """Return what was written of the same outcome before, if all of it is whole."""
    store = bench.store
    try:
        words = [] if bench.fresh else bench.noted(of)
        named = [(name, _document(bench, text)) for name, _equals, text in (word.partition("=") for word in words[1:])]
        root = _document(bench, words[0]) if words else None
        reached = [blob for one in (root, *(form for _name, form in named)) if one for blob in store.reach(one)]
    except (FormatError, IntegrityError, NotFoundError):
        return None  # it was freed, or damaged: it is written again
    bench.lease.add(blob.digest for blob in reached)
    if root is None or not all(store.has(blob) for blob in reached):
        return None
    return root, tuple(named)


def _document(bench: Bench, text: str) -> Document:
    digest = Digest(text.replace("-", ":", 1))
    bench.lease.add([digest])
    return bench.store.document(digest)


def _told(outcome: Outcome) -> object:
    """Return all that the bytes of the result follow from."""
    files = [(path, held.digest, held.size, held.mode, held.uid, held.gid) for path, held in outcome.files.items()]
    base = outcome.base and (outcome.base.name, outcome.base.document.digest)
    platform = outcome.platform and shown_platform(outcome.platform)
    return files, outcome.command, dict(outcome.labels), base, platform, outcome.created
