"""What a locked-up program can and cannot do: asked of real programs, on the levels that this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lading.build.isolation import Cell, Level, interpreter_paths, isolation_level, locked

if TYPE_CHECKING:
    from pathlib import Path

    from hostile_server import Hostile


@pytest.fixture(params=["namespaces", "bubblewrap"])
def level(request: pytest.FixtureRequest, bare: dict[str, str]) -> Level:
    wanted: Level = request.param
    if wanted == "bubblewrap" and not shutil.which("bwrap", path=bare["PATH"]):
        pytest.skip("no bwrap: as root on Debian, `make system` installs it")
    if isolation_level(bare) == "limits":
        pytest.skip("this system lets nobody make namespaces")
    return wanted


def tried(
    code: str, level: Level, bare: dict[str, str], read: tuple[Path, ...] = (), **given: Any
) -> subprocess.CompletedProcess[str]:
    cell = Cell(read=(*interpreter_paths(), *read), **{"write": (), **given})
    command = locked((sys.executable, "-I", "-c", code), cell, level, bare)
    return subprocess.run(
        command.argv, env=dict(command.environment), capture_output=True, text=True, timeout=60, check=False
    )


def test_no_server_is_reached(level: Level, bare: dict[str, str], hostile: Hostile) -> None:
    port = hostile.host.partition(":")[2]
    code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
    assert tried(code, "limits", bare).returncode == 0
    done = tried(code, level, bare)
    assert done.returncode == 1
    assert (
        "OSError: [Errno" in done.stderr or "ConnectionRefusedError" in done.stderr
    )  # bwrap brings a loopback of its own


@pytest.mark.parametrize("verb", ["open({!r}).read()", "open({!r}, 'a').close()"])
def test_no_file_of_the_user_is_seen(verb: str, level: Level, bare: dict[str, str], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    code = verb.format(str(secret))
    assert tried(code, "limits", bare).returncode == 0
    assert tried(code, level, bare).returncode == 1
    assert secret.read_text() == "mine"


def test_what_is_given_to_read_is_not_written(level: Level, bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("given")
    code = f"print(open({str(tmp_path / 'file')!r}).read()); open({str(tmp_path / 'other')!r}, 'w')"
    done = tried(code, level, bare, read=(tmp_path,))
    assert done.stdout == "given\n"
    assert "Read-only file system" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_one_folder_is_written(level: Level, bare: dict[str, str], tmp_path: Path) -> None:
    assert tried("open('made', 'w').write('whole')", level, bare, write=(tmp_path,)).returncode == 0
    assert (tmp_path / "made").read_text() == "whole"
    assert (tmp_path / "made").stat().st_uid == os.getuid()


def test_no_other_process_is_seen_and_no_right_is_left(level: Level, bare: dict[str, str]) -> None:
    code = (
        "import os; print(sorted(name for name in os.listdir('/proc') if name.isdigit() and int(name) > 9));"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'NoNewPrivs'))]);"
        "print(sorted(os.environ.keys() - {'LC_CTYPE', 'PWD'}))"
    )
    assert tried(code, level, bare).stdout.splitlines() == ["[]", "['0000000000000000', '1']", "[]"]


def test_codes_and_signals_are_told_on(level: Level, bare: dict[str, str]) -> None:
    assert tried("raise SystemExit(3)", level, bare).returncode == 3
    assert tried("import os; os.abort()", level, bare).returncode in (-6, 134)


@pytest.mark.parametrize("where", ["namespaces", "limits"])
def test_limits_hold(where: Level, bare: dict[str, str], tmp_path: Path) -> None:
    if where == "namespaces" and isolation_level(bare) != where:
        pytest.skip("namespaces cannot be had here")
    wide = "open('wide', 'wb').write(bytes(3_000_000))"
    assert tried(wide, where, bare, write=(tmp_path,), file_size=1_000_000).returncode != 0
    assert (tmp_path / "wide").stat().st_size <= 1_000_000
    assert "MemoryError" in tried("bytearray(10**9)", where, bare, memory=500_000_000).stderr
    assert tried("while True: pass", where, bare, cpu_seconds=1).returncode < 0
