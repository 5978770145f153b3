"""`lading run`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from lading import ui
from lading.cli.app import App, common, networked
from lading.cli.messages import tell
from lading.cli.serving import environment, flush_word, introduce, make_options, runtime_options
from lading.errors import LadingError, UnfitError, UsageError

if TYPE_CHECKING:
    from lading.api import Talk

_DEFAULT_MAX_TOKENS = 256
_HELP = """  /help     this
  /clear    begin a new conversation
  /bye      leave (Ctrl-D does too)
  Ctrl-C    stop the answer"""


@click.command("run", short_help="Ask a model, or chat with it.")
@click.argument("reference", metavar="REF")
@click.argument("words", metavar="[PROMPT]...", nargs=-1)
@click.option("-n", "--max-tokens", type=click.IntRange(min=1), help="End an answer after this many tokens.")
@click.option("--system", metavar="TEXT", help="A system message to begin with.")
@runtime_options
@networked
@common
def command(
    app: App,
    reference: str,
    words: tuple[str, ...],
    *,
    max_tokens: int | None,
    system: str | None,
    chosen: dict[str, Any],
    offline: bool,
    insecure: bool,
) -> None:
    """Ask the model REF and stream its answer; it is pulled if it is not in the store.

    Without PROMPT a chat begins, or, when stdin is no terminal, stdin is the prompt. A given prompt is answered with
    256 tokens at most, unless --max-tokens says otherwise.
    """
    from lading.api import talk  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.chat import Wishes  # noqa: PLC0415 - as above

    prompt = _utf8(" ".join(words))
    chatting = not words and sys.stdin.isatty()
    if not words and not chatting:
        prompt = _read_stdin()
    if not prompt.strip() and not chatting:
        msg = "the prompt is empty"
        raise click.UsageError(msg)
    limit = max_tokens or (None if chatting else _DEFAULT_MAX_TOKENS)
    with (
        app.session(offline=offline, insecure=insecure) as session,
        talk(
            session, reference, make_options(chosen), environment(), wishes=Wishes(max_tokens=limit), system=system
        ) as talking,
    ):
        ui.settle(session.reporter)
        app.say(introduce(talking.serving))
        if chatting:
            _chat(app, talking)
        else:
            _answer(talking, prompt)


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode().strip()
    except UnicodeDecodeError as error:
        msg = "the prompt on stdin is not UTF-8 text"
        raise UsageError(msg, hint="a file of another encoding can be converted with iconv") from error


def _utf8(words: str) -> str:
    # Bytes that are no UTF-8 arrive as lone surrogates, which no server takes.
    if any("\ud800" <= char <= "\udfff" for char in words):
        msg = "the prompt is not UTF-8 text"
        raise UsageError(msg, hint="check the terminal's encoding")
    return words


def _answer(talking: Talk, prompt: str) -> None:
    with talking.serving.server.watching(), talking.chat.ask(prompt) as answer:
        try:
            for piece in answer:
                flush_word(piece)
        finally:
            # Also after Ctrl-C: what follows begins on a line of its own.
            flush_word("\n")


def _chat(app: App, talking: Talk) -> None:
    app.say("/help tells what can be typed; Ctrl-D leaves")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            click.echo(err=True)
            return
        except KeyboardInterrupt:
            click.echo("\nCtrl-D leaves", err=True)
            continue
        word = line.split(maxsplit=1)[0] if line else ""
        if word in ("/bye", "/exit", "/quit"):
            return
        if word in ("/help", "/?"):
            click.echo(_HELP, err=True)
        elif word == "/clear":
            talking.chat.history.clear()
        elif word[:1] == "/" and word[1:].isalpha():
            click.echo(f"no command `{word}`; /help lists them", err=True)
        elif line:
            _turn(talking, line)


def _turn(talking: Talk, line: str) -> None:
    """Ask once, and whatever goes wrong with the question, keep the chat; only a dead server ends it."""
    try:
        _utf8(line)
        while True:
            try:
                _answer(talking, line)
            except UnfitError:
                # The conversation outgrew the context: its oldest turn makes room for the new one.
                if not talking.chat.history:
                    raise
                del talking.chat.history[:2]
                click.echo("the context is full: the oldest turn is left out (/clear begins anew)", err=True)
            else:
                return
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    except LadingError as error:
        if not talking.serving.server.alive():
            raise
        tell(error.message, error.hint)
