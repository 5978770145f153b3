"""The contract of `lading.content`, one class that every Source and Target subclasses."""

from __future__ import annotations

import gzip
import io
import random
import threading
import time
import uuid
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pytest
from archives import files, real_tar
from sources import Memory, descriptor, ignore, manifest

from lading.auth import Authorizer
from lading.content import Piecewise, Receiving
from lading.convert.overlay import Elsewhere, Inside, Overlay, Wrapped
from lading.convert.witness import Witness
from lading.digest import Digest, VerifyingReader
from lading.errors import IntegrityError, LadingError, NetworkError, NotFoundError, StoppedError
from lading.events import Silent
from lading.formats.archive import Wrapping
from lading.manifest import Descriptor
from lading.model import Member, Part, Role
from lading.reference import Oci
from lading.store import Store
from lading.transport.archive import Archive, open_archive
from lading.transport.archive_writer import ArchiveTarget
from lading.transport.mirrors import Mirrored, Place
from lading.transport.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from real_registry import RegistryProcess

    from lading.content import ByteReader
    from lading.http import Client

DATA = random.Random(6).randbytes(3_000_000)
SMALL = b"small"


def drain(reader: ByteReader) -> None:
    """Read slowly to the end."""
    while reader.read(1 << 16):
        time.sleep(0.01)


def fill(place: Any) -> None:
    """Write an artifact of two layers under the tag `1`."""
    source = Memory(DATA, SMALL, b"{}")
    made = manifest(DATA, SMALL)
    for blob in made.blobs:
        assert place.put_blob(blob, source, ignore) == ""
    place.put_document(made, "1")


class SourceContract(ABC):
    """What a place to read from must do; `filled` holds an artifact of two layers under the tag `1`."""

    @pytest.fixture
    @abstractmethod
    def filled(self, request: pytest.FixtureRequest) -> Any:
        """Return a place that `fill` has filled."""

    def test_a_document_is_read_back_by_tag_and_by_digest(self, filled: Any) -> None:
        made = manifest(DATA, SMALL)
        assert filled.document("1") == made
        assert filled.document(made.digest) == made

    def test_what_is_not_there_is_not_found_and_named(self, filled: Any) -> None:
        for name in ("2", str(Digest.of(b"x"))):
            with pytest.raises(NotFoundError) as error:
                filled.document(name)
            assert name in error.value.message
        absent = descriptor(b"absent")
        uses: list[Callable[[], object]] = [
            lambda: filled.open(absent),
            lambda: filled.ranges(absent).read_at(0, 1),
        ]
        for use in uses:
            with pytest.raises(NotFoundError) as error:
                use()
            assert absent.digest.hex[:12] in error.value.message

    def test_a_blob_is_streamed_whole_and_in_pieces(self, filled: Any) -> None:
        reader = filled.open(descriptor(DATA))
        buffer = bytearray(100_000)
        got = bytearray()
        while count := reader.readinto(buffer):
            got += buffer[:count]
        assert bytes(got) == DATA
        assert reader.readinto(buffer) == 0
        assert reader.read(10) == b""
        reader.close()
        reader.close()

    @pytest.mark.parametrize("offset", [1, 1 << 20, len(DATA) - 1])
    def test_a_blob_is_streamed_from_any_place(self, filled: Any, offset: int) -> None:
        reader = filled.open(descriptor(DATA), offset)
        assert b"".join(iter(lambda: reader.read(1 << 20), b"")) == DATA[offset:]
        reader.close()

    def test_a_reader_left_early_leaves_the_place_usable(self, filled: Any) -> None:
        for _attempt in range(5):
            reader = filled.open(descriptor(DATA))
            assert reader.read(10) == DATA[:10]
            reader.close()
        assert filled.document("1")

    def test_ranges_are_what_the_blob_holds(self, filled: Any) -> None:
        ranges = filled.ranges(descriptor(DATA))
        assert ranges.size == len(DATA)
        assert ranges.name
        for offset, length in ((0, 10), (1_234_567, 100_000), (len(DATA) - 5, 100), (len(DATA), 5), (0, 0)):
            assert ranges.read_at(offset, length) == DATA[offset : offset + length]
        ranges.close()
        ranges.close()

    def test_where_a_blob_is_streamed_in_pieces_they_are_what_it_holds(self, filled: Any) -> None:
        ranges = filled.ranges(descriptor(DATA))
        if not isinstance(ranges, Piecewise):
            assert not isinstance(filled, Registry), "a registry's have pieces"
            ranges.close()
            return
        for offset, length in ((0, 10), (1_234_567, 1_000_000), (len(DATA) - 5, 5)):
            piece = ranges.stream(offset, length)
            assert b"".join(iter(lambda piece=piece: piece.read(1 << 20), b"")) == DATA[offset : offset + length]  # type: ignore[misc]
            piece.close()
            piece.close()
        ranges.close()

    def test_a_piece_that_is_ended_by_another_thread_raises_and_leaves_the_place_usable(self, filled: Any) -> None:
        ranges = filled.ranges(descriptor(DATA))
        if isinstance(ranges, Piecewise):
            piece = ranges.stream(0, len(DATA))
            threading.Thread(target=piece.abort).start()
            with pytest.raises(NetworkError):
                drain(piece)
            piece.close()
        ranges.close()
        assert filled.open(descriptor(SMALL)).read(10) == SMALL

    def test_a_wrong_size_is_told_before_or_with_the_last_byte(self, filled: Any) -> None:
        for size in (len(SMALL) - 1, len(SMALL) + 1):
            lie = Descriptor(media_type="x", digest=Digest.of(SMALL), size=size)
            with pytest.raises(IntegrityError):
                filled.open(lie).read(100)


