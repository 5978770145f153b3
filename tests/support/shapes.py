"""Models as headers alone: the keys and tensors of an architecture at any size, in a sparse file without weights.

llama.cpp's dry run and our estimate read nothing else, so a model of 700 GB costs a few kilobytes of disk. Adapted from a
generator of small random models made for this project's research, whose 21 architectures llama.cpp loads; here only the
headers are left.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lading.formats.gguf_types import TENSOR_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lading.hparams import Hparams

    Models = Callable[[str], Hparams]

_TYPES = {name: (number, block, size) for number, (name, block, size) in TENSOR_TYPES.items()}
_ALIGNMENT = 32
_BYTES = 256


@dataclass(frozen=True)
class Size:
    """The dimensions of a model; the default is a toy. `weights` is the type of its matrices."""

    layers: int = 12
    embd: int = 256
    ff: int = 512
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    vocab: int = 512
    window: int = 512
    ctx_train: int = 32768
    state: int = 16
    inner: int = 0
    dt_rank: int = 8
    groups: int = 1
    experts: int = 4
    used: int = 2
    expert_ff: int = 0
    q_lora: int = 192
    dense: int = 1
    attention: tuple[int, ...] = ()
    weights: str = "F16"


@dataclass
class Shape:
    """One model's keys and tensors, dimensions in ggml's order."""

    architecture: str
    size: Size
    keys: dict[str, Any] = field(default_factory=dict)
    tensors: list[tuple[str, str, tuple[int, ...]]] = field(default_factory=list)

    def u(self, key: str, value: float | str | list[int]) -> None:
        """Say a key of the architecture."""
        self.keys[f"{self.architecture}.{key}"] = value

    def t(self, name: str, *dimensions: int, f32: bool | None = None) -> None:
        """Have a tensor: a matrix in the model's type unless told `f32`, a vector in F32."""
        plain = len(dimensions) < 2 if f32 is None else f32
        self.tensors.append((name, "F32" if plain else self._type(dimensions), dimensions))

    def _type(self, dimensions: tuple[int, ...]) -> str:
        # As llama-quantize: a row that its type cannot hold gets another.
        return self.size.weights if dimensions[0] % _TYPES[self.size.weights][1] == 0 else "F16"

    def write(self, path: Path, *, vocabulary: bool = True) -> Path:
        """Write the header, and a hole where the weights would be; without `vocabulary` llama.cpp does not load it."""
        said = {"general.architecture": self.architecture, "general.file_type": 1, **self.keys}
        if vocabulary:
            said |= _VOCABULARIES.get(self.architecture, _spm)(self.size.vocab)
        parts = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(said))]
        for key, value in said.items():
            kind, raw = _encoded(value)
            parts += [_string(key), struct.pack("<I", kind), raw]
        offset = 0
        for name, kind_name, dimensions in self.tensors:
            number, block, size = _TYPES[kind_name]
            parts += [
                _string(name),
                struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, number, offset),
            ]
            elements = 1
            for one in dimensions:
                elements *= one
            offset += -(-elements // block * size // _ALIGNMENT) * _ALIGNMENT
        head = b"".join(parts)
        with path.open("wb") as file:
            file.write(head)
            file.truncate(-(-len(head) // _ALIGNMENT) * _ALIGNMENT + offset)
        return path

    def base(self, *, norm: str = "rms", head: bool = True, kv_heads: list[int] | None = None) -> None:
        """Say what every architecture says."""
        c = self.size
        self.u("context_length", c.ctx_train)
        self.u("embedding_length", c.embd)
        self.u("block_count", c.layers)
        self.u("feed_forward_length", c.ff)
        if head:
            self.u("attention.head_count", c.heads)
            self.u("attention.head_count_kv", c.kv_heads if kv_heads is None else kv_heads)
            self.u("attention.key_length", c.head_dim)
            self.u("attention.value_length", c.head_dim)
            self.u("rope.dimension_count", c.head_dim)
            self.u("rope.freq_base", 10000.0)
        self.u("attention.layer_norm_rms_epsilon" if norm == "rms" else "attention.layer_norm_epsilon", 1e-5)
        self.u("vocab_size", c.vocab)

    def embed(self, *, out: bool = True, norm: bool = True) -> None:
        """Have the embeddings, and the output layer unless it is tied to them."""
        c = self.size
        self.t("token_embd.weight", c.embd, c.vocab)
        if norm:
            self.t("output_norm.weight", c.embd)
        if out:
            self.t("output.weight", c.embd, c.vocab)

    def attention(
        self, i: int, *, bias: bool = False, qk_norm: bool = False, q_mul: int = 1, fused: bool = False
    ) -> None:
        """Have the tensors of an attention layer."""
        c, p = self.size, f"blk.{i}."
        q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
        self.t(p + "attn_norm.weight", c.embd)
        if fused:
            self.t(p + "attn_qkv.weight", c.embd, q + 2 * kv)
        else:
            for name, width in (("q", q * q_mul), ("k", kv), ("v", kv)):
                self.t(f"{p}attn_{name}.weight", c.embd, width)
                if bias:
                    self.t(f"{p}attn_{name}.bias", width)
        if qk_norm:
            self.t(p + "attn_q_norm.weight", c.head_dim)
            self.t(p + "attn_k_norm.weight", c.head_dim)
        self.t(p + "attn_output.weight", q, c.embd)

    def ffn(self, i: int, norm: str = "ffn_norm") -> None:
        """Have the tensors of a dense feed-forward layer; no norm if its name is empty."""
        c, p = self.size, f"blk.{i}."
        if norm:
            self.t(f"{p}{norm}.weight", c.embd)
        self.t(p + "ffn_gate.weight", c.embd, c.ff)
        self.t(p + "ffn_up.weight", c.embd, c.ff)
        self.t(p + "ffn_down.weight", c.ff, c.embd)

    def moe(self, i: int, *, norm: str = "ffn_norm", bias: bool = False, shared: int = 0) -> None:
        """Have the tensors of a layer of experts, with a shared one `shared` wide."""
        c, p, n = self.size, f"blk.{i}.", self.size.experts
        ff = c.expert_ff or c.ff
        if norm:
            self.t(f"{p}{norm}.weight", c.embd)
        self.t(p + "ffn_gate_inp.weight", c.embd, n, f32=True)
        for name, a, b in (("gate", c.embd, ff), ("up", c.embd, ff), ("down", ff, c.embd)):
            self.t(f"{p}ffn_{name}_exps.weight", a, b, n)
            if bias:
                self.t(f"{p}ffn_{name}_exps.bias", b, n, f32=True)
            if shared:
                self.t(f"{p}ffn_{name}_shexp.weight", *((c.embd, shared) if name != "down" else (shared, c.embd)))
        if bias:
            self.t(p + "ffn_gate_inp.bias", n)

    def moe_keys(self) -> None:
        """Say how many experts there are."""
        self.u("expert_count", self.size.experts)
        self.u("expert_used_count", self.size.used)
        self.u("expert_feed_forward_length", self.size.expert_ff or self.size.ff)

    def ssm_keys(self, groups: int | None = None) -> None:
        """Say the dimensions of a state-space layer."""
        c = self.size
        self.u("ssm.conv_kernel", 4)
        self.u("ssm.inner_size", c.inner or 2 * c.embd)
        self.u("ssm.state_size", c.state)
        self.u("ssm.time_step_rank", c.dt_rank)
        if groups is not None:
            self.u("ssm.group_count", groups)

    def mamba1(self, i: int, *, dt_norm: bool = False) -> None:
        """Have the tensors of a Mamba layer."""
        c, p, d = self.size, f"blk.{i}.", self.size.inner or 2 * self.size.embd
        self.t(p + "attn_norm.weight", c.embd)
        self.t(p + "ssm_in.weight", c.embd, 2 * d)
        self.t(p + "ssm_conv1d.weight", 4, d, f32=True)
        self.t(p + "ssm_conv1d.bias", d)
        self.t(p + "ssm_x.weight", d, c.dt_rank + 2 * c.state)
        self.t(p + "ssm_dt.weight", c.dt_rank, d, f32=True)
        self.t(p + "ssm_dt.bias", d)
        self.t(p + "ssm_a", c.state, d, f32=True)
        self.t(p + "ssm_d", d)
        self.t(p + "ssm_out.weight", d, c.embd)
        if dt_norm:
            self.t(p + "ssm_dt_norm.weight", c.dt_rank)
            self.t(p + "ssm_b_norm.weight", c.state)
            self.t(p + "ssm_c_norm.weight", c.state)

    def mamba2(self, i: int, groups: int) -> None:
        """Have the tensors of a Mamba-2 layer."""
        c, p, d = self.size, f"blk.{i}.", self.size.inner or 2 * self.size.embd
        conv = d + 2 * groups * c.state
        self.t(p + "attn_norm.weight", c.embd)
        self.t(p + "ssm_in.weight", c.embd, d + conv + c.dt_rank)
        self.t(p + "ssm_conv1d.weight", 4, conv, f32=True)
        self.t(p + "ssm_conv1d.bias", conv)
        self.t(p + "ssm_dt.bias", c.dt_rank)
        self.t(p + "ssm_a", 1, c.dt_rank, f32=True)
        self.t(p + "ssm_d", 1, c.dt_rank, f32=True)
        self.t(p + "ssm_norm.weight", d // groups, groups, f32=True)
        self.t(p + "ssm_out.weight", d, c.embd)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _encoded(value: str | float | list[Any]) -> tuple[int, bytes]:
    match value:
        case bool():
            return 7, struct.pack("<?", value)
        case int():
            return 4, struct.pack("<I", value)
        case float():
            return 6, struct.pack("<f", value)
        case str():
            return 8, _string(value)
        case [str(), *_]:
            return 9, struct.pack("<IQ", 8, len(value)) + b"".join(map(_string, value))
        case _:
            # llama.cpp takes token types as signed numbers only.
            code, kind = ("f", 6) if isinstance(value[0], float) else ("i", 5)
            return 9, struct.pack(f"<IQ{len(value)}{code}", kind, len(value), *value)


def _spm(count: int) -> dict[str, Any]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(_BYTES))]
    tokens += [f"▁w{number}" for number in range(count - len(tokens))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(number) for number in range(count - 259)],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * _BYTES + [1] * (count - 259),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _rwkv(count: int) -> dict[str, Any]:
    tokens = ["<s>", *(f"\\x{byte:02x}" for byte in range(_BYTES))]
    tokens += [f"w{number}" for number in range(count - len(tokens))]
    return {
        "tokenizer.ggml.model": "rwkv",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] + [1] * (count - 1),
    }


def _bert(count: int) -> dict[str, Any]:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *("▁" + chr(33 + number) for number in range(90))]
    tokens += [f"▁w{number}" for number in range(count - len(tokens))]
    marks = (("bos", 2), ("eos", 3), ("unknown", 1), ("seperator", 3), ("padding", 0), ("cls", 2), ("mask", 4))
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * 5 + [1] * (count - 5),
        "tokenizer.ggml.token_type_count": 2,
        **{f"tokenizer.ggml.{mark}_token_id": number for mark, number in marks},
    }


