"""Layers that are archives: every format that has them is held to the same, in every compression."""

from __future__ import annotations

import gzip
import json
import random
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from archives import Layers, files, header, member, pax, tar

from lading import media
from lading.artifact import FORMATS, READ_ONLY, detect
from lading.artifact.contents import open_part, part_ranges
from lading.artifact.layers import Archive, Listing, list_archives
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError
from lading.formats.archive import Compression, Kind
from lading.manifest import Descriptor, Manifest
from lading.model import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.model import Model, Part

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CNCF, AI, KIT = "application/vnd.cncf.model.", "application/vnd.docker.ai.", "application/vnd.kitops.modelkit."
OCI = "application/vnd.oci.image.layer.v1.tar"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar"
WEIGHTS = b"GGUF" + random.Random(3).randbytes(200_000)
PACK: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.NONE: lambda data: data,
    Compression.GZIP: lambda data: gzip.compress(data, mtime=0),
    Compression.ZSTD: zstd.compress,
}


@dataclass(frozen=True)
class Kit:
    """One format's way to carry an archive: how its parts are called, and the config that vouches for the archive."""

    row: str
    layer_type: str
    compression: Compression
    folder: str
    config_type: str
    config: Callable[[Descriptor, str], object]
    first: tuple[str, bytes] | None = None

    def artifact(self, source: Layers, archive: bytes, *, diff_id: str | None = None) -> tuple[Manifest, bytes]:
        """Make an artifact whose archive is that, in a layer of its own, into a source."""
        blob = source.add(PACK[self.compression](archive), self.layer_type)
        layers = [blob]
        if self.first:
            layers.insert(0, source.add(self.first[1], self.first[0], **{media.FILE_PATH: "first.gguf"}))
        config = json.dumps(self.config(blob, diff_id or Digest.of(archive))).encode()
        return Manifest.build(source.add(config, self.config_type), tuple(layers)), config


def rootfs(_blob: Descriptor, diff_id: str) -> object:
    return {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}


def modelfs(_blob: Descriptor, diff_id: str) -> object:
    return {"descriptor": {}, "config": {}, "modelfs": {"type": "layers", "diffIds": [diff_id]}}


def old_modelfs(_blob: Descriptor, diff_id: str) -> object:
    return {"descriptor": {}, "config": {}, "modelfs": {"type": "layers", "diff_ids": [diff_id]}}


def kitfile(blob: Descriptor, diff_id: str) -> object:
    return {"manifestVersion": "1.0.0", "model": {"path": "a.gguf", "digest": blob.digest, "diffId": diff_id}}


def docker(_blob: Descriptor, diff_id: str) -> object:
    first = Digest.of(WEIGHTS)
    return {"config": {"format": "gguf"}, "rootfs": {"type": "rootfs", "diff_ids": [first, diff_id]}}


MODELPACK, OLD = CNCF + "config.v1+json", "application/vnd.cnai.model.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
KITFILE = KIT + "config.v1+json"
NONE, GZIP, ZSTD = Compression.NONE, Compression.GZIP, Compression.ZSTD
KITS = {
    "modelpack tar": Kit("modelpack", CNCF + "weight.v1.tar", NONE, "", MODELPACK, modelfs),
    "modelpack gzip": Kit("modelpack", CNCF + "weight.v1.tar+gzip", GZIP, "", MODELPACK, modelfs),
    "modelpack zstd": Kit("modelpack", CNCF + "weight.v1.tar+zstd", ZSTD, "", MODELPACK, modelfs),
    "cnai gzip": Kit("modelpack", "application/vnd.cnai.model.weight.v1.tar+gzip", GZIP, "", OLD, old_modelfs),
    "kitops tar": Kit("kitops", KIT + "model.v1.tar", NONE, "", KITFILE, kitfile),
    "kitops gzip": Kit("kitops", KIT + "model.v1.tar+gzip", GZIP, "", KITFILE, kitfile),
    "docker dir.tar": Kit(
        "docker", AI + "dir.tar", NONE, "", AI + "model.config.v0.2+json", docker, (AI + "gguf.v3", WEIGHTS)
    ),
    "docker vllm": Kit(
        "docker", AI + "vllm.config.tar", NONE, "", AI + "model.config.v0.1+json", docker, (AI + "gguf.v3", WEIGHTS)
    ),
    "image tar": Kit("image", OCI, NONE, "models/", media.OCI_CONFIG, rootfs),
    "image gzip": Kit("image", OCI + "+gzip", GZIP, "models/", media.OCI_CONFIG, rootfs),
    "image zstd": Kit("image", OCI + "+zstd", ZSTD, "models/", media.OCI_CONFIG, rootfs),
    "docker image": Kit("image", DOCKER + ".gzip", GZIP, "models/", DOCKER_CONFIG, rootfs),
    "old docker image": Kit("image", DOCKER, NONE, "models/", DOCKER_CONFIG, rootfs),
}
STORED = {name: kit for name, kit in KITS.items() if kit.compression is NONE}
SQUEEZED = {name: kit for name, kit in KITS.items() if kit.compression is not NONE}


