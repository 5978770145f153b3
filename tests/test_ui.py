from __future__ import annotations

import io
import json
import re
import sys

import pytest

from lading import ui
from lading.events import Advanced, Finished, Noted, Skipped, Started, StepBegan, StepEnded

MB = 1_000_000


class Terminal(io.StringIO):
    """A stream that says it is a terminal and keeps all that was drawn."""

    def isatty(self) -> bool:
        return True


def percentages(drawn: str) -> list[int]:
    return [int(number) for number in re.findall(r"(\d+) %", drawn)]


def test_a_bar_never_goes_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bars = ui.Bars(stream)
    bars.emit(Started("a", "weights", "model.gguf", 100 * MB))
    for done in (10, 60, 5, 30, 61, 80):
        bars.emit(Advanced("a", done * MB))
        bars._progress.refresh()
    bars.emit(Finished("a"))
    bars.close()
    shown = percentages(stream.getvalue())
    assert shown == sorted(shown)
    assert shown[-1] == 100
    assert 60 in shown


def test_a_resumed_bar_begins_where_the_transfer_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bars = ui.Bars(stream)
    bars.emit(Started("a", "weights", "model.gguf", 100 * MB, done=40 * MB))
    bars._progress.refresh()
    bars.close()
    assert percentages(stream.getvalue())[-1] == 40


def test_plain_lines_name_each_file_once_when_it_is_done() -> None:
    stream = io.StringIO()
    with ui.reporter("auto", stream, quiet=False) as reporter:
        reporter.emit(Started("a", "weights", "model.gguf", 5_850 * MB))
        for done in range(0, 5_850, 50):
            reporter.emit(Advanced("a", done * MB))
        reporter.emit(Finished("a"))
        reporter.emit(Skipped("b", "licence", "LICENSE", 11_300, "present"))
        reporter.emit(Noted("trying again", warning=True))
    assert stream.getvalue().splitlines() == [
        "  weights   model.gguf  5.85 GB",
        "  licence   LICENSE  11.3 kB  present",
        "warning: trying again",
    ]


def test_a_step_is_told_when_it_is_done_with_its_seconds_or_that_it_was_cached() -> None:
    stream = io.StringIO()
    with ui.reporter("plain", stream, quiet=False) as reporter:
        reporter.emit(StepBegan("f16 1/2", "CONVERT . f16.gguf"))
        assert not stream.getvalue()
        reporter.emit(StepEnded("f16 1/2", "CONVERT . f16.gguf", 4.21, cached=False))
        reporter.emit(StepEnded("2/2", "COPY " + "x" * 100 + " /", 0.0, cached=True))
    assert stream.getvalue().splitlines() == [
        "  [f16 1/2] CONVERT . f16.gguf  4.2 s",
        f"  [2/2] COPY {'x' * 66}…  cached",
    ]


def test_the_bars_of_a_step_make_room_for_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bars = ui.Bars(stream)
    bars.emit(StepBegan("1/1", "QUANTIZE a b"))
    bars.emit(Started("b", "quantize", "b.gguf", 100))
    bars.emit(Finished("b"))
    assert len(bars._progress.tasks) == 1
    bars.emit(StepEnded("1/1", "QUANTIZE a b", 1.0, cached=False, keys=("b",)))
    assert len(bars._progress.tasks) == 0
    bars.close()
    assert "[1/1] QUANTIZE a b  1.0 s" in stream.getvalue()


def test_a_step_after_another_has_a_bar_that_reaches_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bars = ui.Bars(stream)
    bars.emit(Started("one", "file", "one.gguf", 100))
    bars.emit(StepEnded("1/2", "ADD one.gguf /", 0.1, cached=False, keys=("one",)))
    bars.emit(Started("two", "file", "two.gguf", 100))
    bars.emit(Advanced("two", 50))
    bars.emit(Finished("two"))
    bars.close()
    assert percentages(stream.getvalue())[-1] == 100


def test_quiet_leaves_warnings_only() -> None:
    stream = io.StringIO()
    with ui.reporter("plain", stream, quiet=True) as reporter:
        reporter.emit(Started("a", "weights", "model.gguf", 1))
        reporter.emit(Finished("a"))
        reporter.emit(Noted("chosen"))
        reporter.emit(Noted("careful", warning=True))
    assert stream.getvalue() == "warning: careful\n"


def test_json_progress_is_an_object_a_line() -> None:
    stream = io.StringIO()
    with ui.reporter("json", stream, quiet=False) as reporter:
        reporter.emit(Started("a", "weights", "model.gguf", 7))
        reporter.emit(Advanced("a", 3))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines == [
        {"event": "started", "key": "a", "label": "weights", "name": "model.gguf", "total": 7, "done": 0},
        {"event": "advanced", "key": "a", "done": 3},
    ]


@pytest.mark.parametrize("mode", ["plain", "bar"])
def test_a_stranger_s_file_name_cannot_steer_the_terminal(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with ui.reporter(mode, stream, quiet=False) as reporter:
        reporter.emit(Started("a", "weights", "x\x1b]0;owned\x07[bold]y", 7))
        reporter.emit(Finished("a"))
        reporter.emit(Noted("said \x1b[31mred"))
    assert "\x1b]0;" not in stream.getvalue()
    assert "\x1b[31mred" not in stream.getvalue()
    assert "[bold]" in stream.getvalue()


def test_an_item_that_starts_after_the_bars_were_settled_gets_a_bar_of_its_own_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with ui.reporter("bar", stream, quiet=False) as reporter:
        reporter.emit(Started("a", "weights", "first.gguf", 7))
        reporter.emit(Finished("a"))
        ui.settle(reporter)
        stream.write("result\n")
        reporter.emit(Advanced("a", 3))  # of a thread that did not hear
        reporter.emit(Started("a", "weights", "second.gguf", 7))
        reporter.emit(Finished("a"))
    before, after = stream.getvalue().split("result\n")
    assert before.count("\n") == 1
    assert before.endswith(("\n", "\x1b[?25h"))
    assert percentages(before)[-1] == percentages(after)[-1] == 100
    assert "first.gguf" not in after
    assert "second.gguf" in after


def test_bars_leave_stdout_to_those_who_print_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with ui.reporter("bar", stream, quiet=False) as reporter:
        reporter.emit(Started("a", "weights", "model.gguf", 7))
        sys.stdout.write("result\n")
    assert capsys.readouterr().out == "result\n"
    assert "result" not in stream.getvalue()
