"""A small model as a registry would serve it in Docker's format, any field of which can be made a lie."""

from __future__ import annotations

from typing import Any

from made_weights import gguf

from lading.digest import Digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = b'{"config":{"format":"gguf"},"descriptor":{},"rootfs":{"type":"rootfs","diff_ids":[]}}'
WEIGHTS = gguf({"general.architecture": "llama", "general.name": "Small"}, [("a", 64)])


def described(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


def manifest(**changed: Any) -> dict[str, Any]:
    """Return the manifest of a small model in Docker's format, with some of its fields changed."""
    layer = described(
        WEIGHTS, "application/vnd.docker.ai.gguf.v3", annotations={"org.cncf.model.filepath": "small.gguf"}
    )
    config = described(CONFIG, "application/vnd.docker.ai.model.config.v0.1+json")
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], **changed}