_VOCABULARIES: dict[str, Callable[[int], dict[str, Any]]] = {"bert": _bert, "rwkv7": _rwkv}


def _plain(b: Shape, *, bias: bool = False, qk_norm: bool = False) -> None:
    b.base()
    b.embed()
    for i in range(b.size.layers):
        b.attention(i, bias=bias, qk_norm=qk_norm)
        b.ffn(i)


def _qwen2(b: Shape) -> None:
    _plain(b, bias=True)


def _qwen3(b: Shape) -> None:
    _plain(b, qk_norm=True)


def _qwen3moe(b: Shape) -> None:
    b.base()
    b.moe_keys()
    b.embed()
    for i in range(b.size.layers):
        b.attention(i, qk_norm=True)
        b.moe(i)


def _gemma(b: Shape, *, qk: bool) -> None:
    b.base()
    b.u("attention.sliding_window", b.size.window)
    b.embed(out=False)
    for i in range(b.size.layers):
        b.attention(i, qk_norm=qk)
        b.t(f"blk.{i}.post_attention_norm.weight", b.size.embd)
        b.ffn(i)
        b.t(f"blk.{i}.post_ffw_norm.weight", b.size.embd)


def _gemma2(b: Shape) -> None:
    _gemma(b, qk=False)


def _gemma3(b: Shape) -> None:
    _gemma(b, qk=True)


