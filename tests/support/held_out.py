"""Models that no rule of the estimate was made from: other sizes, other makers, other parts; only ever compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shapes import TOYS, Shape, Size

if TYPE_CHECKING:
    from collections.abc import Callable

_OUTPUT = "output.weight"


def _tied(build: Callable[[Shape], None]) -> Callable[[Shape], None]:
    """Have the output use the embeddings' matrix."""

    def made(b: Shape) -> None:
        build(b)
        b.tensors = [one for one in b.tensors if one[0] != _OUTPUT]

    return made


def _llama_of_experts(b: Shape) -> None:
    b.base()
    b.u("expert_count", b.size.experts)
    b.u("expert_used_count", b.size.used)
    b.embed()
    for i in range(b.size.layers):
        b.attention(i)
        b.moe(i)


def _deepseek2_lite(b: Shape) -> None:
    """Have queries from one matrix, and two shared experts."""
    TOYS["deepseek2"][1](b)
    c = b.size
    made: list[tuple[str, str, tuple[int, ...]]] = []
    del b.keys["deepseek2.attention.q_lora_rank"]
    b.u("expert_shared_count", 2)
    for name, kind, dimensions in b.tensors:
        if ".attn_q_a" in name:
            continue
        if ".attn_q_b." in name:
            made.append((name.replace("_q_b", "_q"), kind, (c.embd, dimensions[1])))
        elif "_shexp." in name:
            wide = (2 * dimensions[0], dimensions[1]) if "down" in name else (dimensions[0], 2 * dimensions[1])
            made.append((name, kind, wide))
        else:
            made.append((name, kind, dimensions))
    b.tensors = made


def _mamba2(b: Shape) -> None:
    b.base(head=False)
    b.ssm_keys(groups=b.size.groups)
    b.embed()
    for i in range(b.size.layers):
        b.mamba2(i, b.size.groups)


def _heads(c: Size) -> list[int]:
    return [c.kv_heads if i in c.attention else 0 for i in range(c.layers)]


def _jamba_of_experts(b: Shape) -> None:
    heads = _heads(b.size)
    b.base(kv_heads=heads)
    b.u("expert_count", b.size.experts)
    b.u("expert_used_count", b.size.used)
    b.ssm_keys()
    b.embed()
    for i, own in enumerate(heads):
        if own:
            b.attention(i)
        else:
            b.mamba1(i, dt_norm=True)
        if i % 2:
            b.moe(i)
        else:
            b.ffn(i)


def _granite_of_experts(b: Shape) -> None:
    heads, c = _heads(b.size), b.size
    b.base(kv_heads=heads)
    b.u("expert_count", c.experts)
    b.u("expert_used_count", c.used)
    b.u("expert_shared_feed_forward_length", 2 * c.ff)
    b.ssm_keys(groups=1)
    b.embed(out=False)
    for i, own in enumerate(heads):
        if own:
            b.attention(i)
        else:
            b.mamba2(i, 1)
        b.moe(i, shared=2 * c.ff)


def _lfm2_of_experts(b: Shape) -> None:
    c, heads = b.size, _heads(b.size)
    b.base(kv_heads=heads)
    b.moe_keys()
    b.u("expert_gating_func", 2)
    b.u("leading_dense_block_count", c.dense)
    b.u("shortconv.l_cache", 3)
    b.embed(out=False, norm=False)
    b.t("token_embd_norm.weight", c.embd)
    for i, own in enumerate(heads):
        p = f"blk.{i}."
        if own:
            b.attention(i, qk_norm=True)
        else:
            b.t(p + "attn_norm.weight", c.embd)
            b.t(p + "shortconv.in_proj.weight", c.embd, 3 * c.embd)
            b.t(p + "shortconv.conv.weight", 3, c.embd, f32=True)
            b.t(p + "shortconv.out_proj.weight", c.embd, c.embd)
        if i < c.dense:
            b.ffn(i)
        else:
            b.moe(i)
            b.t(p + "exp_probs_b.bias", c.experts)


