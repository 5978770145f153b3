"""The machine that models are held against: this one, or what the settings say of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lading.errors import UsageError
from lading.fit import machine_of
from lading.hardware import Memory, hardware
from lading.hardware.nvidia import VENDOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.api.session import Session
    from lading.fit import Machine
    from lading.hardware import Device, Hardware
    from lading.runtime import Runtime

_NO_DEVICES = "none"


def machine_here(session: Session, runtime: Runtime | None = None) -> Machine:
    """Return what this machine has for a model, or what LADING_MEMORY and LADING_DEVICES say that it has.

    With a `runtime` devices that it cannot use are left out. Raises UsageError for words that are no size or device.
    """
    config = session.config
    found = _found()
    if config.memory is not None:
        told = _read("LADING_MEMORY", config.memory)
        found = replace(found, memory=Memory(told, told))
    if config.devices is not None:
        return machine_of(replace(found, devices=_devices(config.devices)))
    here = machine_of(found)
    # Asking the runtime takes a moment: only where there is something to ask about.
    return here.without_devices() if here.devices and runtime is not None and not runtime.devices else here


def _found() -> Hardware:
    found = hardware()
    if any(device.vendor == VENDOR for device in found.devices):
        return hardware(ask=_ask_driver)
    return found


def _ask_driver(command: Sequence[str]) -> str | None:
    from lading.hardware.programs import ask_program  # noqa: PLC0415 - where there is a driver to ask

    return ask_program(command) if command[0] == "nvidia-smi" else None


def _read(name: str, text: str) -> int:
    from lading.hardware.profiles import size  # noqa: PLC0415 - as above

    try:
        return size(text)
    except UsageError as error:
        msg = f"{name}: {error.message}"
        raise UsageError(msg, hint=error.hint) from error


def _devices(text: str) -> tuple[Device, ...]:
    """Return the devices of a list such as `24GiB,24GiB` or `rtx4090x2`; `none` is none."""
    from lading.hardware.profiles import device_of, machine  # noqa: PLC0415 - for those who describe a machine

    if text.strip().lower() == _NO_DEVICES:
        return ()
    words = [word.strip() for word in text.split(",")]
    try:
        return tuple(
            device for word in words for device in ((device_of(word),) if word[:1].isdigit() else machine(word))
        )
    except UsageError as error:
        msg = f"LADING_DEVICES: {error.message}"
        raise UsageError(msg, hint=error.hint) from error