class TargetContract(ABC):
    """What a place to write to must do; `place` is an empty one."""

    @pytest.fixture
    @abstractmethod
    def place(self, request: pytest.FixtureRequest) -> Any:
        """Return an empty place."""

    def test_what_is_there_is_there_with_its_digest(self, place: Any) -> None:
        assert place.put_blob(descriptor(SMALL), Memory(SMALL), ignore) == ""
        assert place.has(descriptor(SMALL))
        assert not place.has(descriptor(b"absent"))

    def test_what_is_there_is_not_asked_for_again(self, place: Any) -> None:
        assert place.put_blob(descriptor(DATA), Memory(DATA), ignore) == ""
        source = Memory()
        assert place.put_blob(descriptor(DATA), source, ignore)
        assert source.opened == []

    @pytest.mark.parametrize("data", [b"", b"x", DATA], ids=["empty", "one byte", "three blocks"])
    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_the_progress_of_a_blob_rises_to_its_size(self, place: Any, data: bytes, algorithm: str) -> None:
        blob = descriptor(data, algorithm)
        told: list[int] = []
        assert place.put_blob(blob, Memory(data), told.append) == ""
        assert told == sorted(told)
        assert (told or [0])[-1] == len(data)
        assert place.has(blob)

    @pytest.mark.parametrize(
        "body", [DATA[:-1] + bytes([DATA[-1] ^ 1]), DATA[:-1], DATA + b"x"], ids=["wrong", "short", "long"]
    )
    def test_a_wrong_body_is_never_there(self, place: Any, body: bytes) -> None:
        blob = descriptor(DATA)
        source = _Verified()
        source.bodies[blob.digest] = body
        with pytest.raises(LadingError):
            place.put_blob(blob, source, ignore)
        assert not place.has(blob)

    def test_an_error_of_the_progress_stops_the_transfer_and_comes_out(self, place: Any) -> None:
        def stop(done: int) -> None:
            if done:
                message = "enough"
                raise StoppedError(message)

        with pytest.raises(StoppedError, match="enough"):
            place.put_blob(descriptor(DATA), Memory(DATA), stop)
        assert not place.has(descriptor(DATA))
        assert place.put_blob(descriptor(DATA), Memory(DATA), ignore) == ""


class _Unnamed:
    """Bytes that nobody has hashed yet; `right` is what their owner finds at the end."""

    def __init__(self, data: bytes, *, size: int | None = None, right: bool = True) -> None:
        self._data = data
        self._right = right
        self.name = "it"
        self.size = len(data) if size is None else size
        self.opened: list[int] = []

    def open(self, offset: int, /) -> ByteReader:
        self.opened.append(offset)
        return io.BytesIO(self._data[offset:])

    def finish(self) -> Digest:
        if not self._right:
            message = "other bytes"
            raise IntegrityError(message)
        return Digest.of(self._data)


