from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from lading.server.log import read, reasons

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
