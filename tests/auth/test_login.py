"""`lading login` and `logout` beside docker's and podman's own: what one writes the others read."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from real_registry import PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary-password"


def _docker(lading: Any) -> Path:
    return Path(lading.folder, ".docker/config.json")


def _podman(lading: Any) -> Path:
    return Path(lading.environment["XDG_RUNTIME_DIR"], "containers/auth.json")


def _login(lading: Any, host: str, *, code: int = 0, password: str = PASSWORD, **more: Any) -> Any:
    return lading("login", host, "-u", USER, "--password-stdin", stdin=f"{password}\n", code=code, **more)


@pytest.fixture
def tool(lading: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run another program as the same user, whose runtime folder is there as on any system."""
    # The system makes this folder, not those who use it.
    Path(lading.environment["XDG_RUNTIME_DIR"]).mkdir(mode=0o700)

    def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        return subprocess.run(
            command,
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
            env=lading.environment,
            cwd=lading.folder,
            timeout=60,
        )

    return run


def _push(lading: Any, story: Path, host: str) -> str:
    reference = f"{host}/auth/{os.urandom(6).hex()}:1"
    lading("pack", story, "-t", reference)
    return reference


def test_skopeo_uses_the_login_that_lading_wrote(lading: Any, story: Path, login_registry: Any, tool: Any) -> None:
    host = login_registry.host
    reference = _push(lading, story, host)
    place = f"docker://{reference}"
    done = _login(lading, host)
    assert done.stdout == f"logged in  {host} as {USER}   kept in {_docker(lading)}\n"
    lading("push", reference)
    assert tool("skopeo", "login", "--get-login", host).stdout == f"{USER}\n"
    seen = tool("skopeo", "inspect", "--raw", "--tls-verify=false", place)
    assert seen.returncode == 0, seen.stderr
    assert lading("logout", host).stdout == f"logged out  {host}   removed from {_docker(lading)}\n"
    refused = tool("skopeo", "inspect", "--raw", "--tls-verify=false", place)
    assert refused.returncode != 0
    assert "authentication required" in refused.stderr
    lading("push", reference, code=4)


def test_lading_uses_the_login_that_skopeo_wrote(lading: Any, story: Path, login_registry: Any, tool: Any) -> None:
    host = login_registry.host
    reference = _push(lading, story, host)
    lading("push", reference, code=4)
    command = ("skopeo", "login", "--tls-verify=false", host, "-u", USER, "--password-stdin")
    assert tool(*command, stdin=PASSWORD).returncode == 0
    assert _podman(lading).is_file()
    lading("push", reference)
    assert tool("skopeo", "logout", host).returncode == 0
    lading("push", reference, code=4)


def test_a_login_goes_where_podman_keeps_its_own_if_it_does(lading: Any, login_registry: Any, tool: Any) -> None:
    host = login_registry.host
    tool("skopeo", "login", "--tls-verify=false", host, "-u", USER, "--password-stdin", stdin=PASSWORD)
    tool("skopeo", "logout", host)
    assert str(_podman(lading)) in _login(lading, host).stdout
    assert not _docker(lading).exists()
    assert tool("skopeo", "login", "--get-login", host).stdout == f"{USER}\n"
    lading("logout", host)
    assert tool("skopeo", "login", "--get-login", host).returncode != 0


def test_docker_and_lading_read_and_forget_each_others_logins(
    lading: Any, story: Path, login_registry: Any, tool: Any
) -> None:
    host = login_registry.host
    reference = _push(lading, story, host)
    done = tool("docker", "login", host, "-u", USER, "--password-stdin", stdin=PASSWORD)
    assert done.returncode == 0, done.stderr
    lading("push", reference)
    assert str(_docker(lading)) in lading("logout", host).stdout
    lading("push", reference, code=4)
    _login(lading, host)
    lading("push", reference)
    assert tool("docker", "logout", host).returncode == 0
    lading("push", reference, code=4)


def test_the_file_is_private_and_all_else_in_it_is_kept(lading: Any, login_registry: Any) -> None:
    kept = {"auths": {"other.io": {"auth": "YTpi"}}, "HttpHeaders": {"X": "y"}, "psFormat": "table {{.ID}}"}
    _docker(lading).parent.mkdir()
    _docker(lading).write_text(json.dumps(kept))
    _docker(lading).chmod(0o644)
    _login(lading, login_registry.host)
    assert stat.S_IMODE(_docker(lading).stat().st_mode) == 0o600
    tree = json.loads(_docker(lading).read_text())
    assert tree.pop("auths").keys() == {"other.io", login_registry.host}
    assert tree == {"HttpHeaders": {"X": "y"}, "psFormat": "table {{.ID}}"}
    lading("logout", login_registry.host)
    assert json.loads(_docker(lading).read_text()) == kept


