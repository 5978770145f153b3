from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
from accuracy import ROOT, hparams_of
from held_out import HELD_OUT, held_out
from shapes import shape

if TYPE_CHECKING:
    from shapes import Models

    from lading.hparams import Hparams

STORYTELLER = ROOT / "examples/storyteller/storyteller-f16.gguf"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The hyperparameters of a model by its name, read from a header as from any model's."""
    folder = tmp_path_factory.mktemp("shapes")

    @cache
    def read(name: str) -> Hparams:
        if name == STORYTELLER.parent.name:
            return hparams_of(STORYTELLER)
        made = held_out(name) if name in HELD_OUT else shape(name)
        return hparams_of(made.write(folder / f"{name}.gguf", vocabulary=False))

    return read
