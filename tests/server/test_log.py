from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from lading.server.log import Allocated, allocated, read, reasons

if TYPE_CHECKING:
    from pathlib import Path


def test_the_cause_is_told_and_not_its_echoes() -> None:
    text = """\
0.00.004.204 I srv          init: initializing ...
0.00.017.219 E llama_model_load: error loading model: tensor 'a' data is not within the file bounds
0.00.017.222 E llama_model_load_from_file_impl: failed to load model
0.00.017.258 E common_fit_params: encountered an error while trying to fit params to free device memory: failed
0.00.017.541 E llama_model_load: error loading model: tensor 'a' data is not within the file bounds
0.00.017.544 E srv    load_model: failed to load model, '/m/a.gguf'
0.00.017.546 I srv    operator(): operator(): cleaning up before exit...
0.00.017.994 E srv          init: exiting due to model loading error
"""
    assert reasons(text) == ("llama_model_load: error loading model: tensor 'a' data is not within the file bounds",)


def test_of_many_causes_the_last_three_are_told_in_order() -> None:
    text = "\n".join(f"0.00.000.00{number} E main: cause {number}" for number in range(6))
    assert reasons(text) == ("main: cause 3", "main: cause 4", "main: cause 5")


def test_a_log_without_levels_tells_its_failures() -> None:
    text = "loading\nerror: unknown argument: --jinja\nbye"
    assert reasons(text) == ("error: unknown argument: --jinja",)


def test_a_log_without_failures_tells_its_last_lines() -> None:
    assert reasons("a\nb\n\nc\nd\n") == ("b", "c", "d")
    assert reasons("\n \n") == ()


def test_a_long_line_is_cut() -> None:
    assert max(map(len, reasons("error: " + "x" * 100_000))) <= 300


@given(st.text())
def test_no_log_breaks_it(text: str) -> None:
    assert len(reasons(text)) <= 3


def test_following_yields_what_comes_until_the_writer_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    ended = threading.Event()

    def write() -> None:
        with path.open("ab") as file:
            file.write(b"two\n")
        time.sleep(0.3)
        with path.open("ab") as file:
            file.write(b"three\n")
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert b"".join(read(path, lambda: not ended.is_set())) == b"one\ntwo\nthree\n"
    writer.join()


def test_a_log_begun_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"the old one\n")
    running = iter([True, True, True, False, False, False])
    pieces = read(path, lambda: next(running))
    assert next(pieces) == b"the old one\n"
    path.write_bytes(b"new\n")
    assert b"".join(pieces) == b"new\n"


LOADED = """\
0.00.011.486 I common_memory_breakdown_print: | memory breakdown [MiB] | total   free    self   model   context   compute    unaccounted |
0.00.012.067 I llama_model_loader: loaded meta data with 35 key-value pairs and 29 tensors from /m/a.gguf (version GGUF V3 (latest))
0.00.016.745 I load_tensors:   CPU_Mapped model buffer size =   700.00 MiB
0.00.100.067 I llama_model_loader: loaded meta data with 35 key-value pairs and 29 tensors from /m/a.gguf (version GGUF V3 (latest))
0.00.116.745 I load_tensors:   CPU_Mapped model buffer size =   100.50 MiB
0.00.116.746 I load_tensors:   CPU_REPACK model buffer size =    20.00 MiB
0.00.116.963 I llama_context:        CPU  output buffer size =     0.50 MiB
0.00.116.996 I llama_kv_cache:        CPU KV buffer size =     8.00 MiB
0.00.117.000 I llama_kv_cache:        CPU KV buffer size =     2.00 MiB
0.00.117.001 I llama_memory_recurrent:        CPU RS buffer size =     1.25 MiB
0.00.117.317 I llama_kv_cache: size =    8.00 MiB (   512 cells,   3 layers,  1/1 seqs), K (f16):    4.00 MiB, V (f16):    4.00 MiB
0.00.118.421 I sched_reserve:        CPU compute buffer size =     3.50 MiB
"""


def test_what_was_allocated_is_summed_up_and_a_trial_before_it_does_not_count() -> None:
    mebibyte = 1024 * 1024
    found = allocated(LOADED)
    assert found == Allocated(
        round(120.5 * mebibyte), round(11.25 * mebibyte), round(3.5 * mebibyte), round(0.5 * mebibyte)
    )
    assert found.total == round(135.75 * mebibyte)


def test_a_log_that_does_not_tell_of_memory_gives_nothing() -> None:
    assert allocated("") is None
    assert allocated("srv init: model loaded\n") is None
    assert allocated(LOADED.partition("sched_reserve")[0]) is None
