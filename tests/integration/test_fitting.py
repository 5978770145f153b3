"""What fits is chosen, what does not is refused, as a user meets it: hubs, registries and files, on machines of any size."""

from __future__ import annotations

import json
import re
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from registry_push import described

from lading import api
from lading.api._fitting import Wanted, candidate_of, deviation, fitted
from lading.api._machine import machine_here
from lading.server import Allocated

if TYPE_CHECKING:
    from pathlib import Path

    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from conftest import CommandLine

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


def files_in(lading: CommandLine, name: str) -> set[str]:
    return {part["name"] for part in json.loads(lading("inspect", name, "--json").stdout)["parts"]}


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


@pytest.fixture
def shelf(lading: CommandLine, quants: Path, plain_registry: RegistryProcess, tmp_path: Path) -> str:
    """A reference in a registry to an index of the three quantizations, each a Docker model."""
    place = f"{plain_registry.host}/{tmp_path.name.lower()}/story"
    entries = []
    for kind in ("F16", "Q8_0", "Q4_0"):
        lading("pack", quants / f"story-{kind}.gguf", "-t", f"{place}:{kind.lower()}")
        lading("push", f"{place}:{kind.lower()}")
        raw = lading("inspect", "--manifest", f"oci://{place}:{kind.lower()}").stdout.encode()
        entries.append(described(raw, json.loads(raw)["mediaType"]))
        lading("rm", f"{place}:{kind.lower()}")
    lading("prune")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    connection = HTTPConnection(plain_registry.host, timeout=20)
    repository = place.partition("/")[2]
    connection.request("PUT", f"/v2/{repository}/manifests/1", body=index, headers={"Content-Type": INDEX})
    done = connection.getresponse()
    assert done.status == 201, done.read()
    connection.close()
    return f"{place}:1"


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
