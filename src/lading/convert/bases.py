"""An image to put a model upon: its layers stay, ours come on top, and a container of it starts as one of the base does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from lading import media
from lading.artifact.format import decode_config
from lading.convert.found import read_small
from lading.convert.overlay import Elsewhere
from lading.errors import FormatError, NotFoundError
from lading.manifest import Manifest, Platform
from lading.plan import is_for, shown_platform, single_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.content import Source
    from lading.convert.overlay import Overlay
    from lading.manifest import Document

_CONFIGS = (media.OCI_CONFIG, "application/vnd.docker.container.image.v1+json")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Base:
    """A base image at `source`: what a name stands for there."""

    name: str
    source: Source
    document: Document

    def platforms(self, wanted: Sequence[Platform]) -> tuple[Platform, ...]:
        """Return those of the platforms that the base is for, its own if it is for one alone; NotFoundError for none."""
        if isinstance(self.document, Manifest):
            there = [self._own(self.document)]
            if len(wanted) > 1:
                return (there[0],)
        else:
            there = [entry.platform for entry in self.document.manifests if entry.platform]
        found = tuple(platform for platform in wanted if any(is_for(one, platform) for one in there))
        if not found:
            msg = f"the base {self.name} has nothing for {' or '.join(map(shown_platform, wanted))}"
            raise NotFoundError(msg, hint=f"it has {', '.join(map(shown_platform, there[:_SHOWN])) or 'no platforms'}")
        return found

    def image(self, platform: Platform, overlay: Overlay) -> tuple[Manifest, bytes]:
        """Return the base's manifest and config for a platform; `overlay` gives its layers from then on."""
        manifest = single_manifest(self.document, self.source.document, self.name, platform)
        config = self._config(manifest)
        for blob in manifest.layers:
            overlay.add(blob.digest, Elsewhere(blob, self.source))
        return manifest, config

    def _own(self, manifest: Manifest) -> Platform:
        said = decode_config(self._config(manifest), _Platformed, f"base image ({self.name})")
        return Platform(architecture=said.architecture, os=said.os, variant=said.variant)

    def _config(self, manifest: Manifest) -> bytes:
        if manifest.config.media_type not in _CONFIGS:
            msg = f"the base {self.name} is no image: its config has the type {manifest.config.media_type[:80]}"
            raise FormatError(msg, hint="a base is a container image, such as docker.io/library/busybox")
        return read_small(manifest.config, self.source)


class _Platformed(msgspec.Struct, frozen=True, kw_only=True):
    architecture: str
    os: str
    variant: str | None = None