def _cohere2(b: Shape) -> None:
    b.base(norm="ln")
    b.u("attention.sliding_window", b.size.window)
    b.u("logit_scale", 1.0)
    b.embed(out=False)
    for i in range(b.size.layers):
        b.attention(i)
        b.ffn(i, norm="")


def _olmo2(b: Shape) -> None:
    b.base()
    b.u("attention.sliding_window", b.size.window)
    b.embed()
    c = b.size
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
    for i in range(c.layers):
        p = f"blk.{i}."
        for name, width in (("q", q), ("k", kv), ("v", kv)):
            b.t(f"{p}attn_{name}.weight", c.embd, width)
        b.t(p + "attn_q_norm.weight", q)
        b.t(p + "attn_k_norm.weight", kv)
        b.t(p + "attn_output.weight", q, c.embd)
        b.t(p + "post_attention_norm.weight", c.embd)
        b.ffn(i, norm="")
        b.t(p + "post_ffw_norm.weight", c.embd)


def _phi3(b: Shape) -> None:
    b.base()
    b.u("rope.scaling.original_context_length", b.size.ctx_train)
    b.u("attention.sliding_window", b.size.window)
    b.embed()
    c = b.size
    for i in range(c.layers):
        b.attention(i, fused=True)
        b.t(f"blk.{i}.ffn_norm.weight", c.embd)
        b.t(f"blk.{i}.ffn_up.weight", c.embd, 2 * c.ff)
        b.t(f"blk.{i}.ffn_down.weight", c.ff, c.embd)


