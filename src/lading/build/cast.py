"""The cast: which file of an outcome plays which role, and what its headers make the model's config and labels say."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from lading import media
from lading.artifact.command import in_root, renamed
from lading.artifact.contents import part_ranges
from lading.artifact.format import OURS
from lading.artifact.image import shard_names
from lading.artifact.image_config import Said
from lading.artifact.image_layers import name_of
from lading.artifact.packer import PackedFile, Packing, header_of, packed_file
from lading.artifact.packer_labels import labels_of, without_stale
from lading.artifact.usage import usage_of
from lading.build.wishes import settings_of, understood
from lading.errors import FormatError
from lading.facts import HeaderFile, gguf_facts, read_facts, role_in_header
from lading.formats.gguf import read_header
from lading.manifest import Descriptor
from lading.model import Part, Role, role_of
from lading.ranges import BytesRanges
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lading.build.ground import Ground
    from lading.build.outcome import Outcome
    from lading.content import RangeReader, Source
    from lading.model import ModelFacts
    from lading.recipe.command import Command, FileArgument, FileRole

_BLOB = "application/octet-stream"
_ROLES: dict[FileRole, Role] = {
    "model": Role.WEIGHTS,
    "drafter": Role.DRAFTER,
    "projector": Role.PROJECTOR,
    "lora": Role.ADAPTER,
    "control-vector": Role.ADAPTER,
    "template": Role.TEMPLATE,
    "system-prompt": Role.SYSTEM,
}
_CALLED: dict[FileRole, str] = {
    "model": "main model",
    "drafter": "draft model",
    "lora": "adapter",
    "control-vector": "control vector",
    "template": "chat template",
    "system-prompt": "system prompt",
}
_HEADED = frozenset(("model", "drafter", "projector", "lora", "control-vector"))
# What a model has one of, or its command names; a file that only looks like it lies beside the model.
_NAMED_ONLY = (Role.WEIGHTS, Role.DRAFTER, Role.PROJECTOR, Role.ADAPTER, Role.TEMPLATE)
_BASE_NAME, _BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"


@dataclass(frozen=True, slots=True)
class Cast:
    """The outcome's own files as parts of a model, by their paths in the image, its facts, and what an image says."""

    parts: Mapping[str, Part]
    facts: ModelFacts
    said: Said
    command: Command | None


def cast(outcome: Outcome, ground: Ground | None, source: Source) -> Cast:
    """Read the headers of the files that the command names, or without one of all weights; `source` has the files.

    Raises FormatError, naming the file, for one that is not in the image, or whose header is none.
    """
    words = outcome.command if outcome.command is not None else ground.run.arguments if ground else ()
    return _Casting(outcome, ground, source, understood(words), tuple(words)).cast()


