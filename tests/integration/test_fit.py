"""`lading fit` wherever a model is, and what it costs there in requests and bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from counting_proxy import CountingProxy
from hub import LoopbackHub
from made_weights import gguf, gguf_shard
from shapes import Size, shape

from lading.api import Session, fit, load_config
from lading.api._fit import machine_said
from lading.errors import AccessDeniedError, FormatError, NetworkError, NotFoundError
from lading.fit import Fits, described
from lading.formats.gguf import read_header
from lading.ranges import BytesRanges

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration

GIB = 1024**3
MIB = 1024**2
HERE = described([], 64 * GIB)
QUANTS = {"Q4_K_M": "Q4_K", "Q6_K": "Q6_K", "Q8_0": "Q8_0", "F16": "F16"}


@pytest.fixture(scope="module")
def quants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small model in several types, with a header of nearly a mebibyte."""
    folder = tmp_path_factory.mktemp("quants")
    return {
        label: shape("llama", Size(2, 256, 512, 4, 4, 64, 40_000, weights=kind)).write(folder / f"m-{label}.gguf")
        for label, kind in QUANTS.items()
    }


@pytest.fixture
def environment(tmp_path: Path, hub: LoopbackHub) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "LADING_STORE": str(tmp_path / "store"),
        "HF_ENDPOINT": hub.url,
        "MODELSCOPE_ENDPOINT": hub.url,
        "LADING_MEMORY": "64GiB",
        "LADING_DEVICES": "none",
    }


@pytest.fixture
def session(environment: dict[str, str]) -> Session:
    return Session(load_config(environment))


def names(session: Session, text: str) -> dict[str, Fits]:
    (found,) = fit(session, [text], machine=HERE).weighed
    return {row.name: row.fits for row in found.rows}


def header_size(path: Path) -> int:
    return read_header(BytesRanges(path.read_bytes(), path.name)).data_offset


ALL = dict.fromkeys(("F16", "Q8_0", "Q6_K", "Q4_K_M"), Fits.WHOLE)


