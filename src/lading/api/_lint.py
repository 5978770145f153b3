"""Lint: read a recipe and its ignore file, and say what is doubtful."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading import ranges, recipe
from lading.api.documents import FindingDocument, LintDocument
from lading.errors import FormatError, NotFoundError, RecipeError
from lading.recipe import ignore
from lading.runtime.settings import taken

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from lading.api.session import Session
    from lading.recipe.lint import Finding

_LARGEST = 4 * 1024 * 1024
"""Bytes: more than the longest recipe that is read has, in any characters."""


@dataclass(frozen=True, slots=True)
class Linted:
    """What was found in a recipe: as a document, as text for people, and as the error that it amounts to, if any."""

    document: LintDocument
    text: tuple[str, ...]
    error: FormatError | None


def lint(
    path: Path,
    build_args: Mapping[str, str] | None = None,
    target: str | None = None,
    *,
    contexts: Collection[str] = (),
    session: Session | None = None,
    context: Path | None = None,
    text: str | None = None,
) -> Linted:
    """Hold a recipe against all rules; `context` is where its ignore file is looked for, None the recipe's folder.

    `text` is the recipe where the file has been read, or is none and only its name in messages.
    `contexts` are the names of the build's further contexts. A model in the store of the `session` is at hand: a recipe
    may name it as it is.

    A recipe that cannot be read as one is a finding too, and the `error`. Raises NotFoundError for a file that is not
    there, FormatError for one that is no text, UsageError for a target that the recipe lacks.
    """
    text = read_text(path) if text is None else text
    ignored = ignored_by(path, context or path.parent)
    try:
        read = recipe.parse(text, str(path))
        report = recipe.lint(
            read,
            build_args,
            target,
            contexts=contexts,
            ignored=ignored,
            stored=lambda name: session is not None and session.store.find(name) is not None,
            taken=taken,
        )
    except RecipeError as error:
        finding = FindingDocument(
            rule="invalid",
            level="error",
            message=error.reason,
            hint=error.note,
            line=error.line,
            column=error.column,
            end_line=error.end_line,
            end_column=error.end_column,
        )
        return Linted(LintDocument(file=_named(path), findings=(finding,), failed=True), (), error)
    violated = report.violated
    document = LintDocument(
        file=_named(path),
        findings=tuple(_document(one) for one in report.findings),
        failed=bool(violated),
    )
    lines = tuple(_shown(read, one) for one in report.findings)
    failure = FormatError(f"{path} breaks rules that it wants to keep: {', '.join(violated)}") if violated else None
    return Linted(document, lines, failure)


def ignored_by(path: Path, context: Path) -> ignore.IgnoreRules | None:
    """Return what a recipe's ignore file leaves out of a context: one of its own, beside it, goes before the context's."""
    own = len(ignore.file_names(path.name)) - len(ignore.FILES)
    for number, name in enumerate(ignore.file_names(path.name)):
        file = path.with_name(name) if number < own else context / name
        if file.is_file():
            return ignore.read_ignore(read_text(file), str(file))
    return None


def _named(path: Path) -> str:
    # A name that is no UTF-8 cannot stand in JSON as it is.
    return str(path).encode("utf-8", "backslashreplace").decode()


def _document(finding: Finding) -> FindingDocument:
    where = finding.where
    return FindingDocument(
        rule=finding.rule,
        level=finding.level,
        message=finding.message,
        hint=finding.hint,
        line=where.line,
        column=where.column,
        end_line=where.end_line,
        end_column=where.end_column,
    )


def _shown(read: recipe.Recipe, finding: Finding) -> str:
    script = read.script
    head = f"{script.at(finding.where)}: {finding.level}: {finding.message} [{finding.rule}]"
    return f"{head}\n{script.excerpt(finding.where, finding.hint)}"


def read_text(path: Path) -> str:
    """Return a recipe's or an ignore file's text; raises NotFoundError, and FormatError for what is no text."""
    if not path.exists():
        msg = f"{path} does not exist"
        raise NotFoundError(msg, hint="check how it is written, and from which folder")
    if path.is_dir():
        msg = f"{path} is a folder"
        raise NotFoundError(msg, hint="name the recipe in it")
    with ranges.os_errors(path):
        descriptor = ranges.open_regular(path)
        with os.fdopen(descriptor, "rb") as file:
            return read_stream(file, str(path))


def read_stream(stream: BinaryIO, name: str) -> str:
    """Return a recipe's text; raises FormatError, under the name, for what is no text, or larger than any recipe."""
    data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        msg = f"{name} is larger than any recipe: more than {_LARGEST // 1024 // 1024} MiB"
        raise FormatError(msg)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        msg = f"{name} is no UTF-8 text, from its line {line} on"
        raise FormatError(msg) from None
