"""Any artifact, right or wrong, put into a real registry over plain HTTP."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from lading.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def described(data: bytes, media_type: str, annotations: Mapping[str, str] | None = None) -> dict[str, object]:
    """Return the descriptor of bytes as JSON has it."""
    more = {"annotations": dict(annotations)} if annotations else {}
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


def push_artifact(
    place: str,
    config: tuple[bytes, str],
    layers: Sequence[tuple[bytes, str] | tuple[bytes, str, Mapping[str, str]]],
    *,
    artifact_type: str | None = None,
) -> str:
    """Put config and layers (bytes, media type, annotations) to `host:port/repository:tag`; return the manifest's digest."""
    host, _, rest = place.partition("/")
    repository, _, tag = rest.rpartition(":")
    connection = HTTPConnection(host, timeout=20)

    def put(url: str, data: bytes, media_type: str) -> None:
        connection.request("PUT", url, body=data, headers={"Content-Type": media_type})
        done = connection.getresponse()
        said = done.read()
        assert done.status == 201, said

    for data, *_kind in (config, *layers):
        connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
        begun = connection.getresponse()
        begun.read()
        put(f"{begun.headers['Location']}&digest={Digest.of(data)}", data, "application/octet-stream")
    tree: dict[str, object] = {"schemaVersion": 2, "mediaType": MANIFEST}
    if artifact_type:
        tree["artifactType"] = artifact_type
    tree["config"] = described(*config)
    tree["layers"] = [described(*layer) for layer in layers]
    manifest = json.dumps(tree).encode()
    put(f"/v2/{repository}/manifests/{tag}", manifest, MANIFEST)
    connection.close()
    return str(Digest.of(manifest))
