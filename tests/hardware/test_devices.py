from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lading.errors import UsageError
from lading.hardware import hardware
from lading.hardware.cdi import cdi_devices
from lading.hardware.drm import drm_devices
from lading.hardware.nvidia import from_query, nvidia_devices
from lading.hardware.profiles import PROFILES, device_of, machine, size
from lading.hardware.programs import ask_program
from lading.hardware.rocm import Card, from_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE

# Written by hand to the format that nvidia-smi documents: its manual (docs.nvidia.com/deploy/nvidia-smi) and --help-query-gpu
# for the columns, "MIG Device Names" of docs.nvidia.com/datacenter/tesla/mig-user-guide for -L.
TWO = "0, NVIDIA GeForce RTX 4090, 24564, 23982, [N/A]\n1, NVIDIA GeForce RTX 3060, 12288, 11900, [N/A]\n"
PARTED = "0, NVIDIA H100 80GB HBM3, 81559, 81000, Enabled\n1, NVIDIA H100 80GB HBM3, 81559, 80000, Disabled\n"
INSTANCES = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 1g.10gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 3g.40gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
  MIG 1c.3g.40gb  Device  2: (UUID: MIG-0f5e8a8e-9bed-5b25-b243-5985ef7c9beb)
  MIG 1g.10gb+me  Device  3: (UUID: MIG-7b1d2f34-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-11111111-d33d-2b2c-524d-9e3d8d2b8a77)
