from __future__ import annotations

from pathlib import Path

import pytest

from lading.config import ConverterSettings, load
from lading.errors import FormatError


def test_the_converter_is_kept_in_the_cache(tmp_path: Path) -> None:
    assert load({"HOME": str(tmp_path)}).converter() == ConverterSettings(tmp_path / ".cache/lading")
    assert load({"HOME": str(tmp_path), "LADING_CACHE": "~/mine"}).converter().folder == tmp_path / "mine"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    folder = tmp_path / ".config/lading"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('convert_python = "~/py/bin/python"\ntorch_index = "https://cpu.example"\n')
    environment = {"HOME": str(tmp_path)}
    said = load(environment).converter()
    assert (said.python, said.index) == (tmp_path / "py/bin/python", "https://cpu.example")
    more = {"LADING_CONVERT_PYTHON": "/opt/python", "LADING_TORCH_INDEX": "https://other.example"}
    said = load(environment | more).converter()
    assert (said.python, said.index) == (Path("/opt/python"), "https://other.example")


def test_a_setting_that_is_no_string_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ".config/lading"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("torch_index = 1\n")
    with pytest.raises(FormatError, match="`torch_index` is not a string"):
        load({"HOME": str(tmp_path)}).converter()
