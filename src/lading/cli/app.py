"""What every verb shares: the common options, the session they make, and the ways to print."""

from __future__ import annotations

import gc
import os
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading import config, ui
from lading.api.session import Session
from lading.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SCALES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_COMMON = ("store", "quiet", "debug", "progress")
# --debug is read by the entry, which stands outside of every verb.


@dataclass(frozen=True, slots=True)
class App:
    """The common options of one call."""

    store: str | None
    quiet: bool
    progress: str

    def settings(self) -> config.Config:
        """Return the settings: flags over environment over file over defaults."""
        loaded = config.load(os.environ)  # noqa: TID251 - the surface hands the environment to config
        if self.store:
            loaded = replace(loaded, store=Path(self.store).expanduser().absolute())
        if loaded.store.exists() and not loaded.store.is_dir():
            msg = f"the store {loaded.store} is no folder"
            raise UsageError(msg, hint="--store or LADING_STORE names another place")
        return loaded

    @contextmanager
    def session(self, *, offline: bool = False, insecure: bool = False) -> Iterator[Session]:
        """Yield a session whose progress shows on stderr until the block ends."""
        # A terminal that cannot move its cursor gets lines, not bars.
        dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown")  # noqa: TID251 - as above
        mode = "plain" if self.progress == "auto" and dumb else self.progress
        gc.enable()  # which the door had put off
        with ui.reporter(mode, sys.stderr, quiet=self.quiet) as reporter:
            yield Session(self.settings(), reporter, offline=offline, insecure=insecure)

    @property
    def colour(self) -> bool | None:
        """Return False where the user wants none (https://no-color.org), else None: where there is a terminal."""
        return False if os.environ.get("NO_COLOR") else None  # noqa: TID251 - as above

    def say(self, line: str) -> None:
        """Tell the user something, on stderr, unless --quiet."""
        if not self.quiet:
            click.echo(line, err=True)


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that all have; it receives an `App` as its first argument."""

    @click.option("--store", metavar="DIR", help="Use the store in this folder.")
    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but results, warnings and errors.")
    @click.option("--debug", is_flag=True, help="Show a traceback with an error.")
    @click.option(
        "--progress",
        type=click.Choice(ui.MODES),
        default="auto",
        show_default=True,
        help="How progress is shown, on stderr.",
    )
    @click.pass_context
    @wraps(function)
    def wrapped(ctx: click.Context, /, **options: Any) -> Any:
        outer = ctx.find_root().params
        chosen = {name: options.pop(name) for name in _COMMON}
        app = App(
            store=chosen["store"] or outer.get("store"),
            quiet=chosen["quiet"] or bool(outer.get("quiet")),
            progress=chosen["progress"],
        )
        return function(app, **options)

    return wrapped


def networked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --offline and --insecure."""
    function = click.option("--offline", is_flag=True, help="Use only what is in the store.")(function)
    return click.option("--insecure", is_flag=True, help="Accept plain http and any certificate from the registry.")(
        function
    )


class Rate(click.ParamType[int]):
    """Bytes per second with a decimal suffix: 500K, 50M, 1.5G."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes per second."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMG]?)B?", str(value), re.IGNORECASE | re.ASCII)
        rate = int(float(match[1]) * _SCALES[match[2].upper()]) if match else 0
        if rate <= 0:
            self.fail(f"{value!r} is no rate; one is written like 500K, 50M or 1.5G, in bytes per second", param, ctx)
        return rate


class Pair(click.ParamType[tuple[str, str]]):
    """A name and a text: ctx-size=8192."""

    name = "name=text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return both; the text may hold further equal signs."""
        if isinstance(value, tuple):
            return value
        key, sign, text = str(value).partition("=")
        if not key or not sign:
            self.fail(f"{value!r} is no pair; one is written like name=text", param, ctx)
        return key, text


def paced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --limit-rate; it receives `limit_rate` in bytes per second, or None."""
    return click.option("--limit-rate", type=Rate(), metavar="RATE", help="Most bytes per second, as in 50M.")(function)


def formatted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that writes models --format, --platform and --base; it receives `formats`, `platform` and `base`."""
    function = click.option(
        "--base", metavar="IMAGE", help="Put an image's layers upon this one, which brings a shell and commands."
    )(function)
    function = click.option(
        "--platform", metavar="OS/ARCH", help="Only for this platform, of images for several; as in linux/arm64."
    )(function)
    return click.option(
        "--format",
        "formats",
        metavar="LIST",
        help="Write it so: docker, modelpack, image, or several with commas; both = docker,modelpack.",
    )(function)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


def print_json(document: object) -> None:
    """Print a result as indented JSON on stdout."""
    import msgspec  # noqa: PLC0415 - only commands that print JSON need it at once

    click.echo(msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2).decode())
