"""Archives as a place to read from and to write to; what breaks their rules is refused, by name."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import stat
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from archives import files, member, pax, tar
from sources import Memory, descriptor, ignore, manifest

from lading import media
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError, LadingError, NotFoundError, UsageError
from lading.formats.archive import Kind, RangeCursor, file_head, read_entries
from lading.manifest import Descriptor, Index, Manifest
from lading.ranges import FileRanges
from lading.reference import Archive as Reference
from lading.transport.archive import open_archive, open_reference
from lading.transport.archive_writer import ArchiveTarget, FileSink, LayoutTar, StreamSink

if TYPE_CHECKING:
    from pathlib import Path

    from lading.manifest import Document
    from lading.transport.archive import Archive

DATA = random.Random(8).randbytes(2_500_000)
LAYER = b"a layer of an image" * 1000
OTHER = b"another"
LAYERS = "application/vnd.oci.image.layer.v1."
LAYOUT = ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


def blob(data: bytes) -> tuple[str, bytes]:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}", data


def index(*made: Manifest, **more: Any) -> tuple[str, bytes]:
    entries = [
        {
            "mediaType": one.media_type,
            "digest": one.digest,
            "size": len(one.raw),
            "annotations": {"org.opencontainers.image.ref.name": f"story:{number}"},
        }
        for number, one in enumerate(made, 1)
    ]
    return "index.json", json.dumps({"schemaVersion": 2, "manifests": entries, **more}).encode()


def docker_config(*layers: bytes) -> bytes:
    return json.dumps({"rootfs": {"type": "layers", "diff_ids": [Digest.of(data) for data in layers]}}).encode()


def docker_list(*images: tuple[str, list[str] | None, list[str]]) -> tuple[str, bytes]:
    listed = [{"Config": config, "RepoTags": tags, "Layers": layers} for config, tags, layers in images]
    return "manifest.json", json.dumps(listed).encode()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "a.tar"


def opened(place: Path, data: bytes) -> Archive:
    place.write_bytes(data)
    return open_archive(place, "a.tar")


def whole(archive: Archive, blob: Any) -> bytes:
    reader = archive.open(blob)
    try:
        return b"".join(iter(lambda: reader.read(1 << 16) or b"", b""))
    finally:
        reader.close()


def written(place: Path, *layers: bytes, tag: str = "story:1") -> bytes:
    target = ArchiveTarget(place)
    made = manifest(*layers)
    for one in made.blobs:
        target.put_blob(one, Memory(b"{}", *layers), ignore)
    target.put_document(made, tag)
    target.close()
    return place.read_bytes()


class TestWriting:
    def test_the_same_model_makes_the_same_bytes(self, tmp_path: Path) -> None:
        first = written(tmp_path / "a.tar", DATA, OTHER)
        assert written(tmp_path / "b.tar", DATA, OTHER) == first

    def test_real_tar_lists_it_with_fixed_owners_times_and_order(self, place: Path) -> None:
        written(place, OTHER)
        listed = subprocess.run(
            ["tar", "--numeric-owner", "--full-time", "-tvf", place],
            check=True, capture_output=True, text=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
        ).stdout.splitlines()  # fmt: skip
        assert all(" 0/0 " in line and "1970-01-01 00:00:00" in line for line in listed)
        names = [line.rpartition(" ")[2] for line in listed]
        assert names[:3] == ["oci-layout", "blobs/", "blobs/sha256/"]
        assert names[-1] == "index.json"
        assert len(names) == len(set(names)) == 7

    def test_every_body_begins_where_a_block_of_the_disk_does(self, place: Path) -> None:
        written(place, DATA, OTHER)
        with closing(FileRanges(os.open(place, os.O_RDONLY), "a.tar")) as file:
            entries = [entry for entry in read_entries(RangeCursor(file, "a.tar")) if entry.kind is Kind.FILE]
        assert len(entries) == 6
        assert all(entry.offset % 4096 == 0 for entry in entries)

    def test_what_a_source_breaks_off_is_taken_back(self, place: Path) -> None:
        target = ArchiveTarget(place)
        lie = Memory(DATA)
        lie.bodies[str(Digest.of(DATA))] = DATA[:-1] + b"x"
        with pytest.raises(IntegrityError):
            target.put_blob(descriptor(DATA), lie, ignore)
        made = manifest(OTHER)
        for one in made.blobs:
            target.put_blob(one, Memory(b"{}", OTHER), ignore)
        target.put_document(made, "story:1")
        target.close()
        assert place.read_bytes() == written(place.with_name("b.tar"), OTHER)

    def test_a_file_has_its_name_once_it_is_whole(self, place: Path) -> None:
        place.write_bytes(b"the old one")
        target = ArchiveTarget(place)
        target.put_blob(descriptor(DATA), Memory(DATA), ignore)
        assert place.read_bytes() == b"the old one"
        target.close()
        assert list(place.parent.iterdir()) == [place]
        written(place, OTHER)
        assert stat.S_IMODE(place.stat().st_mode) == 0o644
        assert list(place.parent.iterdir()) == [place]

    def test_what_a_dead_writer_left_is_not_in_the_way(self, place: Path) -> None:
        place.with_name(".a.tar.new").write_bytes(DATA)
        assert written(place, OTHER) == written(place.with_name("b.tar"), OTHER)
        assert not place.with_name(".a.tar.new").exists()

    def test_a_folder_is_not_replaced_and_none_is_made(self, place: Path) -> None:
        place.mkdir()
        with pytest.raises(UsageError, match="no file"):
            FileSink(place)
        with pytest.raises(NotFoundError, match="nowhere does not exist"):
            FileSink(place.parent / "nowhere" / "a.tar")

    def test_a_stream_gets_the_bytes_of_the_file(self, place: Path) -> None:
        stream = io.BytesIO()
        archive = LayoutTar(StreamSink(stream))
        made = manifest(DATA)
        for one in made.blobs:
            archive.put_blob(one, Memory(b"{}", DATA), ignore)
        archive.put_document(made, "story:1")
        archive.finish()
        assert stream.getvalue() == written(place, DATA)
        assert archive.size == place.stat().st_size

    def test_a_stream_never_goes_on_after_a_failure(self) -> None:
        archive = LayoutTar(StreamSink(io.BytesIO()))
        lie = Memory(DATA)
        lie.bodies[str(Digest.of(DATA))] = DATA[:-1]
        with pytest.raises(IntegrityError):
            archive.put_blob(descriptor(DATA), lie, ignore)
        with pytest.raises(LadingError, match="stays written"):
            archive.put_blob(descriptor(OTHER), Memory(OTHER), ignore)


class TestListForDocker:
    @staticmethod
    def image(*layers: bytes, **more: Any) -> Manifest:
        config = Descriptor.of(docker_config(*layers), media.OCI_CONFIG)
        return Manifest.build(config, tuple(Descriptor.of(data, f"{LAYERS}tar") for data in layers), **more)

    def listed(self, place: Path, **named: Document) -> Any:
        """Return the list in an archive of documents; a name with `_` before it is none."""
        with closing(LayoutTar(FileSink(place))) as target:
            for document in named.values():
                target.put_document(document, None)
            for name, document in named.items():
                if not name.startswith("_"):
                    target.put_document(document, name)
            target.finish()
        found = subprocess.run(["tar", "-xOf", place, "manifest.json"], capture_output=True, check=False)
        return json.loads(found.stdout) if found.returncode == 0 else None

    def test_an_image_has_its_config_layers_and_names_in_it(self, place: Path) -> None:
        first, second = self.image(OTHER, LAYER), self.image(LAYER)
        names = {"team/story:1": first, "localhost:5000/a/b:c": second, "story": first}
        assert self.listed(place, **names) == [
            {
                "Config": first.config.digest.path,
                "RepoTags": ["team/story:1", "story:latest"],
                "Layers": [blob(OTHER)[0], blob(LAYER)[0]],
            },
            {"Config": second.config.digest.path, "RepoTags": ["localhost:5000/a/b:c"], "Layers": [blob(LAYER)[0]]},
        ]

    def test_an_index_is_its_first_image(self, place: Path) -> None:
        first, second, artifact = self.image(LAYER), self.image(OTHER), manifest(LAYER)
        both = Index.build((artifact.descriptor, second.descriptor, first.descriptor))
        (one,) = self.listed(place, _1=first, _2=artifact, _3=second, **{"story:1": both})
        assert (one["Config"], one["RepoTags"]) == (second.config.digest.path, ["story:1"])

    @pytest.mark.parametrize("name", ["hf:owner/Repo:Q4_K_M", "Upper:1", "a.b/c@sha256:" + "0" * 64, "url:x/y"])
    def test_a_name_that_docker_cannot_have_is_left_out(self, place: Path, name: str) -> None:
        (one,) = self.listed(place, **{name: self.image(LAYER)})
        assert one["RepoTags"] is None

    def test_a_name_that_docker_would_give_twice_is_given_once(self, place: Path) -> None:
        first, second = self.listed(place, **{"story": self.image(LAYER), "story:latest": self.image(OTHER)})
        assert (first["RepoTags"], second["RepoTags"]) == (["story:latest"], None)

    def test_without_an_image_there_is_none(self, place: Path) -> None:
        assert self.listed(place, **{"a:1": manifest(LAYER), "b:1": self.image(LAYER, artifact_type="x/y")}) is None


class TestReading:
    def test_the_only_model_needs_no_name(self, place: Path) -> None:
        written(place, OTHER, tag="team/story:7")
        archive, name = open_reference(Reference("oci", str(place)))
        assert name == "team/story:7"
        assert archive.document(name) == manifest(OTHER)

    def test_of_several_one_has_to_be_named(self, place: Path) -> None:
        one, two = manifest(OTHER), manifest(LAYER)
        place.write_bytes(files(LAYOUT, index(one, two), blob(one.raw), blob(two.raw)))
        with pytest.raises(UsageError, match="holds 2 models: story:1, story:2"):
            open_reference(Reference("oci", str(place)))
        with pytest.raises(NotFoundError, match="no model named `x`; it has story:1, story:2"):
            open_archive(place, "a.tar").document("x")

    def test_of_none_that_is_said(self, place: Path) -> None:
        place.write_bytes(files(LAYOUT, index()))
        with pytest.raises(FormatError, match="holds no model"):
            open_reference(Reference("oci", str(place)))

    def test_a_blob_of_more_than_8_gib_is_found_by_us_and_by_the_real_tar(self, place: Path) -> None:
        name, size = "blobs/sha256/" + "0" * 64, 9 << 30
        before = tar(member(*LAYOUT), member(*index()))[:-1024]
        head = file_head(name, size, len(before))
        with place.open("wb") as file:
            file.write(before + head)
            file.truncate(len(before) + len(head) + size)
        large = Descriptor(media_type="x/y", digest=Digest("sha256:" + "0" * 64), size=size)
        assert open_archive(place, "a.tar").has(large)
        listed = subprocess.run(["tar", "-tvf", place], check=True, capture_output=True, text=True).stdout
        assert str(size) in listed.splitlines()[-1]

    def test_a_digest_means_itself_whatever_has_it_as_a_name(self, place: Path) -> None:
        one, two = manifest(OTHER), manifest(LAYER)
        entry = {"mediaType": one.media_type, "digest": one.digest, "size": len(one.raw)}
        named = {**entry, "annotations": {"org.opencontainers.image.ref.name": two.digest}}
        document = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
        archive = opened(place, files(LAYOUT, ("index.json", document), blob(one.raw), blob(two.raw)))
        assert archive.document(two.digest) == two

    def test_dockers_own_name_goes_before_the_mere_tag(self, place: Path) -> None:
        made = manifest(OTHER)
        entry = {
            "mediaType": made.media_type,
            "digest": made.digest,
            "size": len(made.raw),
            "annotations": {
                "org.opencontainers.image.ref.name": "1",
                "io.containerd.image.name": "docker.io/library/story:1",
            },
        }
        document = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        archive = opened(place, files(LAYOUT, ("index.json", document), blob(made.raw)))
        assert [root.name for root in archive.roots] == ["docker.io/library/story:1"]

    def test_a_blob_whose_name_lies_is_never_whole(self, place: Path) -> None:
        name = blob(OTHER)[0]
        archive = opened(place, files(LAYOUT, index(), (name, b"othanER")))
        with pytest.raises(IntegrityError, match=r"blob sha256:[0-9a-f]{12} in a\.tar has digest"):
            whole(archive, descriptor(OTHER))

    def test_a_file_that_is_changed_meanwhile_is_refused(self, place: Path) -> None:
        archive = opened(place, files(LAYOUT, index(), blob(OTHER)))
        assert whole(archive, descriptor(OTHER)) == OTHER
        place.write_bytes(files(LAYOUT, index(), blob(OTHER), blob(LAYER)))
        with pytest.raises(IntegrityError, match=r"a\.tar was changed while it was read"):
            archive.open(descriptor(OTHER))

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "cut off"),
            (b"x" * 2000, "no tar archive"),
            (files(("story.gguf", OTHER)), "neither of an OCI image layout nor of `docker save`"),
            (files(LAYOUT), "oci-layout and no index.json"),
            (files(LAYOUT, ("index.json", b"[]")), "not a JSON object"),
            (files(LAYOUT, ("index.json", b"{")), "not JSON"),
            (files(LAYOUT, ("index.json", b'{"schemaVersion":2,"manifests":[],"layers":[]}')), "read as two things"),
            (files(LAYOUT, ("index.json", b" " * (4 * 1024 * 1024 + 1))), "index.json in a.tar has 4,194,305 bytes"),
            (files(LAYOUT, index(), index()), "index.json twice"),
            (files(LAYOUT, index(), blob(OTHER), blob(OTHER)), "twice"),
            (tar(member(*LAYOUT), member("index.json", flag=b"2")), "index.json, which is a symbolic link"),
            (tar(member(*LAYOUT), member(*index()), member("blobs/sha256/" + "0" * 64, flag=b"1")), "a hard link"),
            (tar(member(*LAYOUT), member(*index()), member("null", flag=b"3")), "null, which is a device"),
            (files(LAYOUT, index(), ("../out", OTHER)), "impossible name"),
            (files(LAYOUT, index(), ("/out", OTHER)), "impossible name"),
            (files(LAYOUT, index(), blob(LAYER))[:-2000], "cut off"),
            (tar(member(*LAYOUT), pax(("GNU.sparse.major", "1")), member(*index())), "GNU.sparse"),
            (tar(member(*LAYOUT), member("sparse", flag=b"S")), "a sparse file"),
            (files(LAYOUT, index()) + b"\1" * 512, "goes on after its end"),
            (b"\x1f\x8b\x08\x00" + bytes(600), "compressed"),
        ],
    )  # fmt: skip
    def test_what_breaks_the_rules_is_refused_by_name(self, place: Path, data: bytes, said: str) -> None:
        with pytest.raises(FormatError) as error:
            opened(place, data)
        assert said in error.value.message
        assert "a.tar" in error.value.message

    def test_two_models_of_one_name_are_refused(self, place: Path) -> None:
        one, two = (json.loads(index(made)[1])["manifests"][0] for made in (manifest(OTHER), manifest(LAYER)))
        document = json.dumps({"schemaVersion": 2, "manifests": [one, two]}).encode()
        with pytest.raises(FormatError, match="two models named `story:1`"):
            opened(place, files(LAYOUT, ("index.json", document)))


class TestDocker:
    def test_a_manifest_follows_from_what_the_config_says(self, place: Path) -> None:
        config = docker_config(LAYER, OTHER)
        archive = opened(
            place,
            files(
                docker_list(("c.json", ["story:1", "story:2"], ["1/layer.tar", "./2.tar"])),
                *(("c.json", config), ("1/layer.tar", LAYER), ("2.tar", OTHER)),
            ),
        )
        assert [root.name for root in archive.roots] == ["story:1", "story:2"]
        made = archive.document("story:1")
        assert isinstance(made, Manifest)
        assert archive.document(made.digest) == archive.document("story:2") == made
        assert made.media_type == "application/vnd.oci.image.manifest.v1+json"
        assert made.config.media_type == "application/vnd.oci.image.config.v1+json"
        assert {layer.media_type for layer in made.layers} == {"application/vnd.oci.image.layer.v1.tar"}
        assert [whole(archive, one) for one in made.blobs] == [config, LAYER, OTHER]
        assert all(archive.has(one) for one in (made.descriptor, *made.blobs))

    def test_a_layer_that_is_a_link_is_found_by_what_it_hashes_to(self, place: Path) -> None:
        one, two = docker_config(LAYER), docker_config(LAYER, OTHER)
        archive = opened(
            place,
            tar(
                member(*docker_list(("2.json", ["b:1"], ["b/layer.tar", "c.tar"]), ("1.json", ["a:1"], ["a.tar"]))),
                *(member("1.json", one), member("2.json", two), member("a.tar", LAYER), member("c.tar", OTHER)),
                member("b/layer.tar", flag=b"2"),
            ),
        )
        made = archive.document("b:1")
        assert isinstance(made, Manifest)
        assert [whole(archive, layer) for layer in made.layers] == [LAYER, OTHER]

    def test_a_layer_that_is_another_than_the_config_says_is_never_whole(self, place: Path) -> None:
        data = files(docker_list(("c", None, ["l"])), ("c", docker_config(LAYER)), ("l", OTHER))
        made = opened(place, data).document(str(open_archive(place, "a.tar").roots[0].descriptor.digest))
        assert isinstance(made, Manifest)
        with pytest.raises(IntegrityError, match=r"in a\.tar has digest"):
            whole(open_archive(place, "a.tar"), made.layers[0])

    def test_what_model_runner_exports_is_read(self, place: Path) -> None:
        made = manifest(OTHER)
        archive = opened(place, files(("manifest.json", made.raw), blob(OTHER), blob(b"{}")))
        assert [root.name for root in archive.roots] == [None]
        assert archive.document(made.digest) == made
        assert whole(archive, made.layers[0]) == OTHER

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (files(("manifest.json", b"7")), "manifest.json is malformed"),
            (files(("manifest.json", b'[{"Config": 1, "Layers": []}]')), "manifest.json is malformed"),
            (files(docker_list(("c", None, []))), "needs c, which is not in it"),
            (tar(member(*docker_list(("c", None, []))), member("c", flag=b"2")), "needs c, which is a symbolic link"),
            (files(docker_list(("c", None, [])), ("c", b"{}")), "c is malformed"),
            (files(docker_list(("c", None, ["l"])), ("c", docker_config())), "tells of 0 layers, and manifest.json of 1"),
            (files(docker_list(("c", None, ["l"])), ("c", docker_config(OTHER))), "has no layer l"),
            (
                tar(member(*docker_list(("c", None, ["l"]))), member("c", docker_config(OTHER)), member("l", flag=b"1")),
                "has no layer l",
            ),
            (
                files(docker_list(("c", None, ["l"])), ("c", docker_config(OTHER)), ("l", b"\x1f\x8b\x08\x00zipped")),
                "compressed layer l",
            ),
            (
                files(
                    docker_list(("c", ["a:1"], []), ("d", ["a:1"], ["l"])),
                    *(("c", docker_config()), ("d", docker_config(OTHER)), ("l", OTHER)),
                ),
                "two models named `a:1`",
            ),
        ],
    )  # fmt: skip
    def test_what_breaks_the_rules_is_refused_by_name(self, place: Path, data: bytes, said: str) -> None:
        with pytest.raises(FormatError) as error:
            opened(place, data)
        assert said in error.value.message
        assert "a.tar" in error.value.message
