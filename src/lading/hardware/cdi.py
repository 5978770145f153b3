"""Devices that containers can be given by name: the container device interface's specs on this machine.

https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md: a file has a `kind` and named devices, and a
device is asked for as kind=name. Of the YAML form only those two are read, by their lines.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FOLDERS = ("etc/cdi", "var/run/cdi")
_MOST = 16 * 1024 * 1024
_KIND = re.compile(r"""^kind:\s*["']?([\w.-]+/[\w.-]+)["']?\s*$""", re.MULTILINE)
_DEVICES = re.compile(r"^devices:[ \t]*\n((?:[ \t-].*\n?|\n)*)", re.MULTILINE)
_ITEM = re.compile(r"^([ \t]*)-[ \t]+", re.MULTILINE)


def cdi_devices(root: Path) -> tuple[str, ...]:
    """Return what a container engine can be asked for, such as nvidia.com/gpu=0, sorted; files that cannot be read add nothing."""
    found: set[str] = set()
    for folder in _FOLDERS:
        with suppress(OSError):
            for path in (root / folder).iterdir():
                if path.suffix in (".json", ".yaml", ".yml") and path.stat().st_size <= _MOST:
                    text = path.read_text(encoding="utf-8", errors="replace")
                    found |= _from_json(text) if path.suffix == ".json" else _from_yaml(text)
    return tuple(sorted(found))


def _from_json(text: str) -> set[str]:
    with suppress(ValueError, RecursionError, TypeError, AttributeError, KeyError):
        tree = json.loads(text)
        return {f"{tree['kind']}={device['name']}" for device in tree["devices"]}
    return set()


def _from_yaml(text: str) -> set[str]:
    kind, devices = _KIND.search(text), _DEVICES.search(text)
    if kind is None or devices is None:
        return set()
    block = devices[1]
    first = _ITEM.search(block)
    if first is None:
        return set()
    # The key of an item stands right after its dash or two columns further in; names deeper down are others' names.
    inside = re.compile(rf"""^{first[1]}(?:-[ ]|[ ]{{2}})name:\s*["']?([\w.:-]+)["']?\s*$""", re.MULTILINE)
    return {f"{kind[1]}={name}" for name in inside.findall(block)}
