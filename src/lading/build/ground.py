"""The ground that a stage builds on: an image, and what is in it of a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lading.artifact.changesets import files_in_image
from lading.artifact.image import read_run
from lading.artifact.image_layers import FOLDER, archives_of, name_of, said_file
from lading.artifact.layers import list_archives, part_of
from lading.model import Part, role_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lading.artifact.image import Run
    from lading.artifact.layers import Listing
    from lading.artifact.packer import PackedFile
    from lading.content import Source
    from lading.manifest import Manifest


@dataclass(frozen=True)
class Ground:
    """A base image for one platform, whose layers are read from `source` when something in them is asked for."""

    manifest: Manifest
    config: bytes
    source: Source

    @cached_property
    def run(self) -> Run:
        """What its config says of a model."""
        return read_run(self.config)

    @cached_property
    def packed(self) -> dict[str, PackedFile]:
        """The files that its config describes, by their paths from its root."""
        return {file.path: file for file in self.run.files}

    @cached_property
    def labels(self) -> dict[str, str]:
        """All its labels."""
        return self.run.labels or {}

    def ours(self) -> tuple[str, ...]:
        """Return the paths of the files that its layers say they hold."""
        said = (said_file(blob) for blob in self.manifest.layers)
        return tuple(file.path for file in said if file)

    def find(self, paths: Iterable[str] = ()) -> dict[str, Part]:
        """Return the files at and under some paths, else all that may be a model's, by path; all layers are looked into."""
        roots = tuple(paths) or (FOLDER.rstrip("/"), *self.ours())
        found = files_in_image(archives_of(self.manifest, self.config), self._listing, roots)
        parts = {}
        for path, (archive, entry) in found.items():
            said = said_file(archive.blob)
            digest = said.digest if said and said.path == path else None
            parts[path] = part_of(archive, entry, role_of(path), name_of(path), digest)
        return parts

    @cached_property
    def _listing(self) -> Listing:
        return list_archives(archives_of(self.manifest, self.config), self.source)
