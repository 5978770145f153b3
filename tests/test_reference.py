from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lading.digest import Digest
from lading.errors import UsageError
from lading.reference import (
    Archive,
    File,
    Hub,
    Layout,
    Name,
    Oci,
    Ollama,
    Reference,
    Url,
    is_registry_tag,
    is_tag_name,
    parse,
    with_digest,
)

DIGEST = Digest("sha256:" + "0123456789abcdef" * 4)
DIGEST_512 = Digest("sha512:" + "0123456789abcdef" * 8)

# The section "References" of the design, form by form, alias by alias, default by default.
FORMS: dict[str, Reference] = {
    "hf://Qwen/Qwen3-8B-GGUF": Hub("hf", "Qwen", "Qwen3-8B-GGUF"),
    "huggingface://Qwen/Qwen3-8B-GGUF": Hub("hf", "Qwen", "Qwen3-8B-GGUF"),
    "hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M": Hub("hf", "Qwen", "Qwen3-8B-GGUF", "Q4_K_M"),
    "huggingface.co/Qwen/Qwen3-8B-GGUF": Hub("hf", "Qwen", "Qwen3-8B-GGUF"),
    "hf://o/r:Q4_K_M": Hub("hf", "o", "r", "Q4_K_M"),
    "hf://o/r:dir/file.gguf": Hub("hf", "o", "r", "dir/file.gguf"),
    "hf://o/r:Q4_K_M@main": Hub("hf", "o", "r", "Q4_K_M", "main"),
    "hf://o/r@refs/pr/7": Hub("hf", "o", "r", None, "refs/pr/7"),
    "ms://o/r:Q8_0@v1": Hub("ms", "o", "r", "Q8_0", "v1"),
    "modelscope://o/r": Hub("ms", "o", "r"),
    "ollama://llama3": Ollama("llama3"),
    "ollama://llama3:8b": Ollama("llama3", "8b"),
    "ollama://team/llama3:8b": Ollama("llama3", "8b", "team"),
    "ollama://localhost:5000/llama3": Ollama("llama3", host="localhost:5000"),
    "ollama://my.host/team/llama3:8b": Ollama("llama3", "8b", "team", "my.host"),
    "ollama://registry.ollama.ai/library/llama3": Ollama("llama3"),
    "oci://localhost:5000/team/story:1": Oci("localhost:5000", "team/story", "1"),
    "docker://quay.io/team/story": Oci("quay.io", "team/story"),
    "oci://registry/team/story:1": Oci("registry", "team/story", "1"),
    "quay.io/team/story:1": Oci("quay.io", "team/story", "1"),
    "localhost/story": Oci("localhost", "story"),
    "host:5000/story": Oci("host:5000", "story"),
    "[::1]:5000/story:1": Oci("[::1]:5000", "story", "1"),
    "[::1]/story": Oci("[::1]", "story"),
    f"quay.io/story@{DIGEST}": Oci("quay.io", "story", None, DIGEST),
    f"quay.io/story:1@{DIGEST}": Oci("quay.io", "story", None, DIGEST),
    f"quay.io/story@{DIGEST_512}": Oci("quay.io", "story", None, DIGEST_512),
    "docker.io/story": Oci("docker.io", "library/story"),
    "docker.io/team/story": Oci("docker.io", "team/story"),
    "index.docker.io/story:1": Oci("docker.io", "library/story", "1"),
    "registry-1.docker.io/team/story:1": Oci("docker.io", "team/story", "1"),
    "quay.io/a__b/c-d.e:_x": Oci("quay.io", "a__b/c-d.e", "_x"),
    "file:///models/a%20b.gguf": File("/models/a b.gguf"),
    "file://localhost/models/x.gguf": File("/models/x.gguf"),
    "/models/x.gguf": File("/models/x.gguf"),
    "./x.gguf": File("./x.gguf"),
    "../x": File("../x"),
    "~/x": File("~/x"),
    ".": File("."),
    "..": File(".."),
    "http://localhost:8000/x.gguf": Url("http://localhost:8000/x.gguf"),
    "https://example.org/a/b.gguf?download=true": Url("https://example.org/a/b.gguf?download=true"),
    "oci-layout:dir": Layout("dir"),
    "oci-layout:/a/dir:story": Layout("/a/dir", "story"),
    "oci-layout:./dir:localhost:5000/team/story:1": Layout("./dir", "localhost:5000/team/story:1"),
    "oci-archive:models.tar": Archive("oci", "models.tar"),
    "oci-archive:/a/models.tar:localhost:5000/team/story:1": Archive(
        "oci", "/a/models.tar", "localhost:5000/team/story:1"
    ),
    "docker-archive:./saved.tar:story:1": Archive("docker", "./saved.tar", "story:1"),
    "story": Name("story"),
    "story:1": Name("story:1"),
    "team/story:1": Name("team/story:1"),
    "hf:Qwen/Qwen3-8B-GGUF:Q5_K_M": Name("hf:Qwen/Qwen3-8B-GGUF:Q5_K_M"),
    "story.gguf": Name("story.gguf"),
    "hf:5000/story": Oci("hf:5000", "story"),
    "url:example.org/a/b.gguf": Name("url:example.org/a/b.gguf"),
    "ollama:team/llama3:8b": Name("ollama:team/llama3:8b"),
}