def _qwen3next(b: Shape) -> None:
    c, state = b.size, 128
    n_v, n_k = c.dt_rank, c.groups
    inner, conv = state * n_v, state * (n_v + 2 * n_k)
    b.base()
    b.moe_keys()
    b.u("expert_shared_feed_forward_length", c.expert_ff)
    for key, value in (("inner_size", inner), ("state_size", state), ("time_step_rank", n_v), ("group_count", n_k)):
        b.u(f"ssm.{key}", value)
    b.u("ssm.conv_kernel", 4)
    b.u("full_attention_interval", 4)
    b.embed()
    for i in range(c.layers):
        p = f"blk.{i}."
        if (i + 1) % 4 == 0:
            b.attention(i, qk_norm=True, q_mul=2)
        else:
            b.t(p + "attn_norm.weight", c.embd)
            b.t(p + "attn_qkv.weight", c.embd, conv)
            b.t(p + "attn_gate.weight", c.embd, inner)
            b.t(p + "ssm_conv1d.weight", 4, conv, f32=True)
            b.t(p + "ssm_dt.bias", n_v)
            b.t(p + "ssm_a", n_v)
            b.t(p + "ssm_ba.weight", c.embd, 2 * n_v)
            b.t(p + "ssm_norm.weight", state)
            b.t(p + "ssm_out.weight", inner, c.embd)
        b.t(p + "post_attention_norm.weight", c.embd)
        b.moe(i, norm="", shared=c.expert_ff)
        b.t(p + "ffn_gate_inp_shexp.weight", c.embd)


def _reranker(b: Shape) -> None:
    """Have a head that gives one number for a pair of texts."""
    TOYS["bert"][1](b)
    b.u("pooling_type", 4)
    b.t("cls.weight", b.size.embd, b.size.embd)
    b.t("cls.bias", b.size.embd)
    b.t("cls.output.weight", b.size.embd, 1)
    b.t("cls.output.bias", 1)