class ReceivingContract(ABC):
    """What a Target must do that takes blobs before their digest is known."""

    @pytest.fixture
    @abstractmethod
    def place(self, request: pytest.FixtureRequest) -> Any:
        """Return an empty place."""

    @pytest.mark.parametrize("data", [b"x", DATA], ids=["one byte", "three blocks"])
    def test_a_stream_becomes_a_blob_under_the_digest_that_it_has(self, place: Any, data: bytes) -> None:
        stream = _Unnamed(data)
        told: list[int] = []
        assert place.put_unnamed(stream, told.append) == Digest.of(data)
        assert stream.opened == [0]
        assert place.has(descriptor(data))
        assert place.open(descriptor(data)).read(len(data)) is not None
        assert told == sorted(told)
        assert isinstance(place, Receiving)

    def test_a_stream_that_its_owner_finds_wrong_is_never_there(self, place: Any) -> None:
        with pytest.raises(IntegrityError, match="other bytes"):
            place.put_unnamed(_Unnamed(DATA, right=False), ignore)
        assert not place.has(descriptor(DATA))

    @pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1], ids=["longer", "shorter"])
    def test_a_stream_of_another_length_than_it_said_is_never_there(self, place: Any, size: int) -> None:
        with pytest.raises(LadingError):
            place.put_unnamed(_Unnamed(DATA, size=size), ignore)
        assert not place.has(descriptor(DATA))


class ContentContract(SourceContract, TargetContract):
    """What a place that is both must do."""

    @pytest.fixture
    def filled(self, place: Any) -> Any:
        fill(place)
        return place

    def test_a_tag_moves_to_what_is_put_there_last(self, filled: Any) -> None:
        other = manifest(SMALL)
        filled.put_document(other, "1")
        assert filled.document("1") == other
        assert filled.document(manifest(DATA, SMALL).digest)

    def test_a_document_without_a_tag_is_there_by_its_digest(self, filled: Any) -> None:
        other = manifest(SMALL)
        filled.put_document(other, None)
        assert filled.document(other.digest) == other

    def test_what_is_there_is_there_with_its_size_only(self, filled: Any) -> None:
        assert filled.has(descriptor(DATA))
        assert not filled.has(Descriptor(media_type="x", digest=Digest.of(DATA), size=len(DATA) - 1))

    @pytest.mark.parametrize("data", [b"", b"x"], ids=["empty", "one byte"])
    def test_what_was_put_there_is_read_back(self, place: Any, data: bytes) -> None:
        assert place.put_blob(descriptor(data), Memory(data), ignore) == ""
        reader = place.open(descriptor(data))
        assert reader.read(len(data) + 1) == data
        reader.close()


class _Verified(Memory):
    """A source as the contract wants it: its readers hold what they give out to size and digest."""

    def open(self, blob: Descriptor, /, offset: int = 0) -> Any:
        inner = super().open(blob, offset)
        return inner if offset else VerifyingReader(inner, "it", size=blob.size, digest=blob.digest)


