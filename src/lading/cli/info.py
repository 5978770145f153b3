"""`lading info`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lading.cli.app import App, common, json_option, print_json
from lading.text import clean, count, memory, size

if TYPE_CHECKING:
    from lading.api._info import DeviceDocument, HardwareDocument

_LOCKED_UP = {
    "namespaces": "locked up by namespaces: no network, and only the files it is given",
    "bubblewrap": "locked up by bubblewrap: no network, and only the files it is given",
    "limits": "limits of memory and time only: this machine grants no namespaces",
}


@click.command("info", short_help="Show settings, store, runtimes and hardware.")
@json_option
@common
def command(app: App, *, as_json: bool) -> None:
    """Show the settings in force, the store, the runtimes that are here and the hardware that they can use.

    Of graphics processors it asks nvidia-smi and vulkaninfo, where they are.
    """
    from lading.api import info  # noqa: PLC0415 - the library is loaded when the command runs
    from lading.cli.serving import environment  # noqa: PLC0415 - as above

    with app.session() as session:
        found = info(session, environment())
    if as_json:
        print_json(found)
        return
    held = f"{size(found.store_bytes)}, {size(found.store_free_bytes)} free"
    rows = [
        ("lading", f"{found.version} (Python {found.python}, {found.platform})"),
        ("store", f"{found.store}   {count(found.store_models, 'model')}, {held}"),
        ("servers", found.state),
        ("config", found.config),
        ("logins", ", ".join(found.auth_files)),
        ("formats", ", ".join(found.formats)),
    ]
    rows += [("runtime", f"{one.name} {one.version or '(not here)'}") for one in found.runtimes]
    rows.append(("converter", _LOCKED_UP[found.isolation]))
    rows += _hardware(found.hardware)
    for word, text in rows:
        click.echo(f"{word:<9} {text}")


def _hardware(found: HardwareDocument) -> list[tuple[str, str]]:
    cores = count(found.cores, "core")
    threads = f", {count(found.threads, 'thread')}" if found.threads != found.cores else ""
    rows = [("processor", f"{clean(found.processor)}   {cores}{threads}")]
    if found.memory_bytes is not None:
        rows.append(("memory", _room(found.memory_bytes, found.available_bytes)))
    rows += [("device", _device(device)) for device in found.devices]
    rows += [("vulkan", clean(name)) for name in found.vulkan]
    return [*rows, ("cdi", clean(", ".join(found.cdi)))] if found.cdi else rows


def _device(device: DeviceDocument) -> str:
    if device.memory_bytes is None:
        room = "shares the memory above" if device.shared else "memory not known"
    else:
        room = _room(device.memory_bytes, device.free_bytes)
    return clean("   ".join(word for word in (device.name, room, device.problem) if word))


def _room(total: int, free: int | None) -> str:
    return memory(total) + (f", {memory(free)} free" if free is not None else "")