MALFORMED = [
    "",
    " ",
    " story",
    "story ",
    "a b",
    "a\nb",
    "a\0b",
    "story:",
    ":1",
    "a//b",
    "-a",
    "hf://",
    "hf://Qwen",
    "hf://Qwen/",
    "hf:///x",
    "hf://a/b/c",
    "hf://a/b:",
    "hf://a/b@",
    "hf://a/b:../../x.gguf",
    "hf://a/b:/etc/x.gguf",
    "hf://a/b:x//y.gguf",
    "hf://a/b:\u202efug.g",
    "hf://../b",
    "hf://a/..",
    "ms://a",
    "ollama://",
    "ollama://a:",
    "ollama:///a",
    "ollama://a/b/c/d",
    "ollama://host.x:0/a",
    "ollama://../a",
    "oci://",
    "oci://host",
    "oci://host/",
    "oci:///x",
    "oci://host/Upper",
    "oci://host/a/../b",
    "oci://host/a//b",
    "oci://host/-a",
    "oci://host/a:",
    "oci://host/a:b:c",
    "oci://host/a:" + "t" * 129,
    "oci://host/" + "a" * 255,
    "oci://host/a@",
    "oci://host/a@sha256:12",
    "oci://host/a@sha256:../../../etc/passwd",
    f"oci://host/a@md5:{'a' * 32}",
    f"oci://host/a@{DIGEST}\\",
    "oci://ho_st/a",
    "oci://host:99999/a",
    "oci://host:0/a",
    "oci://host:/a",
    "oci://[::1/a",
    "localhost:5000/",
    "quay.io/Team/x",
    "file://",
    "file://elsewhere/x",
    "file:///",
    "file:///a%00b",
    "file:///a?b",
    "file:///a#b",
    "file://[",
    "http://",
    "https:///x",
    "http://[",
    "http://[::1/x",
    "http://host:99999/x",
    "http://host:0/x",
    "http://host:x/x",
    "https://host／x",  # noqa: RUF001 - a full-width solidus, which NFKC makes a `/`
    "oci-layout:",
    "oci-layout::tag",
    "oci-layout:dir:",
    "oci-layout:dir:a b",
    "oci-archive:",
    "oci-archive:a.tar:",
    "docker-archive::story:1",
    "ftp://host/x",
    "s3://bucket/x",
    "HTTP://host/x",
    "a" * 256,
    "x" * 100_000,
    "a-" * 50_000 + "/" + "b",
    "host.x/" + "a-" * 50_000,
    "h" + "-" * 100_000 + ".x/y",
]

