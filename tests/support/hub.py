"""A model hub on loopback that speaks Hugging Face's Hub API and ModelScope's, over repositories that tests make.

Two origins: the hub, and the storage that it redirects to for the content of large files, with addresses that are
signed. It counts what it was asked and how many bytes it sent, and keeps each request's headers. The real clients
(`huggingface_hub`, `modelscope`) download from it in tests/transport, so that it is known to answer as hubs do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LARGE = (".gguf", ".safetensors", ".bin", ".model")
"""Suffixes of files that the hub keeps outside of git, as .gitattributes of real repositories say."""

_BLOCK = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Asked:
    """One request: the method, the target with its query, and the headers."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)


@dataclass
class Content:
    """A file's bytes, in memory or on disk."""

    data: bytes | Path

    @cached_property
    def size(self) -> int:
        return self.data.stat().st_size if isinstance(self.data, Path) else len(self.data)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for block in self.blocks(0, self.size):
            digest.update(block)
        return digest.hexdigest()

    @cached_property
    def git_sha1(self) -> str:
        digest = hashlib.sha1(b"blob %d\0" % self.size)
        for block in self.blocks(0, self.size):
            digest.update(block)
        return digest.hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git holds in place of a large file."""
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
        return text.encode()

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        if isinstance(self.data, bytes):
            yield self.data[start:end]
            return
        with self.data.open("rb") as file:
            file.seek(start)
            while start < end and (block := file.read(min(_BLOCK, end - start))):
                start += len(block)
                yield block


@dataclass
class Repository:
    """A repository: commits (name to files), and branches and tags (name to commit).

    `xet` are files that the hub says lie in Xet; those in `xet_only` have no plain form: "refused" by the storage
    with 400, or "empty" from the hub itself. `listed` replaces paths in listings, as a hostile hub would.
    """

    name: str
    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    xet: set[str] = field(default_factory=set)
    xet_only: dict[str, str] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes | Path], *, branch: str = "main") -> str:
        """Make a commit of these files alone, and let the branch (ModelScope's `master` too) point at it."""
        contents = {path: Content(data) for path, data in files.items()}
        parent = self.refs.get(branch, "")
        tree = "".join(f"{path} {content.git_sha1}\n" for path, content in sorted(contents.items()))
        name = hashlib.sha1(f"{self.name} {parent}\n{tree}".encode()).hexdigest()
        self.commits[name] = contents
        self.refs[branch] = name
        if branch == "main":
            self.refs["master"] = name
        return name

    def at(self, revision: str) -> tuple[str, dict[str, Content]] | None:
        commit = self.refs.get(revision, revision)
        files = self.commits.get(commit)
        return None if files is None else (commit, files)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    hub: LoopbackHub
    is_storage = False

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = Asked(self.command, self.path, dict(self.headers.items()))
        (self.hub.storage_asked if self.is_storage else self.hub.asked).append(asked)
        time.sleep(self.hub.delay)
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if self.is_storage:
            self._storage(parts.path, query)
        elif self.hub.limited:
            self.hub.limited -= 1
            limit = {"RateLimit": '"api";r=0;t=55', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
            self.say(429, b"{}", {**limit, **self.hub.limit_headers})
        elif match := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/(repo/files|repo|revisions)", parts.path):
            self._modelscope(match[1], match[2], query)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(/.*)?", parts.path):
            self._api(match[1], match[2] or "revision", unquote(match[3] or "main"), query)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", parts.path):
            self._resolve(match[1], unquote(match[2]), unquote(match[3]))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/raw/([^/]+)/(.+)", parts.path):
            self._raw(match[1], unquote(match[2]), unquote(match[3]))
        else:
            self.say(404, b"{}")

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    # -- Hugging Face ---------------------------------------------------------

    def _find(self, name: str) -> Repository | None:
        """Return a repository that this request may see, else answer as the hub does."""
        repository = self.hub.repositories.get(name)
        token = self.headers.get("Authorization")
        right = token == f"Bearer {self.hub.token}"
        if token and not right:
            self.fail(401, "", "Invalid credentials in Authorization header")
        elif repository is None or (repository.private and not right):
            self.fail(404 if right else 401, "RepoNotFound", "Repository not found")
        else:
            return repository
        return None

    def _api(self, name: str, what: str, revision: str, query: Mapping[str, str]) -> None:
        repository = self._find(name)
        if repository is None:
            return
        found = repository.at(revision)
        if found is None:
            self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        commit, files = found
        if what == "revision":
            siblings = [{"rfilename": path} for path in files]
            info = {"_id": "0" * 24, "id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []}
            more = {"private": repository.private, "gated": "auto" if repository.gated else False, "downloads": 0}
            self.say_json({**info, **more})
            return
        entries = _tree(repository, files, recursive=query.get("recursive", "").lower() == "true")
        start = int(query.get("cursor", "0"))
        end = start + self.hub.page_size
        headers = {}
        if end < len(entries):
            base = self.hub.next_origin or self.hub.url
            path = f"/api/models/{name}/tree/{quote(revision, safe='')}"
            flags = "&".join(f"{key}={query[key]}" for key in ("recursive", "expand") if key in query)
            headers["Link"] = f'<{base}{path}?{flags}&cursor={end}>; rel="next"'
        self.say_json(entries[start:end], headers)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._find(name)
        if repository is None:
            return
        if repository.gated and name not in self.hub.granted:
            code = 403 if "Authorization" in self.headers else 401
            self.fail(code, "GatedRepo", "Access to this model is restricted")
            return
        found = repository.at(revision)
        if found is None:
            self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        commit, files = found
        content = files.get(path)
        told = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if content is None:
            self.fail(404, "EntryNotFound", "Entry not found", told)
            return
        told |= _xet_headers(self.hub.url, repository, path, content)
        if not path.endswith(LARGE):
            self.send_content(content, {**told, "ETag": f'"{content.git_sha1}"'})
            return
        etag = f'"{content.sha256}"'
        told |= {"ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": str(content.size)}
        if repository.xet_only.get(path) == "empty":
            self.say(200, b"", told)
            return
        self.say(302, b"", {**told, "Location": self.hub.sign(content, refused=path in repository.xet_only)})

    def _raw(self, name: str, revision: str, path: str) -> None:
        """Answer with what git holds of a file: of a large one its pointer, which RamaLama reads the sha256 from."""
        repository = self._find(name)
        if repository is None:
            return
        _commit, files = repository.at(revision) or ("", {})
        content = files.get(path)
        if content is None:
            self.fail(404, "EntryNotFound", "Entry not found")
        elif path.endswith(LARGE):
            self.say(200, content.pointer, {"Content-Type": "text/plain; charset=utf-8"})
        else:
            self.send_content(content, {"Content-Type": "text/plain; charset=utf-8"})

    # -- ModelScope -----------------------------------------------------------

    def _modelscope(self, name: str, what: str, query: Mapping[str, str]) -> None:
        repository = self.hub.repositories.get(name)
        right = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if repository is None or (repository.private and not right):
            status = 404 if repository is None else 403
            self.say_json({"Code": 10010205001, "Message": "not found", "Success": False}, status=status)
            return
        if what == "revisions":
            told = [{"Revision": ref, "CreatedAt": 0} for ref in repository.refs]
            self._answer({"RevisionMap": {"Branches": told, "Tags": []}})
            return
        found = repository.at(query.get("Revision", "master"))
        if found is None:
            self.say_json({"Code": 10010205002, "Message": "no such revision", "Success": False}, status=404)
            return
        commit, files = found
        if what == "repo/files":
            latest = {"Id": commit if self.hub.tells_commit else "", "ShortId": commit[:8], "CommitterName": "sam"}
            self._answer({"Files": list(_blobs(repository, commit, files)), "LatestCommitter": latest})
            return
        content = files.get(query.get("FilePath", ""))
        if content is None:
            self.say_json({"Code": 10010205003, "Message": "no such file", "Success": False}, status=404)
        elif query["FilePath"].endswith(LARGE):
            self.say(302, b"", {"Location": self.hub.sign(content, refused=False)})
        else:
            # Small files come from git, whole, whatever range is asked for.
            self.send_content(content, {}, ranges=False)

    def _answer(self, data: object) -> None:
        self.say_json({"Code": 200, "Data": data, "Message": "success", "RequestId": "1", "Success": True})

    # -- both -----------------------------------------------------------------

    def _storage(self, path: str, query: Mapping[str, str]) -> None:
        content = self.hub.contents.get(path.strip("/"))
        if query.get("signature") not in self.hub.signatures or content is None:
            self.say(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})
        elif query.get("refused"):
            self.say(400, b"Bad Request")
        else:
            told = {"ETag": f'"{content.sha256}"', "Accept-Ranges": "bytes"}
            if self.hub.tells_digest:
                digest = base64.b64encode(bytes.fromhex(content.sha256)).decode()
                told["Repr-Digest"] = f"sha-256=:{digest}:"
            self.send_content(content, told)

    def send_content(self, content: Content, headers: Mapping[str, str], *, ranges: bool = True) -> None:
        start, end, status = 0, content.size, 200
        more = {"Content-Type": "application/octet-stream", **headers}
        if ranges and (match := _RANGE.fullmatch(self.headers.get("Range", ""))):
            start = int(match[1])
            end = min(int(match[2]) + 1 if match[2] else content.size, content.size)
            if start >= content.size:
                self.say(416, b"", {"Content-Range": f"bytes */{content.size}"})
                return
            status = 206
            more["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
        self._head(status, end - start, more)
        if self.command == "HEAD":
            return
        name = urlsplit(self.path).path
        for block in content.blocks(start, end):
            self.wfile.write(block)
            with self.hub.lock:
                self.hub.sent[name] += len(block)

    def fail(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        told = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.say(status, json.dumps({"error": message}).encode(), {**told, **(headers or {})})

    def say_json(self, tree: object, headers: Mapping[str, str] | None = None, status: int = 200) -> None:
        self.say(status, json.dumps(tree).encode(), {"Content-Type": "application/json", **(headers or {})})

    def say(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, len(body), headers or {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing where a client hung up."""


class LoopbackHub:
    """The hub. `url` is its endpoint, `storage_url` the other origin; `stop` ends both.

    `asked` and `storage_asked` are the requests in their order, `sent` counts bytes of files by path.
    `limited` many requests are answered with 429 and `limit_headers`. `next_origin` is put before pages' addresses.
    Each answer waits for `delay` seconds. With `tells_digest` the storage tells a file's digest, as hubs do not, and some other servers do.
    """

    token = "hf_abcdefghijklmnopqrstuvwxyz"

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[Asked] = []
        self.storage_asked: list[Asked] = []
        self.sent: Counter[str] = Counter()
        self.contents: dict[str, Content] = {}
        self.signatures: set[str] = set()
        self.granted: set[str] = set()
        self.page_size = 1000
        self.limited = 0
        self.delay = 0.0
        self.limit_headers: dict[str, str] = {}
        self.next_origin = ""
        self.tells_commit = True
        self.tells_digest = False
        self.lock = threading.Lock()
        handlers: list[Any] = [
            type("Hub", (_Handler,), {"hub": self}),
            type("Storage", (_Handler,), {"hub": self, "is_storage": True}),
        ]
        self._servers = [_Server(("127.0.0.1", 0), handler) for handler in handlers]
        self.host, self.storage_host = (f"127.0.0.1:{server.server_port}" for server in self._servers)
        self.url, self.storage_url = f"http://{self.host}", f"http://{self.storage_host}"
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def add(self, name: str, files: Mapping[str, bytes | Path], **settings: Any) -> Repository:
        """Make a repository with one commit on its branch `main`."""
        repository = self.repositories[name] = Repository(name, **settings)
        repository.commit(files)
        return repository

    def sign(self, content: Content, *, refused: bool) -> str:
        """Return the address of a content in the storage."""
        with self.lock:
            signature = hashlib.sha256(f"{len(self.signatures)}".encode()).hexdigest()[:16]
            self.signatures.add(signature)
            self.contents[content.sha256] = content
        return f"{self.storage_url}/{content.sha256}?signature={signature}" + ("&refused=1" if refused else "")

    def forget_signatures(self) -> None:
        """Let every address given so far run out."""
        with self.lock:
            # The number of signatures stays, so that none is given twice.
            self.signatures = {f"gone {number}" for number in range(len(self.signatures))}

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()


def _tree(repository: Repository, files: Mapping[str, Content], *, recursive: bool) -> list[dict[str, object]]:
    folders = sorted({path.rpartition("/")[0] for path in files} - {""})
    entries: list[dict[str, object]] = [
        {"type": "directory", "oid": hashlib.sha1(folder.encode()).hexdigest(), "size": 0, "path": folder}
        for folder in folders
    ]
    for path, content in files.items():
        if "/" in path and not recursive:
            continue
        entry: dict[str, object] = {"type": "file", "path": repository.listed.get(path, path), "size": content.size}
        if path.endswith(LARGE):
            pointer = content.pointer
            entry["oid"] = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest()
            entry["lfs"] = {"oid": content.sha256, "size": content.size, "pointerSize": len(pointer)}
        else:
            entry["oid"] = content.git_sha1
        if path in repository.xet or path in repository.xet_only:
            entry["xetHash"] = content.sha256[::-1]
        entries.append(entry)
    return entries


def _blobs(repository: Repository, commit: str, files: Mapping[str, Content]) -> Iterator[dict[str, object]]:
    for folder in sorted({path.rpartition("/")[0] for path in files} - {""}):
        yield {"Name": folder, "Path": folder, "Type": "tree", "Size": 0, "Sha256": "", "Revision": commit}
    for path, content in files.items():
        told = repository.listed.get(path, path)
        yield {
            "Name": told.rpartition("/")[2],
            "Path": told,
            "Type": "blob",
            "Mode": "33188",
            "Size": content.size,
            "Sha256": content.sha256,
            "IsLFS": path.endswith(LARGE),
            "Revision": commit,
            "CommitMessage": "add",
            "CommittedDate": 1726842501,
        }


def _xet_headers(url: str, repository: Repository, path: str, content: Content) -> dict[str, str]:
    if path not in repository.xet and path not in repository.xet_only:
        return {}
    route = f"{url}/api/models/{repository.name}/xet-read-token/main"
    return {"X-Xet-Hash": content.sha256[::-1], "Link": f'<{route}>; rel="xet-auth"', "X-Xet-Refresh-Route": route}
