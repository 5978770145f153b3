"""What all steps of one build work with: the store, the settings, the network, and whether to stop."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from lading.build.outcome import Held
from lading.build.tree import check_name
from lading.digest import Digest
from lading.errors import NetworkError, StoppedError
from lading.manifest import Descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from lading.config import Config
    from lading.content import ByteReader, Progress, Source
    from lading.events import Reporter
    from lading.http import Client
    from lading.manifest import Document
    from lading.store import Lease, Store

_VERSION = 1
"""Of what keys are made of; another one forgets all that was cached."""

_BLOB = "application/octet-stream"


class _File(msgspec.Struct, frozen=True, array_like=True):
    name: str
    digest: str
    size: int
    mode: int
    uid: int
    gid: int


class _Record(msgspec.Struct, frozen=True):
    # What it was made of is in the key alone: a record keeps from collection what it mentions.
    files: tuple[_File, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Bench:
    """What steps work with, from any thread. `fresh` looks for nothing that was made before, and keeps what is made.

    `environment` is the user's, for the tools that are run; `stop` is set when the build is over before its end.
    `answers` are what names were found to stand for: the same for all steps, also where a branch moves meanwhile.
    """

    store: Store
    lease: Lease
    reporter: Reporter
    config: Config
    client: Callable[[], Client]
    environment: Mapping[str, str] = field(repr=False)
    insecure: bool = False
    offline: bool = False
    fresh: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    answers: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raise StoppedError once the build is to stop."""
        if self.stop.is_set():
            msg = "the build was stopped"
            raise StoppedError(msg)

    def progress(self, inner: Progress) -> Progress:
        """Return a progress that stops with the build."""

        def tell(done: int) -> None:
            self.check()
            inner(done)

        return tell

    # -- files -----------------------------------------------------------------

    def hold(self, data: bytes) -> Held:
        """Make a small blob."""
        digest = Digest.of(data)
        self.lease.add([digest])
        self.store.put_bytes(data)
        return Held(digest, len(data))

    def receive(self, name: str, size: int | None, reader: ByteReader) -> Held:
        """Make a blob of a file's stream whose digest nobody told; raises FormatError for a name that is no text."""
        check_name(name)
        adopted = self.store.put_unknown(name, size, reader, self.progress(_unheard), lease=self.lease)
        return Held(adopted.digest, adopted.size)

    def take_over(self, made: Path) -> Held:
        """Make a file that a tool wrote a blob."""
        adopted = self.store.take_over(made, self.lease)
        return Held(adopted.digest, adopted.size)

    def descriptor(self, held: Held) -> Descriptor:
        """Describe a held file as a blob."""
        return Descriptor(media_type=_BLOB, digest=held.digest, size=held.size)

    # -- what was made before ----------------------------------------------------

    def recall(self, of: str) -> dict[str, Held] | None:
        """Return the files that were made of this before, if all are whole; leased from then on."""
        record = None if self.fresh else self._read(of)
        if record is None or not record.files:
            return None
        files = {
            file.name: Held(Digest(file.digest), file.size, file.mode, file.uid, file.gid) for file in record.files
        }
        self.lease.add(held.digest for held in files.values())
        whole = all(self.store.blobs.is_whole(held.digest, held.size) for held in files.values())
        return files if whole else None

    def keep(self, of: str, files: Mapping[str, Held]) -> None:
        """Remember the files that were made of something."""
        listed = tuple(
            _File(name, held.digest, held.size, held.mode, held.uid, held.gid) for name, held in files.items()
        )
        self._write(of, _Record(listed))

    def resolved(self, asked: str, ask: Callable[[], str]) -> str:
        """Return what a name stands for now, say a branch's commit; offline, what it stood for when it was last asked."""
        if self.offline:
            record = self._read(f"name {asked}")
            if record is None:
                msg = f"{asked} was not asked for before, and the network is not used offline"
                raise NetworkError(msg, hint="leave --offline away")
            return record.text
        if asked in self.answers:
            return self.answers[asked]
        text = self.answers.setdefault(asked, ask())
        record = self._read(f"name {asked}")
        if record is None or record.text != text:
            self._write(f"name {asked}", _Record(text=text))
        return text

    def noted(self, of: str) -> list[str]:
        """Return the words that were noted of something."""
        record = self._read(of)
        return record.text.split() if record else []

    def note(self, of: str, words: list[str]) -> None:
        """Remember some words of something, none of which holds a blank."""
        self._write(of, _Record(text=" ".join(words)))

    def seen(self, place: str) -> bytes | None:
        """Return what is remembered of a folder's files."""
        return self.store.build_cache.read(_key(f"seen {place}"))

    def remember_seen(self, place: str, record: bytes) -> None:
        """Remember what a folder's files were when they were read."""
        self.store.prepare()
        self.store.build_cache.write(_key(f"seen {place}"), record)

    @contextmanager
    def making(self, of: str) -> Iterator[tuple[Path, dict[str, Held] | None]]:
        """Yield a folder to make something in, and what another build made of it while this one waited."""
        self.store.prepare()
        with self.store.build_cache.making(_key(of), self.check) as folder:
            yield folder, self.recall(of)

    def _read(self, of: str) -> _Record | None:
        raw = self.store.build_cache.read(_key(of))
        try:
            return msgspec.json.decode(raw, type=_Record) if raw else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # damaged: it is made again

    def _write(self, of: str, record: _Record) -> None:
        self.store.prepare()
        self.store.build_cache.write(_key(of), msgspec.json.encode(record, enc_hook=str))


@dataclass(frozen=True, slots=True)
class Stopping:
    """The store as the target of a copy that ends with the build."""

    bench: Bench

    def put_blob(self, blob: Descriptor, source: Source, progress: Progress, /) -> str:
        """Receive a blob, verified."""
        return self.bench.store.put_blob(blob, source, self.bench.progress(progress))

    def has(self, blob: Descriptor, /) -> bool:
        """Say whether the blob is there."""
        return self.bench.store.has(blob)

    def put_document(self, document: Document, tag: str | None, /) -> None:
        """Write a manifest or index."""
        self.bench.store.put_document(document, tag)


def described(*parts: object) -> str:
    """Write down what something is made of, the same on any machine."""
    return msgspec.json.encode([_VERSION, *parts], enc_hook=str, order="deterministic").decode()


def _key(of: str) -> str:
    return hashlib.sha256(of.encode()).hexdigest()


def _unheard(_done: int) -> None:
    pass