# From the config.json that each model's makers publish.
HELD_OUT: dict[str, tuple[str, Callable[[Shape], None], Size]] = {
    "Llama-3.2-1B": (
        "llama",
        _tied(TOYS["llama"][1]),
        Size(16, 2048, 8192, 32, 8, 64, 128256, ctx_train=131072, weights="Q8_0"),
    ),
    "Llama-3.2-3B": (
        "llama",
        _tied(TOYS["llama"][1]),
        Size(28, 3072, 8192, 24, 8, 128, 128256, ctx_train=131072, weights="Q4_K"),
    ),
    "Qwen2.5-14B": ("qwen2", TOYS["qwen2"][1], Size(48, 5120, 13824, 40, 8, 128, 152064, weights="Q4_K")),
    "Qwen2.5-72B": ("qwen2", TOYS["qwen2"][1], Size(80, 8192, 29568, 64, 8, 128, 152064, weights="Q4_K")),
    "Qwen3-0.6B": (
        "qwen3",
        _tied(TOYS["qwen3"][1]),
        Size(28, 1024, 3072, 16, 8, 128, 151936, ctx_train=40960, weights="Q8_0"),
    ),
    "Gemma-2-9B": ("gemma2", TOYS["gemma2"][1], Size(42, 3584, 14336, 16, 8, 256, 256000, 4096, 8192, weights="Q4_K")),
    "Gemma-3-4B": (
        "gemma3",
        TOYS["gemma3"][1],
        Size(34, 2560, 10240, 8, 4, 256, 262208, 1024, 131072, weights="Q4_K"),
    ),
    "Command-R7B": (
        "cohere2",
        TOYS["cohere2"][1],
        Size(32, 4096, 14336, 32, 8, 128, 256000, 4096, 132096, weights="Q4_K"),
    ),
    "Olmo-3-7B": ("olmo2", TOYS["olmo2"][1], Size(32, 4096, 11008, 32, 32, 128, 100278, 4096, 65536, weights="Q4_K")),
    "Phi-4-14B": ("phi3", TOYS["phi3"][1], Size(40, 5120, 17920, 40, 10, 128, 100352, 16384, 16384, weights="Q4_K")),
    "Mixtral-8x7B": (
        "llama",
        _llama_of_experts,
        Size(32, 4096, 14336, 32, 8, 128, 32000, experts=8, used=2, weights="Q4_K"),
    ),
    "Qwen3-235B-A22B": (
        "qwen3moe",
        TOYS["qwen3moe"][1],
        Size(94, 4096, 12288, 64, 4, 128, 151936, ctx_train=40960, experts=128, used=8, expert_ff=1536, weights="Q4_K"),
    ),
    "gpt-oss-120b": (
        "gpt-oss",
        TOYS["gpt-oss"][1],
        Size(36, 2880, 2880, 64, 8, 64, 201088, 128, 131072, experts=128, used=4, weights="MXFP4"),
    ),
    "Kimi-K2": (
        "deepseek2",
        TOYS["deepseek2"][1],
        Size(61, 7168, 18432, 64, 64, 128, 163840, ctx_train=131072, experts=384, used=8, expert_ff=2048, q_lora=1536,
             dense=1, weights="Q4_K"),
    ),
    "DeepSeek-V2-Lite": (
        "deepseek2",
        _deepseek2_lite,
        Size(27, 2048, 10944, 16, 16, 128, 102400, ctx_train=163840, experts=64, used=6, expert_ff=1408, dense=1,
             weights="Q8_0"),
    ),
    "Mamba-2.8B": (
        "mamba",
        TOYS["mamba"][1],
        Size(64, 2560, 0, vocab=50280, inner=5120, dt_rank=160, weights="Q8_0"),
    ),
    "Codestral-Mamba-7B": (
        "mamba2",
        _mamba2,
        Size(64, 4096, 0, vocab=32768, state=128, inner=8192, dt_rank=128, groups=8, weights="Q8_0"),
    ),
    "Jamba-1.5-Mini": (
        "jamba",
        _jamba_of_experts,
        Size(32, 4096, 14336, 32, 8, 128, 65536, ctx_train=262144, inner=8192, dt_rank=256, experts=16, used=2,
             attention=(4, 12, 20, 28), weights="Q4_K"),
    ),
    "Granite-4.0-H-Small": (
        "granitehybrid",
        _granite_of_experts,
        Size(40, 4096, 768, 32, 8, 128, 100352, ctx_train=131072, state=128, inner=8192, dt_rank=128, experts=72,
             used=10, attention=(5, 15, 25, 35), weights="Q8_0"),
    ),
    "Falcon-H1-7B": (
        "falcon-h1",
        TOYS["falcon-h1"][1],
        Size(44, 3072, 12288, 12, 2, 128, 130048, ctx_train=262144, state=256, inner=3072, dt_rank=24, weights="Q8_0"),
    ),
    "LFM2-2.6B": (
        "lfm2",
        TOYS["lfm2"][1],
        Size(30, 2048, 10752, 32, 8, 64, 65536, ctx_train=128000, attention=(2, 5, 9, 12, 15, 19, 22, 25),
             weights="Q8_0"),
    ),
    "LFM2-8B-A1B": (
        "lfm2moe",
        _lfm2_of_experts,
        Size(24, 2048, 7168, 32, 8, 64, 65536, ctx_train=128000, experts=32, used=4, expert_ff=1792, dense=2,
             attention=(2, 6, 10, 14, 18, 21), weights="Q8_0"),
    ),
    "Qwen3-Next-80B-A3B": (
        "qwen3next",
        _qwen3next,
        Size(48, 2048, 5120, 16, 2, 256, 151936, ctx_train=262144, dt_rank=32, groups=16, experts=512, used=10,
             expert_ff=512, weights="Q4_K"),
    ),
    "RWKV-7-2.9B": ("rwkv7", TOYS["rwkv7"][1], Size(32, 2560, 10240, vocab=65536, weights="Q8_0")),
    "BGE-large": ("bert", TOYS["bert"][1], Size(24, 1024, 4096, 16, 16, 64, 30522, ctx_train=512)),
    "Gemma-3-12B": (
        "gemma3",
        TOYS["gemma3"][1],
        Size(48, 3840, 15360, 16, 8, 256, 262208, 1024, 131072, weights="Q4_0"),
    ),
    "Mistral-Nemo-12B": (
        "llama",
        TOYS["llama"][1],
        Size(40, 5120, 14336, 32, 8, 128, 131072, ctx_train=131072, weights="Q5_K"),
    ),
    "Qwen2.5-0.5B": ("qwen2", _tied(TOYS["qwen2"][1]), Size(24, 896, 4864, 14, 2, 64, 151936, weights="Q8_0")),
    "Qwen3-32B": ("qwen3", TOYS["qwen3"][1], Size(64, 5120, 25600, 64, 8, 128, 151936, ctx_train=40960, weights="Q4_K")),
    "Granite-4.0-H-Tiny": (
        "granitehybrid",
        _granite_of_experts,
        Size(40, 1536, 512, 12, 4, 128, 100352, ctx_train=131072, state=128, inner=3072, dt_rank=48, experts=64, used=6,
             attention=(5, 15, 25, 35), weights="Q8_0"),
    ),
    "Falcon-H1-1.5B": (
        "falcon-h1",
        TOYS["falcon-h1"][1],
        Size(24, 2048, 4096, 8, 2, 128, 65536, ctx_train=131072, state=256, inner=3072, dt_rank=48, weights="Q8_0"),
    ),
    "BGE-reranker-large": ("bert", _reranker, Size(24, 1024, 4096, 16, 16, 64, 250002, ctx_train=512)),
    "MiniLM-L6": ("bert", TOYS["bert"][1], Size(6, 384, 1536, 12, 12, 32, 30522, ctx_train=512)),
}  # fmt: skip


def held_out(name: str) -> Shape:
    """Return one of these models."""
    architecture, build, size = HELD_OUT[name]
    made = Shape(architecture, size)
    build(made)
    return made
