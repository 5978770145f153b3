"""What refers to a manifest (distribution-spec, "Listing Referrers"): the registry's API, or the index under a tag.

A registry without the API keeps nothing about a manifest's `subject`; there the clients keep a list themselves, an
index under the tag `<algorithm>-<hex>` of the subject ("Referrers Tag Schema").
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lading import media
from lading.errors import FormatError, LadingError, NetworkError
from lading.manifest import MAX_DOCUMENT, Descriptor, Index, Manifest, encode, parse_document
from lading.transport.repository import PUSH
from lading.transport.tags import next_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lading.digest import Digest
    from lading.manifest import Document
    from lading.transport.repository import Repository

_OK, _CREATED = 200, 201
_BAD_REQUEST, _NOT_FOUND, _CHANGED_MEANWHILE = 400, 404, 412
# Beside 404: what registries say at paths that they do not know.
_NO_API = (_BAD_REQUEST, _NOT_FOUND, 405, 406, 501)
_MAX_PAGES = 100
_TRIES = 4
_ALGORITHM_LENGTH, _HEX_LENGTH = 32, 64

_ACCEPT = {"Accept": media.OCI_INDEX}

_Entry = dict[str, Any]


class Referrers:
    """The manifests of one repository that name another as their subject."""

    def __init__(self, repository: Repository) -> None:
        self._at = repository

    def find(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """Return the descriptors of what refers to `subject`, each once, in the registry's order; none is no error."""
        asked = self._ask(subject, artifact_type)
        found = self._kept(subject)[0] if asked is None else asked
        distinct = {one.digest: one for one in found if artifact_type in (None, one.artifact_type)}
        return tuple(distinct.values())

    def add(self, document: Document) -> None:
        """Write a manifest that has a subject into the list under the subject's tag, unless it is there."""
        new: _Entry = json.loads(encode(entry(document)))

        def added(entries: list[_Entry]) -> list[_Entry]:
            return entries if any(one["digest"] == new["digest"] for one in entries) else [*entries, new]

        self._change(document, added)

    def remove(self, document: Document) -> None:
        """Take a deleted manifest out of the list under its subject's tag, where there is such a list."""
        if document.subject is not None and self._ask(document.subject.digest, None) is None:
            self._change(document, lambda entries: [one for one in entries if one["digest"] != document.digest])

    def _ask(self, subject: Digest, artifact_type: str | None) -> Sequence[Descriptor] | None:
        """Return what the registry's API lists; None where it has none."""
        url = f"/v2/{self._at.repository}/referrers/{subject}"
        if artifact_type is not None:
            url += f"?artifactType={quote(artifact_type, safe='')}"
        found: list[Descriptor] = []
        for page in range(_MAX_PAGES):
            with self._at.send("GET", url, headers=_ACCEPT) as response:
                if not page and (response.status in _NO_API or (response.status == _OK and response.is_page)):
                    return None
                if response.status != _OK:
                    raise self._at.refused(response, f"what refers to {subject.short}")
                found += self._index(response.read(MAX_DOCUMENT), subject).manifests
                following = next_page(response.all("Link"), response.url)
            if following is None:
                return found
            url = following
        msg = f"{self._at.host} lists what refers to {subject.short} without end"
        raise NetworkError(msg)

    def _kept(self, subject: Digest) -> tuple[tuple[Descriptor, ...], bytes | None, str | None]:
        """Return what the index under the subject's tag lists, its bytes and its ETag; nothing where there is none."""
        with self._at.send("GET", self._list_path(subject), headers=_ACCEPT) as response:
            if response.status == _NOT_FOUND:
                return (), None, None
            if response.status != _OK:
                raise self._at.refused(response, f"the list of what refers to {subject.short}")
            raw, tag = response.read(MAX_DOCUMENT), response.headers.get("ETag")
        return self._index(raw, subject).manifests, raw, tag

    def _change(self, document: Document, change: Callable[[list[_Entry]], list[_Entry]]) -> None:
        assert document.subject is not None  # noqa: S101 - callers looked
        subject = document.subject.digest
        for _try in range(_TRIES):
            _descriptors, raw, tag = self._kept(subject)
            tree: _Entry = (
                json.loads(raw) if raw else {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": []}
            )
            entries = change(tree["manifests"])
            if entries == tree["manifests"]:
                # The second time round it proves that nobody who had read before wrote after us.
                return
            self._write(subject, {**tree, "manifests": entries}, tag)
        msg = f"others keep overwriting the list of what refers to {subject.short} in `{self._at.repository}`"
        raise NetworkError(msg, hint="repeat the command when they are done")

    def _write(self, subject: Digest, tree: _Entry, tag: str | None) -> None:
        status = self._put(subject, tree, tag)
        if status == _BAD_REQUEST:
            # What was deleted without being taken out of the list makes a strict registry refuse all of it.
            there = [one for one in tree["manifests"] if self._exists(one["digest"])]
            status = self._put(subject, {**tree, "manifests": there}, tag)
        if status == _BAD_REQUEST:
            msg = f"{self._at.host} refuses the list of what refers to {subject.short}"
            raise LadingError(msg, hint="the manifest itself was pushed; it is found by its digest only")

    def _put(self, subject: Digest, tree: _Entry, tag: str | None) -> int:
        headers = {"Content-Type": media.OCI_INDEX, **({"If-Match": tag} if tag else {})}
        body = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
        with self._at.send(
            "PUT", self._list_path(subject), headers=headers, body=body, again=True, actions=PUSH
        ) as response:
            if response.status not in (_CREATED, _BAD_REQUEST, _CHANGED_MEANWHILE):
                raise self._at.refused(response, f"the list of what refers to {subject.short}")
            return response.status

    def _exists(self, digest: str) -> bool:
        accept = {"Accept": ", ".join(media.MANIFEST_TYPES)}
        path = f"/v2/{self._at.repository}/manifests/{digest}"
        with self._at.send("HEAD", path, headers=accept) as response:
            return response.status != _NOT_FOUND

    def _list_path(self, subject: Digest) -> str:
        return f"/v2/{self._at.repository}/manifests/{list_tag(subject)}"

    def _index(self, raw: bytes, subject: Digest) -> Index:
        name = f"the list of what refers to {subject.short} at {self._at.host}"
        document = parse_document(raw, name=name)
        if not isinstance(document, Index):
            msg = f"{name} is a manifest, not an index"
            raise FormatError(msg, hint=f"something else has the tag {list_tag(subject)}")
        return document


def list_tag(subject: Digest) -> str:
    """Return the tag under which the referrers of a digest are listed where there is no API."""
    return f"{subject.algorithm[:_ALGORITHM_LENGTH]}-{subject.hex[:_HEX_LENGTH]}"


def entry(document: Document) -> Descriptor:
    """Describe a manifest as a list of referrers does: with its type, or its config's, and its annotations."""
    kind = document.artifact_type
    if kind is None and isinstance(document, Manifest):
        kind = document.config.media_type
    return Descriptor(
        media_type=document.media_type,
        digest=document.digest,
        size=len(document.raw),
        artifact_type=kind,
        annotations=dict(document.annotations),
    )
