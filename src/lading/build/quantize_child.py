"""What quantizes in a process of its own: `python -m lading.build.quantize_child PARENT`, told by JSON on its input.

A crash of the library ends this process only; llama.cpp's log goes to standard error, as llama-quantize's does.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

from lading.build.importance import Importance, read_importance
from lading.errors import LadingError
from lading.formats.gguf_types import FILE_TYPES, TENSOR_TYPES
from lading.runtime import tether

_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "COPY": "F32"}
_FILE_TYPE = {name: number for number, name in FILE_TYPES.items()}
_TENSOR_TYPE = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
_TEXT_BYTES = 127  # of key and value in llama_model_kv_override, besides the zero at the end
_NO_TYPE = max(TENSOR_TYPES) + 1
_INT, _FLOAT, _BOOL, _STR = range(4)  # llama_model_kv_override_type


def main() -> int:
    """Quantize as told, and return the exit code."""
    tether.tie(int(sys.argv[1]))
    told = json.loads(sys.stdin.buffer.read())
    try:
        return _with_cyllama(told) if told["library"] == "cyllama" else _with_llama_cpp(told)
    except (LadingError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _with_cyllama(told: dict[str, Any]) -> int:
    from cyllama.llama import llama_cpp as library  # noqa: PLC0415  # after the tie

    params = library.LlamaModelQuantizeParams()
    _set_plain(params, told)
    library.model_quantize(told["source"], told["target"], params)
    return 0


def _with_llama_cpp(told: dict[str, Any]) -> int:
    import llama_cpp as library  # noqa: PLC0415  # as above

    # The package drops all but errors; the lines are our progress.
    library.llama_log_set(ctypes.cast(0, library.llama_log_callback), None)
    params = library.llama_model_quantize_default_params()
    _set_plain(params, told)
    overrides = list(told["overrides"])
    kept: list[object] = []  # what the structure points to, until the call is over
    if told["imatrix"]:
        entries = read_importance(Path(told["imatrix"]), told["include_weights"], told["exclude_weights"])
        if entries.values:
            params.imatrix = _rows(library, entries, kept)
            overrides += _traces(told["imatrix"], entries)
    if overrides:
        pairs = (library.llama_model_kv_override * (len(overrides) + 1))()
        for place, text in zip(pairs, overrides, strict=False):
            _override(place, text)
        params.kv_overrides = pairs
    if told["tensor_types"]:
        kinds = library.llama_model_tensor_override
        rows = [kinds(name.lower().encode(), _TENSOR_TYPE[type_name]) for name, type_name in told["tensor_types"]]
        params.tt_overrides = (kinds * (len(rows) + 1))(*rows, kinds(None, _NO_TYPE))
    return int(library.llama_model_quantize(told["source"].encode(), told["target"].encode(), ctypes.byref(params)))


def _set_plain(params: Any, told: dict[str, Any]) -> None:
    name = told["type"]
    params.ftype = _FILE_TYPE[_ALIASES.get(name, name)]
    params.only_copy = name == "COPY"
    params.nthread = told["threads"]
    params.pure = told["pure"]
    params.keep_split = told["keep_split"]
    params.allow_requantize = told["allow_requantize"]
    params.quantize_output_tensor = not told["leave_output_tensor"]
    if told["output_tensor_type"]:
        params.output_tensor_type = _TENSOR_TYPE[told["output_tensor_type"]]
    if told["token_embedding_type"]:
        params.token_embedding_type = _TENSOR_TYPE[told["token_embedding_type"]]


def _rows(library: Any, entries: Importance, kept: list[object]) -> Any:
    kinds = library.llama_model_imatrix_data
    rows = []
    for name, values in entries.values.items():
        numbers = (ctypes.c_float * len(values)).from_buffer(values)
        kept += [numbers, values]
        rows.append(kinds(name.encode(), ctypes.cast(numbers, ctypes.POINTER(ctypes.c_float)), len(values)))
    return (kinds * (len(rows) + 1))(*rows, kinds(None, None, 0))


def _traces(name: str, entries: Importance) -> list[str]:
    """Return what llama-quantize writes into the file about the matrix."""
    traces = [f"quantize.imatrix.file=str:{name}"]
    traces += [f"quantize.imatrix.dataset=str:{entries.dataset}"] if entries.dataset is not None else []
    traces.append(f"quantize.imatrix.entries_count=int:{len(entries.values)}")
    return traces + ([f"quantize.imatrix.chunks_count=int:{entries.chunks}"] if entries.chunks > 0 else [])


def _override(place: Any, text: str) -> None:
    key, _, rest = text.partition("=")
    kind, _, value = rest.partition(":")
    place.key = key.encode()[:_TEXT_BYTES]
    if kind == "int":
        place.tag, place.value.val_i64 = _INT, int(value)
    elif kind == "float":
        place.tag, place.value.val_f64 = _FLOAT, float(value)
    elif kind == "bool":
        place.tag, place.value.val_bool = _BOOL, value == "true"
    else:
        place.tag, place.value.val_str = _STR, value.encode()[:_TEXT_BYTES]


if __name__ == "__main__":
    sys.exit(main())