@pytest.fixture(params=KITS.values(), ids=list(KITS))
def kit(request: pytest.FixtureRequest) -> Kit:
    found: Kit = request.param
    return found


def read(source: Layers, manifest: Manifest, config: bytes) -> Model:
    row = detect(manifest, "it")
    return row.read(manifest, config, list_archives(row.archives(manifest, config), source))


def body(part: Part, source: Layers) -> bytes:
    with closing(open_part(part, source)) as reader:
        return b"".join(iter(lambda: reader.read(60_000) or b"", b""))


class TestEveryFormatWithArchives:
    def test_is_known_as_itself_and_nothing_else(self, kit: Kit) -> None:
        manifest, _config = kit.artifact(Layers(), files((kit.folder + "a.gguf", WEIGHTS)))
        assert [row.name for row in (*FORMATS, *READ_ONLY) if row.detect(manifest)] == [kit.row]

    def test_tells_its_files_by_name_role_and_size(self, kit: Kit) -> None:
        source = Layers()
        packed = files(
            (kit.folder + "a.gguf", WEIGHTS), (kit.folder + "deep/config.json", b"{}"), (kit.folder + "LICENSE", b"MIT")
        )
        model = read(source, *kit.artifact(source, packed))
        parts = {part.name: part for part in model.parts if part.member}
        assert {name: (part.role, part.size) for name, part in parts.items()} == {
            "a.gguf": (Role.WEIGHTS, len(WEIGHTS)),
            "deep/config.json": (Role.CONFIG, 2),
            "LICENSE": (Role.LICENCE, 3),
        }
        assert {part.member.compression for part in parts.values() if part.member} == {kit.compression}
        assert {part.digest for part in parts.values()} == {None}, "nobody said what the files hash to"

    def test_hands_over_each_files_bytes(self, kit: Kit) -> None:
        source = Layers()
        named = {"a.gguf": WEIGHTS, "empty.txt": b"", "z.txt": b"z" * 513}
        model = read(source, *kit.artifact(source, files(*((kit.folder + name, data) for name, data in named.items()))))
        for part in model.parts:
            if part.member is None:
                continue
            assert body(part, source) == named[part.name]
            with closing(part_ranges(part, source)) as reader:
                assert (reader.name, reader.size) == (part.name, part.size)
                assert reader.read_at(0, 4) == named[part.name][:4]
                assert reader.read_at(500, 100) == named[part.name][500:600]
                assert reader.read_at(part.size - 3 if part.size else 0, 100) == named[part.name][-3:]
                assert reader.read_at(part.size, 10) == b""

    @pytest.mark.parametrize("flag", [b"1", b"3", b"6"])
    def test_refuses_links_and_devices(self, kit: Kit, flag: bytes) -> None:
        source = Layers()
        hostile = tar(member(kit.folder + "a.gguf", WEIGHTS), header(kit.folder + "evil.gguf", flag=flag))
        with pytest.raises(FormatError, match=r"layer sha256:\w+ has \S*evil.gguf, which is a (hard link|device)"):
            read(source, *kit.artifact(source, hostile))

    def test_never_follows_a_symbolic_link(self, kit: Kit) -> None:
        source = Layers()
        hostile = tar(
            member(kit.folder + "a.gguf", WEIGHTS),
            header(kit.folder + "d", flag=b"2"),
            member(kit.folder + "e/x.json", b"{}"),
        )
        if kit.row == "image":
            # RamaLama puts one beside the model.
            assert {part.name for part in read(source, *kit.artifact(source, hostile)).parts} == {"a.gguf", "e/x.json"}
            return
        with pytest.raises(FormatError, match="has d, which is a symbolic link"):
            read(source, *kit.artifact(source, hostile))

    @pytest.mark.parametrize(
        ("names", "why"),
        [
            (["x.txt", "x.txt"], "x.txt twice"),
            (["x.txt", "X.txt"], "differ by case or accents only"),
            (["docs/x.txt", "Docs/y.txt"], "differ by case or accents only"),
            (["e\u0301.txt", "\u00e9.txt"], "differ by case or accents only"),
            (["../x.txt"], "impossible name"),
            (["/x.txt"], "impossible name"),
            (["x\\y"], "impossible name"),
            (["x\x1b[2J"], "impossible name"),
            (["n" * 1100], "impossible name"),
        ],
    )
    def test_refuses_names_that_cannot_be_files_side_by_side(self, kit: Kit, names: list[str], why: str) -> None:
        source = Layers()
        pieces = [pax(("path", kit.folder + name if name[0] != "/" else name)) + member("x", b"1") for name in names]
        hostile = tar(member(kit.folder + "a.gguf", WEIGHTS), *pieces)
        with pytest.raises(FormatError, match=why) as caught:
            read(source, *kit.artifact(source, hostile))
        assert caught.value.message.isprintable()

    def test_refuses_a_diff_id_that_lies(self, kit: Kit) -> None:
        source = Layers()
        lie = str(Digest.of(b"something else"))
        artifact = kit.artifact(source, files((kit.folder + "a.gguf", WEIGHTS)), diff_id=lie)
        with pytest.raises(IntegrityError, match=r"layer sha256:\w+"):
            read(source, *artifact)

    def test_refuses_an_archive_that_is_cut_off(self, kit: Kit) -> None:
        source = Layers()
        whole = files((kit.folder + "a.gguf", WEIGHTS))
        for length in (0, 300, 100_000):
            with pytest.raises(FormatError, match="cut off"):
                read(source, *kit.artifact(source, whole[:length]))

    def test_says_that_it_is_packed_when_nobody_has_looked(self, kit: Kit) -> None:
        manifest, config = kit.artifact(Layers(), files((kit.folder + "a.gguf", WEIGHTS)))
        with pytest.raises(FormatError, match=r"layer sha256:\w+ is packed: it has the type application/"):
            detect(manifest, "it").read(manifest, config)


