"""What a packager says of a model, in words and paths, made into what `package` takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lading.artifact.format import OURS
from lading.errors import NotFoundError, UsageError
from lading.model import Role
from lading.package import Given
from lading.runtime.settings import from_words
from lading.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEY = re.compile(r"[!-<>-~]{1,256}", re.ASCII)
_MAX_VALUE = 64 * 1024
# The characters of SPDX expressions: identifiers joined by AND, OR and WITH, in parentheses where needed.
_SPDX = re.compile(r"[A-Za-z0-9(][A-Za-z0-9.+:() -]{0,255}", re.ASCII)
_FILE = re.compile(r"(?!licenseref-)(licen[sc]e|copying|notice)|.*\.(txt|md|rst|html|pdf)$|.*/", re.IGNORECASE)


def given(
    *,
    name: str | None = None,
    template: Path | None = None,
    mmproj: Path | None = None,
    adapters: Iterable[Path] = (),
    licences: Iterable[str] = (),
    params: Iterable[tuple[str, str]] = (),
    annotations: Iterable[tuple[str, str]] = (),
) -> Given:
    """Read what is said of a model to be packed, over what its files say.

    A licence is a file that is there, or an SPDX expression, of which there can be one. `params` are settings by the
    names that an artifact may set. Raises UsageError, naming the word that is wrong, NotFoundError for a licence's
    file that is not there.
    """
    files = [(Role.TEMPLATE, template), (Role.PROJECTOR, mmproj), *((Role.ADAPTER, path) for path in adapters)]
    expressions = []
    for text in licences:
        path = Path(text).expanduser()
        if path.is_file():
            files.append((Role.LICENCE, path))
        else:
            expressions.append(_expression(text))
    if len(expressions) > 1:
        msg = f"two licences are said: {expressions[0]} and {expressions[1]}"
        raise UsageError(msg, hint=f"an expression can hold both: '{expressions[0]} AND {expressions[1]}'")
    return Given(
        files=tuple((role, path.expanduser()) for role, path in files if path is not None),
        name=name,
        licence=next(iter(expressions), None),
        settings=from_words(params),
        annotations=_checked(annotations),
    )


def _expression(text: str) -> str:
    if _FILE.match(text):
        msg = f"{clean(text)} does not exist"
        raise NotFoundError(msg, hint="a licence is a file, or an SPDX expression such as Apache-2.0")
    if not _SPDX.fullmatch(text):
        msg = f"{text!r} is no file and no licence"
        raise UsageError(msg, hint="a licence is a file, or an SPDX expression such as Apache-2.0")
    return text


def _checked(annotations: Iterable[tuple[str, str]]) -> dict[str, str]:
    said: dict[str, str] = {}
    for key, value in annotations:
        if not _KEY.fullmatch(key):
            msg = f"{key!r} cannot be the name of an annotation"
            raise UsageError(msg, hint="one is written like org.example.team=chat")
        if key.startswith(OURS):
            msg = f"the annotation {key} is lading's own"
            raise UsageError(msg, hint=f"take a name that does not begin with {OURS}")
        if key in said:
            msg = f"the annotation {key} is given twice"
            raise UsageError(msg)
        if len(value) > _MAX_VALUE or any("\ud800" <= char < "\ue000" for char in value):
            msg = f"the annotation {key} is no text, or longer than {_MAX_VALUE // 1024} KiB"
            raise UsageError(msg)
        said[key] = value
    return said