def _gpt_oss(b: Shape) -> None:
    b.base()
    b.moe_keys()
    b.u("attention.sliding_window", b.size.window)
    b.embed()
    for i in range(b.size.layers):
        b.attention(i, bias=True)
        b.t(f"blk.{i}.attn_output.bias", b.size.embd)
        b.t(f"blk.{i}.post_attention_norm.weight", b.size.embd)
        b.t(f"blk.{i}.attn_sinks.weight", b.size.heads)
        b.moe(i, norm="", bias=True)


def _deepseek2(b: Shape, *, mla: bool = True) -> None:
    c, nope, rope, v, lora = b.size, 128, 64, 128, 512
    b.base(head=False)
    b.u("attention.head_count", c.heads)
    b.u("attention.head_count_kv", 1 if mla else c.heads)
    b.u("attention.key_length", lora + rope if mla else nope + rope)
    b.u("attention.value_length", lora if mla else v)
    if mla:
        b.u("attention.key_length_mla", nope + rope)
        b.u("attention.value_length_mla", v)
    b.u("attention.q_lora_rank", c.q_lora)
    b.u("attention.kv_lora_rank", lora)
    b.u("rope.dimension_count", rope)
    b.u("rope.freq_base", 10000.0)
    b.u("leading_dense_block_count", c.dense)
    b.moe_keys()
    b.u("expert_shared_count", 1)
    b.u("expert_weights_scale", 1.0)
    b.embed()
    for i in range(c.layers):
        p = f"blk.{i}."
        b.t(p + "attn_norm.weight", c.embd)
        b.t(p + "attn_q_a.weight", c.embd, c.q_lora)
        b.t(p + "attn_q_a_norm.weight", c.q_lora)
        b.t(p + "attn_q_b.weight", c.q_lora, c.heads * (nope + rope))
        b.t(p + "attn_kv_a_mqa.weight", c.embd, lora + rope)
        b.t(p + "attn_kv_a_norm.weight", lora)
        if mla:
            b.t(p + "attn_k_b.weight", nope, lora, c.heads)
            b.t(p + "attn_v_b.weight", lora, v, c.heads)
        else:
            b.t(p + "attn_kv_b.weight", lora, c.heads * (nope + v))
        b.t(p + "attn_output.weight", c.heads * v, c.embd)
        if i < c.dense:
            b.ffn(i)
        else:
            b.moe(i, shared=c.expert_ff or c.ff)
            b.t(p + "exp_probs_b.bias", c.experts)


