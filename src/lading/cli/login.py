"""`lading login`."""

from __future__ import annotations

import sys

import click

from lading.cli.app import App, common

_LONGEST = 64 * 1024


@click.command("login", short_help="Keep a registry's credentials.")
@click.argument("host", metavar="REGISTRY")
@click.option("-u", "--username", metavar="NAME", help="User name; asked for if not given.")
@click.option("--password-stdin", is_flag=True, help="Read the password or token from stdin.")
@click.option("--insecure", is_flag=True, help="Accept plain http and any certificate from the registry.")
@common
def command(app: App, host: str, *, username: str | None, password_stdin: bool, insecure: bool) -> None:
    """Check a login against REGISTRY and keep it where docker and podman look for it."""
    from lading.api import login  # noqa: PLC0415 - the library is loaded when the command runs

    if password_stdin and not username:
        msg = "--password-stdin needs --username"
        raise click.UsageError(msg)
    if not password_stdin and not sys.stdin.isatty():
        msg = "stdin is no terminal to ask on; use --password-stdin"
        raise click.UsageError(msg)
    user = username or click.prompt("Username", err=True)
    secret = _read_line() if password_stdin else click.prompt("Password", hide_input=True, err=True)
    if not secret:
        msg = "the password is empty"
        raise click.UsageError(msg)
    with app.session(insecure=insecure) as session:
        place, asked = login(session, host, user, secret)
    if not asked:
        app.say(f"{host} asks for no login; the credentials are kept unchecked")
    click.echo(f"logged in  {host} as {user}   kept in {place}")


def _read_line() -> str:
    line = sys.stdin.buffer.readline(_LONGEST + 1)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or len(line) > _LONGEST:
        msg = "what came on stdin is no password"
        # Without the cause: it would quote what came.
        raise click.UsageError(msg) from None
    return text.rstrip("\r\n")