texts = st.one_of(
    st.text(),
    st.sampled_from([*FORMS, *MALFORMED]),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                [
                    *[
                        "hf://",
                        "ms://",
                        "ollama://",
                        "oci://",
                        "oci-layout:",
                        "oci-archive:",
                        "file://",
                        "http://",
                        "https://",
                    ],
                    *["docker.io", "localhost", "[::1]", "a", "B", "b.c", "1", "/", ":", "@", ".", "..", "-", "_"],
                    *["+", "%", "?", "#", str(DIGEST), "é", " ", "\0", "[", "]", "library", "registry.ollama.ai"],
                    *["~", "x.gguf"],
                ]
            ),
            max_size=10,
        ),
    ),
)


@pytest.mark.parametrize("text", FORMS)
def test_every_form_is_read_as_designed(text: str) -> None:
    assert parse(text) == FORMS[text]


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: repr(text[:40]))
def test_what_is_no_reference_is_refused_and_named(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert repr(text[:40])[1:-1] in error.value.message
    assert error.value.hint
    assert len(error.value.message) < 3 * 255


@settings(derandomize=True, max_examples=1500, deadline=None)
@given(texts)
@example("ollama://registry.ollama.ai/a.b/c")
@example("file:///a%20")
@example("file:///a%0A%FF")
@example("oci://registry/x")
def test_any_text_is_a_stable_reference_or_a_usage_error(text: str) -> None:
    try:
        first = parse(text)
    except UsageError:
        return
    again = parse(str(first))
    assert type(again) is type(first)
    assert str(again) == str(first)
    assert getattr(again, "stored", None) == getattr(first, "stored", None)


@settings(derandomize=True, max_examples=1500, deadline=None)
@given(texts)
@example("https://example.org/" + "x/" * 300)
@example("https://example.org/\udcff.gguf")
@example("hf://o/r:ä ö.gguf")
@example("[::1]:5000/x")
@example(f"quay.io/{'a' * 200}@{DIGEST_512}")
def test_what_goes_into_the_store_has_a_name_that_skopeo_reads(text: str) -> None:
    try:
        reference = parse(text)
    except UsageError:
        return
    if isinstance(reference, Oci | Hub | Ollama | Url):
        assert is_tag_name(reference.stored)


@settings(derandomize=True, max_examples=1500, deadline=None)
@given(texts, texts)
@example("quay.io/a__b", "quay.io/a_b")
@example("quay.io/a:b-", "quay.io/a:b")
@example("http://host:8000/x.gguf", "http://host:9000/x.gguf")
@example("http://host/x.gguf?v=1", "http://host/x.gguf?v=2")
@example("http://host/a b.gguf", "http://host/a-b.gguf")
@example("ollama://a.b/c", "ollama://registry.ollama.ai/a.b/c")
def test_two_references_never_share_a_name_in_the_store(one: str, other: str) -> None:
    try:
        left, right = parse(one), parse(other)
    except UsageError:
        return
    if isinstance(left, Oci | Hub | Ollama | Url) and isinstance(right, Oci | Hub | Ollama | Url):
        same = re.sub("^https?", "", str(left)) == re.sub("^https?", "", str(right))
        assert (left.stored == right.stored) == (same or _meant(left) == _meant(right))


def _meant(reference: Oci | Hub | Ollama | Url) -> tuple[object, ...]:
    match reference:
        case Oci():
            return (reference.host, reference.repository, reference.target)
        case Url():
            return (reference.url,)
        case _:
            return (reference,)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("quay.io/team/story", "quay.io/team/story:latest"),
        ("oci://registry/story:1", "registry/story:1"),
        (f"quay.io/story@{DIGEST}", f"quay.io/story@{DIGEST}"),
        ("hf://Qwen/Qwen3-8B-GGUF:Q5_K_M@main", "hf:Qwen/Qwen3-8B-GGUF:Q5_K_M@main"),
        ("ollama://llama3", "ollama:llama3:latest"),
        ("ollama://team/llama3:8b", "ollama:team/llama3:8b"),
        ("ollama://host:1/llama3", "ollama:host:1/library/llama3:latest"),
        ("https://example.org/a/b.gguf", "url:example.org/a/b.gguf"),
        ("http://localhost:8000/b.gguf", "url:localhost:8000/b.gguf"),
    ],
)
def test_the_name_in_the_store_is_the_reference_as_people_know_it(text: str, stored: str) -> None:
    reference = parse(text)
    assert isinstance(reference, Oci | Hub | Ollama | Url)
    assert reference.stored == stored


