from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

import pytest
from shapes import shape

from lading.fit.headers import gguf_candidate
from lading.formats.gguf import read_header
from lading.hparams import gguf_hparams
from lading.ranges import FileRanges

if TYPE_CHECKING:
    from collections.abc import Callable

    from lading.fit import Candidate

    Candidates = Callable[[str], Candidate]


@pytest.fixture(scope="session")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Candidates:
    """A toy or a real shape by its name, as a candidate."""
    folder = tmp_path_factory.mktemp("shapes")

    @cache
    def read(name: str) -> Candidate:
        path = shape(name).write(folder / f"{name}.gguf", vocabulary=False)
        reader = FileRanges(os.open(path, os.O_RDONLY), path.name)
        try:
            return gguf_candidate(gguf_hparams([read_header(reader)], reader), name)
        finally:
            reader.close()

    return read
