"""The library as a program would use it. Never run: mypy holds every line to the types that `lading.api` promises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, assert_type

from lading import api
from lading.build.convert import ConvertOptions
from lading.build.imatrix import ImatrixOptions
from lading.build.quantize import QuantizeOptions
from lading.chat import Wishes
from lading.digest import Digest
from lading.errors import LadingError
from lading.estimate import EstimateSettings
from lading.events import Advanced, Event, Noted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import FileIO


class Teller:
    """A reporter is any object with this method."""

    def emit(self, event: Event) -> None:
        match event:
            case Advanced(key, done):
                assert_type(key, str)
                assert_type(done, int)
            case Noted(text, warning):
                assert_type(text, str)
                assert_type(warning, bool)
            case _:
                pass


def sessions(environment: Mapping[str, str]) -> api.Session:
    settings = api.load_config(environment)
    assert_type(settings, api.Config)
    assert_type(settings.store, Path)
    api.Session(settings)
    return api.Session(settings, Teller(), offline=False, insecure=False)


def voyage(session: api.Session, file: Path) -> None:
    words = api.given(name="Story", template=file, licences=["MIT"], params=[("ctx-size", "2048")])
    assert_type(words, api.Given)
    packed = api.pack(session, file, "story:1", format_name="modelpack", given=words, copy=True, dry_run=False)
    assert_type(packed.name, str)
    assert_type(packed.digest, Digest | None)
    for one in packed.files:
        assert_type(one.size, int)
        assert_type(one.how, str)

    pushed = api.push(session, "story:1", "localhost:5000/team/story:1", parallel=2)
    assert_type(pushed.destination, str)
    assert_type(pushed.digest, Digest)

    pulled = api.pull(session, "localhost:5000/team/story:1", name="story:2")
    assert_type(pulled.new_bytes, int)
    assert_type(pulled.up_to_date, bool)
    assert_type(pulled.replaced, Digest | None)


def carry(session: api.Session, file: Path, stream: BinaryIO, pipe: FileIO) -> None:
    saved = api.save(session, ["story:1", "story:2"], file)
    assert_type(saved, api.Saved)
    assert_type(saved.size, int)
    assert_type(saved.models[0].digest, Digest)
    api.save(session, ["story:1"], stream)
    assert_type(api.load(session, file), tuple[api.Pulled, ...])
    api.load(session, pipe, name="story:3")


def convert(session: api.Session) -> None:
    wish = api.Wish.of("docker,image", "linux/arm64", "docker.io/library/busybox")
    done = api.copy(
        session, "hf://owner/repo", "localhost:5000/team/x:q4", wish, quant="Q4_K_M", keep=False, way=api.Way(2)
    )
    assert_type(done, api.Delivered)
    assert_type(done.digest, Digest)
    assert_type(done.forms, tuple[api.DeliveredForm, ...])
    api.push(session, "story:1", "localhost:5000/team/story:1", wish)


def look(session: api.Session) -> int | None:
    found = api.inspect(session, "story:1")
    document = found.document
    assert_type(document.reference, str)
    assert_type(document.digest, str | None)
    assert_type(document.size, int)
    assert_type(document.model.architecture, str | None)
    assert_type(document.parts[0].name, str)
    assert_type(found.requests, int)
    assert_type(api.manifest_bytes(session, "story:1"), bytes)
    assert_type(api.config_bytes(session, "story:1"), bytes)
    assert_type(api.tree(session, "story:1"), api.Node)
    for model in api.list_models(session):
        assert_type(model.own_size, int | None)
    return document.model.parameters


def weigh(session: api.Session) -> str | None:
    found = api.fit(session, ["hf://owner/name", "story:1"], EstimateSettings(ctx_size=16384, cache_type_k="q8_0"))
    assert_type(found, api.Fitting)
    assert_type(found.weighed, tuple[api.Weighed, ...])
    assert_type(found.document, api.FitDocument)
    for row in found.weighed[0].rows:
        assert_type(row.total, int)
        assert_type(row.max_context, int | None)
    chosen = found.weighed[0].choice
    return chosen.row.candidate.select if chosen.row else None


def keep_house(session: api.Session) -> int:
    assert_type(api.tag(session, "story:1", "story:2"), Digest)
    assert_type(api.remove(session, ["story:1"]), tuple[str, ...])
    freed = api.prune(session, dry_run=True)
    assert_type(freed.bytes, int)
    assert_type(freed.blobs, int)
    faults = []
    for digest, size, fault in api.verify(session):
        assert_type(digest, Digest)
        assert_type(size, int)
        if fault is not None:
            assert_type(fault.why, str)
            assert_type(fault.models, tuple[str, ...])
            faults.append(fault)
    repaired = api.repair(session, faults)
    assert_type(repaired, api.Repaired)
    return len(repaired.left)


def make(session: api.Session, folder: Path, environment: Mapping[str, str]) -> api.Linted:
    made = api.convert(session, folder, folder / "f16.gguf", ConvertOptions(type="F16"), environment)
    assert_type(made, Path)
    matrix = api.imatrix(
        session, made, folder / "text", folder / "m.gguf", options=ImatrixOptions(), environment=environment
    )
    assert_type(matrix, Path)
    small = api.quantize(session, made, folder / "q4.gguf", QuantizeOptions(type="Q4_K_M", imatrix=matrix), environment)
    assert_type(small, tuple[Path, ...])
    return api.lint(folder / "GGUFPackerfile", {"QUANT": "Q4_K_M"})


def failures(session: api.Session) -> str:
    try:
        api.pull(session, "registry.example.org/team/story:1")
    except LadingError as error:
        assert_type(error.exit_code, int)
        return f"{error.message}\n{error.hint}"
    return ""


def answers(session: api.Session, environment: Mapping[str, str]) -> str:
    options = api.Options(ctx_size=2048, threads=2, runtime="embedded")
    said = []
    with api.talk(session, "story:1", options, environment, wishes=Wishes(max_tokens=64), system=None) as talking:
        with talking.serving.server.watching(), talking.chat.ask("Once upon a time") as answer:
            for piece in answer:
                assert_type(piece, str)
                said.append(piece)
        assert_type(talking.serving.runtime.version, str)
    return "".join(said)


def serving(session: api.Session, environment: Mapping[str, str]) -> str:
    with api.prepare(session, "story:1") as prepared:
        assert_type(prepared.weights, Path)
    with api.serve(session, "story:1", api.Options(port=0), environment) as served:
        assert_type(served, api.Serving)
        assert_type(served.server.endpoint.port, int)
        assert_type(served.prepared.digest, Digest | None)
    record = api.serve_detached(session, "story:1", api.Options(), environment, name="story")
    assert_type([one.url for one in api.servers(session)], list[str])
    for piece in api.server_logs(session, record.name, follow=False):
        assert_type(piece, bytes)
    return api.stop_server(session, record.name).url


def building(session: api.Session, folder: Path, environment: Mapping[str, str]) -> None:
    wanted = api.Recipe(
        file=folder / "GGUFPackerfile",
        build_args={"TYPE": "Q8_0"},
        target="last",
        contexts={"more": "folder"},
        platform="linux/arm64",
        formats="docker,image",
        fresh=True,
        allow_pickle=False,
    )

    def heard(found: api.Linted) -> None:
        assert_type(found.text, tuple[str, ...])

    built = api.build(session, folder, ["story:1"], wanted, environment, heard=heard, dry_run=False)
    assert_type(built, api.Built)
    assert_type(built.digest, Digest | None)
    assert_type(built.steps, int)
    assert_type(built.cached, int)
    assert_type(built.seconds, float)
    api.check_wishes(("story:1",), "image", output=None, engine="podman", push=False)
    assert_type(api.write_out(session, built, "oci-layout:folder"), api.Delivered)
    assert_type(api.hand_over(session, built, "podman", environment), str)


def around(session: api.Session, environment: Mapping[str, str], secret: str) -> str:
    place, asked = api.login(session, "registry.example.org", "user", secret)
    assert_type(place, str)
    assert_type(asked, bool)
    assert_type(api.logout(session, "registry.example.org"), list[str])
    return api.info(session, environment).store