def test_a_token_in_a_query_is_not_shown_in_the_name() -> None:
    reference = parse("https://example.org/b.gguf?token=canary")
    assert isinstance(reference, Url)
    assert "canary" not in reference.stored
    assert reference.stored.startswith("url:example.org/b.gguf+")


@pytest.mark.parametrize(
    "text",
    [
        "https://sam:canary@example.org/x",
        "https://canary@example.org/x",
        "https://sam:canary@",
        "https://sam:canary@/x",
        "oci://sam:canary@quay.io/x",
        "sam:canary@quay.io/x",
        "ollama://sam:canary@quay.io/x",
        "ftp://sam:canary@quay.io/x",
    ],
)
def test_a_password_in_a_reference_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert "canary" not in error.value.message + error.value.hint


def test_a_bare_word_is_a_file_when_it_ends_like_weights_and_is_one() -> None:
    asked = []

    def is_file(path: str) -> bool:
        asked.append(path)
        return path.startswith("mine")

    assert parse("mine.gguf", is_file=is_file) == File("mine.gguf")
    assert parse("mine/model.safetensors", is_file=is_file) == File("mine/model.safetensors")
    assert parse("other.gguf", is_file=is_file) == Name("other.gguf")
    assert parse("quay.io/other.gguf", is_file=is_file) == Oci("quay.io", "other.gguf")
    assert parse("mine", is_file=is_file) == Name("mine")
    assert "mine" not in asked


def test_an_unknown_scheme_is_named_with_those_that_are_known() -> None:
    with pytest.raises(UsageError) as error:
        parse("s3://bucket/x")
    assert "`s3`" in error.value.hint
    assert "ollama" in error.value.hint


def test_a_reference_can_be_pinned() -> None:
    pinned = with_digest(Oci("quay.io", "story", "1"), DIGEST)
    assert str(pinned) == f"quay.io/story@{DIGEST}"
    assert pinned.target == DIGEST
    assert Oci("quay.io", "story").target == "latest"


@pytest.mark.parametrize(
    ("name", "registry", "store"),
    [
        ("latest", True, True),
        ("v1.0_x-y", True, True),
        ("_x", True, False),
        ("x-", True, False),
        (".x", False, False),
        ("-x", False, False),
        ("a:b", False, True),
        ("a/b", False, True),
        ("a b", False, False),
        ("é", False, False),
        ("", False, False),
        ("a" * 128, True, True),
        ("a" * 129, False, True),
        ("a" * 256, False, False),
        ("x\n", False, False),
    ],
)
def test_tags_follow_the_grammar_of_their_place(name: str, registry: bool, store: bool) -> None:  # noqa: FBT001 - a table
    assert is_registry_tag(name) is registry
    assert is_tag_name(name) is store


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("hf://a/b@main:Q4_K_M", "hf://a/b:Q4_K_M@main"),
        ("ms://a/b@v1:deep/x.gguf", "ms://a/b:deep/x.gguf@v1"),
    ],
)
def test_a_revision_before_the_quantization_is_refused_with_the_right_order(text: str, right: str) -> None:
    with pytest.raises(UsageError, match="is no reference") as caught:
        parse(text)
    assert caught.value.hint == f"the revision comes last: {right}"
    parse(right)
