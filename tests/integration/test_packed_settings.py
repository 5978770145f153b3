"""What a packager said of a model is honoured where it is served, in whatever format it came."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CommandLine

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("form", ["docker", "modelpack", "image", "ollama"])
def test_a_server_takes_the_context_that_was_packed_unless_the_user_says_another(
    lading: CommandLine, story: Path, form: str
) -> None:
    curl = shutil.which("curl")
    assert curl is not None, "curl is missing: apt-get install curl"
    lading("pack", story, "-t", "tale:1", "--format", form, "--param", "ctx-size=256", "--param", "temp=0.25")
    for flags, context in (((), 256), (("--ctx-size", "512"), 512)):
        served = json.loads(lading("serve", "tale:1", "--detach", "-p", "0", "--name", "it", *flags, "--json").stdout)
        try:
            done = subprocess.run(
                [curl, "-sS", f"{served['url']}/props"], capture_output=True, text=True, timeout=60, check=True
            )
        finally:
            lading("stop", "it")
        defaults = json.loads(done.stdout)["default_generation_settings"]
        assert defaults["n_ctx"] == context
        assert defaults["params"]["temperature"] == pytest.approx(0.25)
