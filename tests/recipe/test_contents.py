"""What the linter takes to be in an image: of what a recipe does not tell, nothing is said."""

from __future__ import annotations

import pytest

from lading.recipe import lint, parse

COMMIT = "0123456789012345678901234567890123456789"
SEVERAL = f"FROM scratch\nADD hf://o/all@{COMMIT} /\nADD hf://o/some@{COMMIT}:f16-*.gguf /\n"
FOLDER = f"FROM scratch\nADD hf://o/r@{COMMIT}:deep/*.gguf /\n"
TYPE = f"FROM hf://o/r@{COMMIT}:Q4_K_M\n"
NAMES = f"FROM hf://o/r@{COMMIT}:f16-*.gguf\n"
SHARDS = "FROM scratch\nCOPY f16-00001-of-00002.gguf f16-00002-of-00002.gguf /\n"
SPLIT = f"{SHARDS}QUANTIZE --keep-split --type=Q8_0 f16-00001-of-00002.gguf /out/q8.gguf\n"


@pytest.mark.parametrize(
    ("recipe", "model", "is_missed"),
    [
        (SEVERAL, "q8.gguf", False),
        (FOLDER, "deep/m.gguf", False),
        (TYPE, "m-Q4_K_M.gguf", False),
        (NAMES, "f16-m.gguf", False),
        (NAMES, "q8-m.gguf", True),
        (SPLIT, "out/q8-00001-of-00002.gguf", False),
        (SPLIT, "out/other-00001-of-00002.gguf", True),
    ],
    ids=["several", "folder", "type", "names", "other-names", "shards", "other-shards"],
)
def test_a_model_is_missed_only_where_it_cannot_be(recipe: str, model: str, is_missed: bool) -> None:  # noqa: FBT001 - a row of the table
    found = lint(parse(f'{recipe}CMD ["-m", "{model}"]\n')).findings
    assert ("model-missing" in {one.rule for one in found}) is is_missed
