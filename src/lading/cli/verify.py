"""`lading verify`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from lading import ui
from lading.api import catalog
from lading.api.documents import FaultDocument, RepairedDocument, UnrepairedDocument, VerifyDocument
from lading.cli.app import App, common, json_option, print_json
from lading.errors import (
    AccessDeniedError,
    IntegrityError,
    LadingError,
    NetworkError,
    NoSpaceError,
    PolicyError,
    StoppedError,
)
from lading.text import clean, count, size

if TYPE_CHECKING:
    from collections.abc import Collection

    from lading.api.results import Repaired
    from lading.api.session import Session
    from lading.digest import Digest
    from lading.store.sweep import Fault

_TELLING = 100_000_000
"""Bytes from which on a rate says something about the machine."""

# What a user can do something about goes before what only says that bytes are missing.
_REASONS = (NetworkError, AccessDeniedError, NoSpaceError, PolicyError)


@click.command("verify", short_help="Hold every byte of the store to its digest.")
@click.option("--repair", is_flag=True, help="Fetch what is missing or damaged anew, from where it came.")
@click.option("--offline", is_flag=True, help="Repair from files and layouts of this machine only.")
@click.option("--insecure", is_flag=True, help="Accept plain http and any certificate from what is repaired from.")
@json_option
@common
def command(app: App, *, repair: bool, offline: bool, insecure: bool, as_json: bool) -> None:
    """Read every blob of the store and compare it with its digest and its manifests.

    Exits with 6 if anything is missing or damaged, and names the models that need it.

    With --repair what models need is fetched anew from their recorded sources, and only that: by digest from a
    registry or layout, at the same commit from a hub, whole from a URL, and from the file that was packed if it
    is as it was. A file of yours is never changed. Exits with 0 if all is whole then, with 5 if a source could not
    be reached.
    """
    if (offline or insecure) and not repair:
        msg = f"{'--offline' if offline else '--insecure'} goes with --repair; verify alone uses no network"
        raise click.UsageError(msg)
    checked, total = 0, 0
    faults: dict[Digest, Fault] = {}
    with app.session(offline=offline, insecure=insecure) as session:
        begun = time.monotonic()
        for digest, length, fault in catalog.verify(session):
            checked += length > 0 or fault is None
            total += length
            if fault is not None:
                faults.setdefault(digest, fault)
        seconds = time.monotonic() - begun
        if not as_json:
            ui.settle(session.reporter)
            _tell(faults.values(), checked, total, seconds)
        repaired = _repair(session, faults.values()) if repair and faults else None
    if as_json:
        print_json(_document(faults.values(), repaired, checked, total, seconds))
    elif repaired:
        _tell_repaired(repaired)
    _fail(faults.values(), repaired)


def _repair(session: Session, faults: Collection[Fault]) -> Repaired:
    from lading.api import repair  # noqa: PLC0415 - the transports are loaded when something is to be fetched

    try:
        return repair(session, faults)
    except KeyboardInterrupt:
        msg = "interrupted: what was repaired is kept; the same command goes on"
        raise StoppedError(msg) from None


def _tell(faults: Collection[Fault], checked: int, total: int, seconds: float) -> None:
    for fault in faults:
        needed = f" (needed by {', '.join(fault.models)})" if fault.models else ""
        click.echo(f"{fault.digest}: {clean(fault.why)}{needed}")
    found = count(len(faults), "fault") if faults else "no faults"
    rate = f", {size(int(total / seconds))}/s" if total >= _TELLING and seconds else ""
    click.echo(f"verified  {size(total)} in {count(checked, 'blob')}, {found}{rate}")


def _tell_repaired(repaired: Repaired) -> None:
    for done in repaired.mended:
        click.echo(f"repaired  {done.digest.short}   {size(done.size)} from {clean(done.source)}")
    for left in repaired.left:
        for source, error in left.tried:
            click.echo(f"not repaired  {left.fault.digest.short}   {_why(source, error)}")


def _document(
    faults: Collection[Fault], repaired: Repaired | None, checked: int, total: int, seconds: float
) -> VerifyDocument:
    return VerifyDocument(
        blobs=checked,
        bytes=total,
        seconds=round(seconds, 3),
        faults=tuple(FaultDocument(digest=str(fault.digest), why=fault.why, models=fault.models) for fault in faults),
        repaired=tuple(
            RepairedDocument(digest=str(done.digest), size=done.size, source=done.source)
            for done in (repaired.mended if repaired else ())
        ),
        unrepaired=tuple(
            UnrepairedDocument(
                digest=str(left.fault.digest),
                why="; ".join(_why(source, error) for source, error in left.tried),
                models=left.fault.models,
            )
            for left in (repaired.left if repaired else ())
        ),
    )


def _why(source: str, error: LadingError) -> str:
    return clean(f"{source}: {error.message}" if source else error.message)


def _fail(found: Collection[Fault], repaired: Repaired | None) -> None:
    """Raise what the faults that are left amount to: the first reason that a user can mend, else IntegrityError."""
    left = [one.fault for one in repaired.left] if repaired else found
    if not left:
        return
    models = sorted({model for fault in left for model in fault.models})
    needed = f", needed by {', '.join(models)}" if models else ""
    msg = f"{count(len(left), 'blob')} {'still ' if repaired else ''}missing or damaged{needed}"
    errors = [error for one in repaired.left for _source, error in one.tried] if repaired else []
    for reason in _REASONS:
        for error in errors:
            if isinstance(error, reason):
                raise reason(msg, hint=error.hint or error.message)
    if errors:
        raise IntegrityError(msg, hint=errors[0].hint)
    hint = "`lading verify --repair` fetches them anew; or pull or pack those models again"
    raise IntegrityError(msg, hint=hint if models else "nothing that has a name needs them; `lading prune` frees them")