def _deepseek2_legacy(b: Shape) -> None:
    _deepseek2(b, mla=False)


def _mamba(b: Shape) -> None:
    b.base(head=False)
    b.ssm_keys()
    b.embed()
    for i in range(b.size.layers):
        b.mamba1(i)


def _mamba2(b: Shape) -> None:
    b.base(head=False)
    b.ssm_keys(groups=2)
    b.embed()
    for i in range(b.size.layers):
        b.mamba2(i, 2)


def _hybrid_heads(c: Size, every: int = 4) -> list[int]:
    if c.attention:
        return [c.kv_heads if i in c.attention else 0 for i in range(c.layers)]
    return [c.kv_heads if i % every == every - 1 else 0 for i in range(c.layers)]


def _jamba(b: Shape) -> None:
    heads = _hybrid_heads(b.size)
    b.base(kv_heads=heads)
    b.ssm_keys()
    b.embed()
    for i, own in enumerate(heads):
        if own:
            b.attention(i)
        else:
            b.mamba1(i, dt_norm=True)
        b.ffn(i)


def _granitehybrid(b: Shape) -> None:
    heads = _hybrid_heads(b.size)
    b.base(kv_heads=heads)
    b.ssm_keys(groups=1)
    b.embed()
    for i, own in enumerate(heads):
        if own:
            b.attention(i)
        else:
            b.mamba2(i, 1)
        b.ffn(i)


def _falcon_h1(b: Shape) -> None:
    c = b.size
    b.base()
    b.ssm_keys(groups=1)
    b.embed(norm=False)
    b.t("output_norm.weight", c.embd)
    for i in range(c.layers):
        b.mamba2(i, 1)
        p, q, kv = f"blk.{i}.", c.heads * c.head_dim, c.kv_heads * c.head_dim
        for name, width in (("q", q), ("k", kv), ("v", kv)):
            b.t(f"{p}attn_{name}.weight", c.embd, width)
        b.t(p + "attn_output.weight", q, c.embd)
        b.ffn(i, norm="")
        b.t(p + "ffn_norm", c.embd)  # this architecture names it without ".weight"


def _lfm2(b: Shape) -> None:
    c, heads = b.size, _hybrid_heads(b.size, 3)
    b.base(kv_heads=heads)
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
        b.ffn(i)


def _qwen3next(b: Shape) -> None:
    c = b.size
    state, n_v, n_k = 128, 4, 2
    inner = state * n_v
    b.base()
    b.moe_keys()
    b.u("expert_shared_feed_forward_length", c.ff)
    b.u("ssm.conv_kernel", 4)
    b.u("ssm.inner_size", inner)
    b.u("ssm.state_size", state)
    b.u("ssm.time_step_rank", n_v)
    b.u("ssm.group_count", n_k)
    b.u("full_attention_interval", 4)
    b.embed()
    for i in range(c.layers):
        p = f"blk.{i}."
        if (i + 1) % 4 == 0:
            b.attention(i, qk_norm=True, q_mul=2)
        else:
            b.t(p + "attn_norm.weight", c.embd)
            conv = inner + 2 * n_k * state
            b.t(p + "attn_qkv.weight", c.embd, conv)
            b.t(p + "attn_gate.weight", c.embd, inner)
            b.t(p + "ssm_conv1d.weight", 4, conv, f32=True)
            b.t(p + "ssm_dt.bias", n_v)
            b.t(p + "ssm_a", n_v)
            b.t(p + "ssm_ba.weight", c.embd, 2 * n_v)
            b.t(p + "ssm_norm.weight", state)
            b.t(p + "ssm_out.weight", inner, c.embd)
        b.t(p + "post_attention_norm.weight", c.embd)
        b.moe(i, norm="", shared=c.ff)
        b.t(p + "ffn_gate_inp_shexp.weight", c.embd)


