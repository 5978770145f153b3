"""`--checksum`: a file is held to what its publisher says that it hashes to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lading import fs
from lading.errors import IntegrityError
from lading.store.hashing import hash_file

if TYPE_CHECKING:
    from lading.build.bench import Bench
    from lading.build.outcome import Held
    from lading.digest import Digest


def check_sum(held: Held, checksum: Digest, name: str, bench: Bench) -> None:
    """Hold a file to a checksum of any algorithm; raises IntegrityError."""
    found = held.digest
    if checksum.algorithm != found.algorithm:
        descriptor = bench.store.blobs.open_file(held.digest, held.size)
        try:
            with fs.os_errors(name):
                found, _size = hash_file(descriptor, checksum.algorithm)
        finally:
            os.close(descriptor)
    if found != checksum:
        msg = f"{name} is not what its checksum says: it is {found}"
        raise IntegrityError(msg, hint="nothing of it was cached; ask whoever published the checksum")