def test_a_hubs_repository_has_a_row_for_each_quantization(
    session: Session, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add("team/m", {path.name: path for path in quants.values()})
    (found,) = fit(session, ["hf://team/m"], machine=HERE).weighed
    assert {row.name: row.fits for row in found.rows} == ALL
    assert found.choice.row is not None
    assert (found.choice.row.name, found.choice.row.candidate.select) == ("Q8_0", "Q8_0")
    assert found.choice.why == "best of 4 that fits whole in 64.0 GiB of memory"


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_a_hubs_files_take_three_requests_each_and_a_mebibyte_beyond_their_headers(
    session: Session, hub: LoopbackHub, quants: dict[str, Path], scheme: str
) -> None:
    hub.add("team/m", {path.name: path for path in quants.values()})
    assert names(session, f"{scheme}://team/m") == ALL
    # Where a hub sends us on to its storage, it is asked once more for each file.
    ranges = [one for one in (hub.storage_asked or hub.asked) if "Range" in one.headers]
    assert len(quants) <= len(ranges) <= 3 * len(quants)
    assert len(hub.sent) == len(quants)
    assert max(hub.sent.values()) <= max(header_size(path) for path in quants.values()) + MIB


def test_the_second_time_nothing_is_asked(
    environment: dict[str, str], session: Session, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add("team/m", {path.name: path for path in quants.values()})
    first = names(session, "hf://team/m")
    asked = len(hub.asked) + len(hub.storage_asked)
    assert names(Session(load_config(environment)), "hf://team/m") == first
    assert names(Session(load_config(environment), offline=True), "hf://team/m") == first
    assert len(hub.asked) + len(hub.storage_asked) == asked


def test_a_forged_list_of_files_is_asked_for_anew(
    environment: dict[str, str], session: Session, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    hub.add("team/m", {path.name: path for path in quants.values()})
    names(session, "hf://team/m")
    (kept,) = (session.config.store / "cache" / "listings").iterdir()
    said = json.loads(kept.read_bytes())
    for forged in (b"[]", json.dumps(said | {"asked": "another"}).encode(), json.dumps(said | {"time": 0}).encode()):
        kept.write_bytes(forged)
        asked = len(hub.asked)
        assert names(Session(load_config(environment)), "hf://team/m") == ALL
        assert len(hub.asked) > asked


def test_shards_and_a_projector_are_one_row(session: Session, hub: LoopbackHub, quants: dict[str, Path]) -> None:
    seeing = gguf({"general.architecture": "clip"}, [("v.a", 1024)])
    shards = {f"big-Q2_K-0000{number}-of-00002.gguf": gguf_shard(number, 2) for number in (1, 2)}
    hub.add("team/m", {quants["Q8_0"].name: quants["Q8_0"], **shards, "mmproj-F16.gguf": seeing})
    (found,) = fit(session, ["hf://team/m"], machine=HERE).weighed
    by_name = {row.name: row for row in found.rows}
    assert set(by_name) == {"Q8_0", "Q2_K"}
    assert len(by_name["Q2_K"].candidate.model.tensors) == 2
    assert [one.data_size for one in by_name["Q8_0"].candidate.projectors] == [4096]


NO_MODELS = {
    "tuned-BF16.gguf": ({"general.architecture": "llama", "general.type": "adapter"}, "an adapter"),
    "eyes-F32.gguf": ({"general.architecture": "clip"}, "a projector"),
    "weighted-Q2_K.gguf": ({"general.type": "imatrix"}, "an importance matrix"),
}


def test_what_says_in_its_header_that_it_is_no_model_has_no_row(
    lading: CommandLine, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    others = {name: gguf(said) for name, (said, _what) in NO_MODELS.items()}
    hub.add("team/m", {**{path.name: path for path in quants.values()}, **others})
    lading.environment |= {"HF_ENDPOINT": hub.url, "LADING_MEMORY": "64GiB"}
    for flags in ((), ("--offline",)):
        done = lading("fit", "hf://team/m", "--json", *flags)
        rows = json.loads(done.stdout)["rows"]
        assert {row["name"]: row["chosen"] for row in rows} == {name: name == "Q8_0" for name in ALL}
        for name, (_said, what) in NO_MODELS.items():
            assert f"warning: left out: {name} is {what}, and no model by itself\n" in done.stderr
    for name, (_said, what) in NO_MODELS.items():
        assert f"error: {name} is {what}" in lading("fit", f"hf://team/m:{name}", code=6).stderr


def test_what_one_hub_says_of_a_digest_is_not_believed_of_anothers_file(
    environment: dict[str, str], hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    honest = hub.add("team/m", {"m-Q8_0.gguf": quants["Q8_0"]})
    liar = LoopbackHub()
    try:
        forged = liar.add("team/m", {"m-Q8_0.gguf": quants["F16"]})
        ((_, files),) = honest.commits.items()
        ((_, lies),) = forged.commits.items()
        vars(lies["m-Q8_0.gguf"])["sha256"] = files["m-Q8_0.gguf"].sha256
        weights = {}
        for endpoint in (liar.url, hub.url):
            session = Session(load_config(environment | {"HF_ENDPOINT": endpoint}))
            (found,) = fit(session, ["hf://team/m"], machine=HERE).weighed
            weights[endpoint] = found.rows[0].weights
    finally:
        liar.stop()
    assert weights[hub.url] < 0.6 * weights[liar.url]


def test_safetensors_are_told_by_their_size(session: Session, hub: LoopbackHub) -> None:
    hub.add("team/raw", {"model.safetensors": bytes(3 * MIB), "config.json": b'{"model_type": "brandnew"}'})
    (found,) = fit(session, ["hf://team/raw"], machine=HERE).weighed
    (row,) = found.rows
    assert (row.fits, row.weights) == (Fits.UNKNOWN, 3 * MIB)
    assert found.choice.row is None
    assert "brandnew" in found.choice.why


def test_errors_are_those_of_the_hub(environment: dict[str, str], session: Session, hub: LoopbackHub) -> None:
    hub.add("team/shut", {"m-Q8_0.gguf": b"GGUF"}, gated=True)
    hub.add("team/bad", {"m-Q8_0.gguf": b"GGUF" + bytes(100)})
    with pytest.raises(AccessDeniedError):
        fit(session, ["hf://team/shut"], machine=HERE)
    with pytest.raises(AccessDeniedError):
        fit(session, ["hf://team/none"], machine=HERE)
    with pytest.raises(FormatError, match=r"m-Q8_0\.gguf"):
        fit(session, ["hf://team/bad"], machine=HERE)
    with pytest.raises(NotFoundError, match="no `Q2_K`"):
        fit(session, ["hf://team/bad:Q2_K"], machine=HERE)
    with pytest.raises(NetworkError, match="not used offline"):
        fit(Session(load_config(environment), offline=True), ["hf://team/other"], machine=HERE)


def test_a_plain_url_is_read_by_ranges_and_remembered(
    environment: dict[str, str], session: Session, hub: LoopbackHub, quants: dict[str, Path]
) -> None:
    repository = hub.add("team/m", {"m-Q8_0.gguf": quants["Q8_0"]})
    (commit,) = repository.commits
    url = f"{hub.url}/team/m/resolve/{commit}/m-Q8_0.gguf"
    assert names(session, url) == {"m-Q8_0.gguf": Fits.WHOLE}
    sent = sum(hub.sent.values())
    assert 0 < sent <= header_size(quants["Q8_0"]) + MIB
    assert names(Session(load_config(environment)), f"{url}?token=secret") == {"m-Q8_0.gguf": Fits.WHOLE}
    (kept,) = (session.config.store / "cache").iterdir()
    assert b"secret" not in kept.read_bytes()
    assert b"secret" not in msgspec.json.encode(fit(session, [f"{url}?token=secret"], machine=HERE).document)


@pytest.fixture
def counted(plain_registry: RegistryProcess) -> Iterator[CountingProxy]:
    proxy = CountingProxy(plain_registry.host)
    yield proxy
    proxy.stop()


FORMS = ("docker", "modelpack", "image")


@pytest.fixture
def repository(
    lading: CommandLine, quants: dict[str, Path], plain_registry: RegistryProcess, counted: CountingProxy
) -> str:
    """A repository with the model in each form, with an outline as we write it, and without as others do."""
    path = f"fit/{lading.folder.parent.name.lower().replace('_', '-')}"
    name = f"{plain_registry.host}/{path}"
    lading("pack", quants["Q8_0"], "-t", f"{name}:x", "--copy")
    for form in (*FORMS, "ollama", ",".join(FORMS)):
        lading("push", f"{name}:x", f"{name}:{form.replace(',', '-')}", "--format", form)
    return f"{counted.host}/{path}"


def test_what_says_its_outline_needs_no_header(session: Session, repository: str, counted: CountingProxy) -> None:
    # An image is one of two platforms: an index and two manifests, and a config for each.
    for form, most in (("docker", 2), ("modelpack", 2), ("ollama", 2), ("image", 5)):
        counted.asked.clear()
        counted.sent.clear()
        assert set(names(session, f"{repository}:{form}").values()) == {Fits.WHOLE}
        assert len(counted.asked) <= most
        assert counted.blob_bytes < 2000


def test_an_index_of_forms_has_a_row_for_each(session: Session, repository: str, counted: CountingProxy) -> None:
    found = names(session, f"{repository}:docker-modelpack-image")
    # The toy's header says F16 of all its types.
    assert found == {f"F16 {form}": Fits.WHOLE for form in FORMS}
    layers = [one.path for one in counted.asked if "/blobs/" in one.path]
    assert max(layers.count(one) for one in layers) <= 3


@pytest.mark.parametrize("form", [*FORMS, "ollama"])
def test_artifacts_of_others_are_read_by_ranges(
    session: Session,
    repository: str,
    counted: CountingProxy,
    quants: dict[str, Path],
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Others write no outline: ours is not seen for this once.
    monkeypatch.setattr("lading.artifact.format.OUTLINE", "org.example.nothing")
    assert set(names(session, f"{repository}:{form}").values()) == {Fits.WHOLE}
    blobs: dict[str, int] = {}
    for one in counted.asked:
        if "/blobs/" in one.path:
            blobs[one.path] = blobs.get(one.path, 0) + 1
    assert max(blobs.values()) <= 3
    assert counted.blob_bytes <= header_size(quants["Q8_0"]) + MIB
    assert counted.blob_bytes > header_size(quants["Q8_0"])


def test_local_models_files_folders_and_layouts(
    lading: CommandLine, environment: dict[str, str], quants: dict[str, Path], tmp_path: Path
) -> None:
    lading("pack", quants["Q6_K"], "-t", "small:6", "--copy")
    layout = f"oci-layout:{tmp_path / 'layout'}:six"
    lading("push", "small:6", layout)
    session = Session(load_config(environment | {"LADING_STORE": str(lading.store)}))
    (tagged,) = fit(session, ["small:6"], machine=HERE).weighed
    (filed,) = fit(session, [str(quants["Q6_K"])], machine=HERE).weighed
    (laid,) = fit(session, [layout], machine=HERE).weighed
    assert tagged.rows[0].found == filed.rows[0].found == laid.rows[0].found
    assert names(session, str(quants["Q6_K"].parent)) == ALL
    with pytest.raises(NotFoundError, match="does not exist"):
        fit(session, [str(tmp_path / "none.gguf")], machine=HERE)


def test_the_document_has_the_keys_that_were_promised(
    lading: CommandLine, quants: dict[str, Path], tmp_path: Path
) -> None:
    path = str(quants["Q8_0"])
    document: dict[str, Any] = json.loads(
        lading("fit", path, "--device", "24GiB", "--ram", "64GiB", "--ctx-size", "4096", "--json").stdout
    )
    assert [device["memory_bytes"] for device in document["device"]["devices"]] == [24 * GIB]
    (row,) = document["rows"]
    kinds = ("weights", "kv", "state", "compute", "output", "overhead")
    assert row["total_bytes"] == sum(row[f"{kind}_bytes"] for kind in kinds)
    assert row["total_bytes"] == sum(use["total_bytes"] for use in row["uses"])
    assert (row["fits"], row["chosen"], row["context"], row["max_context"]) == ("whole", True, 4096, 32768)
    assert document["choices"] == [
        {"reference": path, "chosen": "m-Q8_0.gguf", "why": "fits whole in 23.5 GiB of the device"}
    ]


def test_flags_reach_the_estimate(lading: CommandLine, quants: dict[str, Path]) -> None:
    def row(*flags: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(lading("fit", quants["Q8_0"], "--ram", "64GiB", "--json", *flags).stdout)
        return dict(found["rows"][0])

    plain = row()
    assert row("-ctk", "q8_0", "-ctv", "q8_0")["kv_bytes"] * 32 == plain["kv_bytes"] * 17
    assert row("--parallel", "4", "-c", "8192", "--kv-unified")["output_bytes"] == 4 * plain["output_bytes"]
    assert row("-ub", "64")["compute_bytes"] < plain["compute_bytes"]
    moved = row("--on", "rtx3060x2", "-ot", "ffn_=CPU", "-ts", "1,0")
    assert [use["layers"] for use in moved["uses"]] == [0, 2, 0]
    assert moved["uses"][0]["weights_bytes"] > row("--on", "rtx3060x2")["uses"][0]["weights_bytes"]
    assert row("--on", "h100")["tokens_per_second"]["low"] > 0
    for flags, said in (
        (("--on", "h100", "--device", "1GiB"), "--on and --device"),
        (("--on", "h9000"), "no profile `h9000`"),
        (("--device", "24"), "`24` is not a size"),
        (("-ctk", "q3"), "unknown cache type `q3`"),
        (("-ot", "ffn"), "is no rule"),
        (("-ts", "a,b"), "are no shares"),
        (("-fa", "off", "-ctv", "q8_0"), "needs flash attention"),
    ):
        assert said in lading("fit", quants["Q8_0"], *flags, code=2).stderr


def test_a_described_machine_keeps_this_ones_memory_unless_it_is_said(session: Session) -> None:
    assert machine_said(session, (), None).memory == 64 * GIB
    assert machine_said(session, (), 8 * GIB).memory == 8 * GIB