def _rwkv7(b: Shape) -> None:
    c, head, rank = b.size, 64, 32
    b.base(norm="ln", head=False)
    b.u("attention.head_count", 0)
    b.u("wkv.head_size", head)
    b.u("token_shift_count", 2)
    for key in ("decay", "iclr", "value_residual_mix", "gate"):
        b.u(f"attention.{key}_lora_rank", rank)
    b.embed()
    b.t("output_norm.bias", c.embd)
    b.t("token_embd_norm.weight", c.embd)
    b.t("token_embd_norm.bias", c.embd)
    for i in range(c.layers):
        p = f"blk.{i}."
        for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            b.t(f"{p}{name}.weight", c.embd)
            b.t(f"{p}{name}.bias", c.embd)
        for name in "wav":
            b.t(f"{p}time_mix_{name}0.weight", c.embd)
            b.t(f"{p}time_mix_{name}1.weight", c.embd, rank)
            b.t(f"{p}time_mix_{name}2.weight", rank, c.embd)
        b.t(p + "time_mix_g1.weight", c.embd, rank)
        b.t(p + "time_mix_g2.weight", rank, c.embd)
        b.t(p + "time_mix_lerp_fused.weight", c.embd, 1, 1, 6, f32=True)
        for name in ("k_k", "k_a", "r_k"):
            b.t(f"{p}time_mix_{name}.weight", c.embd)
        for name in ("key", "value", "receptance", "output"):
            b.t(f"{p}time_mix_{name}.weight", c.embd, c.embd)
        b.t(p + "channel_mix_lerp_k.weight", c.embd, 1, 1, f32=True)
        b.t(p + "channel_mix_key.weight", c.embd, c.ff)
        b.t(p + "channel_mix_value.weight", c.ff, c.embd)


def _bert_layers(b: Shape) -> None:
    c = b.size
    b.base(norm="ln", head=False)
    b.keys["bert.context_length"] = min(c.ctx_train, 2048)
    b.u("attention.head_count", c.heads)
    b.u("attention.causal", False)
    b.u("pooling_type", 1)
    b.embed(out=False, norm=False)
    b.t("token_types.weight", c.embd, 2)
    b.t("position_embd.weight", c.embd, min(c.ctx_train, 2048))
    b.t("token_embd_norm.weight", c.embd)
    b.t("token_embd_norm.bias", c.embd)
    for i in range(c.layers):
        p = f"blk.{i}."
        square = ((f"attn_{name}", c.embd, c.embd) for name in ("q", "k", "v", "output"))
        for name, x, y in (*square, ("ffn_up", c.embd, c.ff), ("ffn_down", c.ff, c.embd)):
            b.t(f"{p}{name}.weight", x, y)
            b.t(f"{p}{name}.bias", y)
        for name in ("attn_output_norm", "layer_output_norm"):
            b.t(f"{p}{name}.weight", c.embd)
            b.t(f"{p}{name}.bias", c.embd)


