"""What llama.cpp would not load ends with an error before it is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shapes import limit

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CommandLine

EIGHT = ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0")


@pytest.mark.parametrize("verb", ["fit", "serve"])
def test_a_cache_that_llama_cpp_breaks_off_over_is_a_wrong_flag(lading: CommandLine, tmp_path: Path, verb: str) -> None:
    path = limit("phi3", 40, 128).write(tmp_path / "phi.gguf")
    done = lading(verb, path, *EIGHT, "--parallel", "2", code=2)
    # The one calls a file by its name, the other as it was asked for.
    assert done.stderr.startswith("error: ")
    assert done.stderr.partition("phi.gguf: ")[2] == (
        "llama.cpp breaks off over a cache of q8_0 and q8_0 with 2 slots\nhint: --cache-type-k f16, or --parallel 1\n"
    )
    assert not done.stdout


def test_with_one_slot_the_same_cache_is_weighed(lading: CommandLine, tmp_path: Path) -> None:
    path = limit("phi3", 40, 128).write(tmp_path / "phi.gguf")
    assert "cache q8_0" in lading("fit", path, *EIGHT).stdout