KEYS = """#!/bin/sh
# A credential helper whose keychain is a folder.
keys="$HOME/keys"; mkdir -p "$keys"
case "$1" in
  get) read -r host; cat "$keys/$host" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
  store) document=$(cat); host=$(printf %s "$document" | sed 's/.*"ServerURL": *"\\([^"]*\\)".*/\\1/')
         printf %s "$document" > "$keys/$host" ;;
  erase) read -r host; rm "$keys/$host" ;;
esac
"""


@pytest.mark.parametrize("by", ["credsStore", "credHelpers"])
def test_a_helper_keeps_the_login_and_the_file_no_secret(
    lading: Any, story: Path, login_registry: Any, tool: Any, by: str
) -> None:
    host = login_registry.host
    programs = Path(lading.folder, "bin")
    programs.mkdir()
    program = programs / "docker-credential-keys"
    program.write_text(KEYS)
    program.chmod(0o755)
    lading.environment["PATH"] = f"{programs}:{lading.environment['PATH']}"
    _docker(lading).parent.mkdir()
    old = {host: {"auth": "b2xkOnNlY3JldA=="}}
    _docker(lading).write_text(json.dumps({"auths": old, by: "keys" if by == "credsStore" else {host: "keys"}}))
    assert "docker-credential-keys" in _login(lading, host).stdout
    assert json.loads(_docker(lading).read_text())["auths"] == {host: {}}
    reference = _push(lading, story, host)
    lading("push", reference)
    if by == "credHelpers":
        assert tool("skopeo", "login", "--get-login", host).stdout == f"{USER}\n"
    lading("logout", host)
    assert list(Path(lading.folder, "keys").iterdir()) == []
    lading("push", reference, code=4)


def test_a_refused_login_is_not_kept_nor_shown(lading: Any, login_registry: Any) -> None:
    done = _login(lading, login_registry.host, password=CANARY, code=4)
    assert done.stderr.startswith(f"error: {login_registry.host} refuses the login of `{USER}` (401)")
    assert CANARY not in done.stdout + done.stderr
    assert not _docker(lading).exists()
    assert not _podman(lading).exists()


def test_a_password_is_checked_against_a_registry_with_tls(lading: Any, tls_registry: Any) -> None:
    more = {"SSL_CERT_FILE": str(tls_registry.ca_file)}
    _login(lading, tls_registry.host, password=CANARY, code=4, more=more)
    _login(lading, tls_registry.host, more=more)
    # Without trust nothing is sent, and nothing kept.
    lading("logout", tls_registry.host)
    _login(lading, tls_registry.host, code=5)
    assert json.loads(_docker(lading).read_text()) == {"auths": {}}


def test_a_registry_that_asks_for_no_login_is_said_to(lading: Any, plain_registry: Any) -> None:
    done = _login(lading, plain_registry.host)
    assert done.stderr == f"{plain_registry.host} asks for no login; the credentials are kept unchecked\n"


def test_what_is_no_password_is_refused(lading: Any, login_registry: Any) -> None:
    for stdin in ("", "\n", "a\0b\n", "x" * 100_000):
        refused = lading("login", login_registry.host, "-u", USER, "--password-stdin", stdin=stdin, code=2)
        assert "password" in refused.stderr
    command = [sys.executable, "-m", "lading", "login", login_registry.host, "-u", USER, "--password-stdin"]
    done = subprocess.run(command, input=b"\xff\xfe\n", capture_output=True, env=lading.environment, check=False)
    assert done.returncode == 2
    assert b"no password" in done.stderr


def test_a_password_is_never_taken_from_the_command_line(lading: Any, login_registry: Any) -> None:
    for flag in ("-p", "--password"):
        done = lading("login", login_registry.host, "-u", USER, flag, CANARY, code=2)
        assert "No such option" in done.stderr
        assert CANARY not in done.stderr
    assert "--password-stdin" in lading("login", login_registry.host, code=2).stderr


def test_a_terminal_is_asked_and_shows_no_password(lading: Any, login_registry: Any) -> None:
    host = login_registry.host
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-m", "lading", "login", host], lading.environment)
    try:
        seen = _until(terminal, b"Username: ")
        os.write(terminal, f"{USER}\n".encode())
        seen += _until(terminal, b"Password: ")
        os.write(terminal, f"{PASSWORD}\n".encode())
        seen += _until(terminal, b"kept in")
    finally:
        if os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.5)
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        os.close(terminal)
    assert PASSWORD.encode() not in seen
    assert host in json.loads(_docker(lading).read_text())["auths"]


def _until(terminal: int, words: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 30
    while words not in seen:
        ready, _w, _x = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            piece = b""
        assert piece, seen
        seen += piece
    return seen
