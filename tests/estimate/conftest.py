from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

import pytest
from shapes import shape

from lading.formats.gguf import read_header
from lading.hparams import gguf_hparams
from lading.ranges import FileRanges

if TYPE_CHECKING:
    from shapes import Models

    from lading.hparams import Hparams


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The hyperparameters of a toy or a real shape by its name, read from a header as from any model's."""
    folder = tmp_path_factory.mktemp("shapes")

    @cache
    def read(name: str) -> Hparams:
        path = shape(name).write(folder / f"{name}.gguf", vocabulary=False)
        reader = FileRanges(os.open(path, os.O_RDONLY), path.name)
        try:
            return gguf_hparams([read_header(reader)], reader)
        finally:
            reader.close()

    return read
