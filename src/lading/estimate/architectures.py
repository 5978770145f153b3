"""What llama.cpp's architectures keep for each layer: keys and values, a window of them, a state, or nothing.

Read from llama.cpp's source (0c1e57098: src/models/*.cpp, create_memory in src/llama-model.cpp); those in MEASURED were also
compared with what it allocates. An architecture that stands nowhere here is unknown, whatever its keys look like.
"""

from __future__ import annotations

from typing import NamedTuple

MEASURED = frozenset({
    "bert", "cohere2", "deepseek2", "falcon-h1", "gemma2", "gemma3", "gpt-oss", "granitehybrid", "jamba", "lfm2", "llama",
    "mamba", "mamba2", "olmo2", "phi3", "qwen2", "qwen3", "qwen3moe", "qwen3next", "rwkv7",
})  # fmt: skip

PLAIN = frozenset({
    "afmoe", "apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bitnet", "bloom", "chameleon", "chatglm",
    "codeshell", "cogvlm", "cohere2", "cohere2moe", "command-r", "dbrx", "deci", "deepseek", "deepseek2", "deepseek2-ocr",
    "dots1", "ernie4_5", "ernie4_5-moe", "exaone", "exaone-moe", "exaone4", "falcon", "gemma", "gemma2", "gemma3", "gemma3n",
    "gemma4", "glm4", "glm4moe", "gpt-oss", "gpt2", "gptj", "gptneox", "granite", "granite_swa", "granitemoe", "grok",
    "grovemoe", "hunyuan-dense", "hunyuan-moe", "hunyuan_vl", "internlm2", "jais", "jais2", "laguna", "llama", "llama-embed",
    "llama4", "maincoder", "maple", "mellum", "mimo2", "minicpm", "minicpm3", "minimax-m2", "mistral3", "mistral4", "mpt",
    "muse-glimmer", "nemotron", "olmo", "olmo2", "olmoe", "openelm", "orion", "paddleocr", "pangu-embedded", "phi2", "phi3",
    "phimoe", "plamo", "plamo3", "plm", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe",
    "refact", "seed_oss", "smallthinker", "smollm3", "spark2_5", "stablelm", "starcoder", "starcoder2", "step35", "xverse",
})  # fmt: skip
"""Every layer has keys and values (as many as its head_count_kv says, which may be none)."""

ENCODERS = frozenset({
    "bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "nomic-bert",
    "nomic-bert-moe",
})  # fmt: skip
"""Embedding and rerank models: no logits, and nothing is kept."""

CACHELESS = ENCODERS | {"dream", "llada", "llada-moe", "rnd1"}
"""Diffusion models keep nothing either: they compute the whole text again."""

RECURRENT = frozenset({"arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"})

HYBRID_BY_HEADS = frozenset({
    "bailingmoe3", "granitehybrid", "jamba", "kimi-linear", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "plamo2",
})  # fmt: skip
"""A layer without heads for keys and values has a state instead."""

HYBRID_BY_INTERVAL = frozenset({"qwen35", "qwen35moe", "qwen3next"})
"""All layers but each fourth, or what full_attention_interval says, have a state."""

HYBRID_IN_EACH = frozenset({"falcon-h1"})
"""Each layer has both."""

KNOWN = PLAIN | CACHELESS | RECURRENT | HYBRID_BY_HEADS | HYBRID_BY_INTERVAL | HYBRID_IN_EACH


class Window(NamedTuple):
    """How layers with a window alternate: of `period` layers one sees everything, the last or else the first.

    `period` 0: the model must list them. `size` is the default, 0 for one that must be said. `fixed`: the key is ignored.
    """

    period: int
    size: int = 0
    dense_first: bool = False
    fixed: bool = False


WINDOWS = {
    "afmoe": Window(4),
    "cohere2": Window(4),
    "cohere2moe": Window(4, dense_first=True),
    "exaone-moe": Window(4, 128),
    "exaone4": Window(4, 4096),
    "gemma2": Window(2, 4096),
    "gemma3": Window(6),
    "gemma3n": Window(5),
    "gemma4": Window(0),
    "gpt-oss": Window(2),
    "granite_swa": Window(0),
    "laguna": Window(4, dense_first=True),
    "llama4": Window(4, 8192, fixed=True),
    "maple": Window(0),
    "mellum": Window(4),
    "mimo2": Window(0),
    "muse-glimmer": Window(4),
    "olmo2": Window(4),
    "plamo3": Window(8),
    "smallthinker": Window(4, 4096, dense_first=True, fixed=True),
    "spark2_5": Window(0),
    "step35": Window(0),
}
"""Architectures some layers of which keep no more than a window. phi3 has the key too and is given no window."""
