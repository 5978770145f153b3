"""What converts, in a Python of its own: `python -I convert_child.py TOLD`, TOLD being JSON as `convert` writes it.

It runs llama.cpp's converter with three changes: code that comes with a model is never run, pickles are read only if
that is allowed, and tokenizers that users trained are recognized by what they split words with. It imports the
standard library and the converter's own needs, and nothing of this package.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SLASHED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_WORDS = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_LLAMA3 = _WORDS + r"\p{N}{1,3}" + _REST
_PUNCTUATED = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
_BYTES = "<bytes>"
"""Stands for GPT-2's own way of splitting, which `ByteLevel` brings with it."""

PRE_TOKENIZERS = {
    (_BYTES,): "gpt-2",
    ("<digits>", _BYTES): "smollm",
    (_LLAMA3,): "smaug-bpe",  # llama-bpe with merges; see below
    (_WORDS + r"\p{N}" + _REST,): "qwen2",
    (
        _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ): "qwen35",
    (f"{_CASED[0]}{_CONTRACTIONS}?|{_CASED[1]}{_CONTRACTIONS}?" + r"|\p{N}{1,3}" + _SLASHED,): "gpt-4o",
    (f"{_CASED[0]}|{_CASED[1]}" + r"|\p{N}" + _SLASHED,): "tekken",
    (
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ\u30a0-ヿ]+",
        _PUNCTUATED + r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ): "deepseek-v3",
}
"""What a tokenizer splits words with, as its tokenizer.json writes it -> llama.cpp's name for that (llama-vocab.cpp)."""


def main(told: dict[str, Any]) -> None:
    """Convert as told; an exception's traceback is for the parent to cut."""
    sys.path.insert(1, told["converter"])
    _refuse_code()
    if not told["allow_pickle"]:
        _refuse_pickles()
    _recognize_trained()
    script = "convert_lora_to_gguf.py" if told["kind"] == "lora" else "convert_hf_to_gguf.py"
    sys.argv = [script, "--outfile", told["target"], "--outtype", told["type"].lower()]
    sys.argv += ["--mmproj"] if told["kind"] == "mmproj" else []
    sys.argv += ["--base", told["base"]] if told["base"] else []
    sys.argv += ["--model-name", told["name"]] if told["name"] else []
    sys.argv.append(told["source"])
    runpy.run_path(str(Path(told["converter"], script)), run_name="__main__")


def pre_tokenizer(tokenizer: dict[str, Any]) -> str | None:
    """Return llama.cpp's name for how a tokenizer.json splits words; None for a way that it does not know."""
    outer = tokenizer.get("pre_tokenizer") or {}
    if tokenizer["model"].get("type") == "WordPiece":
        return "bert-bge" if outer.get("type") == "BertPreTokenizer" else None
    parts = []
    for one in outer.get("pretokenizers", [outer]):
        kind = one.get("type")
        if kind == "Split" and one.get("behavior") == "Isolated" and not one.get("invert"):
            parts.append(one["pattern"].get("Regex"))
        elif kind == "Digits" and one.get("individual_digits"):
            parts.append("<digits>")
        elif kind == "ByteLevel" and not one.get("add_prefix_space"):
            parts += [_BYTES] if one.get("use_regex", True) else []
        else:
            return None
    name = PRE_TOKENIZERS.get(tuple(parts))
    # llama.cpp takes whole words past the merges for the one name only, and the tokenizer says which it wants.
    return "llama-bpe" if name == "smaug-bpe" and tokenizer["model"].get("ignore_merges") else name


def _refuse_code() -> None:
    from transformers import AutoConfig, AutoTokenizer, dynamic_module_utils  # noqa: PLC0415  # of the environment

    def refuse(*_arguments: Any, **_named: Any) -> None:
        msg = "the model brings code of its own, which is never run"
        raise RuntimeError(msg)

    # All such code goes through here; what follows has transformers prefer its own where it has both.
    dynamic_module_utils.get_class_in_module = refuse
    for auto in (AutoConfig, AutoTokenizer):
        auto.from_pretrained = _without_trust(auto.from_pretrained)


def _without_trust(original: Any) -> Any:
    def from_pretrained(*arguments: Any, **named: Any) -> Any:
        return original(*arguments, **{**named, "trust_remote_code": False})

    return from_pretrained


def _refuse_pickles() -> None:
    import torch  # noqa: PLC0415  # as above

    def refuse(path: Any, *_arguments: Any, **_named: Any) -> None:
        msg = f"{Path(path).name} is a pickle, which can run code"
        raise RuntimeError(msg)

    torch.load = refuse


def _recognize_trained() -> None:
    """Have the converter fall back on tokenizer.json where it knows no such tokenizer by what it makes of a text."""
    from conversion.base import TextModel  # noqa: PLC0415  # as above

    by_result = TextModel.get_vocab_base_pre

    def get_vocab_base_pre(model: Any, tokenizer: Any) -> str:
        try:
            name: str = by_result(model, tokenizer)
        except NotImplementedError:
            found = pre_tokenizer(json.loads(Path(model.dir_model, "tokenizer.json").read_text(encoding="utf-8")))
            if found is None:
                msg = "the tokenizer splits words in a way that llama.cpp does not know"
                raise NotImplementedError(msg) from None
            name = found
        return name

    TextModel.get_vocab_base_pre = get_vocab_base_pre


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
