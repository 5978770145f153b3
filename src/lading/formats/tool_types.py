"""The types that weights are converted and quantized to, as llama.cpp's tools name them."""

from __future__ import annotations

from lading.formats.gguf_types import REMOVED_TENSOR_TYPES
from lading.formats.gguf_types import TENSOR_TYPES as _TENSORS

CONVERT_TYPES = ("F32", "F16", "BF16", "Q8_0", "TQ1_0", "TQ2_0")
"""What convert_hf_to_gguf.py writes; the first three are not quantized."""

LORA_TYPES = ("F32", "F16", "BF16", "Q8_0")
"""What convert_lora_to_gguf.py writes."""

QUANTIZE_TYPES = (
    *("Q1_0", "Q2_0", "Q4_0", "Q4_1", "MXFP4_MOE", "Q5_0", "Q5_1"),
    *("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M", "TQ1_0", "TQ2_0"),
    *("Q2_K", "Q2_K_S", "IQ3_XXS", "IQ3_S", "IQ3_M", "Q3_K", "IQ3_XS", "Q3_K_S", "Q3_K_M", "Q3_K_L"),
    *("IQ4_NL", "IQ4_XS", "Q4_K", "Q4_K_S", "Q4_K_M", "Q5_K", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0"),
    *("F16", "BF16", "F32", "COPY"),
)
"""What llama-quantize takes (b11549)."""

TENSOR_TYPES = tuple(name for name, _elements, _bytes in _TENSORS.values())
"""What single tensors can be given."""

REMOVED_TYPES = frozenset(REMOVED_TENSOR_TYPES.values())
"""What llama.cpp once took: Q4_0 is now laid out anew for the processor when it is loaded."""

UNQUANTIZED = frozenset({"F32", "F16", "BF16"})

REFUSED_WITHOUT_IMATRIX = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "Q2_K_S"})
"""What llama-quantize refuses to make without an importance matrix."""

POOR_WITHOUT_IMATRIX = frozenset({"IQ2_M", "IQ3_XXS", "Q2_K"})
"""What it makes without one, and makes much better with one."""