"""
BROKEN = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.86\n"


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


class TestNvidia:
    def test_several_devices_with_their_memory(self) -> None:
        found = from_query(TWO)
        assert [(one.name, one.memory, one.free) for one in found] == [
            ("NVIDIA GeForce RTX 4090", 24564 * MEBIBYTE, 23982 * MEBIBYTE),
            ("NVIDIA GeForce RTX 3060", 12288 * MEBIBYTE, 11900 * MEBIBYTE),
        ]

    def test_a_device_in_parts_is_its_parts(self) -> None:
        found = from_query(PARTED, INSTANCES)
        assert [(one.name, one.memory) for one in found] == [
            ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10 * 10**9),
            ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 40 * 10**9),
            ("NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", 40 * 10**9),
            ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", 10 * 10**9),
            ("NVIDIA H100 80GB HBM3", 81559 * MEBIBYTE),
        ]

    def test_a_chip_that_shares_the_hosts_memory_has_none_of_its_own(self) -> None:
        (orin,) = from_query("0, Orin (nvgpu), [N/A], [N/A], [N/A]\n")
        assert (orin.memory, orin.shared) == (None, True)

    def test_a_device_in_trouble_is_told_of_and_not_used(self) -> None:
        # The words for what cannot be read stand in nvidia-smi's manual, each in brackets.
        lost, well = from_query(
            "0, NVIDIA L4, [Unknown Error], [Unknown Error], [N/A]\n1, NVIDIA L4, 23034, 22500, [N/A]\n"
        )
        assert (lost.memory, lost.shared, lost.problem) == (None, False, "nvidia-smi says [Unknown Error]")
        assert (well.memory, well.problem) == (23034 * MEBIBYTE, "")

    def test_a_device_in_parts_without_any_is_told_of_and_not_used(self) -> None:
        bare, whole = from_query(PARTED, "")
        assert (bare.memory, bare.problem) == (None, "in MIG mode and without an instance")
        assert whole.problem == ""

    def test_words_of_a_broken_driver_are_no_devices(self) -> None:
        assert from_query(BROKEN) == []
        assert from_query("No devices were found\n") == []

    def test_the_driver_names_devices_that_nobody_may_be_asked_about(self, tmp_path: Path) -> None:
        # Format of /proc/driver/nvidia/gpus/*/information in the README of NVIDIA's Linux driver.
        said = "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 150\nGPU UUID: \t GPU-1\nVideo BIOS: \t 95.02\n"
        root = put(tmp_path, {"proc/driver/nvidia/gpus/0000:01:00.0/information": said})
        (device,) = nvidia_devices(root, None)
        assert (device.name, device.memory, device.problem) == ("NVIDIA GeForce RTX 4090", None, "")
        (silent,) = nvidia_devices(root, lambda _command: None)
        assert silent.problem == "nvidia-smi does not answer"

    def test_only_the_asked_program_is_run_and_parts_are_asked_for_where_there_are_some(self, tmp_path: Path) -> None:
        asked: list[str] = []

        def ask(command: Sequence[str]) -> str:
            asked.append(" ".join(command[:2]).partition("=")[0])
            return INSTANCES if command[1] == "-L" else PARTED

        assert len(nvidia_devices(tmp_path, ask)) == 5
        assert asked == ["nvidia-smi --query-gpu", "nvidia-smi -L"]
        assert nvidia_devices(tmp_path, None) == []


# Files and their format: docs.kernel.org/gpu/amdgpu/driver-misc.html, and the kernel's kfd_topology.c.
RADEON = {
    "sys/class/drm/card1/device/vendor": "0x1002\n",
    "sys/class/drm/card1/device/device": "0x744c\n",
    "sys/class/drm/card1/device/uevent": "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_SLOT_NAME=0000:03:00.0\n",
    "sys/class/drm/card1/device/mem_info_vram_total": "25753026560\n",
    "sys/class/drm/card1/device/mem_info_vram_used": "753026560\n",
    "sys/class/drm/card1-DP-1/status": "connected\n",
}
NODES = {
    "sys/class/kfd/kfd/topology/nodes/0/properties": "cpu_cores_count 16\nsimd_count 0\nlocation_id 0\ndomain 0\n",
    "sys/class/kfd/kfd/topology/nodes/1/properties": "cpu_cores_count 0\nsimd_count 192\nlocation_id 768\ndomain 0\n",
}


class TestDrm:
    def test_an_amd_device_tells_its_memory(self, tmp_path: Path) -> None:
        (device,) = drm_devices(put(tmp_path, RADEON | NODES))
        assert (device.name, device.memory, device.free) == ("AMD device 0x744c", 25753026560, 25000000000)
        assert (device.shared, device.problem) == (False, "")

    def test_one_that_rocm_does_not_see_says_so(self, tmp_path: Path) -> None:
        nodes = {name: text.replace("768", "1024") for name, text in NODES.items()}
        (device,) = drm_devices(put(tmp_path, RADEON | nodes))
        assert "ROCm does not see it" in device.problem

    def test_without_kfd_nothing_is_held_against_it(self, tmp_path: Path) -> None:
        (device,) = drm_devices(put(tmp_path, RADEON))
        assert device.problem == ""

    def test_an_integrated_device_shares_the_hosts_memory(self, tmp_path: Path) -> None:
        carved = {"sys/class/drm/card1/device/mem_info_vram_total": "536870912\n"}
        (amd,) = drm_devices(put(tmp_path / "amd", RADEON | carved))
        assert amd.shared
        intel = {"sys/class/drm/card0/device/vendor": "0x8086\n", "sys/class/drm/card0/device/device": "0x7d55\n"}
        (arc,) = drm_devices(put(tmp_path / "intel", intel))
        assert (arc.vendor, arc.memory, arc.shared) == ("Intel", None, True)

    def test_an_intel_device_with_memory_of_its_own_tells_it(self, tmp_path: Path) -> None:
        # What the xe and i915 drivers show (Documentation/ABI/testing/sysfs-driver-intel-xe-*, intel_gt_sysfs.c).
        card = {"sys/class/drm/card0/device/vendor": "0x8086\n", "sys/class/drm/card0/device/device": "0xe20b\n"}
        xe = card | {"sys/class/drm/card0/device/tile0/physical_vram_size_bytes": "12884901888\n"}
        (battlemage,) = drm_devices(put(tmp_path / "xe", xe))
        assert (battlemage.memory, battlemage.shared) == (12884901888, False)
        i915 = card | {"sys/class/drm/card0/device/lmem_total_bytes": "8589934592\n"}
        (older,) = drm_devices(put(tmp_path / "i915", i915))
        assert (older.memory, older.shared) == (8589934592, False)

    def test_nonsense_in_the_files_is_passed_over(self, tmp_path: Path) -> None:
        odd = {"sys/class/drm/card1/device/mem_info_vram_total": "many\n"}
        (device,) = drm_devices(put(tmp_path, RADEON | odd))
        assert device.memory is None
        assert drm_devices(put(tmp_path / "none", {"sys/class/drm/version": "drm 1.1.0\n"})) == []


# As rocm-smi writes it with --json (python_smi_tools/rocm_smi.py of github.com/ROCm/rocm_smi_lib), written by hand.
ROCM = """\
WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status

