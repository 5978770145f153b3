"""Media types and annotation keys that belong to no single format."""

from __future__ import annotations

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST)
"""What a registry client asks for (distribution-spec, "Pulling manifests")."""

REF_NAME = "org.opencontainers.image.ref.name"
TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
REVISION = "org.opencontainers.image.revision"

# ModelPack's keys for a layer's file; Docker Model Runner writes and reads them too.
FILE_PATH = "org.cncf.model.filepath"
FILE_METADATA = "org.cncf.model.file.metadata+json"
FILE_TYPE_UNTESTED = "org.cncf.model.file.mediatype.untested"

# Ours, in index.json and in manifests where nobody else has a key.
SOURCE = "io.lading.source"
REFERENCE = "io.lading.reference"
PULLED = "io.lading.pulled"
PACKED = "io.lading.packed"
INDEX = "io.lading.index"
"""On a name in the store: the digest of the index from which this model was chosen, with nothing asked for."""

FORM = "io.lading.form"
"""On an entry of an index that holds one model in several formats: which of them the entry is."""
