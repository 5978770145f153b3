"""umoci, which knows image layouts and nothing else."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from interop_table import READS, WRITES, Row, rows
from written import ALL, ONE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engines import Engines
    from written import Ours

    from conftest import CommandLine

pytestmark = pytest.mark.integration

NO_IMAGE = "config blob is not correct mediatype application/vnd.oci.image.config.v1+json: {}"


@rows(
    Row("umoci", READS, ONE, "layout"),
    Row("umoci", READS, "image", "layout", "tag is ambiguous"),
    Row("umoci", READS, ALL, "layout", "tag is ambiguous"),
    Row("umoci", READS, "docker", "layout", NO_IMAGE.format("application/vnd.docker.ai.model.config.v0.1+json")),
    Row("umoci", READS, "modelpack", "layout", NO_IMAGE.format("application/vnd.cncf.model.config.v1+json")),
)
def test_umoci_unpacks_our_image(row: Row, ours: Ours, engines: Engines, tried: Callable[[str], None]) -> None:
    bundle = engines.folder / f"bundle-{row.name}"
    command = ("umoci", "unpack", "--image", ours.at(row.form, "layout").removeprefix("oci:"), bundle)
    if row.cannot:
        assert row.cannot in engines.refused(*command)
    else:
        engines(*command)
        assert sha256((bundle / "rootfs/models/story.gguf").read_bytes()).hexdigest() == ours.weights
    tried(engines("umoci", "--version"))


@rows(Row("umoci", WRITES, "image, gzip", "layout"))
def test_a_model_that_umoci_inserted_is_read(
    row: Row, ours: Ours, engines: Engines, storyteller: Path, lading: CommandLine, tried: Callable[[str], None]
) -> None:
    layout = engines.folder / "umoci-layout"
    engines("umoci", "init", "--layout", layout)
    engines("umoci", "new", "--image", f"{layout}:1")
    engines("umoci", "insert", "--image", f"{layout}:1", storyteller, "/models/story.gguf")
    lading("pull", f"oci-layout:{layout}:1", "-t", "inserted:1")
    [found] = json.loads(lading("list", "--json").stdout)
    assert found["format"] == "image"
    assert lading("run", "inserted:1", "Once upon a time", "-n", "2").stdout.strip()
    [unpacked] = lading.store.glob("models/*/story.gguf")
    assert sha256(unpacked.read_bytes()).hexdigest() == ours.weights
    tried(engines("umoci", "--version"))
