from __future__ import annotations

from lading.fit import Machine, described, machine_of, told
from lading.hardware import Device, Hardware, Memory

GIB = 1024**3


def hardware(*devices: Device) -> Hardware:
    return Hardware("x", "x86_64", 8, 16, Memory(32 * GIB, 20 * GIB), devices)


def test_what_is_free_counts_less_what_an_estimate_may_be_short_of() -> None:
    here = machine_of(hardware(Device("RTX 3060", "NVIDIA", 12 * GIB, 11 * GIB)))
    assert here.host == 20 * GIB * 98 // 100
    assert here.rooms == (11 * GIB * 98 // 100,)
    assert told(here) == "RTX 3060 12.0 GiB (11.0 GiB free) · 32.0 GiB (20.0 GiB free) memory"


def test_devices_of_no_use_are_left_out_and_kept_apart() -> None:
    integrated = Device("AMD device 0x1", "AMD", 512 * 1024**2, shared=True)
    broken = Device("RTX 4090", "NVIDIA", 24 * GIB, problem="nvidia-smi does not answer")
    untold = Device("Intel device 0x2", "Intel", None, shared=True)
    here = machine_of(hardware(integrated, broken, untold))
    assert (here.devices, here.unused) == ((), (integrated, broken, untold))


def test_apples_device_is_used_and_shares_the_hosts_memory() -> None:
    here = machine_of(hardware(Device("Apple GPU", "Apple", 24 * GIB, shared=True)))
    assert here.shares
    assert here.rooms == (24 * GIB * 98 // 100,)
    assert not here.without_devices().shares


def test_memory_that_nobody_tells_refuses_nothing() -> None:
    assert Machine(None, None).host > 2**60
    assert told(Machine(None, None)) == "memory not known"


def test_a_described_machine_has_all_that_is_said() -> None:
    there = described([Device("24GiB", memory=24 * GIB, source="given")] * 2, 64 * GIB)
    assert there.described
    assert told(there) == "device 24.0 GiB · device 24.0 GiB · 64.0 GiB memory"