TOYS: dict[str, tuple[str, Callable[[Shape], None]]] = {
    "llama": ("llama", _plain),
    "qwen2": ("qwen2", _qwen2),
    "qwen3": ("qwen3", _qwen3),
    "qwen3moe": ("qwen3moe", _qwen3moe),
    "gemma2": ("gemma2", _gemma2),
    "gemma3": ("gemma3", _gemma3),
    "cohere2": ("cohere2", _cohere2),
    "olmo2": ("olmo2", _olmo2),
    "phi3": ("phi3", _phi3),
    "gpt-oss": ("gpt-oss", _gpt_oss),
    "deepseek2": ("deepseek2", _deepseek2),
    "deepseek2-legacy": ("deepseek2", _deepseek2_legacy),
    "mamba": ("mamba", _mamba),
    "mamba2": ("mamba2", _mamba2),
    "jamba": ("jamba", _jamba),
    "granitehybrid": ("granitehybrid", _granitehybrid),
    "falcon-h1": ("falcon-h1", _falcon_h1),
    "lfm2": ("lfm2", _lfm2),
    "qwen3next": ("qwen3next", _qwen3next),
    "rwkv7": ("rwkv7", _rwkv7),
    "bert": ("bert", _bert_layers),
}
"""Architectures by name: what llama.cpp calls it, and what makes its layers."""

# From the config.json that each model's makers publish; matrices in a type that such files often have.
REAL: dict[str, tuple[str, Size]] = {
    "Llama-3.1-8B": ("llama", Size(32, 4096, 14336, 32, 8, 128, 128256, ctx_train=131072, weights="Q4_K")),
    "Llama-3.1-70B": ("llama", Size(80, 8192, 28672, 64, 8, 128, 128256, ctx_train=131072, weights="Q4_K")),
    "Qwen3-8B": ("qwen3", Size(36, 4096, 12288, 32, 8, 128, 151936, ctx_train=40960, weights="Q5_K")),
    "Qwen3-30B-A3B": (
        "qwen3moe",
        Size(48, 2048, 6144, 32, 4, 128, 151936, ctx_train=40960, experts=128, used=8, expert_ff=768, weights="Q4_K"),
    ),
    "Gemma-3-27B": ("gemma3", Size(62, 5376, 21504, 32, 16, 128, 262208, 1024, 131072, weights="Q4_K")),
    "gpt-oss-20b": (
        "gpt-oss",
        Size(24, 2880, 2880, 64, 8, 64, 201088, 128, 131072, experts=32, used=4, weights="MXFP4"),
    ),
    "DeepSeek-V3": (
        "deepseek2",
        Size(61, 7168, 18432, 128, 128, 128, 129280, ctx_train=163840, experts=256, used=8, expert_ff=2048, q_lora=1536,
             dense=3, weights="Q4_K"),
    ),
    "Mistral-Small-24B": ("llama", Size(40, 5120, 32768, 32, 8, 128, 131072, ctx_train=32768, weights="Q4_K")),
    "Phi-3-mini": ("phi3", Size(32, 3072, 8192, 32, 32, 96, 32064, 2047, 4096, weights="Q4_K")),
    "Granite-4.0-H-Micro": (
        "granitehybrid",
        Size(40, 2048, 8192, 32, 8, 64, 100352, ctx_train=131072, state=128, inner=4096, dt_rank=64,
             attention=(5, 15, 25, 35), weights="Q8_0"),
    ),
    "LFM2-1.2B": (
        "lfm2",
        Size(16, 2048, 8192, 32, 8, 64, 65536, ctx_train=128000, attention=(2, 5, 8, 10, 12, 14), weights="Q8_0"),
    ),
}  # fmt: skip


def shape(name: str, size: Size | None = None) -> Shape:
    """Return a model by the name of its toy or its real shape; a toy of another size if one is given."""
    toy, real = (name, Size()) if name in TOYS else REAL[name]
    architecture, build = TOYS[toy]
    made = Shape(architecture, size or real)
    build(made)
    return made


def limit(name: str, layers: int, head: int) -> Shape:
    """Return a toy of so many layers, with heads of so many elements, as wide as they are together."""
    return shape(name, Size(layers, 4 * head, heads=4, kv_heads=2, head_dim=head))
