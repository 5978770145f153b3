"""How a model is written elsewhere: what `copy` and `push` share, and how the formats of a model are told."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from lading.cli.app import formatted, json_option, paced, print_json
from lading.errors import StoppedError
from lading.text import size, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lading.api import Wish
    from lading.api.results import Delivered, DeliveredForm, Pushed
    from lading.api.session import Session
    from lading.cli.app import App
    from lading.pace import Pace

_OWN = ("insecure", "parallel", "limit_rate", "as_json", "formats", "platform", "base")


@dataclass(frozen=True, slots=True)
class Delivery:
    """The options that say how a model is to be written elsewhere."""

    insecure: bool
    parallel: int
    limit_rate: int | None
    as_json: bool
    formats: str | None
    platform: str | None
    base: str | None

    @property
    def wish(self) -> Wish:
        """In which formats; raises UsageError."""
        from lading.api import Wish  # noqa: PLC0415 - the library is loaded when the command runs

        return Wish.of(self.formats, self.platform, self.base)

    @property
    def pace(self) -> Pace | None:
        """How fast at most."""
        from lading.pace import Pace  # noqa: PLC0415 - as above

        return Pace(self.limit_rate) if self.limit_rate else None

    @contextmanager
    def session(self, app: App, destination: str | None) -> Iterator[Session]:
        """Yield the session to write to `destination` in; Ctrl-C raises StoppedError, which says how it goes on."""
        try:
            with app.session(insecure=self.insecure) as session:
                yield session
        except KeyboardInterrupt:
            kept = "blobs that were sent whole stay there; the same command sends the rest"
            if (destination or "").startswith("oci-archive:"):
                kept = "nothing was written"
            msg = f"interrupted: {kept}"
            raise StoppedError(msg) from None

    def tell(self, done: str, result: Delivered | Pushed, document: object) -> None:
        """Print what was `done` to a model: the document with --json, else a line for it, and one for each form."""
        if self.as_json:
            print_json(document)
            return
        figures = f"{size(result.total_bytes)}, {size(result.new_bytes)} sent"
        click.echo(f"{done}  {result.destination}   {result.digest.short}   {figures}{word(result.forms)}")
        for line in lines(result.forms):
            click.echo(line)


def delivering(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how a model is written elsewhere; it receives a `Delivery` as `how`."""

    @click.option("--insecure", is_flag=True, help="Accept plain http and any certificate from a registry.")
    @click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="Blobs sent at a time.")
    @formatted
    @paced
    @json_option
    @wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        how = Delivery(**{name: options.pop(name) for name in _OWN})
        return function(*args, how=how, **options)

    return wrapped


def lines(forms: Sequence[DeliveredForm]) -> list[str]:
    """Return a line for each of several formats: its name, where it is by itself, and its digest."""
    rows = [(f"  {form.format}", form.destination, form.digest.short) for form in forms]
    return table(rows).split("\n") if len(rows) > 1 else []


def word(forms: Sequence[DeliveredForm]) -> str:
    """Return what names the formats at the end of a line, nothing where none was asked for."""
    return f"   {','.join(form.format for form in forms)}" if forms else ""