class TestStore(ContentContract, ReceivingContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Store:
        return Store(tmp_path / "store")


class TestLayout(ContentContract):
    """An image layout of somebody else's, with our folders apart."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Store:
        (tmp_path / "layout" / "blobs" / "sha256").mkdir(parents=True)
        (tmp_path / "layout" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}\n')
        (tmp_path / "layout" / "index.json").write_text('{"schemaVersion": 2, "manifests": []}\n')
        return Store(tmp_path / "layout", work=tmp_path / "work")


class TestOverlay(SourceContract):
    """What was made of blobs that lie in a store: put together, taken from a layer, packed or not, or from elsewhere."""

    @pytest.fixture(params=["wrapped", "inside", "inside gzip", "small", "elsewhere", "as it is"])
    def filled(self, tmp_path: Path, request: pytest.FixtureRequest) -> Overlay:
        store = Store(tmp_path / "store")
        overlay = Overlay(store)
        for data in (SMALL, b"{}"):
            store.put_bytes(data)
        blob = descriptor(DATA)
        if request.param == "wrapped":
            head, raw, tail = DATA[:5000], DATA[5000:-700], DATA[-700:]
            store.put_bytes(raw)
            overlay.add(blob.digest, Wrapped("it", Wrapping("it", head, len(raw), tail), descriptor(raw), store))
        elif request.param.startswith("inside"):
            archive = files(("a", b"before"), ("it", DATA))
            layer = gzip.compress(archive, 1) if "gzip" in request.param else archive
            store.put_bytes(layer)
            kind = "gzip" if "gzip" in request.param else "none"
            member = Member("it", archive.index(DATA), len(DATA), kind)
            overlay.add(blob.digest, Inside(Part(Role.WEIGHTS, "it", descriptor(layer), member), store))
        elif request.param == "small":
            overlay.write(DATA)
        elif request.param == "elsewhere":
            other = Store(tmp_path / "other")
            other.put_bytes(DATA)
            overlay.add(blob.digest, Elsewhere(blob, other))
        else:
            store.put_bytes(DATA)
        store.put_bytes(manifest(DATA, SMALL).raw)
        store.tag("1", manifest(DATA, SMALL))
        return overlay


class TestWitness(SourceContract):
    """A source whose ranges were looked at before its streams are read."""

    @pytest.fixture
    def filled(self, tmp_path: Path) -> Witness:
        store = Store(tmp_path / "store")
        fill(store)
        witness = Witness(store)
        for offset in (0, 100, 1 << 20):
            witness.ranges(descriptor(DATA)).read_at(offset, 1000)
        return witness


class TestWrittenArchive(TargetContract):
    """An image layout in a tar, in the making."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[ArchiveTarget]:
        target = ArchiveTarget(tmp_path / "a.tar")
        yield target
        target.close()


class TestReadArchive(SourceContract):
    """The same as it was written, and what the real tar makes of a layout in a folder."""

    @pytest.fixture(params=["ours", "tar"])
    def filled(self, tmp_path: Path, request: pytest.FixtureRequest) -> Archive:
        path = tmp_path / "a.tar"
        if request.param == "ours":
            target = ArchiveTarget(path)
            fill(target)
            target.close()
        else:
            fill(Store(tmp_path / "layout", work=tmp_path / "work"))
            path.write_bytes(real_tar(tmp_path / "layout"))
        return open_archive(path, "a.tar")


@pytest.mark.integration
class TestRegistry(ContentContract, ReceivingContract):
    """Debian's docker-registry, over HTTP."""

    @pytest.fixture
    def place(self, plain_registry: RegistryProcess, client: Client) -> Registry:
        reference = Oci(plain_registry.host, f"team/{uuid.uuid4().hex[:12]}")
        return Registry(reference, client, Authorizer(client, lambda *_: None))


class _Mirrored(Mirrored):
    """Read through mirrors, written to one place behind."""

    def __init__(self, mirror: Registry, origin: Registry, written: Registry, *, small: int) -> None:
        super().__init__("1", (Place("mirror", mirror, "1"), Place("origin", origin, "1")), Silent(), small=small)
        self.has = written.has
        self.put_blob = written.put_blob
        self.put_document = written.put_document


@pytest.mark.integration
class TestMirrored(ContentContract):
    """A mirror and an origin, of which one holds something else; blobs are held until they are right, or streamed."""

    @pytest.fixture(params=["mirror", "origin"])
    def written(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture(params=[0, 1 << 20], ids=["streamed", "held"])
    def place(
        self, plain_registry: RegistryProcess, client: Client, written: str, request: pytest.FixtureRequest
    ) -> _Mirrored:
        def registry() -> Registry:
            reference = Oci(plain_registry.host, f"team/{uuid.uuid4().hex[:12]}")
            return Registry(reference, client, Authorizer(client, lambda *_: None))

        both = {"mirror": registry(), "origin": registry()}
        for name, other in both.items():
            if name != written:
                made = manifest(SMALL, title="another")
                for blob in made.blobs:
                    other.put_blob(blob, Memory(SMALL, b"{}"), ignore)
                other.put_document(made, "0")
        return _Mirrored(both["mirror"], both["origin"], both[written], small=request.param)
