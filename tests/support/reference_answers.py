"""What transformers makes of a checkpoint, for llama.cpp's answers to be held against: reference_answers.py FOLDER WHAT TEXT...

WHAT is tokens or embeddings (means over the tokens, of length 1). Runs in the environment of scripts/tiny_models.sh.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def tokens(folder: Path, texts: list[str]) -> Any:
    """Return the numbers of each text's tokens, without those that only mark its ends."""
    if (folder / "tokenizer.json").exists():
        from tokenizers import Tokenizer  # noqa: PLC0415  # of the other environment

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    from sentencepiece import SentencePieceProcessor  # noqa: PLC0415  # as above

    return SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).encode(texts)


def embeddings(folder: Path, texts: list[str]) -> Any:
    """Return the embedding of each text, computed in 32-bit floats."""
    import torch  # noqa: PLC0415  # as above
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415  # as above

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        means = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0) for text in texts]
    return [torch.nn.functional.normalize(mean, dim=0).tolist() for mean in means]


if __name__ == "__main__":
    what = {"tokens": tokens, "embeddings": embeddings}[sys.argv[2]]
    print(json.dumps(what(Path(sys.argv[1]), sys.argv[3:])))  # noqa: T201  # its answer
