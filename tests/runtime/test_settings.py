from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.errors import FormatError, UsageError
from lading.runtime import Sampling, ServeSettings, from_artifact, merged
from lading.runtime.settings import from_words
from lading.runtime.wire import decode, encode

MODEL = Path("/models/a.gguf")


def test_an_artifact_decides_only_what_is_on_the_list() -> None:
    settings = from_artifact(
        {
            "temp": 0.5,
            "top_k": 7,
            "num_ctx": 2048,
            "repeat-penalty": 1.1,
            "stop": ["</s>", "User:"],
            "model": "/etc/passwd",
            "host": "0.0.0.0",
            "port": 1,
            "log-file": "/etc/cron.d/x",
            "api_key_file": "/etc/shadow",
            "args": ["--log-file", "/etc/cron.d/x"],
        }
    )
    assert settings.sampling == Sampling(temperature=0.5, top_k=7, repeat_penalty=1.1, stop=("</s>", "User:"))
    assert settings.ctx_size == 2048
    assert settings.ignored == ("model", "host", "port", "log-file", "api_key_file", "args")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "0.5; rm"),
        ("temperature", True),
        ("top_p", 1.01),
        ("top_k", 1.5),
        ("top_k", 10**30),
        ("ctx_size", 0),
        ("ctx_size", 2**60),
        ("seed", -1),
        ("stop", ["a"] * 17),
        ("stop", "x" * 129),
        ("stop", ["a\0b"]),
        ("stop", [1]),
        ("stop", ""),
        ("stop", []),
    ],
)
def test_what_is_out_of_range_is_ignored_and_named(name: str, value: object) -> None:
    settings = from_artifact({name: value})
    assert settings.ignored == (name,)
    assert settings.sampling == Sampling()
    assert settings.ctx_size is None


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())))
def test_no_parameters_of_an_artifact_break_anything(values: dict[str, object]) -> None:
    settings = from_artifact(values)
    assert set(settings.ignored) <= set(values)


def test_what_the_user_chose_wins_over_the_artifact() -> None:
    both = merged(Sampling(temperature=0.0), Sampling(temperature=1.0, top_k=3, stop=("x",)))
    assert both == Sampling(temperature=0.0, top_k=3, stop=("x",))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"port": 65536}, "port 65536"),
        ({"ctx_size": 0}, "ctx-size 0"),
        ({"threads": 0}, "threads 0"),
        ({"parallel": 0}, "parallel 0"),
        ({"n_gpu_layers": -1}, "n-gpu-layers -1"),
        ({"alias": "a,b"}, "alias"),
        ({"alias": ""}, "alias"),
        ({"pooling": "sum"}, "sum"),
    ],
)
def test_values_that_no_runtime_could_take_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ServeSettings(MODEL, **wrong)


@pytest.mark.parametrize("key", ["", "a b", "a,b", "a\nb", "schlüssel"])
def test_a_key_that_would_be_read_as_others_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServeSettings(MODEL, api_keys=(key,))
    assert not key or key not in caught.value.message


def test_settings_do_not_show_their_keys() -> None:
    assert "sesame" not in repr(ServeSettings(MODEL, api_keys=("sesame",)))


def test_settings_survive_the_way_to_a_child() -> None:
    settings = ServeSettings(
        MODEL,
        mmproj=Path("/models/p.gguf"),
        api_keys=("one", "two"),
        ctx_size=512,
        sampling=Sampling(temperature=0.1, stop=("\n", "ü")),
    )
    assert decode(encode(settings), ServeSettings) == settings
    assert b"\n" not in encode(settings)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"model": 3}', b'{"model": "/a", "port": "x"}'])
def test_a_child_refuses_settings_that_it_does_not_understand(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data, ServeSettings)


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ServeSettings(Path("a.gguf"), chat_template=Path("t.jinja")).absolute()
    assert settings.model == tmp_path / "a.gguf"
    assert settings.chat_template == tmp_path / "t.jinja"
    assert settings.mmproj is None


def test_a_packagers_words_become_what_an_artifact_may_say() -> None:
    words = [("ctx-size", "8192"), ("temp", "0.7"), ("top_k", "40"), ("seed", "0"), ("stop", "a=b"), ("stop", "\n")]
    said = from_words(words)
    assert said == {"ctx_size": 8192, "seed": 0, "stop": ["a=b", "\n"], "temperature": 0.7, "top_k": 40}
    assert list(said) == sorted(said)
    settings = from_artifact(said)
    assert settings.ignored == ()
    assert settings.ctx_size == 8192
    assert settings.sampling == Sampling(temperature=0.7, top_k=40, seed=0, stop=("a=b", "\n"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([("model", "/etc/passwd")], "`model`"),
        ([("host", "0.0.0.0")], "`host`"),
        ([("temp", "9")], "`temp` is a number between"),
        ([("temp", "hot")], "'hot'"),
        ([("temp", "nan")], "'nan'"),
        ([("top-k", "1.5")], "`top-k` is a whole number"),
        ([("ctx-size", "9" * 400)], "`ctx-size`"),
        ([("ctx-size", "512"), ("num_ctx", "512")], "`num_ctx` is given twice"),
        ([("stop", "")], "`stop`"),
        ([("stop", "x")] * 17, "`stop`"),
    ],
)
def test_a_packagers_word_that_nobody_would_honour_is_refused(words: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_words(words)
    assert said in caught.value.message
