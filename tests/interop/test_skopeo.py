"""skopeo copies artifacts of any form, and leaves digests alone where it is told to."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING

import pytest
from interop_table import READS, WRITES, Row, rows
from written import ALL, ONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines import Engines
    from real_registry import RegistryProcess
    from written import Ours

    from conftest import CommandLine

pytestmark = pytest.mark.integration

FORMS = ("docker", "modelpack", "image")
WAYS = ("registry", "layout", "archive")
COPY = ("copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false")


@rows(*(Row("skopeo", READS, form, way) for form, way in product((*FORMS, ALL), WAYS)))
def test_skopeo_copies_what_we_wrote(row: Row, ours: Ours, engines: Engines, tried: Callable[[str], None]) -> None:
    target = engines.folder / f"read-{row.name}"
    engines("skopeo", *COPY, ours.at(row.form, row.through), f"oci:{target}:1")
    [entry] = json.loads((target / "index.json").read_text())["manifests"]
    assert entry["digest"] == ours.digests[row.form]
    tried(engines("skopeo", "--version"))


@rows(
    *(Row("skopeo", WRITES, form, way) for form, way in product(FORMS, WAYS)),
    Row("skopeo", WRITES, "image", "docker-archive"),
)
def test_what_skopeo_copied_is_read(
    row: Row,
    ours: Ours,
    engines: Engines,
    lading: CommandLine,
    plain_registry: RegistryProcess,
    tried: Callable[[str], None],
) -> None:
    folder = engines.folder
    place = f"{plain_registry.host}/skopeo/{row.name}:1"
    target, command = {
        "registry": (f"docker://{place}", ("pull", place, "-t", "back:1")),
        "layout": (f"oci:{folder}/{row.name}:1", ("pull", f"oci-layout:{folder}/{row.name}:1", "-t", "back:1")),
        "archive": (f"oci-archive:{folder}/{row.name}.tar:back:1", ("load", f"{folder}/{row.name}.tar")),
        "docker-archive": (
            f"docker-archive:{folder}/{row.name}.tar:back:1",
            ("load", f"{folder}/{row.name}.tar"),
        ),
    }[row.through]
    # That archive holds one image, and no digests.
    one = row.through == "docker-archive"
    engines("skopeo", *(COPY[:1] if one else COPY), ours.at(row.form, "layout"), target)
    lading(*command)
    [found] = json.loads(lading("list", "--json").stdout)
    assert found["model"]["parameters"] == 1_443_584
    # Of an index, `pull` takes the one for this machine.
    form = ONE if row.form == "image" and row.through != "archive" else row.form
    assert one or found["digest"] == ours.digests[form]
    tried(engines("skopeo", "--version"))
