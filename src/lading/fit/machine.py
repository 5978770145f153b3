"""The memory that a model may have: what is free on this machine, or what somebody says that another one has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lading.text import clean, memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.hardware import Device, Hardware

_MOST_DEVICES = 16
# An estimate was found to be up to 2 % too low.
_USABLE, _OF = 98, 100
_ENDLESS = 2**62


@dataclass(frozen=True, slots=True)
class Machine:
    """Memory in bytes, None where it is not known. A model can be put on `devices`; `unused` are there and of no use.

    `described` says that somebody told of it, and that it is not the machine we are on.
    """

    memory: int | None
    available: int | None
    devices: tuple[Device, ...] = ()
    unused: tuple[Device, ...] = ()
    described: bool = False

    @property
    def host(self) -> int:
        """The bytes that a model may take of the host's memory; more than any where that is not known."""
        return _usable(self.memory if self.available is None else self.available)

    @property
    def rooms(self) -> tuple[int, ...]:
        """The bytes that a model may take of each device's memory."""
        return tuple(_usable(device.memory if device.free is None else device.free) for device in self.devices)

    @property
    def shares(self) -> bool:
        """Whether the devices' memory is the host's, so that both together are bound by what that has."""
        return any(device.shared for device in self.devices)

    def without_devices(self) -> Machine:
        """Return the same machine for a runtime that computes on the processor alone."""
        return replace(self, devices=(), unused=(*self.devices, *self.unused))


def machine_of(found: Hardware) -> Machine:
    """Return what hardware offers to a model: devices with memory of their own, or all of it in common with the host."""
    useful = [device for device in found.devices if _is_useful(device)]
    unused = [device for device in found.devices if not _is_useful(device)]
    return Machine(
        found.memory.total, found.memory.available, tuple(useful[:_MOST_DEVICES]), (*unused, *useful[_MOST_DEVICES:])
    )


def described(devices: Sequence[Device], host: int | None) -> Machine:
    """Return a machine of which all is said: its devices, and the bytes of its memory."""
    return Machine(host, None, tuple(devices[:_MOST_DEVICES]), tuple(devices[_MOST_DEVICES:]), described=True)


def told(machine: Machine) -> str:
    """Write a machine in a line: RTX 3060 12.0 GiB (11.2 GiB free) · 32.0 GiB (21.0 GiB free) memory."""
    words = [
        _told("device" if device.source == "given" else device.name, device.memory, device.free)
        for device in machine.devices
    ]
    if machine.memory is None and machine.available is None:
        words.append("memory not known")
    else:
        words.append(f"{_told('', machine.memory, machine.available)} memory")
    return " · ".join(words)


def _told(name: str, total: int | None, free: int | None) -> str:
    room = "" if total is None else memory(total)
    left = "" if free is None else f"({memory(free)} free)"
    return " ".join(filter(None, (clean(name), room, left)))


def _is_useful(device: Device) -> bool:
    # An integrated device's own memory is a small part carved out; Apple's is all that it may use.
    own = not device.shared or device.vendor == "Apple"
    return own and not device.problem and bool(device.memory)


def _usable(room: int | None) -> int:
    return _ENDLESS if room is None else room * _USABLE // _OF
