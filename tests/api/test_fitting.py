"""Settings that fit: what is chosen for real models on machines of several sizes."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

import pytest
from shapes import shape

from lading import api
from lading.api._fitting import Fitted, Wanted, candidate_of, fitted, remarks
from lading.api._machine import machine_here
from lading.api._serve import Options
from lading.errors import UnfitError, UsageError
from lading.events import Noted
from lading.fit import Candidate, Fits
from lading.formats.gguf import read_header
from lading.hparams import gguf_hparams
from lading.model import ModelFacts
from lading.outline import outline_of
from lading.ranges import FileRanges

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lading.events import Event

GIBIBYTE = 2**30
MEBIBYTE = 2**20


@pytest.fixture(scope="session")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Candidate]:
    folder = tmp_path_factory.mktemp("shapes")

    @cache
    def made(name: str) -> Candidate:
        path = shape(name).write(folder / f"{name}.gguf", vocabulary=False)
        reader = FileRanges(os.open(path, os.O_RDONLY), path.name)
        facts = ModelFacts(format="gguf", outline=outline_of(gguf_hparams([read_header(reader)], reader)))
        reader.close()
        found = candidate_of(name, facts)
        assert found is not None
        return found

    return made


def session_on(tmp_path: Path, memory: str, devices: str = "none") -> api.Session:
    return api.Session(
        api.load_config({"HOME": str(tmp_path), "LADING_MEMORY": memory, "LADING_DEVICES": devices}), Heard()
    )


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def emit(self, event: Event, /) -> None:
        if isinstance(event, Noted):
            self.said.append(event.text)


def plan(tmp_path: Path, one: Candidate, memory: str, devices: str = "none", wanted: Wanted | None = None) -> Fitted:
    session = session_on(tmp_path, memory, devices)
    found = fitted(session, one, machine_here(session), wanted or Wanted())
    assert found is not None
    return found


def test_where_there_is_plenty_half_of_what_is_left_becomes_context(
    tmp_path: Path, candidate: Callable[[str], Candidate]
) -> None:
    one = candidate("Llama-3.1-8B")
    usual = plan(tmp_path, one, "24GiB", wanted=Wanted(ctx_size=8192)).row
    chosen = plan(tmp_path, one, "24GiB").row
    assert 8192 < chosen.found.context < 131_072
    left = 24 * GIBIBYTE * 98 // 100 - usual.total
    grown = chosen.total - usual.total
    assert 0.45 * left < grown <= 0.51 * left
    assert plan(tmp_path, one, "512GiB").row.found.context == 131_072


def test_where_memory_is_short_more_is_given_up_step_by_step(
    tmp_path: Path, candidate: Callable[[str], Candidate]
) -> None:
    one = candidate("Llama-3.1-8B")
    row = plan(tmp_path, one, "64GiB", wanted=Wanted(ctx_size=8192)).row
    assert row.found.host.repacked > GIBIBYTE

    def short_of(bytes_less: int) -> Fitted:
        return plan(tmp_path, one, f"{(row.total - bytes_less) * 100 / 98 / 1e6:.3f}MB")

    single = short_of(100 * MEBIBYTE)
    assert (single.row.settings.repack, single.row.settings.ctx_size) == (False, 8192)
    assert "not kept a second time" in remarks(single, Wanted())[0]
    smaller = short_of(row.found.host.repacked + 100 * MEBIBYTE)
    assert (smaller.row.settings.cache_type_k, smaller.row.settings.ctx_size) == ("q8_0", 8192)
    assert "keys and values are kept as q8_0, for f16 would not fit" in remarks(smaller, Wanted())
    shorter = short_of(row.found.host.repacked + 600 * MEBIBYTE)
    assert 2048 <= shorter.row.found.context < 8192
    with pytest.raises(UnfitError, match=r"needs .* with a context of 8,192, and .* are free") as caught:
        short_of(row.found.host.repacked + 2 * GIBIBYTE)
    assert caught.value.exit_code == 8


def test_layers_go_to_a_device_as_far_as_they_fit(tmp_path: Path, candidate: Callable[[str], Candidate]) -> None:
    one = candidate("Llama-3.1-8B")
    whole = plan(tmp_path, one, "64GiB", "rtx4090")
    assert (whole.row.fits, whole.row.gpu_layers) == (Fits.WHOLE, 33)
    assert remarks(whole, Wanted(cache_ram=0))[:1] == remarks(whole, Wanted())[:1]
    partly = plan(tmp_path, one, "64GiB", "4GiB")
    assert partly.row.fits is Fits.PARTLY
    assert 0 < partly.row.gpu_layers < 33
    assert remarks(partly, Wanted())[0] == f"{partly.row.gpu_layers} of 33 layers on the device"
    experts = plan(tmp_path, candidate("Qwen3-30B-A3B"), "64GiB", "rtx3060")
    assert experts.row.settings.n_cpu_moe
    assert "experts of" in remarks(experts, Wanted())[0]


def test_a_slot_is_said_to_have_no_more_than_the_model_was_trained_for(
    tmp_path: Path, candidate: Callable[[str], Candidate]
) -> None:
    for context, each in ((65_536, "32,768"), (524_288, "131,072")):
        wanted = Wanted(ctx_size=context, parallel=2, cache_ram=0)
        found = plan(tmp_path, candidate("Llama-3.1-8B"), "900GiB", wanted=wanted)
        assert remarks(found, wanted) == [f"2 slots of {each} tokens each"]


def test_what_was_asked_for_is_not_changed(tmp_path: Path, candidate: Callable[[str], Candidate]) -> None:
    wanted = Wanted(ctx_size=4096, gpu_layers=10, cache_type_k="q4_0", cache_type_v="f16", cache_ram=7, parallel=2)
    found = plan(tmp_path, candidate("Llama-3.1-8B"), "64GiB", "rtx4090", wanted)
    settings = found.row.settings
    assert (settings.ctx_size, settings.gpu_layers, settings.parallel) == (4096, 10, 2)
    assert (settings.cache_type_k, settings.cache_type_v, found.cache_ram) == ("q4_0", "f16", 7)


@pytest.mark.parametrize(("memory", "least", "most"), [("900GiB", 8192, 8192), ("24GiB", 64, 8000), ("1GiB", 0, 8192)])
def test_prompts_seen_before_get_a_quarter_of_what_is_left(
    tmp_path: Path, candidate: Callable[[str], Candidate], memory: str, least: int, most: int
) -> None:
    one = candidate("Phi-3-mini" if memory == "24GiB" else "LFM2-1.2B" if memory == "900GiB" else "lfm2")
    found = plan(tmp_path, one, memory)
    assert least <= found.cache_ram <= most
    left = found.machine.host - found.row.found.host.total
    assert found.cache_ram * MEBIBYTE <= left // 4


def test_of_a_model_that_nobody_knows_only_too_large_weights_are_refused(
    tmp_path: Path, candidate: Callable[[str], Candidate]
) -> None:
    text = outline_of(candidate("LFM2-1.2B").model).replace('"lfm2"', '"chimera"')
    one = candidate_of("chimera", ModelFacts(format="gguf", outline=text))
    assert one is not None
    session = session_on(tmp_path, "64GiB")
    assert fitted(session, one, machine_here(session), Wanted()) is None
    small = session_on(tmp_path, "1GiB")
    with pytest.raises(UnfitError, match="chimera needs"):
        fitted(small, one, machine_here(small), Wanted())


def test_a_header_that_contradicts_itself_is_left_to_the_runtime(
    tmp_path: Path, candidate: Callable[[str], Candidate]
) -> None:
    text = outline_of(candidate("llama").model).replace('"attention.head_count_kv":2', '"attention.head_count_kv":[2]')
    one = candidate_of("odd", ModelFacts(format="gguf", outline=text))
    assert one is not None
    session = session_on(tmp_path, "64GiB")
    assert fitted(session, one, machine_here(session), Wanted()) is None
    assert isinstance(session.reporter, Heard)
    assert "what it needs is not known: attention.head_count_kv is a list" in session.reporter.said[0]


@pytest.mark.parametrize("outline", ["", "{", '{"format":"gguf","tensors":{"a":[["F99",[1]]]}}'])
def test_without_an_outline_that_can_be_read_nothing_is_weighed(outline: str) -> None:
    assert candidate_of("x", ModelFacts(format="gguf", outline=outline)) is None


@pytest.mark.parametrize(
    ("devices", "names"),
    [("none", []), ("24GiB, 16 GiB", ["24GiB", "16 GiB"]), ("rtx4090x2", ["GeForce RTX 4090 0", "GeForce RTX 4090 1"])],
)
def test_the_machine_may_be_told(tmp_path: Path, devices: str, names: list[str]) -> None:
    machine = machine_here(session_on(tmp_path, "8GiB", devices))
    assert (machine.memory, machine.available) == (8 * GIBIBYTE, 8 * GIBIBYTE)
    assert [device.name for device in machine.devices] == names


@pytest.mark.parametrize(("memory", "devices"), [("8", "none"), ("8GiB", "24"), ("8GiB", "h1"), ("8GiB", "")])
def test_a_machine_that_makes_no_sense_is_refused(tmp_path: Path, memory: str, devices: str) -> None:
    session = session_on(tmp_path, memory, devices)
    if not devices:
        assert machine_here(session).memory == 8 * GIBIBYTE
        return
    with pytest.raises(UsageError, match="LADING_"):
        machine_here(session)


def test_options_hand_on_all_that_an_estimate_decides() -> None:
    options = Options(ctx_size=1, n_gpu_layers=2, cache_type_k="f32", cache_type_v="bf16", cache_ram=3, parallel=4)
    assert options.wanted == Wanted(1, 2, "f32", "bf16", 3, 4)
    settings = options.wanted.settings
    assert (settings.ctx_size, settings.gpu_layers, settings.cache_type_k, settings.parallel) == (1, 2, "f32", 4)