{"card10": {"PCI Bus": "0000:0C:00.0", "VRAM Total Memory (B)": "536870912", "VRAM Total Used Memory (B)": "36870912",
 "Card series": "Rembrandt [Radeon 680M]"},
 "card0": {"PCI Bus": "0000:03:00.0", "VRAM Total Memory (B)": "25753026560", "VRAM Total Used Memory (B)": "753026560",
 "Card Series": "Radeon RX 7900 XTX", "Card Model": "0x744c", "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]"},
 "system": {"Driver version": "6.7.0"}}
"""


class TestRocm:
    def test_cards_come_in_order_with_their_place_and_memory(self) -> None:
        assert from_json(ROCM) == [
            Card("0000:03:00.0", "Radeon RX 7900 XTX", 25753026560, 753026560),
            Card("0000:0c:00.0", "Rembrandt [Radeon 680M]", 536870912, 36870912),
        ]

    @pytest.mark.parametrize(
        "said",
        [
            "",
            "[]",
            "{",
            "ERROR:root:Driver not initialized (amdgpu not found in modules)\n",
            '{"card0": 3}',
            "{" * 100_000,
        ],
    )
    def test_words_of_a_broken_driver_are_no_cards(self, said: str) -> None:
        assert from_json(said) == []

    def test_what_is_not_told_is_not_known(self) -> None:
        assert from_json('{"card0": {"VRAM Total Memory (B)": "N/A"}}') == [Card("", "", None, None)]

    def test_it_names_what_the_kernel_shows_and_is_asked_only_then(self, tmp_path: Path) -> None:
        asked: list[str] = []

        def ask(command: Sequence[str]) -> str:
            asked.append(command[0])
            return ROCM

        assert drm_devices(tmp_path, ask) == []
        assert asked == []
        (device,) = drm_devices(put(tmp_path, RADEON | NODES), ask)
        assert (device.name, device.memory, device.source) == ("Radeon RX 7900 XTX", 25753026560, "/sys")
        assert asked == ["rocm-smi"]

    def test_cards_that_only_the_compute_driver_shows_are_its_own(self, tmp_path: Path) -> None:
        discrete, integrated = drm_devices(put(tmp_path, NODES), lambda _command: ROCM)
        assert (discrete.name, discrete.memory, discrete.free) == ("Radeon RX 7900 XTX", 25753026560, 25000000000)
        assert (discrete.shared, integrated.shared) == (False, True)

    def test_without_an_answer_the_kernel_s_files_are_all_there_is(self, tmp_path: Path) -> None:
        (device,) = drm_devices(put(tmp_path, RADEON), lambda _command: None)
        assert device.name == "AMD device 0x744c"


class TestCdi:
    # As `nvidia-ctk cdi generate` writes it (libnvidia-container's documentation), shortened.
    YAML = """\
---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- name: GPU-5d5ba0d6
  containerEdits:
    hooks:
    - hookName: createContainer
      args:
      - name: inner
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: all
containerEdits:
  env:
  - name: NVIDIA_VISIBLE_DEVICES=void
