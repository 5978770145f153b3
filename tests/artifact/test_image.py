from __future__ import annotations

import json
import random
import shutil
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from archives import Layers, files, header, member, parts_of, pax, tar

from lading import media
from lading.artifact import image, image_config, image_layers, modelpack
from lading.artifact.contents import open_part, part_ranges
from lading.artifact.layers import LOOK, list_archives, wrapped_part
from lading.artifact.unpack import list_stored, read_stored, unpack
from lading.auth import Authorizer
from lading.digest import Digest
from lading.errors import FormatError, IntegrityError
from lading.events import Silent
from lading.facts import HeaderFile, read_facts
from lading.formats.archive import WrappedReader
from lading.manifest import Manifest, Platform, parse_document
from lading.model import Model, ModelFacts, Role
from lading.reference import Oci
from lading.store import Store
from lading.transport.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from real_registry import RegistryProcess

    from lading.artifact import Written
    from lading.http import Client

LAYER = "application/vnd.oci.image.layer.v1.tar"
ROW = image.ROW
TIME = "2026-01-02T03:04:05Z"


def built(source: Layers, *archives: bytes, run: object = None) -> tuple[Manifest, bytes]:
    """Make an image of uncompressed layers; `run` is what a container would be started with."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(archive) for archive in archives]},
        }
    ).encode()
    layers = tuple(source.add(archive, LAYER) for archive in archives)
    return Manifest.build(source.add(config, media.OCI_CONFIG), layers), config


def read(*archives: bytes, run: object = None) -> Model:
    source = Layers()
    manifest, config = built(source, *archives, run=run)
    return ROW.read(manifest, config, list_archives(ROW.archives(manifest, config), source))


def names(model: Model) -> list[tuple[str, str]]:
    return [(part.role.value, part.name) for part in model.parts]


GGUF = ("models/a.gguf", b"GGUF")


class TestLayersUponLayers:
    """What a container would see (image-spec, layer.md, "Applying Changesets")."""

    def test_a_later_file_replaces_an_earlier(self) -> None:
        model = read(files(GGUF, ("models/config.json", b"{}")), files(("models/a.gguf", b"GGUF of another length")))
        assert {part.name: part.size for part in model.parts} == {"a.gguf": 22, "config.json": 2}

    def test_a_whiteout_deletes_a_file_of_a_lower_layer(self) -> None:
        model = read(files(GGUF, ("models/b.gguf", b"GGUF")), files(("models/.wh.b.gguf", b"")))
        assert names(model) == [("weights", "a.gguf")]

    def test_a_whiteout_deletes_a_folder_with_all_in_it(self) -> None:
        lower = files(GGUF, ("models/old/x.gguf", b"GGUF"), ("models/old/deep/y.gguf", b"GGUF"))
        assert names(read(lower, files(("models/.wh.old", b"")))) == [("weights", "a.gguf")]
        assert names(read(lower, files(("models/old/.wh.deep", b"")))) == [
            ("weights", "a.gguf"),
            ("weights", "old/x.gguf"),
        ]

    def test_a_whiteout_of_the_models_folder_deletes_them_all(self) -> None:
        model = read(files(("models/old.gguf", b"GGUF")), files((".wh.models", b""), GGUF))
        assert names(model) == [("weights", "a.gguf")]
        with pytest.raises(FormatError, match="no weights under /models"):
            read(files(GGUF), files((".wh.models", b"")))

    def test_an_opaque_folder_hides_what_lower_layers_have_there(self) -> None:
        lower = files(("models/old.gguf", b"GGUF"), ("models/sub/old.gguf", b"GGUF"))
        assert names(read(lower, files(("models/.wh..wh..opq", b""), GGUF))) == [("weights", "a.gguf")]
        assert names(read(lower, files((".wh..wh..opq", b""), GGUF))) == [("weights", "a.gguf")]

    def test_a_deletion_concerns_lower_layers_only_wherever_it_stands(self) -> None:
        lower = files(("models/a.gguf", b"old"))
        for upper in (files(GGUF, ("models/.wh.a.gguf", b"")), files(("models/.wh.a.gguf", b""), GGUF)):
            assert [(part.name, part.size) for part in read(lower, upper).parts] == [("a.gguf", 4)]

    def test_a_file_in_the_place_of_a_folder_hides_what_was_in_it(self) -> None:
        model = read(files(("models/x/old.gguf", b"GGUF"), GGUF), files(("models/x", b"now a file")))
        assert [part.name for part in model.parts] == ["a.gguf", "x"]
        link = tar(header("models/x", flag=b"2"))
        assert names(read(files(("models/x/old.gguf", b"GGUF"), GGUF), link)) == [("weights", "a.gguf")]

    def test_a_link_in_the_place_of_the_models_folder_hides_them(self) -> None:
        with pytest.raises(FormatError, match="no weights under /models"):
            read(files(GGUF), tar(header("models", flag=b"2")))

    def test_a_folder_in_the_place_of_a_file(self) -> None:
        model = read(
            files(("models/x", b"file"), GGUF), tar(member("models/x", flag=b"5"), member("models/x/b.md", b"b"))
        )
        assert [part.name for part in model.parts] == ["a.gguf", "x/b.md"]

    def test_a_folder_that_is_written_again_keeps_its_files(self) -> None:
        model = read(files(GGUF), tar(member("models/", flag=b"5"), member("models/b.md", b"b")))
        assert [part.name for part in model.parts] == ["a.gguf", "b.md"]


class TestBounds:
    def test_more_files_than_any_model_has_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lading.artifact.changesets.MAX_FILES", 5)
        assert len(read(files(GGUF, *((f"models/{number}", b"") for number in range(4)))).parts) == 5
        with pytest.raises(FormatError, match="the image holds more than"):
            read(files(GGUF, *((f"models/{number}", b"") for number in range(3))), files(("models/.wh.0", b""), GGUF))

    def test_a_path_deeper_than_any_is_refused_before_it_is_walked(self) -> None:
        deep = tar(pax(("path", "models/" + "d/" * 600 + "x")) + member("x", b"1"), member(*GGUF))
        with pytest.raises(FormatError, match="has the impossible name `models/d/d/"):
            read(deep)


class TestWhatLiesElsewhere:
    def test_a_base_image_is_not_looked_at(self) -> None:
        base = tar(
            member("bin/sh", b"#!"),
            header("bin/bash", flag=b"1"),
            header("dev/null", flag=b"3"),
            member(b"etc/\xff\xfe", b"x"),
            member("etc/passwd", b"x"),
            member("etc/passwd", b"y"),
            member("etc/PASSWD", b"z"),
            member("models-of-cars/x.gguf", b"GGUF"),
            member("opt/models/x.gguf", b"GGUF"),
        )
        assert names(read(base, files(GGUF))) == [("weights", "a.gguf")]

    def test_an_image_without_a_model_is_refused(self) -> None:
        for archive in (files(("bin/sh", b"x")), files(("models/README.md", b"x"), ("models/b.json", b"x")), tar()):
            with pytest.raises(FormatError, match="holds no model") as caught:
                read(archive)
            assert caught.value.hint

    def test_a_single_file_without_a_telling_name_is_the_weights(self) -> None:
        assert names(read(files(("models/model.file", b"GGUF")))) == [("weights", "model.file")]

    @pytest.mark.parametrize("kind", ["+encrypted", "+zstd+encrypted", "+bzip2"])
    def test_an_image_with_layers_of_another_kind_is_none_of_ours(self, kind: str) -> None:
        source = Layers()
        manifest = Manifest.build(source.add(b"{}", media.OCI_CONFIG), (source.add(b"x", LAYER + kind),))
        assert not ROW.detect(manifest)

    def test_an_artifact_with_an_image_config_and_a_type_of_its_own_is_none_of_ours(self) -> None:
        source = Layers()
        config = source.add(b"{}", media.OCI_CONFIG)
        assert not ROW.detect(Manifest.build(config, (source.add(b"x", LAYER),), artifact_type="application/x"))

    @pytest.mark.parametrize("diff_ids", [None, [], ["sha256:" + "0" * 64] * 2])
    def test_layers_and_diff_ids_must_be_as_many(self, diff_ids: list[str] | None) -> None:
        source = Layers()
        manifest, _config = built(source, files(GGUF))
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
        with pytest.raises(FormatError, match=r"1 layers, and its config . diff_ids"):
            ROW.archives(manifest, config)

    def test_a_malformed_diff_id_is_refused(self) -> None:
        source = Layers()
        manifest, _config = built(source, files(GGUF))
        with pytest.raises(FormatError, match=r"layer sha256:\w+ has the malformed diff_id `\.\./\.\./etc`"):
            ROW.archives(manifest, b'{"rootfs":{"type":"layers","diff_ids":["../../etc"]}}')


class TestGgufPacker:
    RUN: ClassVar[dict[str, Any]] = {
        "Size": 12,
        "Cmd": ["-m", "/a.gguf", "--mmproj", "eyes.gguf"],
        "Labels": {
            "gguf.model.name": "Qwen2",
            "gguf.model.parameters": "494.03 M",
            "gguf.model.licenses": "apache-2.0",
            "gguf.model.vendor": "gguf-packer",
        },
        "Model": {"Architecture": "qwen2", "Parameters": 494_032_768, "FileType": 17, "CmdParameterValue": "/a.gguf"},
        "Projector": {"CmdParameterValue": "eyes.gguf"},
        "Drafter": {"CmdParameterValue": "./small/draft.gguf"},
        "Adapters": [{"CmdParameterValue": "style.gguf"}],
    }
    FILES = files(
        ("a.gguf", b"GGUF"),
        ("eyes.gguf", b"GGUF"),
        ("small/draft.gguf", b"GGUF"),
        ("style.gguf", b"GGUF"),
        ("etc/passwd", b"x"),
        ("models/other.gguf", b"GGUF"),
    )

    def test_its_config_tells_files_and_roles(self) -> None:
        assert names(read(self.FILES, run=self.RUN)) == [
            ("weights", "a.gguf"),
            ("projector", "eyes.gguf"),
            ("drafter", "small/draft.gguf"),
            ("adapter", "style.gguf"),
        ]

    def test_its_config_and_labels_tell_facts(self) -> None:
        facts = read(self.FILES, run=self.RUN).facts
        assert (facts.format, facts.architecture, facts.name) == ("gguf", "qwen2", "Qwen2")
        assert (facts.parameters, facts.licence, facts.vendor) == (494_032_768, "apache-2.0", None)
        labelled = {**self.RUN, "Model": {"CmdParameterValue": "a.gguf"}}
        assert read(self.FILES, run=labelled).facts.parameters == 494_030_000

    def test_all_shards_are_found_of_the_one_it_names(self) -> None:
        shards = [(f"deep/m-{number:05d}-of-00003.gguf", b"GGUF") for number in (1, 2, 3)]
        run = {"Model": {"CmdParameterValue": shards[0][0]}}
        assert [part.name for part in read(files(*shards), run=run).parts] == [name for name, _body in shards]
        with pytest.raises(FormatError, match=r"has no deep/m-00003-of-00003.gguf, which its config names"):
            read(files(*shards[:2]), run=run)

    def test_a_shard_of_more_than_there_can_be_misses_the_others(self) -> None:
        name = "m-00001-of-99999.gguf"
        with pytest.raises(FormatError, match="has 99999 parts, of which"):
            read(files((name, b"GGUF")), run={"Model": {"CmdParameterValue": name}})

    def test_a_file_that_a_later_layer_deleted_is_missed(self) -> None:
        with pytest.raises(FormatError, match=r"has no eyes.gguf, which its config names"):
            read(self.FILES, files((".wh.eyes.gguf", b"")), run=self.RUN)

    def test_a_path_that_leads_elsewhere_finds_nothing(self) -> None:
        with pytest.raises(FormatError, match=r"has no \.\./\.\./etc/passwd"):
            read(self.FILES, run={"Model": {"CmdParameterValue": "../../etc/passwd"}})


def wrap_model(model: Model, bodies: dict[str, bytes], store: Store) -> Model:
    """Do what packing does: every file becomes a layer of its own in a store."""
    assert ROW.wrap is not None
    parts = []
    for part in model.parts:
        wrapping = ROW.wrap(part.name, part.size)
        source = Layers(bodies[part.name])
        put = store.put_unknown(
            part.name, wrapping.size, WrappedReader(wrapping, source.open(part.blob)), lambda _done: None
        )
        parts.append(wrapped_part(part, wrapping, put.digest))
    return Model(tuple(parts), model.facts)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


BODIES = {
    "story.gguf": b"GGUF" + bytes(range(256)) * 200,
    "deep/mmproj-x.gguf": b"GGUF" * 100,
    "LICENSE": b"CC0",
    "eyes": b"E" * 9,
}


@pytest.fixture
def written(store: Store, facts: Any) -> Written:
    model = Model(parts_of(BODIES, {"eyes": Role.PROJECTOR}), facts)
    done = ROW.write(wrap_model(model, BODIES, store), TIME)
    store.put_bytes(done.config)
    store.put_document(done.manifest, "car")
    return done


class TestWritten:
    def test_weights_stand_lowest_and_every_file_has_a_layer(self, written: Written, valid: Callable[..., Any]) -> None:
        tree = valid("oci/config-schema.json", written.config)
        layers = written.manifest.layers
        assert [layer.annotations[media.TITLE] for layer in layers] == [
            "story.gguf",
            "LICENSE",
            "deep/mmproj-x.gguf",
            "eyes",
        ]
        assert {layer.media_type for layer in layers} == {LAYER}
        assert tree["rootfs"] == {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
        assert len(tree["history"]) == len(layers)
        assert (tree["architecture"], tree["os"], tree["created"]) == ("amd64", "linux", TIME)
        assert written.manifest.artifact_type is None
        assert written.manifest.config.media_type == media.OCI_CONFIG

    def test_images_for_several_platforms_share_their_layers(self, store: Store, facts: Any) -> None:
        model = wrap_model(Model(parts_of(BODIES, {}), facts), BODIES, store)
        arm = image_config.write(model, None, Platform(architecture="arm64", os="linux", variant="v8"))
        amd = ROW.write(model, None)
        assert arm.manifest.layers == amd.manifest.layers
        tree = json.loads(arm.config)
        assert (tree["architecture"], tree["variant"]) == ("arm64", "v8")
        assert json.loads(amd.config)["architecture"] == "amd64"

    def test_the_way_back_is_known_without_reading_a_byte(self, written: Written, store: Store) -> None:
        model = read_stored(ROW, written.manifest, store)
        assert {part.name: (part.role, part.size, part.digest) for part in model.parts} == {
            name: (role, len(BODIES[name]), Digest.of(BODIES[name]))
            for name, role in {
                "story.gguf": Role.WEIGHTS,
                "deep/mmproj-x.gguf": Role.PROJECTOR,
                "LICENSE": Role.LICENCE,
                "eyes": Role.PROJECTOR,
            }.items()
        }

    def test_a_claim_about_a_file_is_held_against_its_bytes(self, written: Written, store: Store) -> None:
        raw = written.manifest.raw.replace(Digest.of(BODIES["LICENSE"]).encode(), Digest.of(b"else").encode())
        manifest = parse_document(raw, name="x")
        assert isinstance(manifest, Manifest)
        model = ROW.read(manifest, written.config, list_stored(ROW.archives(manifest, written.config), store))
        with pytest.raises(IntegrityError, match="LICENSE has digest"):
            unpack(store, manifest.digest, model.parts, Silent())
        assert not (store.root / "models" / manifest.digest.file_name).exists()


class TestUponABase:
    BASE: ClassVar[dict[str, Any]] = {
        "created": "2020-01-01T00:00:00Z",
        "architecture": "arm64",
        "os": "linux",
        "config": {"User": "65532", "Entrypoint": ["/bin/sh"], "Labels": {"org.opencontainers.image.title": "ubi"}},
        "history": [{"created_by": "base"}, {"created_by": "ENV", "empty_layer": True}],
    }

    def base(self, source: Layers, media_type: str = LAYER, **more: object) -> tuple[Manifest, bytes]:
        archive = files(("bin/sh", b"#!"), ("models/old.md", b"old"))
        rootfs = {"type": "layers", "diff_ids": [Digest.of(archive)]}
        config = json.dumps({**self.BASE, "rootfs": rootfs, **more}).encode()
        return Manifest.build(
            source.add(config, image_layers.DOCKER_CONFIG), (source.add(archive, media_type),)
        ), config

    def upon(self, store: Store, facts: ModelFacts, created: str | None = None, **more: object) -> Written:
        model = wrap_model(Model(parts_of(BODIES, {}), facts), BODIES, store)
        return image_config.write_upon(
            *self.base(Layers(), "application/vnd.docker.image.rootfs.diff.tar", **more), model, created
        )

    def test_all_that_the_base_says_stays(self, store: Store, facts: ModelFacts, valid: Callable[..., Any]) -> None:
        written = self.upon(store, facts)
        tree = valid("oci/config-schema.json", written.config)
        assert {key: tree[key] for key in ("created", "architecture", "os")} == {
            key: self.BASE[key] for key in ("created", "architecture", "os")
        }
        assert tree["config"]["User"] == "65532"
        assert tree["config"]["Entrypoint"] == ["/bin/sh"]
        assert tree["config"]["Labels"]["io.lading.architecture"] == "llama"
        assert [step.get("created_by") for step in tree["history"]][:3] == ["base", "ENV", "lading: /models/story.gguf"]
        assert len(tree["rootfs"]["diff_ids"]) == len(written.manifest.layers) == 1 + len(BODIES)
        assert {layer.media_type for layer in written.manifest.layers} == {LAYER}, "Docker's types become OCI's"
        assert written.manifest.config.media_type == media.OCI_CONFIG
        assert json.loads(self.upon(store, facts, TIME).config)["created"] == TIME

    def test_a_base_without_a_history_gets_none(self, store: Store, facts: ModelFacts) -> None:
        assert "history" not in json.loads(self.upon(store, facts, history=None).config)

    def test_what_is_no_image_is_no_base(self, store: Store, facts: ModelFacts, models: dict[str, Model]) -> None:
        written = modelpack.ROW.write(models["gguf"], None)
        with pytest.raises(FormatError, match="is no container image"):
            image_config.write_upon(written.manifest, written.config, models["gguf"], None)
        with pytest.raises(FormatError, match="1 layers, and its config 0 diff_ids"):
            self.upon(store, facts, rootfs={"type": "layers", "diff_ids": []})

    @pytest.mark.integration
    def test_a_base_by_umoci_runs_on_with_a_model_in_it(self, tmp_path: Path, store: Store, facts: ModelFacts) -> None:
        if shutil.which("umoci") is None:
            pytest.skip("not on this machine: umoci")
        layout = tmp_path / "layout"
        (tmp_path / "sh").write_bytes(b"#!")
        run("umoci", "init", "--layout", layout)
        run("umoci", "new", "--image", f"{layout}:base")
        run("umoci", "insert", "--image", f"{layout}:base", tmp_path / "sh", "/bin/sh")
        there = Store(layout, work=tmp_path / "work")
        base = there.document("base")
        assert isinstance(base, Manifest)
        written = image_config.write_upon(
            base, there.read(base.config), wrap_model(Model(parts_of(BODIES, {}), facts), BODIES, there), None
        )
        there.put_bytes(written.config)
        there.put_document(written.manifest, "car")
        run("umoci", "unpack", "--image", f"{layout}:car", tmp_path / "bundle")
        assert (tmp_path / "bundle/rootfs/bin/sh").read_bytes() == b"#!"
        assert (tmp_path / "bundle/rootfs/models/story.gguf").read_bytes() == BODIES["story.gguf"]
        assert {part.name for part in read_stored(ROW, written.manifest, there).parts} == set(BODIES)


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not on this machine: {', '.join(missing)}")


@pytest.mark.integration
class TestWithRealTools:
    """What others wrote is read here, and what we wrote is read by others."""

    @pytest.fixture
    def buildah(self, tmp_path: Path) -> Sequence[object]:
        return ("buildah", "--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs")

    @pytest.fixture
    def context(self, tmp_path: Path, storyteller: Path) -> Path:
        """A folder as RamaLama gives it to an engine."""
        folder = tmp_path / "context"
        folder.mkdir()
        shutil.copy(storyteller, folder / "story.gguf")
        (folder / "gone.gguf").write_bytes(b"GGUF")
        (folder / "link").symlink_to("story.gguf")
        return folder

    def read_layout(self, layout: Path, tag: str) -> tuple[Model, Store]:
        store = Store(layout, work=layout.parent / f"{layout.name}.work")
        manifest = store.document(tag)
        assert isinstance(manifest, Manifest)
        return read_stored(ROW, manifest, store), store

    def check_story(self, model: Model, store: Store, name: str, storyteller: Path) -> None:
        part = next(part for part in model.parts if part.name == name)
        reader = open_part(part, store)
        assert b"".join(iter(lambda: reader.read(1 << 20) or b"", b"")) == storyteller.read_bytes()
        reader.close()

    @needs("umoci")
    def test_an_image_by_umoci_is_read(self, tmp_path: Path, context: Path, storyteller: Path) -> None:
        layout = tmp_path / "layout"
        run("umoci", "init", "--layout", layout)
        run("umoci", "new", "--image", f"{layout}:car")
        run("umoci", "insert", "--image", f"{layout}:car", context, "/models")
        run("umoci", "insert", "--image", f"{layout}:car", "--whiteout", "/models/gone.gguf")
        model, store = self.read_layout(layout, "car")
        assert names(model) == [("weights", "story.gguf")]
        self.check_story(model, store, "story.gguf", storyteller)

    @needs("buildah")
    @pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
    def test_an_image_by_buildah_is_read(
        self, tmp_path: Path, context: Path, buildah: Sequence[object], storyteller: Path, compression: str
    ) -> None:
        layout = tmp_path / "layout"
        container = run(*buildah, "from", "scratch").strip()
        run(*buildah, "copy", container, context / "story.gguf", "/models/story/story.gguf")
        run(*buildah, "copy", container, context / "link", "/models/model.file")
        run(*buildah, "config", "--label", "org.containers.type=ai.image.model.raw", container)
        run(*buildah, "commit", container, "car")
        options = ("--disable-compression",) if compression == "none" else ("--compression-format", compression)
        run(*buildah, "push", *options, "car", f"oci:{layout}:car")
        model, store = self.read_layout(layout, "car")
        assert ("weights", "story/story.gguf") in names(model)
        self.check_story(model, store, "story/story.gguf", storyteller)

    @needs("umoci", "skopeo")
    def test_ours_unpacks_with_umoci_after_a_voyage_with_skopeo(
        self, tmp_path: Path, written: Written, store: Store
    ) -> None:
        run("skopeo", "copy", "--preserve-digests", f"oci:{store.root}:car", f"oci:{tmp_path / 'there'}:car")
        run("umoci", "unpack", "--image", f"{tmp_path / 'there'}:car", tmp_path / "bundle")
        folder = tmp_path / "bundle/rootfs/models"
        assert {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        } == BODIES

    @needs("buildah")
    def test_ours_can_be_built_upon(
        self, tmp_path: Path, written: Written, store: Store, buildah: Sequence[object]
    ) -> None:
        run(*buildah, "pull", f"oci:{store.root}:car")
        base = run(*buildah, "images", "--quiet").strip()
        container = run(*buildah, "from", base).strip()
        place = run(*buildah, "mount", container).strip()
        assert Path(place, "models/story.gguf").read_bytes() == BODIES["story.gguf"]
        run(*buildah, "umount", container)
        (tmp_path / "extra.md").write_bytes(b"more")
        run(*buildah, "copy", container, tmp_path / "extra.md", "/models/extra.md")
        run(*buildah, "commit", container, f"oci:{tmp_path / 'built'}:upon")
        model, _store = self.read_layout(tmp_path / "built", "upon")
        assert {part.name: part.size for part in model.parts} == {name: len(body) for name, body in BODIES.items()} | {
            "extra.md": 4
        }

    @needs("skopeo")
    def test_dockers_form_of_ours_is_read_too(self, tmp_path: Path, written: Written, store: Store) -> None:
        run("skopeo", "copy", "--format", "v2s2", f"oci:{store.root}:car", f"dir:{tmp_path / 'docker'}")
        raw = (tmp_path / "docker/manifest.json").read_bytes()
        source = Layers(*(path.read_bytes() for path in (tmp_path / "docker").iterdir()))
        manifest = parse_document(raw, name="x")
        assert isinstance(manifest, Manifest)
        assert manifest.config.media_type == image_layers.DOCKER_CONFIG
        config = source.bodies[manifest.config.digest]
        model = ROW.read(manifest, config, list_archives(ROW.archives(manifest, config), source))
        assert {part.name: part.size for part in model.parts} == {name: len(body) for name, body in BODIES.items()}

    @needs("skopeo", "docker-registry")
    def test_ours_is_looked_at_in_a_registry_by_its_headers_alone(
        self, written: Written, store: Store, plain_registry: RegistryProcess, client: Client
    ) -> None:
        name = f"{plain_registry.host}/cars/story:1"
        run(
            "skopeo",
            "copy",
            "--preserve-digests",
            "--dest-tls-verify=false",
            f"oci:{store.root}:car",
            f"docker://{name}",
        )
        place = Registry(Oci(plain_registry.host, "cars/story"), client, Authorizer(client, lambda *_: None))
        manifest = place.document("1")
        assert isinstance(manifest, Manifest)
        assert manifest.digest == written.manifest.digest
        model = ROW.read(manifest, written.config, list_archives(ROW.archives(manifest, written.config), place))
        assert {part.name: part.digest for part in model.parts} == {
            name: Digest.of(body) for name, body in BODIES.items()
        }
        for part in model.parts:
            with closing(part_ranges(part, place)) as reader:
                assert reader.read_at(0, 9) == BODIES[part.name][:9]

    @needs("skopeo", "buildah", "docker-registry")
    def test_a_compressed_one_is_looked_at_in_a_registry_from_its_beginning(
        self,
        tmp_path: Path,
        buildah: Sequence[object],
        storyteller: Path,
        plain_registry: RegistryProcess,
        client: Client,
    ) -> None:
        (tmp_path / "big.gguf").write_bytes(storyteller.read_bytes() + random.Random(5).randbytes(12_000_000))
        container = run(*buildah, "from", "scratch").strip()
        run(*buildah, "copy", container, tmp_path / "big.gguf", "/models/big.gguf")
        run(*buildah, "commit", container, "car")
        run(*buildah, "push", "--tls-verify=false", "car", f"docker://{plain_registry.host}/cars/big:1")
        place = Registry(Oci(plain_registry.host, "cars/big"), client, Authorizer(client, lambda *_: None))
        manifest = place.document("1")
        assert isinstance(manifest, Manifest)
        with closing(place.open(manifest.config)) as reader:
            config = reader.read(1 << 20) or b""
        before = client.bytes_read
        archives = ROW.archives(manifest, config)
        listing = list_archives(archives, place, within=LOOK)
        model = ROW.read(manifest, config, listing)
        assert listing.cut == archives
        facts = read_facts(
            [HeaderFile(part.role, part.name, partial(part_ranges, part, place)) for part in model.parts]
        )
        assert facts.name == "Storyteller"
        assert client.bytes_read - before < 4_000_000 < manifest.layers[0].size
