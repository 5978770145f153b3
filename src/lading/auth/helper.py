"""Programs that keep credentials: `docker-credential-NAME get|store|erase`."""

from __future__ import annotations

import json
import re
import selectors
import shutil
import subprocess
import time

from lading.errors import AccessDeniedError, LadingError, PolicyError

TIME_LIMIT = 10.0
"""Seconds that a helper may take; it may ask the user to unlock a keychain."""

_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_OUTPUT_LIMIT = 64 * 1024
# The protocol has no other sign for a miss than this text (docker-credential-helpers, credentials/error.go).
_MISS = ("credentials not found", "no credentials server URL", "no credentials username")


def get(program: str, server: str, *, limit: float = TIME_LIMIT) -> tuple[str, str] | None:
    """Return (user name, secret) for a server, or None if the helper has none."""
    code, output = _run(program, "get", server, limit)
    text = output.decode("utf-8", "replace")
    if code != 0:
        if any(miss in text for miss in _MISS):
            return None
        msg = f"docker-credential-{program} failed for {server} (exit {code})"
        raise AccessDeniedError(msg, hint=f"try: echo {server} | docker-credential-{program} get")
    try:
        tree = json.loads(text)
        username, secret = tree["Username"], tree["Secret"]
    except (ValueError, LookupError, TypeError, RecursionError):
        username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str):
        msg = f"docker-credential-{program} answered for {server} with something else than a login"
        raise LadingError(msg) from None
    return (username, secret) if secret else None


def store(program: str, server: str, username: str, secret: str, *, limit: float = TIME_LIMIT) -> None:
    """Give a login to the helper."""
    document = json.dumps({"ServerURL": server, "Username": username, "Secret": secret})
    code, _output = _run(program, "store", document, limit)
    if code != 0:
        msg = f"docker-credential-{program} did not keep the login for {server} (exit {code})"
        raise LadingError(msg)


def erase(program: str, server: str, *, limit: float = TIME_LIMIT) -> None:
    """Let the helper forget a login."""
    code, _output = _run(program, "erase", server, limit)
    if code != 0:
        msg = f"docker-credential-{program} did not forget the login for {server} (exit {code})"
        raise LadingError(msg)


def _run(program: str, verb: str, text: str, limit: float) -> tuple[int, bytes]:
    if _NAME.fullmatch(program) is None:
        msg = f"{program[:40]!r} is no name of a credential helper"
        raise PolicyError(msg, hint="letters, digits, `-` and `_`; see credsStore and credHelpers in the auth file")
    if any(char in text for char in "\r\n\0"):
        msg = "a registry's name with a line break is not given to a credential helper"
        raise PolicyError(msg)
    name = f"docker-credential-{program}"
    path = shutil.which(name)
    if path is None:
        msg = f"the credential helper {name} is not on PATH"
        raise LadingError(msg, hint="install it, or take credsStore and credHelpers out of the auth file")
    try:
        process = subprocess.Popen(  # noqa: S603 - a full path and a fixed verb; the rest goes through stdin
            [path, verb], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        msg = f"the credential helper {name} cannot be started: {error.strerror}"
        raise LadingError(msg) from error
    with process:
        try:
            return _talk(process, name, text.encode(), time.monotonic() + limit)
        finally:
            process.kill()


def _talk(process: subprocess.Popen[bytes], name: str, text: bytes, deadline: float) -> tuple[int, bytes]:
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101 - both are pipes
    try:
        process.stdin.write(text)
        process.stdin.close()
    except BrokenPipeError:
        pass
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            piece = process.stdout.read1(8192)  # type: ignore[attr-defined] # typeshed: IO has no read1
            output += piece
            if not piece:
                break
            if len(output) > _OUTPUT_LIMIT:
                msg = f"the credential helper {name} answers without end"
                raise LadingError(msg)
    try:
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        msg = f"the credential helper {name} does not answer"
        raise LadingError(msg, hint="it may be waiting for a keychain to be unlocked") from error
    return code, output
