"""What the machine can do at best, one part at a time, in a process of its own.

limit.py receive HOST PATH | send HOST FILE DIGEST | sha256 BYTES | write FILE BYTES. Run bare (`python -S -I`): each
part does nothing else, in blocks of a size that is fast here.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import socket
import sys

BLOCK = 1024 * 1024


def receive(host: str, path: str) -> None:
    """Ask for a file and drop its bytes as they come."""
    name, _, port = host.partition(":")
    buffer = memoryview(bytearray(BLOCK))
    with socket.create_connection((name, int(port))) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        count = connection.recv_into(buffer)
        if b" 200 " not in bytes(buffer[:count]).partition(b"\r\n")[0]:
            sys.exit(f"{host} did not send {path}")
        while connection.recv_into(buffer):
            pass


def send(host: str, path: str, digest: str) -> None:
    """Push a file as a blob by a single PUT, its bytes by the kernel alone."""
    import http.client  # noqa: PLC0415 - the other parts start without it
    from urllib.parse import urlsplit  # noqa: PLC0415 - as above

    opening = http.client.HTTPConnection(host)
    opening.request("POST", "/v2/bench/bare/blobs/uploads/")
    parts = urlsplit(opening.getresponse().headers["Location"])
    name, _, port = host.partition(":")
    with open(path, "rb") as file, socket.create_connection((name, int(port))) as line:  # noqa: PTH123 - loads little
        head = f"PUT {parts.path}?{parts.query}&digest={digest} HTTP/1.1\r\nHost: {host}\r\n"
        line.sendall(f"{head}Content-Length: {os.fstat(file.fileno()).st_size}\r\n\r\n".encode())
        line.sendfile(file)
        answer = http.client.HTTPResponse(line)
        answer.begin()
        if answer.status != http.HTTPStatus.CREATED:
            sys.exit(f"{host} answered {answer.status}")


def sha256(size: int) -> None:
    """Hash as many bytes, in one thread: a digest cannot be split."""
    block = memoryview(os.urandom(BLOCK))
    digest = hashlib.sha256()
    for _ in range(size // BLOCK):
        digest.update(block)


def write(name: str, size: int) -> None:
    """Write as many bytes past the page cache and sync them."""
    block = mmap.mmap(-1, BLOCK)
    block.write(os.urandom(BLOCK))
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT)
    for _ in range(size // BLOCK):
        os.write(descriptor, block)
    os.fsync(descriptor)
    os.close(descriptor)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["receive", host, path]:
            receive(host, path)
        case ["send", host, path, digest]:
            send(host, path, digest)
        case ["sha256", size]:
            sha256(int(size))
        case ["write", name, size]:
            write(name, int(size))
        case _:
            sys.exit(__doc__)
