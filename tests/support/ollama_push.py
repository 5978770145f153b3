"""Models with Ollama's media types in a real registry, put there as their client does."""

from __future__ import annotations

import hashlib
import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from real_registry import RegistryProcess

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def push_ollama(registry: RegistryProcess, repository: str, tag: str, weights: bytes) -> str:
    """Put a model with its template, parameters and licence there and return the manifest's digest."""
    connection = HTTPConnection(registry.host)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
        begun = connection.getresponse()
        begun.read()
        connection.request("PUT", f"{begun.headers['Location']}&digest={digest}", body=data)
        done = connection.getresponse()
        done.read()
        assert done.status == 201
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    kind = "application/vnd.ollama.image."
    config = {"model_format": "gguf", "model_family": "llama", "model_type": "1.4M", "file_type": "F16"}
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": put(json.dumps(config).encode(), "application/vnd.docker.container.image.v1+json"),
        "layers": [
            put(weights, f"{kind}model"),
            put(b"{{ .Prompt }}", f"{kind}template"),
            put(b'{"temperature": 0.7, "num_ctx": 256, "num_gpu": 99}', f"{kind}params"),
            put(b"CC0", f"{kind}license"),
        ],
    }
    raw = json.dumps(manifest).encode()
    connection.request("PUT", f"/v2/{repository}/manifests/{tag}", body=raw, headers={"Content-Type": DOCKER_MANIFEST})
    done = connection.getresponse()
    done.read()
    assert done.status == 201
    connection.close()
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
