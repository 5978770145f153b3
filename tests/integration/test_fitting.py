"""What fits is chosen, what does not is refused, as a user meets it: hubs, registries and files, on machines of any size."""

from __future__ import annotations

import json
import re
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from registry_push import described
from shapes import Size, shape

from lading import api
from lading.api._fitting import Wanted, candidate_of, deviation, fitted
from lading.api._machine import machine_here
from lading.events import Noted
from lading.server import Allocated

if TYPE_CHECKING:
    from pathlib import Path

    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from conftest import CommandLine
    from lading.events import Event

pytestmark = pytest.mark.integration

PLENTY, TINY = {"LADING_MEMORY": "8GiB"}, {"LADING_MEMORY": "20MB"}
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def quants(command_line: type[CommandLine], storyteller: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the storyteller in three quantizations, each of which runs."""
    pytest.importorskip("cyllama")
    folder = tmp_path_factory.mktemp("quants")
    lading = command_line(tmp_path_factory.mktemp("maker"))
    (folder / "story-F16.gguf").write_bytes(storyteller.read_bytes())
    for kind in ("Q8_0", "Q4_0"):
        lading("quantize", storyteller, folder / f"story-{kind}.gguf", "--type", kind)
    return folder


@pytest.fixture(scope="module")
def machines(command_line: type[CommandLine], quants: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Machines by the best quantization that fits them; one gives a model 98 % of its memory."""
    lading = command_line(tmp_path_factory.mktemp("weigher"))
    rows = json.loads(lading("fit", quants, "--no-repack", "--json").stdout)["rows"]
    total = {row["name"]: row["total_bytes"] for row in rows}
    least = {"LADING_MEMORY": f"{(total['Q8_0'] + total['Q4_0']) / 2 / 0.98 / 1e6:.3f}MB"}
    tight = {"LADING_MEMORY": f"{(total['F16'] + total['Q8_0']) / 2 / 0.98 / 1e6:.3f}MB"}
    return {"plenty": PLENTY, "tight": tight, "least": least}


@pytest.fixture
def least(machines: dict[str, Any]) -> dict[str, str]:
    """A machine on which Q4_0 alone fits."""
    found: dict[str, str] = machines["least"]
    return found


@pytest.fixture
def stocked(hub: LoopbackHub, quants: Path, lading: CommandLine) -> LoopbackHub:
    hub.add("team/story-GGUF", {path.name: path.read_bytes() for path in quants.iterdir()})
    lading.environment |= {"HF_ENDPOINT": hub.url}
    return hub


REF = "hf://team/story-GGUF"


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def emit(self, event: Event, /) -> None:
        if isinstance(event, Noted):
            self.said.append(event.text)


def files_in(lading: CommandLine, name: str) -> set[str]:
    return {part["name"] for part in json.loads(lading("inspect", name, "--json").stdout)["parts"]}


def files_in_pull(lading: CommandLine, reference: str) -> set[str]:
    lading("pull", reference)
    return files_in(lading, reference)


@pytest.mark.parametrize(("machine", "quant"), [("plenty", "Q8_0"), ("tight", "Q8_0"), ("least", "Q4_0")])
def test_run_takes_the_row_that_fit_marks_and_nothing_else(
    lading: CommandLine, stocked: LoopbackHub, quants: Path, machines: dict[str, Any], machine: str, quant: str
) -> None:
    here = machines[machine]
    marked = json.loads(lading("fit", REF, "--json", more=here).stdout)
    assert [row["name"] for row in marked["rows"] if row["chosen"]] == [quant]
    done = lading("run", REF, "Once upon a time", "-n", "8", more=here)
    assert done.stdout.strip()
    assert re.search(rf"^{quant}: best of 3 that fits whole in .+ of memory$", done.stderr, re.MULTILINE)
    assert files_in(lading, REF) == {f"story-{quant}.gguf"}
    blobs = {path.stat().st_size for path in (lading.store / "blobs/sha256").iterdir()}
    others = {path.stat().st_size for path in quants.iterdir() if quant not in path.name}
    assert not blobs & others


def test_what_inspect_shows_of_a_repository_is_what_pull_takes(
    lading: CommandLine, stocked: LoopbackHub, machines: dict[str, Any]
) -> None:
    for machine, quant in (("least", "Q4_0"), ("tight", "Q8_0")):
        done = lading("inspect", REF, "--json", more=machines[machine])
        assert [part["name"] for part in json.loads(done.stdout)["parts"]] == [f"story-{quant}.gguf"]
        assert f"{quant}: best of 3 that fits whole" in done.stderr
    lading("pull", REF, more=machines["tight"])
    assert files_in(lading, REF) == {"story-Q8_0.gguf"}


def test_where_nothing_fits_inspect_shows_the_usual_quantization(lading: CommandLine, stocked: LoopbackHub) -> None:
    done = lading("inspect", REF, more=TINY)
    assert "Q4_0, the nearest to Q4_K_M of 3 quantizations" in done.stderr
    assert "which does not fit here, and 19 MiB are free" in done.stdout


@pytest.mark.parametrize("names", [("one-Q8_0.gguf", "two-Q8_0.gguf"), ("one-Q4_K_M.gguf", "two-Q8_0.gguf")])
def test_of_different_models_fit_marks_none_and_pull_takes_none(
    lading: CommandLine, stocked: LoopbackHub, quants: Path, names: tuple[str, str]
) -> None:
    story = (quants / "story-Q8_0.gguf").read_bytes()
    # Two files of one quantization are two models even where they are of one size.
    big = shape("llama", Size(vocab=9000)).write(lading.folder / "big.gguf")
    other = story if "Q8_0" in names[0] else big
    stocked.add("team/several", dict(zip(names, (story, other), strict=True)))
    found = json.loads(lading("fit", "hf://team/several", "--json").stdout)
    assert found["choices"][0]["chosen"] is None
    for verb in (("pull",), ("run", "hello")):
        refused = lading(verb[0], "hf://team/several", *verb[1:], code=2).stderr
        assert "hf://team/several holds different models, and none was named" in refused
        assert all(row["name"] in refused for row in found["rows"])
    assert files_in_pull(lading, f"hf://team/several:{names[0]}") == {names[0]}


def test_a_choice_costs_three_requests_a_file_and_none_when_it_was_made_before(
    lading: CommandLine, stocked: LoopbackHub, tmp_path: Path
) -> None:
    lading("fit", REF)
    looked = len(stocked.storage_asked)
    assert looked <= 3 * 3
    lading("pull", REF)
    # The header of the one that is taken, and its bytes.
    assert len(stocked.storage_asked) - looked <= 4
    stocked.storage_asked.clear()
    assert lading("pull", REF).stdout.startswith("up to date")
    assert not stocked.storage_asked


def test_what_was_chosen_once_stays_while_it_fits(
    lading: CommandLine, stocked: LoopbackHub, quants: Path, hub: LoopbackHub, least: dict[str, str]
) -> None:
    lading("pull", REF, more=least)
    files = {path.name: path.read_bytes() for path in quants.iterdir()}
    hub.add("team/story-GGUF", {**files, "README.md": b"# A new card\n"})
    assert "Q4_0, as before" in lading("pull", REF, more=PLENTY).stderr
    assert files_in(lading, "hf:team/story-GGUF") == {"story-Q4_0.gguf", "README.md"}


def test_where_nothing_fits_pull_and_run_say_what_is_needed_and_fetch_nothing(
    lading: CommandLine, stocked: LoopbackHub
) -> None:
    for verb in ("pull", "run"):
        refused = lading(verb, REF, *(["hello"] if verb == "run" else []), more=TINY, code=8).stderr
        assert re.search(
            r"error: Q4_0, the smallest of 3 in hf://team/story-GGUF, needs \d+ MiB .*19 MiB are free", refused
        )
    assert lading("list", "--json").stdout.strip() == "[]"
    sizes = [path.stat().st_size for path in (lading.store / "blobs/sha256").glob("*")]
    assert max(sizes, default=0) < 100_000


def test_a_quantization_that_was_asked_for_is_pulled_whatever_fits_and_never_replaced(
    lading: CommandLine, stocked: LoopbackHub
) -> None:
    for words in ([f"{REF}:F16"], [REF, "--quant", "f16"]):
        assert "F16" in lading("pull", *words, more=TINY).stdout.upper()
    assert files_in(lading, f"{REF}:F16") == {"story-F16.gguf"}
    assert "`Q6_K`" in lading("pull", REF, "--quant", "Q6_K", code=3).stderr
    lading("pull", f"{REF}:F16", "--quant", "Q8_0", code=2)


def test_run_refuses_what_does_not_fit_before_it_is_fetched(
    lading: CommandLine, stocked: LoopbackHub, least: dict[str, str]
) -> None:
    refused = lading("run", f"{REF}:F16", "hello", more=least, code=8).stderr
    assert re.search(r"needs \d+ MiB with a context of 512, and \d+ MiB are free", refused)
    assert re.search(r"hint: hf://team/story-GGUF:Q4_0 needs \d+ MiB\n", refused)
    assert not list((lading.store / "blobs/sha256").glob("*")) or all(
        path.stat().st_size < 100_000 for path in (lading.store / "blobs/sha256").glob("*")
    )
    assert lading("run", f"{REF}:F16", "Once", "-n", "4", "--fit", "off", more=least).stdout.strip()


def test_a_model_that_is_here_runs_offline_as_it_is(
    lading: CommandLine, stocked: LoopbackHub, least: dict[str, str]
) -> None:
    lading("pull", REF, more=least)
    stocked.stop()
    assert lading("run", REF, "Once", "-n", "4", "--offline").stdout.strip()
    assert lading("pull", REF, "--offline").stdout.startswith("up to date")
    assert "offline" in lading("run", REF, "--quant", "Q8_0", "Once", "--offline", code=5).stderr


# -- what serves -------------------------------------------------------------------------------------------------------


def test_a_context_that_does_not_fit_is_refused_and_a_shorter_one_named(lading: CommandLine, story: Path) -> None:
    refused = lading("run", story, "hello", "--ctx-size", "262144", more={"LADING_MEMORY": "128MiB"}, code=8).stderr
    assert "with a context of 262,144, and 128 MiB are free" in refused
    assert re.search(r"hint: .*--ctx-size 32768 needs \d+ MiB", refused)


def test_a_cache_is_kept_smaller_where_that_lets_the_context_fit(lading: CommandLine, story: Path) -> None:
    done = lading("run", story, "Once", "-n", "4", "-c", "32768", more={"LADING_MEMORY": "105MiB"})
    assert "keys and values are kept as q8_0, for f16 would not fit" in done.stderr
    said = lading(
        "run", story, "Once", "-c", "32768", "-ctk", "f16", "-ctv", "f16", more={"LADING_MEMORY": "105MiB"}, code=8
    )
    assert "q8_0 needs" in said.stderr


def test_the_runtime_takes_what_was_expected(tmp_path: Path, storyteller: Path) -> None:
    environment = {"HOME": str(tmp_path), "LADING_STORE": str(tmp_path / "store"), "PATH": "/nowhere"}
    session = api.Session(api.load_config(environment | {"LADING_MEMORY": "8GiB", "LADING_DEVICES": "none"}))
    options = api.Options(port=0, ctx_size=16384)
    with api.serve(session, str(storyteller), options, environment) as serving:
        assert serving.fitted is not None
        row, taken = serving.fitted.row, serving.server.allocated()
    assert taken is not None
    assert abs(taken.weights - row.weights) < 20_000  # the log has two digits of a MiB
    assert abs(taken.cache - row.kv) < 20_000
    assert abs(taken.compute - row.compute) < 0.25 * row.compute
    assert abs(taken.output - row.output) < 20_000
    assert deviation(serving.fitted, taken) == ""


@pytest.mark.parametrize(
    ("factor", "said"),
    [(1.05, ""), (2, "it took "), (0.1, "it took")],
)
def test_a_deviation_over_ten_percent_is_said(tmp_path: Path, storyteller: Path, factor: float, said: str) -> None:
    session = api.Session(api.load_config({"HOME": str(tmp_path), "LADING_DEVICES": "none"}))
    candidate = candidate_of("story", api.inspect(session, str(storyteller)).facts)
    assert candidate is not None
    plan = fitted(session, candidate, machine_here(session), Wanted(ctx_size=16384))
    assert plan is not None
    row = plan.row
    taken = Allocated(*(round(factor * one) for one in (row.weights, row.kv, row.compute, row.output)))
    found = deviation(plan, taken)
    assert found.startswith(said)
    assert bool(found) is bool(said)
    assert deviation(plan, None) == ""


@pytest.mark.parametrize("detached", [False, True], ids=["foreground", "background"])
def test_what_a_server_took_is_compared_once_it_is_loaded(
    tmp_path: Path, storyteller: Path, monkeypatch: pytest.MonkeyPatch, *, detached: bool
) -> None:
    # No figure is met to the byte: with nothing allowed for, each start has something to tell.
    monkeypatch.setattr("lading.api._fitting._UNTOLD", 0)
    monkeypatch.setattr("lading.api._fitting._DEVIATION", 0)
    environment = {"HOME": str(tmp_path), "LADING_STATE": str(tmp_path / "state"), "PATH": "/nowhere"}
    heard = Heard()
    session = api.Session(api.load_config(environment | {"LADING_MEMORY": "8GiB", "LADING_DEVICES": "none"}), heard)
    if detached:
        record = api.serve_detached(session, str(storyteller), api.Options(port=0), environment)
        api.stop_server(session, record.name)
    else:
        with api.serve(session, str(storyteller), api.Options(port=0), environment):
            pass
    assert sum(bool(re.match(r"it took \d+ MiB, and \d+ MiB were expected", text)) for text in heard.said) == 1


def test_what_a_server_takes_is_said_and_is_what_the_runtime_was_told(lading: CommandLine, story: Path) -> None:
    done = lading("serve", story, "--detach", "-p", "0", "-np", "2", "--cache-ram", "100", "--name", "two")
    try:
        assert "2 slots of 256 tokens each" in done.stderr
        assert "up to 100 MiB more for prompts seen before" in done.stderr
        log = lading("logs", "two").stdout
        assert re.search(r"n_seq_max += 2", log)
        assert re.search(r"n_ctx += 512", log)
    finally:
        lading("stop", "two")


def test_an_impossible_size_of_the_machine_is_a_word_of_the_users(lading: CommandLine, story: Path) -> None:
    assert (
        "LADING_MEMORY: `much` is not a size"
        in lading("run", story, "x", more={"LADING_MEMORY": "much"}, code=2).stderr
    )
    said = lading("inspect", story, more={"LADING_DEVICES": "rtx1"}, code=2).stderr
    assert "LADING_DEVICES: there is no profile `rtx1`" in said


def test_inspect_says_what_a_model_needs_here(lading: CommandLine, story: Path) -> None:
    lading("pack", story, "-t", "story:1")
    for name in ("story.gguf", "story:1"):
        assert re.search(r"runs with  llama\.cpp; \d\d MiB with a context of 512\n", lading("inspect", name).stdout)
        need = json.loads(lading("inspect", name, "--json").stdout)["fit"]
        assert (need["fits"], need["context"], need["max_context"], need["free_bytes"]) == (
            "whole",
            512,
            512,
            8 * 2**30,
        )
        assert need["weights_bytes"] < need["total_bytes"]
        assert "which does not fit here, and 19 MiB are free" in lading("inspect", name, more=TINY).stdout
        assert json.loads(lading("inspect", name, "--json", more=TINY).stdout)["fit"]["fits"] == "no"


# -- registries --------------------------------------------------------------------------------------------------------


def shelve(lading: CommandLine, registry: RegistryProcess, place: str, files: dict[str, Path]) -> str:
    """Return a reference in a registry to an index of these files by tag, each a Docker model; none stays in the store."""
    entries = []
    for tag, file in files.items():
        lading("pack", file, "-t", f"{place}:{tag}")
        lading("push", f"{place}:{tag}")
        raw = lading("inspect", "--manifest", f"oci://{place}:{tag}").stdout.encode()
        entries.append(described(raw, json.loads(raw)["mediaType"]))
        lading("rm", f"{place}:{tag}")
    lading("prune")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    connection = HTTPConnection(registry.host, timeout=20)
    repository = place.partition("/")[2]
    connection.request("PUT", f"/v2/{repository}/manifests/1", body=index, headers={"Content-Type": INDEX})
    done = connection.getresponse()
    assert done.status == 201, done.read()
    connection.close()
    return f"{place}:1"


@pytest.fixture
def shelf(lading: CommandLine, quants: Path, plain_registry: RegistryProcess, tmp_path: Path) -> str:
    """A reference in a registry to an index of the three quantizations, each a Docker model."""
    place = f"{plain_registry.host}/{tmp_path.name.lower()}/story"
    files = {kind.lower(): quants / f"story-{kind}.gguf" for kind in ("F16", "Q8_0", "Q4_0")}
    return shelve(lading, plain_registry, place, files)


def pulled(lading: CommandLine, *words: str, **options: Any) -> str:
    lading("pull", *words, "--json", **options)
    document = json.loads(lading("inspect", words[0], "--json").stdout)
    file_type: str = document["model"]["file_type"]
    return file_type


@pytest.mark.parametrize(("machine", "quant"), [("plenty", "Q8_0"), ("least", "Q4_0")])
def test_of_an_index_of_quantizations_the_one_that_fits_best_is_taken(
    lading: CommandLine, shelf: str, machines: dict[str, Any], machine: str, quant: str
) -> None:
    assert pulled(lading, shelf, more=machines[machine]) == quant
    assert lading("run", shelf, "Once", "-n", "4").stdout.strip()


def test_what_was_chosen_of_an_index_is_up_to_date_by_two_requests(
    lading: CommandLine, shelf: str, plain_registry: RegistryProcess, machines: dict[str, Any]
) -> None:
    lading("pull", shelf, "--quant", "F16")
    assert pulled(lading, shelf, more=machines["least"]) == "Q4_0", "it was asked for, not chosen"
    repository = shelf.partition("/")[2].rpartition(":")[0]
    before = plain_registry.log.count(f'"GET /v2/{repository}/')
    for machine in ("least", "plenty"):
        assert lading("pull", shelf, more=machines[machine]).stdout.startswith("up to date")
    assert plain_registry.log.count(f'"GET /v2/{repository}/') - before <= 2 * 2


def test_of_an_index_that_calls_all_its_quantizations_alike_pull_takes_what_fit_marks(
    lading: CommandLine, plain_registry: RegistryProcess, tmp_path: Path
) -> None:
    files = {
        kind.lower(): shape("llama", Size(weights=kind)).write(tmp_path / f"{kind}.gguf")
        for kind in ("Q4_K", "F16", "Q8_0")
    }
    reference = shelve(lading, plain_registry, f"{plain_registry.host}/{tmp_path.name.lower()}/alike", files)
    rows = json.loads(lading("fit", reference, "--json").stdout)["rows"]
    (marked,) = (row["select"] for row in rows if row["chosen"])
    assert {row["quantization"] for row in rows} == {"F16"}
    assert json.loads(lading("pull", reference, "--json").stdout)[0]["digest"] == marked
    (part,) = json.loads(lading("inspect", reference, "--json").stdout)["parts"]
    assert part["name"] == "Q8_0.gguf"


def test_of_an_index_the_one_that_is_asked_for_is_taken_and_no_other(lading: CommandLine, shelf: str) -> None:
    assert pulled(lading, shelf, "--quant", "F16", more=TINY) == "F16"
    assert lading("run", shelf, "--quant", "Q4_0", "Once", "-n", "4").stdout.strip()
    assert json.loads(lading("inspect", shelf, "--json").stdout)["model"]["file_type"] == "Q4_0"
    refused = lading("pull", shelf, "--quant", "Q5_K_M", code=3).stderr
    assert "it has F16, Q8_0, Q4_0" in refused
    assert "Q4_0, the smallest of 3" in lading("pull", shelf, more=TINY, code=8).stderr


def test_an_artifact_says_by_its_manifest_alone_that_it_does_not_fit(lading: CommandLine, shelf: str) -> None:
    one = f"{shelf.rpartition(':')[0]}:f16"
    before = {path.name for path in (lading.store / "blobs/sha256").glob("*")}
    assert (
        " MiB with a context of 512, and 19 MiB are free"
        in lading("run", f"oci://{one}", "hello", more=TINY, code=8).stderr
    )
    new = [path for path in (lading.store / "blobs/sha256").glob("*") if path.name not in before]
    assert all(path.stat().st_size < 100_000 for path in new)
