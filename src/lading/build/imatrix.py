"""Importance matrices: which weights matter to a text, found by running the model over it with `llama-imatrix`."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import fs, ranges
from lading.build.program import run
from lading.errors import UnfitError, UsageError
from lading.events import Finished, Silent, Started
from lading.hardware.cores import usable_cores
from lading.runtime.process import Command, passed_on, tethered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lading.events import Reporter

PROGRAM = "llama-imatrix"
_TOO_SHORT = "you need at least"


@dataclass(frozen=True, slots=True)
class ImatrixOptions:
    """`ctx_size` is the tokens of a chunk, `chunks` how many are taken (None: all of the text).

    `threads` None takes the usable cores. `n_gpu_layers` None leaves that to the program.
    """

    ctx_size: int = 512
    chunks: int | None = None
    threads: int | None = None
    n_gpu_layers: int | None = None
    process_output: bool = False


def compute_imatrix(
    model: Path,
    text: Path,
    target: Path,
    options: ImatrixOptions,
    environment: Mapping[str, str],
    *,
    reporter: Reporter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Write the importance matrix of a GGUF file over a text to `target`, in GGUF, and return it.

    `environment` is the user's: `llama-imatrix` is looked for on its PATH. Raises UnfitError when it is not there,
    UsageError for a text shorter than two chunks, NoSpaceError for a full disk, LadingError with the program's last
    lines when it fails.
    """
    path = shutil.which(PROGRAM, path=environment.get("PATH", ""))
    if path is None:
        msg = "llama-imatrix is not on the PATH"
        raise UnfitError(msg, hint="install llama.cpp with its tools (on Debian: llama.cpp-tools-extra)")
    reporter = reporter or Silent()
    model, text, target = model.absolute(), text.absolute(), target.absolute()
    for file in (model, text):
        os.close(ranges.open_regular(file))
    argv = [os.path.abspath(path), "-m", str(model), "--output-format", "gguf"]  # noqa: PTH100  # links stay
    argv += ["-o", "made.gguf", "--no-ppl", "-c", str(options.ctx_size), "-t", str(options.threads or usable_cores())]
    argv += ["--chunks", str(options.chunks)] if options.chunks else []
    argv += ["-ngl", str(options.n_gpu_layers)] if options.n_gpu_layers is not None else []
    argv += ["--process-output"] if options.process_output else []
    reporter.emit(Started(str(target), "imatrix", target.name, text.stat().st_size))
    with fs.scratch(target) as folder:
        # Its bare name there, since the matrix keeps the path of the text as it was told.
        name = text.name if text.name != "made.gguf" else "text"
        fs.symbolic_link(text, folder / name)
        command = Command(tethered((*argv, "-f", name)), passed_on(environment) | {"LLAMA_ARG_OFFLINE": "1"})
        ended = run(command, lambda _line: None, folder=folder, cancelled=cancelled)
        made = folder / "made.gguf"
        if ended.code or not made.is_file():
            if any(_TOO_SHORT in line for line in ended.lines):
                msg = f"{text} is too short: two chunks of {options.ctx_size} tokens are the least"
                raise UsageError(msg, hint="a longer text, or a smaller --ctx-size")
            fs.check_space(folder)
            what = f"no importance matrix can be made of {model}"
            raise ended.failure(what)
        fs.put(made, target)
    reporter.emit(Finished(str(target)))
    return target
