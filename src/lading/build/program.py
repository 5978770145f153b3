"""Running a tool to its end: its lines are heard as they come, it dies with us, and its failure is told by its words."""

from __future__ import annotations

import codecs
import os
import re
import selectors
import signal
import subprocess
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lading.errors import LadingError, StoppedError
from lading.ranges import os_errors
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lading.runtime.process import Command

_KEPT = 200  # lines, of which the last are shown with a failure
_SHOWN = 4
_LONGEST_LINE = 64 * 1024
_POLL_SECONDS = 0.2
_ENDS = re.compile(r"[\r\n]+")
# What llama.cpp says of every file and every machine, and what Python says of its own insides.
_CHATTER = re.compile(
    r"llama_model_loader:|ggml_backend_load|load_backend:|load_tensors:|print_info:|\[ *\d+/ *\d+\]|INFO:|Writing: |=+$|\s|Traceback "
    r"|During handling of|The above exception|version:|built with|\d+\.\d\d\.\d{3}\.\d{3} [DIW] "
)
_STAMP = re.compile(r"\d+\.\d\d\.\d{3}\.\d{3} E ")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code, negative for a signal, and the last lines it wrote."""

    code: int
    lines: tuple[str, ...]

    def failure(self, what: str, *, hint: str = "") -> LadingError:
        """Return the failure of `what`, a sentence's beginning, with the telling lines below it."""
        how = ""
        if self.code < 0:
            name = signal.Signals(-self.code).name if -self.code in set(signal.Signals) else f"signal {-self.code}"
            how = f" ({name})"
            if self.code == -signal.SIGKILL:
                hint = hint or "the system ends what takes too much memory"
        said = "".join(f"\n    {line}" for line in telling(self.lines))
        return LadingError(f"{what}{how}{said}", hint=hint)


def telling(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the last lines that say something of a failure: no progress, no headers, no frames of a traceback."""
    said = [clean(_STAMP.sub("", line.rstrip())) for line in lines if line.strip() and not _CHATTER.match(line)]
    return tuple(dict.fromkeys(said[-_SHOWN:]))


def run(
    command: Command,
    hear: Callable[[str], None],
    *,
    folder: Path = Path("/"),
    cancelled: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run a command in `folder` until it ends, and return how it ended; each line it writes is given to `hear`.

    Whatever ends the wait (Ctrl-C, an error of `hear`) ends the program and all that it started. `cancelled` is asked
    five times a second; StoppedError is raised once it says yes.
    """
    with os_errors(command.argv[0]):
        # A session of its own: a Ctrl-C on the terminal is ours to hear, and it is ended below.
        process = subprocess.Popen(  # noqa: S603  # argv is made of typed options, without a shell
            command.argv,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    kept: deque[str] = deque(maxlen=_KEPT)
    try:
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # one that died at once is told below
                process.stdin.write(command.stdin or b"")
                process.stdin.close()
        for line in _lines(process, cancelled):
            kept.append(line)
            hear(line)
        process.wait()
    finally:
        # Also what it may have started, which would hold its files.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    return Ended(process.returncode, tuple(kept))


def _lines(process: subprocess.Popen[bytes], cancelled: Callable[[], bool]) -> Iterator[str]:
    stream = process.stdout
    if stream is None:
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if cancelled():
                msg = "told to stop"
                raise StoppedError(msg)
            if not selector.select(_POLL_SECONDS):
                if process.poll() is not None:
                    break  # somebody it started holds its output open
                continue
            data = os.read(stream.fileno(), _LONGEST_LINE)
            # A line that never ends is cut: what matters of it stands at its beginning.
            *whole, rest = _ENDS.split(rest[:_LONGEST_LINE] + decoder.decode(data, final=not data))
            yield from whole
            if not data:
                break
    if rest:
        yield rest
