from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from lading.chat import Chat, Thought, Wishes
from lading.errors import AccessDeniedError, FormatError, LadingError, NetworkError, UnfitError
from lading.runtime import Runtime, ServeSettings
from lading.server import Server, http_probe, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lading.http import Client

BRIEF = Wishes(max_tokens=12, temperature=0.0)


def chunk(**delta: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": None}]}).encode() + b"\n\n"


END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


# -- with the real servers ----------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("template", [True, False])
def test_an_answer_comes_in_pieces_and_tells_how_it_ended(server: Server, client: Client, *, template: bool) -> None:
    chat = Chat(client, server.endpoint.url, template=template, api_key="sesame", wishes=BRIEF)
    with chat.ask("Once upon a time") as answer:
        pieces = list(answer)
    assert len(pieces) > 4
    assert all(pieces)
    assert any(word.isalpha() for word in "".join(pieces).split())
    assert answer.outcome is not None
    assert (answer.outcome.finish, answer.outcome.answer_tokens) == ("length", 12)
    assert answer.outcome.prompt_tokens
    assert answer.outcome.answer_speed
    assert chat.history == [("user", "Once upon a time"), ("assistant", "".join(pieces))]


@pytest.mark.integration
def test_the_first_piece_comes_before_the_answer_ends(server: Server, client: Client) -> None:
    chat = Chat(client, server.endpoint.url, api_key="sesame", wishes=Wishes(max_tokens=200, temperature=0.0))
    with chat.ask("And the LORD said") as answer:
        begin = time.monotonic()
        next(answer)
        first = time.monotonic() - begin
        for _ in answer:
            pass
        assert first < (time.monotonic() - begin) / 2


@pytest.mark.integration
def test_what_was_said_is_said_again_to_the_model(server: Server, client: Client) -> None:
    chat = Chat(client, server.endpoint.url, api_key="sesame", system="Be brief.", wishes=BRIEF)
    outcomes = []
    for prompt in ("In the beginning", "And then"):
        answer = chat.ask(prompt)
        for _ in answer:
            pass
        outcomes.append(answer.outcome)
    assert [role for role, _ in chat.history] == ["user", "assistant", "user", "assistant"]
    assert outcomes[0]
    assert outcomes[1]
    assert (outcomes[1].prompt_tokens or 0) > (outcomes[0].prompt_tokens or 0) + 10


@pytest.mark.integration
def test_closing_an_answer_ends_its_generation_and_not_the_chat(
    runtime: Runtime, endless: Path, client: Client
) -> None:
    # With one slot, a second question is answered only when the first has ended, which would take minutes.
    settings = ServeSettings(endless, port=0, ctx_size=128 * 1024, threads=1)
    with start(runtime, settings, http_probe()) as server:
        chat = Chat(client, server.endpoint.url, wishes=Wishes(max_tokens=100_000))
        answer = chat.ask("Once upon a time")
        said = next(answer) + next(answer)
        answer.close()
        assert answer.outcome is not None
        assert answer.outcome.finish == "cancelled"
        assert list(answer) == []
        assert chat.history == [("user", "Once upon a time"), ("assistant", said)]
        begin = time.monotonic()
        chat.wishes = BRIEF
        assert list(chat.ask("And"))
        assert time.monotonic() - begin < 10


@pytest.mark.integration
def test_a_ctrl_c_stops_the_answer_and_not_the_chat(runtime: Runtime, endless: Path, client: Client) -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    settings = ServeSettings(endless, port=0, ctx_size=128 * 1024, threads=1)
    with start(runtime, settings, http_probe()) as server:
        chat = Chat(client, server.endpoint.url, wishes=Wishes(max_tokens=100_000))
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            answer = chat.ask("Once upon a time")
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                list(answer)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        answer.close()
        assert answer.outcome is not None
        assert answer.outcome.finish == "cancelled"
        assert chat.history[-1][1]
        chat.wishes = BRIEF
        assert list(chat.ask("And"))


@pytest.mark.integration
def test_a_wrong_key_is_told(server: Server, client: Client) -> None:
    for key in (None, "mellon"):
        chat = Chat(client, server.endpoint.url, api_key=key)
        with pytest.raises(AccessDeniedError) as caught:
            chat.ask("hello")
        assert "LADING_API_KEY" in caught.value.hint
        assert chat.history == []


@pytest.mark.integration
def test_a_conversation_longer_than_the_context_is_told_with_both_sizes(server: Server, client: Client) -> None:
    chat = Chat(client, server.endpoint.url, api_key="sesame", wishes=BRIEF)
    with pytest.raises(UnfitError, match=r"the conversation has \d+ tokens and the context holds 256"):
        chat.ask("the king of the land " * 200)
    assert chat.history == []


@pytest.mark.integration
def test_a_runtime_that_dies_in_the_middle_is_an_error_that_says_so(
    runtime: Runtime, endless: Path, client: Client
) -> None:
    settings = ServeSettings(endless, port=0, ctx_size=128 * 1024, threads=1)
    with start(runtime, settings, http_probe()) as server:
        chat = Chat(client, server.endpoint.url, wishes=Wishes(max_tokens=100_000))
        answer = chat.ask("Once upon a time")
        next(answer)
        os.kill(server.pid, signal.SIGSEGV)
        with pytest.raises(LadingError, match=r"died \(signal 11, SIGSEGV\)"), server.watching():
            for _ in answer:
                pass
        assert chat.history == []


@pytest.mark.integration
def test_nobody_there_is_a_network_error(client: Client) -> None:
    with pytest.raises(NetworkError):
        Chat(client, "http://127.0.0.1:9").ask("hello")


# -- with what servers may send -----------------------------------------------


def test_reasoning_is_told_apart_and_is_no_part_of_the_history(client: Client, scripted: Callable[..., str]) -> None:
    url = scripted(chunk(reasoning_content="Hmm."), chunk(content="Yes."), END)
    chat = Chat(client, url)
    pieces = list(chat.ask("?"))
    assert pieces == ["Hmm.", "Yes."]
    assert [isinstance(piece, Thought) for piece in pieces] == [True, False]
    assert chat.history == [("user", "?"), ("assistant", "Yes.")]


def test_letters_cut_in_two_between_chunks_come_whole(client: Client, scripted: Callable[..., str]) -> None:
    stream = b'data: {"choices":[{"delta":{"content":"' + "größer 🦙".encode() + b'"}}]}\n\n' + END
    url = scripted(*(stream[at : at + 1] for at in range(len(stream))))
    assert list(Chat(client, url).ask("?")) == ["größer 🦙"]


@pytest.mark.parametrize(
    ("blocks", "kind", "said"),
    [
        (
            [chunk(content="a"), b'data: {"error":{"code":500,"message":"out of\\nslots"}}\n\n'],
            LadingError,
            "out of slots",
        ),
        ([chunk(content="a"), b'error: {"code":500,"message":"old style"}\n\n'], LadingError, "old style"),
        ([b"data: <html>\n\n"], FormatError, "no JSON"),
        ([b"data: [1]\n\n"], FormatError, "no answer"),
        ([b"data: \xff\n\n"], FormatError, "UTF-8"),
        ([b"data: " + b"[" * 200_000 + b"\n\n"], FormatError, "no JSON"),
        ([b"data: " + b"x" * 70_000] * 20, FormatError, "1 MiB"),
        ([b"data: x\n"] * 20 + [b"data: " + b"x" * 500_000 + b"\n"] * 3, FormatError, "1 MiB"),
        ([chunk(content="a")], NetworkError, "broke off"),
    ],
)
def test_a_bad_stream_is_an_error_and_leaves_the_history_alone(
    client: Client, scripted: Callable[..., str], blocks: list[bytes], kind: type[LadingError], said: str
) -> None:
    chat = Chat(client, scripted(*blocks))
    with pytest.raises(kind, match=said):
        list(chat.ask("?"))
    assert chat.history == []


def test_a_connection_that_breaks_is_never_a_whole_answer(client: Client, scripted: Callable[..., str]) -> None:
    chat = Chat(client, scripted(chunk(content="a"), whole=False))
    answer = chat.ask("?")
    assert next(answer) == "a"
    with pytest.raises(NetworkError):
        next(answer)
    assert list(answer) == []
    assert answer.outcome is not None
    assert answer.outcome.finish == "failed"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b'{"error":{"code":400,"message":"no such\\u001b[31m field"}}', (LadingError, "no such \\[31m field")),
        (400, b"nonsense", (LadingError, "refused the request \\(400\\)")),
        (400, b"[]", (LadingError, "400")),
        (500, b"x" * 100_000, (LadingError, "500")),
        (503, b'{"error":{"code":503,"message":"Loading model"}}', (NetworkError, "Loading model")),
        (503, b"", (NetworkError, "not ready")),
        (403, b"", (AccessDeniedError, "key")),
    ],
)
def test_a_refusal_is_told_with_the_servers_words(
    client: Client, scripted: Callable[..., str], status: int, body: bytes, error: tuple[type[LadingError], str]
) -> None:
    kind, said = error
    with pytest.raises(kind, match=said):
        Chat(client, scripted(*([body] if body else []), status=status)).ask("?")


def test_odd_but_harmless_parts_are_skipped(client: Client, scripted: Callable[..., str]) -> None:
    odd = [
        b": a comment\n\n",
        b"event: ping\n\n",
        b'data: {"choices":[]}\n\n',
        b'data: {"choices":[null,{"delta":null}],"usage":null,"timings":[1]}\n\n',
        b'data: {"choices":[{"delta":{"content":5}}],"usage":{"prompt_tokens":true}}\n\n',
        b"retry: 5\r\n\r\n",
    ]
    answer = Chat(client, scripted(*odd, chunk(content="a"), END)).ask("?")
    assert list(answer) == ["a"]
    assert answer.outcome is not None
    assert answer.outcome.prompt_tokens is None


def test_a_chat_does_not_show_its_key() -> None:
    class Nobody:
        def request(self, *_args: object, **_named: object) -> object:
            raise AssertionError

    assert "sesame" not in repr(Chat(Nobody(), "http://127.0.0.1:1", api_key="sesame"))  # type: ignore[arg-type]