@pytest.mark.parametrize("kit", STORED.values(), ids=STORED)
def test_an_archive_that_is_not_compressed_is_not_read_but_looked_through(kit: Kit) -> None:
    source = Layers()
    manifest, config = kit.artifact(source, files((kit.folder + "a.gguf", bytes(20_000_000))))
    model = read(source, manifest, config)
    with closing(part_ranges(model.parts[-1], source)) as reader:
        assert reader.read_at(0, 4) == bytes(4)
    assert source.read < 300_000
    assert source.opened == 0


@pytest.mark.parametrize("kit", SQUEEZED.values(), ids=SQUEEZED)
class TestCompressed:
    def test_a_look_can_stop_where_a_large_file_begins(self, kit: Kit) -> None:
        source = Layers()
        packed = files((kit.folder + "a.json", b"{}"), (kit.folder + "b.gguf", WEIGHTS), (kit.folder + "z.md", b"z"))
        manifest, config = kit.artifact(source, packed)
        row = detect(manifest, "it")
        listing = list_archives(row.archives(manifest, config), source, within=100_000)
        assert [archive.blob for archive in listing.cut] == list(manifest.layers)
        model = row.read(manifest, config, listing)
        assert sorted(part.name for part in model.parts) == ["a.json", "b.gguf"]
        whole = list_archives(row.archives(manifest, config), source, within=10_000_000)
        assert whole.cut == ()

    def test_bytes_that_are_not_the_layers_are_refused(self, kit: Kit) -> None:
        source = Layers()
        manifest, config = kit.artifact(source, files((kit.folder + "a.gguf", WEIGHTS)))
        other = PACK[kit.compression](files((kit.folder + "a.gguf", b"X" + WEIGHTS[1:])))
        source.bodies[manifest.layers[0].digest] = other
        with pytest.raises(IntegrityError):
            read(source, manifest, config)

    def test_a_header_far_from_the_start_is_not_waited_for(self, kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
        source = Layers()
        model = read(source, *kit.artifact(source, files((kit.folder + "a.gguf", WEIGHTS))))
        monkeypatch.setattr("lading.artifact.contents.MAX_HEAD", 1000)
        with closing(part_ranges(model.parts[0], source)) as reader:
            assert reader.read_at(0, 1000) == WEIGHTS[:1000]
            with pytest.raises(FormatError, match="looked at beyond its first") as caught:
                reader.read_at(900, 200)
        assert "a.gguf" in caught.value.message

    def test_a_file_that_is_not_where_it_was_is_missed(self, kit: Kit) -> None:
        source = Layers()
        manifest, config = kit.artifact(source, files((kit.folder + "a.gguf", WEIGHTS)))
        part = read(source, manifest, config).parts[0]
        other = PACK[kit.compression](files((kit.folder + "b.gguf", WEIGHTS)))
        source.bodies[manifest.layers[0].digest] = other
        with pytest.raises(IntegrityError):
            open_part(part, source)


def test_an_entry_of_nobodys_archive_is_no_listing() -> None:
    archive = Archive(Descriptor.of(b"x", "application/x"), Compression.NONE)
    with pytest.raises(FormatError, match="is packed"):
        Listing({}).of(archive)


def test_an_archive_lists_folders_and_links_too() -> None:
    source = Layers()
    blob = source.add(tar(member("d", flag=b"5"), header("l", flag=b"2"), member("f", b"x")), "x")
    listing = list_archives([Archive(blob, Compression.NONE)], source)
    assert [entry.kind for entry in listing.entries[blob.digest]] == [Kind.FOLDER, Kind.SYMBOLIC_LINK, Kind.FILE]
