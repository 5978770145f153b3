"""The example model in the forms that lading writes, where other tools look for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ONE, ALL = "image, one platform", "all three"
FORMS = ("docker", "modelpack", "image", ONE, ALL)
"""Each by itself, an image being an index for two platforms or one manifest, and an index of all."""

_TAGS = {ONE: "1-one", ALL: "1"}


def tag(form: str) -> str:
    """Return the tag that a form has in the registry and in the store."""
    return _TAGS.get(form) or f"1-{form}"


@dataclass(frozen=True)
class Ours:
    """Where what we wrote is: a repository, a store that is a layout, a folder of archives; and what it hashes to."""

    repository: str
    store: Path
    archives: Path
    digests: dict[str, str]
    weights: str

    def place(self, form: str) -> str:
        """Return how registries' users call it."""
        return f"{self.repository}:{tag(form)}"

    def archive(self, form: str) -> Path:
        """Return the file that it was saved to."""
        return self.archives / f"{tag(form)}.tar"

    def at(self, form: str, through: str) -> str:
        """Return how the tools of the containers family call it."""
        return {
            "registry": f"docker://{self.place(form)}",
            "layout": f"oci:{self.store}:story:{tag(form)}",
            "archive": f"oci-archive:{self.archive(form)}",
        }[through]
