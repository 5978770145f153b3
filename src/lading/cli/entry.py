"""The way in: runs a verb, and turns what goes wrong into a message and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from lading import __version__
from lading.cli.group import Verbs
from lading.cli.messages import tell
from lading.errors import LadingError, StoppedError

if TYPE_CHECKING:
    from types import FrameType

_COMPLETE = "_LADING_COMPLETE"
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Verbs, context_settings=_CONTEXT, no_args_is_help=True)
@click.version_option(__version__, prog_name="lading", message="%(prog)s %(version)s")
@click.option("--store", metavar="DIR", help="Use the store in this folder.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but results, warnings and errors.")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def cli(**_options: Any) -> None:
    """Carry language models as OCI artifacts: pull, pack, push, inspect, run and serve them."""


def main() -> int:
    """Run the command line and return its exit code (see `lading.errors`)."""
    signal.signal(signal.SIGTERM, _terminated)
    _open_closed_streams()
    if _COMPLETE in os.environ:  # noqa: TID251 - set by the shell's completion script for this one call
        from click.shell_completion import shell_complete  # noqa: PLC0415 - for that call only

        return shell_complete(cli, {}, "lading", _COMPLETE, os.environ[_COMPLETE])  # noqa: TID251 - as above
    try:
        return _run()
    except (LadingError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader of our output has gone (`| head`): nothing is left to say, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        if not isinstance(error, StoppedError):
            _show_place()
        return _explain(error)
    except (KeyboardInterrupt, click.Abort):
        return _tell("interrupted", "", 130, word="")
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user who did not ask for one
        _show_place()
        return _tell(f"lading failed: {type(error).__name__}: {error}", "this is a defect; --debug shows where", 1)


def _show_place() -> None:
    if "--debug" in sys.argv:
        import traceback  # noqa: PLC0415 - for those who ask

        traceback.print_exc()


def _run() -> int:
    try:
        with cli.make_context("lading", sys.argv[1:]) as ctx:
            cli.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "lading"
        return _tell(" ".join(error.format_message().split()).rstrip("."), f"{path} --help", 2)
    except click.ClickException as error:
        return _tell(error.format_message(), "", 1)
    return 0


def _explain(error: LadingError | OSError) -> int:
    if isinstance(error, StoppedError):
        return _tell(error.message, error.hint, 128 + error.signal_number, word="")
    if isinstance(error, LadingError):
        # A place comes first, as with compilers.
        return _tell(error.message, error.hint, error.exit_code, word="" if error.placed else "error: ")
    if error.errno == errno.ENOSPC and not error.filename:
        return _tell("no space left for the output", "it was written to a full disk", 7)
    name = f"{error.filename}: " if error.filename else ""
    return _tell(f"{name}{error.strerror or error}", "--debug shows where", 1)


def _tell(message: str, hint: str, code: int, *, word: str = "error: ") -> int:
    tell(message, hint, word=word, code=code)
    return code


def _open_closed_streams() -> None:
    # Python leaves None for a stream that was closed before it began (`2>&-`), on which every print would fail.
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for the rest of the process


def _terminated(_number: int, _frame: FrameType | None) -> None:
    msg = "stopped by SIGTERM"
    raise StoppedError(msg, signal_number=signal.SIGTERM)
