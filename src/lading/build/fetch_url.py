"""One file behind a URL for a step: held to its checksum where there is one, else to what tells its version."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from lading.build.checksum import check_sum
from lading.build.outcome import Held
from lading.digest import Digest
from lading.errors import IntegrityError
from lading.events import Advanced, Finished, Started
from lading.manifest import Descriptor
from lading.store import Version
from lading.transport.web import WebSource, look

if TYPE_CHECKING:
    from lading.build.bench import Bench
    from lading.content import Progress
    from lading.recipe.sources import Url
    from lading.transport.web import WebFile

_BLOB = "application/octet-stream"


def fetch_url(source: Url, checksum: Digest | None, bench: Bench) -> tuple[Held, bool]:
    """Return the file, and whether it was here.

    One with a sha256 that is here is not asked for; of any other the server is asked, once in a build, whether it is the
    version that is here. Raises IntegrityError where the checksum is another.
    """
    sha256 = checksum if checksum is not None and checksum.algorithm == "sha256" else None
    if sha256 is not None and not bench.fresh and (held := _whole(sha256, bench)) is not None:
        return held, True
    answer = bench.answers.get(f"url {source.url}") if checksum is None else None
    if answer is not None and (held := _whole(Digest(answer), bench)) is not None:
        return held, True
    file = look(source.url, bench.client(), insecure=bench.insecure)
    promised = sha256 or file.digest
    here = _present(file, promised, bench)
    try:
        held = here or _fetched(file, promised, bench)
    except IntegrityError as error:
        if checksum is None:
            raise
        msg = f"{source.name} is not what its checksum says: {error.message}"
        raise IntegrityError(msg, hint="nothing of it was cached; ask whoever published the checksum") from error
    if checksum is not None:
        check_sum(held, checksum, source.name, bench)
    bench.answers[f"url {source.url}"] = held.digest
    return held, here is not None


def _whole(digest: Digest, bench: Bench) -> Held | None:
    bench.lease.add([digest])
    size = bench.store.blobs.size(digest)
    return Held(digest, size) if size is not None and bench.store.blobs.is_whole(digest, size) else None


def _present(file: WebFile, digest: Digest | None, bench: Bench) -> Held | None:
    if digest is not None:
        bench.lease.add([digest])
        whole = bench.store.blobs.is_whole(digest, file.size)
        return Held(digest, file.size) if whole else None
    found = bench.store.find_version(_version(file), bench.lease) if file.validator else None
    return Held(found.digest, found.size) if found else None


def _fetched(file: WebFile, digest: Digest | None, bench: Bench) -> Held:
    store = bench.store
    wanted = Descriptor(media_type=_BLOB, digest=digest, size=file.size) if digest else _version(file).blob
    store.require_space(file.size - store.received(wanted))
    bench.reporter.emit(Started(file.url, "file", file.name, file.size))

    def tell(done: int) -> None:
        bench.reporter.emit(Advanced(file.url, done))

    progress: Progress = bench.progress(tell)
    source = WebSource(file)
    if digest:
        store.put_blob(wanted, source, progress)
        held = Held(digest, file.size)
    elif file.validator:
        adopted = store.put_version(_version(file), source, progress, lease=bench.lease)
        held = Held(adopted.digest, adopted.size)
    else:
        with closing(source.open(wanted)) as reader:
            held = bench.receive(file.name, file.size, reader)
    bench.reporter.emit(Finished(file.url))
    return held


def _version(file: WebFile) -> Version:
    return Version(file.url, file.name, file.size, file.validator)