@dataclass(slots=True)
class _Named:
    """A RangeReader under a name that means something to a reader of messages."""

    inner: RangeReader
    name: str

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self.inner.size

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes from `offset` on; fewer only where the file ends."""
        return self.inner.read_at(offset, length)

    def close(self) -> None:
        """Close the file."""
        self.inner.close()


@dataclass(slots=True)
class _Casting:
    outcome: Outcome
    ground: Ground | None
    source: Source
    command: Command | None
    words: tuple[str, ...]

    def cast(self) -> Cast:
        """Cast all files."""
        named = {
            path: _ROLES[file.role]
            for file in (self.command.files if self.command else ())
            for path in shard_names(in_root(file.path))
        }
        parts = {path: self._part(path, named) for path in sorted(self._own())}
        if self.command is None:
            return self._bare(parts)
        packing = self._packing(self.command, parts)
        assert packing.model is not None  # noqa: S101 - every command names one
        headers = [header_of(file) if file else None for file in (packing.model, packing.projector)]
        assert headers[0] is not None  # noqa: S101 - an entry without a header is made anew
        facts = gguf_facts([headers[0]], BytesRanges(b"", packing.model.path))
        switches = {name for name, value in self.command.parameters if value is True}
        facts = replace(
            facts,
            settings=settings_of(self.command),
            command=renamed(self.words, lambda path: name_of(in_root(path)) if in_root(path) in named else path),
            created=self.outcome.created,
        )
        computed = labels_of(facts, packing.model, usage_of(headers[0], headers[1], switches))
        roles = {
            path: named.get(path) or _beside(role_of(path)) for path in (self.ground.ours() if self.ground else ())
        }
        said = Said(self.words, packing, self._labels(computed, packing), self._kept_labels(packing), roles)
        return Cast(parts, facts, said, self.command)

    def _own(self) -> dict[str, Descriptor]:
        return {
            path.lstrip("/"): Descriptor(media_type=_BLOB, digest=held.digest, size=held.size)
            for path, held in self.outcome.files.items()
        }

    def _part(self, path: str, named: Mapping[str, Role]) -> Part:
        blob = self._own()[path]
        guess = role_of(path)
        if self.command is not None:
            return Part(named.get(path) or _beside(guess), name_of(path), blob)
        if path.lower().endswith(".gguf"):
            with closing(_Named(self.source.ranges(blob), f"/{path}")) as reader:
                guess = role_in_header(read_header(reader)) or guess
        return Part(guess, name_of(path), blob)

    def _bare(self, parts: dict[str, Part]) -> Cast:
        """Cast the files of a stage without a command: what they are is told by their names and headers."""
        below = self.ground.find() if self.ground else {}
        every = {
            path: part
            for path, part in {**below, **parts}.items()
            if part.role in (Role.WEIGHTS, Role.BIN, Role.CONFIG, Role.TOKENIZER, Role.TEMPLATE)
        }
        if not any(part.role in (Role.WEIGHTS, Role.BIN) for part in every.values()):
            msg = "the image holds no model: no step made weights, and no CMD names some"
            raise FormatError(msg, hint='name the model: CMD ["-m", "model.gguf"]')
        facts = read_facts(
            [HeaderFile(part.role, f"/{path}", partial(self._ranges, path, part)) for path, part in every.items()]
        )
        provenance = self._provenance()
        return Cast(
            parts,
            replace(facts, created=self.outcome.created),
            Said(labels={**provenance, **self.outcome.labels}),
            None,
        )

    def _ranges(self, path: str, part: Part) -> RangeReader:
        source = self.ground.source if part.member and self.ground else self.source
        return _Named(part_ranges(part, source), f"/{path}")

    def _packing(self, command: Command, parts: Mapping[str, Part]) -> Packing:
        entries = {file: self._entry(file, parts) for file in command.files}
        described = {file: entry for file, entry in entries.items() if entry is not None}

        def of(role: FileRole) -> PackedFile | None:
            return next((entry for file, entry in described.items() if file.role == role), None)

        adapters = tuple(entry for file, entry in described.items() if _ROLES[file.role] is Role.ADAPTER)
        return Packing(
            size=sum(entry.gguf.size for entry in described.values() if entry.gguf),
            model=of("model"),
            drafter=of("drafter"),
            projector=of("projector"),
            adapters=adapters or None,
        )

    def _entry(self, file: FileArgument, parts: Mapping[str, Part]) -> PackedFile | None:
        """Describe a file that the command names, as the base does where it is the base's; None for one without a header."""
        path = in_root(file.path)
        paths = tuple(shard_names(path))
        known = self.ground.packed.get(path) if self.ground and not set(paths) & set(parts) else None
        if known and known.gguf:
            return msgspec.structs.replace(known, cmd_parameter_value=file.path, cmd_parameter_index=file.index)
        found = {one: parts[one] for one in paths if one in parts}
        if self.ground and len(found) < len(paths):
            found = {**{one: part for one, part in self.ground.find(paths).items() if one in paths}, **found}
        if missing := next((one for one in paths if one not in found), None):
            called = _CALLED.get(file.role, file.role)
            msg = f"the {called} /{clean(missing)}, which CMD names, is not in the image"
            raise FormatError(msg, hint="COPY, CONVERT or QUANTIZE it there, or mend the path in CMD")
        if file.role not in _HEADED:
            return None
        headers = []
        for one in paths:
            with closing(self._ranges(one, found[one])) as reader:
                headers.append(read_header(reader))
        return packed_file(headers, file.path, file.index)

    def _labels(self, computed: Mapping[str, str], packing: Packing) -> dict[str, str]:
        """Return the labels that go before those that follow from the facts."""
        kept = self.ground.labels if self.ground and self._is_same_model(packing) else {}
        ours = {key: text for key, text in kept.items() if not key.startswith(OURS)}
        return {**computed, **ours, **self._provenance(), **self.outcome.labels}

    def _kept_labels(self, packing: Packing) -> dict[str, str] | None:
        if self.ground is None or self._is_same_model(packing):
            return None
        return without_stale(self.ground.labels)

    def _is_same_model(self, packing: Packing) -> bool:
        """Say whether model and projector are those of the base, so that its labels speak of them."""
        run = self.ground.run if self.ground else None
        if run is None or run.model is None:
            return False
        own = self._own()
        for now, before in ((packing.model, run.model), (packing.projector, run.projector)):
            if (now and now.path) != (before and before.path):
                return False
            if now and any(path in own for path in shard_names(now.path)):
                return False
        return True

    def _provenance(self) -> dict[str, str]:
        said = {media.CREATED: self.outcome.created} if self.outcome.created else {}
        if self.ground is None or self.outcome.base is None:
            return said
        return {**said, _BASE_NAME: self.outcome.base.name, _BASE_DIGEST: str(self.ground.manifest.digest)}


def _beside(role: Role) -> Role:
    return Role.OTHER if role in _NAMED_ONLY else role
