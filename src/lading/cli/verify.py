"""`lading verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lading.api import catalog
from lading.api.documents import FaultDocument, VerifyDocument
from lading.cli.app import App, common, json_option, print_json
from lading.errors import IntegrityError
from lading.text import clean, count, size

if TYPE_CHECKING:
    from lading.digest import Digest
    from lading.store.sweep import Fault


@click.command("verify", short_help="Hold every byte of the store to its digest.")
@json_option
@common
def command(app: App, *, as_json: bool) -> None:
    """Read every blob of the store and compare it with its digest and its manifests.

    Exits with 6 if anything is missing or damaged, and names the models that need it.
    """
    checked, total = 0, 0
    faults: dict[Digest, Fault] = {}
    with app.session() as session:
        for digest, length, fault in catalog.verify(session):
            checked += length > 0 or fault is None
            total += length
            if fault is not None:
                faults.setdefault(digest, fault)
    if as_json:
        found = tuple(
            FaultDocument(digest=str(fault.digest), why=fault.why, models=fault.models) for fault in faults.values()
        )
        print_json(VerifyDocument(blobs=checked, bytes=total, faults=found))
    else:
        for fault in faults.values():
            needed = f" (needed by {', '.join(fault.models)})" if fault.models else ""
            click.echo(f"{fault.digest}: {clean(fault.why)}{needed}")
        click.echo(
            f"verified  {size(total)} in {count(checked, 'blob')}, {count(len(faults), 'fault') if faults else 'no faults'}"
        )
    if faults:
        models = sorted({model for fault in faults.values() for model in fault.models})
        msg = f"{count(len(faults), 'blob')} missing or damaged" + (
            f", needed by {', '.join(models)}" if models else ""
        )
        raise IntegrityError(msg, hint="pull or pack those models again")
