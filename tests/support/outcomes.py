"""Outcomes of builds made by hand, and what `build.result` writes of them, in a store under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading import artifact, copy
from lading.build.outcome import Held, Outcome
from lading.build.result import write
from lading.convert import Press
from lading.convert.bases import Base
from lading.digest import Digest
from lading.events import Silent
from lading.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lading.convert import Made
    from lading.events import Reporter
    from lading.manifest import Platform
    from lading.store import Store


def outcome(
    store: Store,
    files: Mapping[str, bytes],
    command: Sequence[str] | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    base: Base | None = None,
    platform: Platform | None = None,
    created: str | None = None,
) -> Outcome:
    """An outcome whose files are put into a store."""
    store.prepare()
    held = {path: Held(store.put_bytes(data), len(data)) for path, data in files.items()}
    words = None if command is None else tuple(command)
    return Outcome(held, words, labels or {}, base, platform, created)


def made(
    store: Store, result: Outcome, formats: str = "image", name: str = "built", reporter: Reporter | None = None
) -> Made:
    """Write an outcome in some formats into its store, and name it."""
    told = reporter or Silent()
    done = write(result, artifact.several(formats), store, Press(store, told, store), told)
    indexes = {form.root.digest: form.root for form in done.forms if form.root.digest != done.root.digest}
    inner = tuple({**{one.digest: one for one in done.inner}, **indexes}.values())
    copy.run(make_plan(done.root, store.has, inner), done.source, store, name, told)
    return done


def base_of(store: Store, name: str) -> Base:
    """A named image of a store as a base."""
    return Base(name, store, store.document(name))


def digest(data: bytes) -> Digest:
    """What bytes hash to."""
    return Digest.of(data)
