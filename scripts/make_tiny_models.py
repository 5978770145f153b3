"""Writes tiny but real checkpoints of several architectures into a folder.

llama-bpe (byte-level BPE, Llama 3's pattern), llama-spm (SentencePiece), qwen2, bert (WordPiece) and idefics3, which
sees images, with random weights of seed 0 and tokenizers trained on text that every Debian has, and llama-lora, a PEFT
adapter for the first. Needs torch, transformers, tokenizers, sentencepiece and peft: a development tool, run by
scripts/tiny_models.sh in an environment of its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertModel,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

CHAT = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_PATTERN = _WORDS + r"\p{N}{1,3}" + _REST
QWEN2_PATTERN = _WORDS + r"\p{N}" + _REST
VOCABULARY = 4096
HIDDEN = 256
IMAGE = 64


def corpus() -> list[str]:
    """Return lines of text that every Debian with Python has: licences and the standard library."""
    files = sorted(Path("/usr/share/common-licenses").glob("*")) + sorted(Path(os.__file__).parent.glob("*.py"))[:150]
    text = "\n".join(file.read_text(encoding="utf-8", errors="ignore") for file in files if file.is_file())
    return [line for line in text.split("\n") if line.strip()]


def byte_level(lines: list[str], pattern: str, specials: list[str]) -> Tokenizer:
    """Train a byte-level BPE tokenizer that splits words by `pattern`."""
    made = Tokenizer(models.BPE(ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=specials, initial_alphabet=alphabet)
    made.train_from_iterator(lines, trainer)
    return made


def save(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write a model and its tokenizer as a hub repository would hold them."""
    model.to(dtype).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def llama_bpe(lines: list[str], out: Path) -> None:
    """Write llama-bpe and the adapter for it."""
    made = byte_level(lines, LLAMA3_PATTERN, ["<|begin_of_text|>", "<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|begin_of_text|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = CHAT
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    save(LlamaForCausalLM(config), tokenizer, out / "llama-bpe", torch.bfloat16)
    base = LlamaForCausalLM.from_pretrained(out / "llama-bpe")
    adapter = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=["q_proj", "v_proj"],
        init_lora_weights=False,
        base_model_name_or_path="llama-bpe",
    )
    get_peft_model(base, adapter).save_pretrained(out / "llama-lora")


def qwen2(lines: list[str], out: Path) -> None:
    """Write qwen2, with tied embeddings."""
    made = byte_level(lines, QWEN2_PATTERN, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made.normalizer = normalizers.NFC()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHAT
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    save(Qwen2ForCausalLM(config), tokenizer, out / "qwen2", torch.bfloat16)


def bert(lines: list[str], out: Path) -> None:
    """Write bert, in 32-bit floats."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=specials))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=8,
        intermediate_size=4 * HIDDEN,
    )
    save(BertModel(config), tokenizer, out / "bert", torch.float32)


def llama_spm(lines: list[str], out: Path) -> None:
    """Write llama-spm, in 16-bit floats."""
    folder = out / "llama-spm"
    folder.mkdir(exist_ok=True)
    text = out / "corpus.txt"
    text.write_text("\n".join(lines), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=2,
        max_sentence_length=100_000,
        input_sentence_size=40_000,
        minloglevel=2,
    )
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).to(torch.float16).save_pretrained(folder)
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    settings = {"tokenizer_class": "LlamaTokenizer", **tokens, "chat_template": CHAT}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def idefics3(lines: list[str], out: Path) -> None:
    """Write idefics3: a Llama, and what makes tokens of images for it; llama.cpp makes a file of each."""
    images = ["<image>", "<fake_token_around_image>", "<global-img>", "\n\n"]
    made = byte_level(lines, LLAMA3_PATTERN, ["<|im_start|>", "<|im_end|>", *images])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = CHAT
    text = {
        "model_type": "llama",
        "architectures": ["VLlama3ForCausalLM"],
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    vision = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": IMAGE,
        "patch_size": 16,
    }
    config = Idefics3Config(
        text_config=text, vision_config=vision, scale_factor=2, image_token_id=2, tie_word_embeddings=False
    )
    save(Idefics3ForConditionalGeneration(config), tokenizer, out / "idefics3", torch.bfloat16)
    edge = {"longest_edge": IMAGE}
    seen = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": edge, "max_image_size": edge}
    (out / "idefics3/preprocessor_config.json").write_text(json.dumps(seen))


def main() -> None:
    """Write all models into the folder named on the command line."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    lines = corpus()
    for write in (llama_bpe, qwen2, bert, llama_spm, idefics3):
        write(lines, out)


if __name__ == "__main__":
    main()
