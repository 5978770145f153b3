"""What is known of public registries: how large a layer may be, and whether a blob may come in chunks.

Nobody tells these over the protocol. A registry that is not in the table is taken to keep to the specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lading import copy, text

if TYPE_CHECKING:
    from lading.manifest import Descriptor

_GB, _MIB, _GIB = 10**9, 2**20, 2**30


@dataclass(frozen=True, slots=True)
class Habits:
    """A row of the table.

    `hosts` is a shell pattern of the registry's name. `largest` is the most bytes that it documents for a layer, None
    where it documents none. `chunks` says whether PATCH works as the specification has it. `source` is where it stands.
    """

    hosts: str
    largest: int | None = None
    chunks: bool = True
    source: str = ""


_GITHUB = (
    "https://docs.github.com/en/packages/working-with-a-github-packages-registry/working-with-the-container-registry"
)
_ECR = "https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html"
_ECR_PUBLIC = "https://docs.aws.amazon.com/AmazonECR/latest/public/public-service-quotas.html"
_AZURE = "https://learn.microsoft.com/en-us/azure/container-registry/container-registry-skus"
_CHUNKS = "https://github.com/kitops-ml/kitops, pkg/lib/repo/remote: which registries break on PATCH, by experience"

KNOWN = (
    # A PATCH of more than 4 MiB is answered with 416.
    Habits("ghcr.io", 10 * _GB, chunks=False, source=_GITHUB),
    # 201 comes after the first chunk.
    Habits("*.dkr.ecr.*.amazonaws.com", 52_000 * _MIB, chunks=False, source=_ECR),
    Habits("*.dkr.ecr.*.amazonaws.com.cn", 52_000 * _MIB, chunks=False, source=_ECR),
    Habits("public.ecr.aws", 10_000 * _MIB, source=_ECR_PUBLIC),
    Habits("*.azurecr.io", 200 * _GIB, source=_AZURE),
    Habits("*.pkg.dev", chunks=False, source=_CHUNKS),
    Habits("gcr.io", chunks=False, source=_CHUNKS),
    Habits("*.gcr.io", chunks=False, source=_CHUNKS),
)


def habits_of(host: str) -> Habits:
    """Return what is known of the registry at `host`."""
    return next((one for one in KNOWN if fnmatchcase(host.lower(), one.hosts)), Habits(host))


def too_large(blob: Descriptor, largest: int, host: str) -> str:
    """Return a sentence about a blob of more than the `largest` bytes that the registry at `host` documents."""
    name = text.clean(copy.name(blob))
    return f"{name} has {text.size(blob.size)}; {host} documents {text.size(largest)} as the most for a layer"
