"""Fit: of a local GGUF with 152k tokens, and of a hub's repository of 20 such, 30 ms away, anew and once more."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from gguf_header import MERGES, TOKENS, array, string
from lib.measure import Contender, asked_runs, rounds
from lib.places import LADING, emptied, environment, workplace
from lib.report import Report
from lib.servers import hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAYERS = 36
WIDTH = 256
FILES = 20
DELAY = 0.03
MATRIX = WIDTH * WIDTH // 256 * 144
KINDS = ("attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up")
SAID = {
    "block_count": LAYERS,
    "context_length": 40960,
    "embedding_length": WIDTH,
    "feed_forward_length": WIDTH,
    "attention.head_count": 4,
    "attention.head_count_kv": 4,
}
LABELS = (
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M"),
    *("Q5_0", "Q5_1", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16", "F32", "IQ3_M"),
)
ABOUT = f"""Files with a header of 12.5 MB, of which 152 thousand tokens and as many merges are nearly all: one on disk, and {FILES}
quantizations in a repository of a hub on the same machine, which lets each answer wait for {DELAY * 1e3:.0f} ms. Anew is with an
empty store, once more is with the headers that it has kept by digest, and the list of files."""


def header(file_type: int) -> Iterator[bytes]:
    """Yield a header as real ones are: what the model is, its vocabulary, then its tensors."""
    names = [f"blk.{layer}.{kind}.weight" for layer in range(LAYERS) for kind in KINDS]
    yield b"GGUF" + struct.pack("<IQQ", 3, len(names), 7 + len(SAID))
    yield string("general.architecture") + struct.pack("<I", 8) + string("llama")
    yield string("general.file_type") + struct.pack("<II", 4, file_type)
    for key, value in SAID.items():
        yield string(f"llama.{key}") + struct.pack("<II", 4, value)
    yield string("tokenizer.ggml.model") + struct.pack("<I", 8) + string("gpt2")
    yield array("tokenizer.ggml.tokens", 8, TOKENS)
    yield from (string(f"token{number:06d}" + number % 33 * "x") for number in range(TOKENS))
    yield array("tokenizer.ggml.token_type", 5, TOKENS)
    yield struct.pack("<i", 1) * TOKENS
    yield array("tokenizer.ggml.merges", 8, MERGES)
    yield from (string(f"me{number:06d} rges{number:06d}" + number % 33 * "y") for number in range(MERGES))
    yield string("tokenizer.chat_template") + struct.pack("<I", 8) + string("{{ message }}" * 300)
    for place, name in enumerate(names):
        yield string(name) + struct.pack("<IQQIQ", 2, WIDTH, WIDTH, 12, place * MATRIX)


def write_model(path: Path, file_type: int = 15) -> Path:
    """Write a model whose weights are a hole."""
    with path.open("wb") as file:
        file.writelines(header(file_type))
        file.truncate(file.tell() + 32 + LAYERS * len(KINDS) * MATRIX)
    return path


def main() -> None:
    """Measure and print."""
    runs = asked_runs(__doc__, 11)
    report = Report("fit", "whether a model fits", ABOUT)
    with workplace() as folder:
        files = [write_model(folder / f"model-{label}.gguf", number) for number, label in enumerate(LABELS)]
        with hub("bench/models", *files, delay=DELAY) as server:
            own = environment(folder, HF_ENDPOINT=f"http://{server.host}")
            kept = {**own, "LADING_STORE": str(folder / "kept")}
            empty = emptied(folder / "store")
            local, remote = [LADING, "fit", str(files[0])], [LADING, "fit", "hf://bench/models"]
            seen = rounds(
                [
                    Contender("a file", local, own, empty),
                    Contender(f"{FILES} files of a hub, anew", remote, own, empty),
                    Contender(f"{FILES} files of a hub, once more", remote, kept),
                ],
                runs,
                server.cpu,
            )
    medians = report.took(seen)
    report.figure(medians["a file"].wall * 1e3, " ms for a file", 120)
    report.figure(medians[f"{FILES} files of a hub, anew"].wall, f" s for {FILES} of a hub", 1.0)
    report.figure(medians[f"{FILES} files of a hub, once more"].wall * 1e3, " ms for them once more", 120)
    report.finish()


if __name__ == "__main__":
    main()