"""

    def test_devices_are_read_from_both_forms_and_both_folders(self, tmp_path: Path) -> None:
        amd = json.dumps({"cdiVersion": "0.6.0", "kind": "amd.com/gpu", "devices": [{"name": "0"}, {"name": "all"}]})
        root = put(
            tmp_path, {"etc/cdi/nvidia.yaml": self.YAML, "var/run/cdi/amd.json": amd, "etc/cdi/notes.txt": "kind: x/y"}
        )
        assert cdi_devices(root) == (
            "amd.com/gpu=0", "amd.com/gpu=all", "nvidia.com/gpu=0", "nvidia.com/gpu=GPU-5d5ba0d6", "nvidia.com/gpu=all",
        )  # fmt: skip

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"kind": 1}', '{"kind": "a/b", "devices": 3}', "[" * 100_000])
    def test_what_breaks_the_rules_adds_nothing(self, tmp_path: Path, text: str) -> None:
        assert cdi_devices(put(tmp_path, {"etc/cdi/a.json": text, "etc/cdi/b.yaml": text})) == ()


class TestProfiles:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("24GiB", 24 * GIBIBYTE), ("512 MiB", 512 * MEBIBYTE), ("80GB", 80 * 10**9), ("1.5tib", 1536 * GIBIBYTE)],
    )
    def test_sizes_are_read_with_their_unit(self, text: str, expected: int) -> None:
        assert size(text) == expected
        assert device_of(text).memory == expected

    @pytest.mark.parametrize("text", ["", "24", "GiB", "-1GiB", "0GiB", "24 apples", "1e3GiB", "٢٤GiB"])
    def test_what_is_no_size_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not a size"):
            size(text)

    def test_a_named_machine_has_one_device_or_several(self) -> None:
        (one,) = machine("h100")
        assert one == PROFILES["h100"]
        two = machine("RTX4090x2")
        assert [device.name for device in two] == ["GeForce RTX 4090 0", "GeForce RTX 4090 1"]
        assert {device.memory for device in two} == {24 * GIBIBYTE}

    @pytest.mark.parametrize("name", ["", "rtx9999", "h100x0", "h100x17", "x2", "h100 x2"])
    def test_an_unknown_machine_is_refused_with_those_there_are(self, name: str) -> None:
        with pytest.raises(UsageError, match="no profile") as refused:
            machine(name)
        assert "rtx4090" in refused.value.hint

    def test_every_profile_can_be_held_against_an_estimate(self) -> None:
        assert len(PROFILES) == 5
        assert all(device.memory and device.bandwidth for device in PROFILES.values())


class TestHardware:
    def test_this_machine_has_a_processor_and_memory(self) -> None:
        found = hardware()
        assert found.processor
        assert 1 <= found.cores <= found.threads
        assert found.memory.total is not None

    def test_an_empty_machine_raises_nothing(self, tmp_path: Path) -> None:
        found = hardware(tmp_path)
        assert (found.devices, found.vulkan, found.cdi) == ((), (), ())

    def test_the_processor_is_named_as_the_kernel_names_it(self, tmp_path: Path) -> None:
        said = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Processor\n\nprocessor\t: 1\n"
        assert hardware(put(tmp_path, {"proc/cpuinfo": said})).processor == "Intel(R) Xeon(R) Processor"

    def test_vulkan_is_drivers_or_where_one_may_ask_devices(self, tmp_path: Path) -> None:
        root = put(tmp_path, {"usr/share/vulkan/icd.d/lvp_icd.x86_64.json": "{}"})
        assert hardware(root).vulkan == ("lvp_icd.x86_64",)
        summary = (
            "Devices:\n========\nGPU0:\n\tapiVersion         = 1.4.305\n\tdeviceName         = llvmpipe (LLVM 19.1.7)\n"
        )
        asked = hardware(root, ask=lambda command: summary if command[0] == "vulkaninfo" else None)
        assert asked.vulkan == ("llvmpipe (LLVM 19.1.7)",)

    def test_an_apple_chip_s_device_shares_the_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.system", lambda: "Darwin")
        monkeypatch.setattr("platform.machine", lambda: "arm64")
        found = hardware(put(tmp_path, {"proc/meminfo": "MemTotal:       16777216 kB\n"}))
        (device,) = found.devices
        assert (device.vendor, device.memory, device.shared) == ("Apple", 12 * GIBIBYTE, True)

    def test_nothing_is_imported_or_run_unless_asked(self, tmp_path: Path) -> None:
        code = (
            "import sys, pathlib\n"
            "def hook(event, arguments):\n"
            "    assert event not in ('subprocess.Popen', 'os.exec', 'os.posix_spawn', 'ctypes.dlopen'), event\n"
            "sys.addaudithook(hook)\n"
            "from lading.hardware import hardware\n"
            "hardware(); hardware(pathlib.Path(sys.argv[1]))\n"
            "assert not {'subprocess', 'ctypes', 'xllamacpp', 'pynvml'} & set(sys.modules)\n"
        )
        root = put(tmp_path, RADEON | NODES)
        subprocess.run([sys.executable, "-c", code, str(root)], check=True)

    def test_a_real_program_is_asked_and_one_that_fails_or_is_missing_says_nothing(self) -> None:
        assert ask_program(("echo", "two words")) == "two words\n"
        assert ask_program(("false",)) is None
        assert ask_program(("no-such-program-anywhere",)) is None
