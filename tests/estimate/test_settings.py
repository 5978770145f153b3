from __future__ import annotations

from typing import Any

import pytest

from lading.errors import UsageError
from lading.estimate import EstimateSettings, Override
from lading.estimate.settings import CACHE_TYPES, Cells, cells_of, row_bytes, window_cells
from lading.hparams import Hparams

MODEL = Hparams("gguf", "llama", {"context_length": 8192}, ())


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, Cells(8192, 8192, 1, 512)),
        ({"ctx_size": 1}, Cells(256, 256, 1, 1)),
        ({"ctx_size": 300}, Cells(512, 512, 1, 300)),
        ({"ctx_size": 5000, "parallel": 3}, Cells(5376, 1792, 3, 512)),
        ({"ctx_size": 5000, "parallel": 3, "unified": True}, Cells(5120, 5120, 1, 512)),
        ({"ctx_size": 256, "parallel": 8}, Cells(2048, 256, 8, 256)),
        ({"ubatch": 2048, "batch": 1024}, Cells(8192, 8192, 1, 1024)),
    ],
)
def test_a_context_is_padded_and_shared_out_as_llama_cpp_does(asked: dict[str, Any], expected: Cells) -> None:
    assert cells_of(EstimateSettings(**asked), MODEL) == expected


def test_a_window_widens_with_the_batch_and_with_slots_in_one_cache() -> None:
    def of(**asked: Any) -> int:
        settings = EstimateSettings(**asked)
        return window_cells(1000, settings, cells_of(settings, MODEL))

    assert of() == 1536
    assert of(ubatch=2048) == 3072
    assert of(parallel=2, unified=True) == 2560
    assert of(parallel=2) == 1536
    assert of(ctx_size=512) == 512
    assert of(swa_full=True) == 8192


def test_rows_of_every_cache_type_are_whole_blocks() -> None:
    sizes = {kind: row_bytes(kind, 1024) for kind in CACHE_TYPES}
    assert sizes == {
        "f32": 4096, "f16": 2048, "bf16": 2048, "q8_0": 1088, "q4_0": 576, "q4_1": 640, "iq4_nl": 576, "q5_0": 704,
        "q5_1": 768,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"ctx_size": 0}, "ctx-size"),
        ({"parallel": 0}, "parallel"),
        ({"cache_type_k": "q3_k"}, "q3_k"),
        ({"cache_type_v": "q8_0", "flash_attention": "off"}, "needs flash attention"),
        ({"devices": 2, "tensor_split": (1.0,)}, "tensor split"),
        ({"devices": 1, "tensor_split": (float("nan"),)}, "tensor split"),
        ({"devices": 2, "tensor_split": (0.0, 0.0)}, "tensor split"),
        ({"overrides": (Override("("),)}, "regular expression"),
        ({"devices": 1, "overrides": (Override("x", 1),)}, "no device 1"),
    ],
)
def test_what_llama_cpp_would_refuse_is_refused_by_name(asked: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        EstimateSettings(**asked)
