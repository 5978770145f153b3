from __future__ import annotations

import hashlib
import io
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lading.digest import Digest, Verifier, VerifyingReader
from lading.errors import FormatError, IntegrityError

HEX = "0123456789abcdef" * 4
GOOD = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
HOSTILE = [
    "",
    ":",
    "sha256",
    "sha256:",
    f"sha256:{HEX[:-1]}",
    f"sha256:{HEX}0",
    f"sha256:{HEX.upper()}",
    f"SHA256:{HEX}",
    f"sha256:{HEX}\n",
    f"\nsha256:{HEX}",
    f" sha256:{HEX}",
    f"sha256:{HEX[:-1]}\0",
    f"sha256:{HEX[:-1]}٣",  # an Arabic digit, which str.isdigit and \d take
    f"sha256:{HEX[:-1]}a".replace("a", "а"),  # noqa: RUF001 - a Cyrillic letter is the point
    f"sha256-{HEX}",
    f"sha256/{HEX}",
    f"sha256:{'../' * 21}x",
    "sha256:../../../../../../../../../../../../../../../../etc/passwd/aaaaaa",
    f"sha256:{HEX[:-1]}/",
    f"sha256:{HEX[:-1]}\\",
    f"sha256:sha256:{HEX}",
    f"sha512:{HEX}",
    f"sha512:{HEX}{HEX}0",
    f"sha1:{HEX[:40]}",
    f"md5:{HEX[:32]}",
    f"sha256+b64:{HEX}",
    f"blake3:{HEX}",
    f"sha256:{'a' * 10_000}",
    "a" * 10_000,
]


def reader(data: bytes, promised: bytes, **lies: int) -> VerifyingReader:
    return VerifyingReader(io.BytesIO(data), "blob x", size=lies.get("size", len(promised)), digest=Digest.of(promised))


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_digest_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(FormatError) as error:
        Digest(text)
    assert len(error.value.message) < 700
    assert error.value.hint


@settings(derandomize=True, max_examples=500, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.from_regex(r"\Asha(256|512):[0-9a-f]{60,70}\Z"),
        st.from_regex(GOOD, fullmatch=True),
        st.builds(lambda head, tail: f"{head}:{tail}", st.sampled_from(["sha256", "sha512", "md5"]), st.text()),
    )
)
def test_any_text_is_a_digest_whose_path_stays_inside_or_is_refused(text: str) -> None:
    """S02: whatever a stranger sends."""
    try:
        digest = Digest(text)
    except FormatError:
        assert GOOD.fullmatch(text) is None
    else:
        assert GOOD.fullmatch(text)
        assert str(digest) == text
        assert digest.path == f"blobs/{digest.algorithm}/{digest.hex}"
        assert re.fullmatch(r"blobs/sha(256|512)/[0-9a-f]+", digest.path)
        assert "/" not in digest.file_name


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=4096), st.sampled_from(["sha256", "sha512"]))
def test_the_digest_of_data_is_hashlibs(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    assert digest.short == f"{algorithm}:{digest.hex[:12]}"


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 80))
def test_a_right_body_passes_whole_whatever_the_size_of_reads(data: bytes, step: int) -> None:
    body = reader(data, data)
    assert b"".join(iter(lambda: body.read(step), b"")) == data
    assert body.read(1) == b""


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(1, 80))
def test_a_wrong_body_is_never_handed_over_whole(data: bytes, promised: bytes, step: int) -> None:
    assume(data != promised)
    body = reader(data, promised)
    got: list[bytes] = []
    with pytest.raises(IntegrityError):
        got.extend(iter(lambda: body.read(step), b""))
    assert len(b"".join(got)) < max(len(promised), 1)


def test_a_truncated_body_raises_instead_of_ending() -> None:
    with pytest.raises(IntegrityError, match="ended after 3 of 5 bytes"):
        reader(b"abc", b"abcde").read()


def test_a_longer_body_is_read_one_byte_past_its_size() -> None:
    source = io.BytesIO(b"abcde" + b"x" * 100)
    body = VerifyingReader(source, "blob x", size=5, digest=Digest.of(b"abcde"))
    with pytest.raises(IntegrityError, match="longer than the 5 bytes promised"):
        body.read()
    assert source.tell() == 6


def test_who_knows_the_size_and_never_asks_for_the_end_is_told_too() -> None:
    body = reader(b"abcdX", b"abcde")
    assert body.read(4) == b"abcd"
    with pytest.raises(IntegrityError, match="has digest"):
        body.read(1)


def test_an_error_comes_again_and_is_no_end() -> None:
    body = reader(b"abc", b"xyz")
    for _attempt in range(3):
        with pytest.raises(IntegrityError):
            body.read(10)


def test_an_empty_blob_is_verified_too() -> None:
    assert reader(b"", b"").read() == b""
    with pytest.raises(IntegrityError):
        reader(b"x", b"").read()
    with pytest.raises(IntegrityError):
        VerifyingReader(io.BytesIO(), "blob x", size=0, digest=Digest.of(b"y")).read()


def test_closing_the_reader_closes_its_source_once() -> None:
    source = io.BytesIO(b"abc")
    body = VerifyingReader(source, "blob x", size=3, digest=Digest.of(b"abc"))
    body.close()
    body.close()
    assert source.closed


def test_a_size_may_be_unknown_and_so_may_a_digest() -> None:
    free = Verifier("x", size=None, digest=None)
    free.update(b"abc")
    assert free.finish() == Digest.of(b"abc")
    sized = Verifier("x", size=4, digest=None)
    sized.update(b"abc")
    with pytest.raises(IntegrityError, match="ended after 3 of 4"):
        sized.finish()
    named = Verifier("x", size=None, digest=Digest.of(b"abc", "sha512"))
    named.update(memoryview(b"abc"))
    assert named.finish().algorithm == "sha512"
