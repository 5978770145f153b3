"""Candidates from headers: each read once, remembered, and never believed without a check."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING

import pytest
from made_weights import gguf, gguf_shard
from shapes import Size, shape

from lading.errors import FormatError, LadingError, NetworkError
from lading.fit import Fits, described, weigh
from lading.fit.cache import HeaderCache
from lading.fit.headers import HeaderAt, Tensors, Variant, candidates
from lading.outline import outline_of
from lading.ranges import BytesRanges

if TYPE_CHECKING:
    from pathlib import Path

    from lading.content import RangeReader

MIB = 1024**2
HERE = described([], 64 * 1024**3)


class Opened:
    """Files by name, and how often each was opened."""

    def __init__(self, **files: bytes | LadingError) -> None:
        self.files = files
        self.opened: list[str] = []

    def open(self, name: str) -> RangeReader:
        self.opened.append(name)
        file = self.files[name]
        if isinstance(file, LadingError):
            raise file
        return BytesRanges(file, f"{name}.gguf")

    def at(self, name: str, *, key: str | None = None, remote: bool = False) -> HeaderAt:
        return HeaderAt(name, partial(self.open, name), key, remote)


@pytest.fixture
def cache(tmp_path: Path) -> HeaderCache:
    return HeaderCache(tmp_path / "store" / "cache")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = shape("llama", Size(2, 64, 128, 2, 2, 32, 300)).write(tmp_path_factory.mktemp("shape") / "x.gguf")
    return path.read_bytes()


def test_a_header_is_read_once_ever_also_where_there_was_no_store(tmp_path: Path, llama: bytes) -> None:
    files = Opened(a=llama)
    variant = Variant("a", (files.at("a", key="sha256:a"),))
    folder = tmp_path / "nothing" / "here"
    (first,) = candidates([variant], HeaderCache(folder))
    (second,) = candidates([variant], HeaderCache(folder))
    assert files.opened == ["a"]
    assert weigh(first, HERE).found == weigh(second, HERE).found
    assert (first.parameters, first.label) == (second.parameters, second.label)


def test_what_has_no_key_is_read_again(cache: HeaderCache, llama: bytes) -> None:
    files = Opened(a=llama)
    for _ in range(2):
        candidates([Variant("a", (files.at("a"),))], cache)
    assert files.opened == ["a", "a"]


def test_one_file_in_several_variants_is_read_once(cache: HeaderCache, llama: bytes) -> None:
    files = Opened(a=llama)
    both = [Variant(name, (files.at("a", key="sha256:a", remote=True),)) for name in ("docker", "modelpack")]
    assert [one.name for one in candidates(both, cache)] == ["docker", "modelpack"]
    assert files.opened == ["a"]


def test_an_outline_saves_reading_and_a_broken_one_does_not(cache: HeaderCache, llama: bytes) -> None:
    files = Opened(a=llama)
    plain = Variant("a", (files.at("a"),))
    (read,) = candidates([plain], cache)
    (told,) = candidates([plain._replace(outline=outline_of(read.model))], cache)
    assert files.opened == ["a"]
    assert weigh(told, HERE).found == weigh(read, HERE).found
    candidates([plain._replace(outline='{"format":"gguf","tensors":')], cache)
    assert files.opened == ["a", "a"]


def test_variants_of_one_name_keep_outlines_of_their_own(cache: HeaderCache, llama: bytes) -> None:
    files = Opened(a=llama, b=gguf())
    found = candidates([Variant(name, (files.at(name),)) for name in "ab"], cache)
    alike = [Variant("x", (files.at(one.name),), outline=outline_of(one.model)) for one in found]
    assert [one.parameters for one in candidates(alike, cache)] == [one.parameters for one in found]
    assert found[0].parameters != found[1].parameters


def test_shards_are_one_model_whose_parts_are_all_there(cache: HeaderCache) -> None:
    files = Opened(one=gguf_shard(1, 2), two=gguf_shard(2, 2))
    one, two = files.at("one"), files.at("two")
    (whole,) = candidates([Variant("split", (one, two))], cache)
    assert [tensor.name for tensor in whole.model.tensors] == ["t1", "t2"]
    with pytest.raises(FormatError, match="is part 2 of 2, and stands as 1 of 2"):
        candidates([Variant("split", (two, one))], cache)


def test_one_that_cannot_be_read_is_left_out_and_told(cache: HeaderCache, llama: bytes) -> None:
    files = Opened(good=llama, bad=b"GGUF" + bytes(40), gone=NetworkError("gone.example does not answer"))
    told: list[str] = []
    variants = [Variant(name, (files.at(name, remote=True),)) for name in ("bad", "good", "gone")]
    assert [one.name for one in candidates(variants, cache, told.append)] == ["good"]
    assert [text.partition(":")[0] for text in told] == ["left out", "left out"]
    with pytest.raises(NetworkError, match=r"gone\.example"):
        candidates([variants[2]], cache)


def test_what_is_no_gguf_has_the_bytes_of_its_weights(cache: HeaderCache) -> None:
    (one,) = candidates([Variant("big", Tensors(7 * MIB))], cache)
    row = weigh(one, HERE)
    assert (row.fits, row.weights, row.kv) == (Fits.UNKNOWN, 7 * MIB, 0)
    config = json.dumps(
        {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2,
         "num_key_value_heads": 2, "max_position_embeddings": 4096}
    )  # fmt: skip
    (known,) = candidates([Variant("big", Tensors(7 * MIB, config.encode))], cache)
    row = weigh(known, HERE)
    assert (row.fits, row.kv) == (Fits.UNKNOWN, 2 * 2 * 64 * 2 * 4096)
    assert "of safetensors only" in row.notes[0]


FORGED = (
    b"",
    b"[]",
    b"{" * 100_000,
    b"\xff\xfe",
    b'{"version": 1, "headers": {"sha256:a": ["{}", "x", [0, 1]]}}',
    b'{"version": 1, "headers": {"sha256:a": ["' + b"x" * 100_000 + b'", "", [0, 1]]}}',
    b'{"version": 1, "headers": {"sha256:a": [7, "", [0, 1]]}}',
    b'{"version": 2, "headers": {}}',
)


@pytest.mark.parametrize("forged", FORGED, ids=range(len(FORGED)))
def test_a_forged_cache_costs_a_second_reading(tmp_path: Path, llama: bytes, forged: bytes) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "headers.json").write_bytes(forged)
    files = Opened(a=llama)
    variant = Variant("a", (files.at("a", key="sha256:a"),))
    (one,) = candidates([variant], HeaderCache(folder))
    assert weigh(one, HERE).fits is Fits.WHOLE
    assert files.opened == ["a"]
    candidates([variant], HeaderCache(folder))
    assert files.opened == ["a"]


def test_a_cache_that_is_a_link_or_a_pipe_is_passed_over(tmp_path: Path, llama: bytes) -> None:
    files = Opened(a=llama)
    variant = Variant("a", (files.at("a", key="sha256:a"),))
    for make in (lambda path: path.symlink_to("/dev/zero"), os.mkfifo):
        folder = tmp_path / str(len(files.opened))
        folder.mkdir()
        make(folder / "headers.json")
        candidates([variant], HeaderCache(folder))
    assert files.opened == ["a", "a"]


def test_a_store_that_cannot_be_written_to_is_read_all_the_same(tmp_path: Path, llama: bytes) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    files = Opened(a=llama)
    (one,) = candidates([Variant("a", (files.at("a", key="sha256:a"),))], HeaderCache(blocked / "cache"))
    assert one.parameters


def test_the_cache_keeps_the_last_of_many(tmp_path: Path, llama: bytes) -> None:
    files = Opened(a=llama)
    for turn in range(3):
        many = [Variant(f"v{number}", (files.at("a", key=f"{turn}.{number}"),)) for number in range(200)]
        candidates(many, HeaderCache(tmp_path))
    kept = json.loads((tmp_path / "headers.json").read_bytes())["headers"]
    assert len(kept) == 512
    assert "2.199" in kept
    assert "0.0" not in kept


HOSTILE = {
    "nothing": b"",
    "something else": b"\x7fELF" + bytes(4096),
    "cut": gguf()[:40],
    "counts": b"GGUF" + (3).to_bytes(4, "little") + (2**63).to_bytes(8, "little") * 2 + bytes(4096),
    "layers": gguf({"general.architecture": "llama", "llama.block_count": 2**31}),
    "heads": gguf(
        {
            "general.architecture": "llama",
            "llama.block_count": 4096,
            "llama.attention.head_count": 2**31 - 1,
            "llama.embedding_length": 2**31 - 1,
            "llama.attention.key_length": 2**31 - 1,
        }
    ),
    "context": gguf(
        {
            "general.architecture": "llama",
            "llama.block_count": 4096,
            "llama.context_length": 2**31 - 1,
            "llama.embedding_length": 2**31 - 1,
            "llama.feed_forward_length": 2**31 - 1,
            "llama.attention.head_count": 1,
        }
    ),
    "strings": gguf({"general.architecture": "llama", "tokenizer.ggml.tokens": [""] * 200_000}),
}


@pytest.mark.parametrize("remote", [False, True], ids=["near", "far"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_or_weighed_within_bounds(cache: HeaderCache, name: str, *, remote: bool) -> None:
    files = Opened(x=HOSTILE[name])

    def attempt() -> str:
        try:
            (one,) = candidates([Variant("x", (files.at("x", remote=remote),))], cache)
            return weigh(one, HERE).fits.value
        except FormatError as error:
            return f"{error.message} {error.hint}"

    start = time.process_time()
    said = attempt()
    # A second on a machine of its own; loose for a loaded one.
    assert time.process_time() - start < 4
    assert said in {"no", "whole", "unknown"} or "x.gguf" in said or "layer" in said
    tracemalloc.start()
    try:
        attempt()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * MIB
