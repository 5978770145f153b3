"""Writes the schemas of what `--json` prints, and docs/reference/json.md, from the types that are printed.

With --check it only says whether they are up to date.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from lading.api import _fit_document, _info, documents
from lading.server import ServerRecord

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
HEAD = """# JSON documents

<!-- Written by `make reference` from the types that are printed. -->

With `--json` a command prints one document on stdout and nothing else there; progress stays on stderr. Sizes are in
bytes, times are RFC 3339 in UTC, digests `algorithm:hex`; null means not known. Field names never change their
meaning within a major version; new fields may come. Each schema is a JSON Schema (2020-12) file.

A command that fails prints no document: the message is on stderr and the [exit code](exit-codes.md) tells the kind.
`verify` and `lint` are the exceptions: they print their findings and then fail.
"""


DOCUMENTS: dict[str, Any] = {
    "pull": tuple[documents.PullDocument, ...],
    "push": documents.PushDocument,
    "copy": documents.CopyDocument,
    "save": documents.SaveDocument,
    "load": tuple[documents.PullDocument, ...],
    "pack": documents.PackDocument,
    "build": documents.BuildDocument,
    "list": tuple[documents.ModelDocument, ...],
    "inspect": documents.ModelDocument,
    "fit": _fit_document.FitDocument,
    "lint": documents.LintDocument,
    "prune": documents.PruneDocument,
    "verify": documents.VerifyDocument,
    "ps": tuple[ServerRecord, ...],
    "serve": ServerRecord,
    "info": _info.InfoDocument,
    "version": documents.VersionDocument,
}


def schema(command: str) -> dict[str, Any]:
    """Return the schema of what a command prints: every field is there, always."""
    made = msgspec.json.schema(DOCUMENTS[command])
    for one in made.get("$defs", {}).values():
        if "description" in one:
            one["description"] = inspect.cleandoc(one["description"])
        if one.get("type") == "object":
            one["required"] = list(one["properties"])
            for field in one["properties"].values():
                field.pop("default", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"lading {command} --json",
        **made,
    }


def page(schemas: dict[str, dict[str, Any]]) -> str:
    """Return the page that shows the fields of all documents."""
    parts = [HEAD]
    told: set[str] = set()
    for command, made in schemas.items():
        name = (made.get("$ref") or made["items"]["$ref"]).rpartition("/")[2]
        shape = "An array of these." if "items" in made else ""
        parts += [f"## {command}", "", f"[{command}.json](schemas/{command}.json). {shape}".strip(), ""]
        if name in told:
            parts += [f"The same as above: `{name}`.", ""]
            continue
        order = [name, *(other for other in made["$defs"] if other != name)]
        for title in order:
            one = made["$defs"][title]
            if one.get("type") != "object" or title in told:
                continue
            told.add(title)
            if title != name:
                parts += [f"### {title}", ""]
            if one.get("description"):
                parts += [one["description"], ""]
            parts += ["| Field | Type |", "|---|---|"]
            parts += [f"| `{field}` | {shown(kind)} |" for field, kind in one["properties"].items()]
            parts.append("")
    return "\n".join(parts)


def shown(kind: dict[str, Any]) -> str:
    """Say a field's type in words."""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in kind:
        return " or ".join(shown(one) for one in kind["anyOf"])
    if kind.get("type") == "array":
        return f"array of {shown(kind['items'])}"
    if kind.get("type") == "object":
        return "object"
    return str(kind.get("type", "any"))


def files() -> dict[Path, str]:
    """Return every file that is written, with its text."""
    schemas = {command: schema(command) for command in DOCUMENTS}
    texts = {
        FOLDER / "schemas" / f"{command}.json": json.dumps(made, indent=2) + "\n" for command, made in schemas.items()
    }
    return {FOLDER / "json.md": page(schemas), **texts}


def main() -> int:
    """Write the files, or with --check compare them; 1 if one is stale."""
    stale = [path for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.name} is not up to date; `make reference` writes it", file=sys.stderr)
        return 1 if stale else 0
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
