"""`lading run`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from lading.cli.app import App, common, networked
from lading.cli.serving import environment, flush_word, introduce, make_options, runtime_options

if TYPE_CHECKING:
    from lading.api import Talk

_DEFAULT_MAX_TOKENS = 256
_HELP = """  /help     this
  /clear    begin a new conversation
  /bye      leave (Ctrl-D does too)
  Ctrl-C    stop the answer"""


@click.command("run", short_help="Ask a model, or chat with it.")
@click.argument("reference", metavar="REF")
@click.argument("words", metavar="[PROMPT]", nargs=-1)
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

    prompt = " ".join(words)
    chatting = not prompt and sys.stdin.isatty()
    if not prompt and not chatting:
        prompt = sys.stdin.read().strip()
        if not prompt:
            msg = "stdin held no prompt"
            raise click.UsageError(msg)
    limit = max_tokens or (None if chatting else _DEFAULT_MAX_TOKENS)
    with (
        app.session(offline=offline, insecure=insecure) as session,
        talk(
            session, reference, make_options(chosen), environment(), wishes=Wishes(max_tokens=limit), system=system
        ) as talking,
    ):
        app.say(introduce(talking.serving))
        if chatting:
            _chat(app, talking)
        else:
            _answer(talking, prompt)


def _answer(talking: Talk, prompt: str) -> None:
    with talking.serving.server.watching(), talking.chat.ask(prompt) as answer:
        for piece in answer:
            flush_word(piece)
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
        match line:
            case "":
                continue
            case "/bye" | "/exit" | "/quit":
                return
            case "/help" | "/?":
                click.echo(_HELP, err=True)
            case "/clear":
                talking.chat.history.clear()
            case _ if line.startswith("/") and " " not in line:
                click.echo(f"no command `{line}`; /help lists them", err=True)
            case _:
                _turn(talking, line)


def _turn(talking: Talk, line: str) -> None:
    try:
        _answer(talking, line)
    except KeyboardInterrupt:
        click.echo("\nstopped", err=True)
