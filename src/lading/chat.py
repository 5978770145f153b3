"""Talks with a served model: the client of its OpenAI-compatible API, with the history that the API itself lacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from lading.errors import AccessDeniedError, FormatError, LadingError, NetworkError, UnfitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PIECE = 16 * 1024
_LONGEST_EVENT = 1024 * 1024
_LONGEST_ERROR = 64 * 1024
_OK, _UNAUTHORIZED, _FORBIDDEN, _UNAVAILABLE = 200, 401, 403, 503
_QUOTED = 300


class Piecewise(Protocol):
    """A body that hands out what has come so far."""

    def read1(self, size: int, /) -> bytes:
        """Return up to `size` bytes as soon as some are there, empty only at the end; NetworkError if it breaks off."""

    def close(self) -> None:
        """Let go of the connection, for good if the body was not read to its end."""


class Reply(Protocol):
    """What a server answers to a request."""

    status: int

    def body(self) -> Piecewise:
        """Stream the body."""

    def read(self, cap: int, /) -> bytes:
        """Return the whole body, of `cap` bytes at most, and close."""


class Caller(Protocol):
    """The part of `lading.http.Client` that a chat needs."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Send a request and return the answer, whatever its status; raises NetworkError without one."""


class Thought(str):
    """A piece of the model's reasoning, which precedes its answer and is no part of the history."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended.

    `finish` is "stop", "length", "cancelled" or "failed"; counts, and speeds in tokens per second, are None where the
    server tells none.
    """

    finish: str
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    prompt_speed: float | None = None
    answer_speed: float | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What each request asks for; None and empty leave it to the server."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(slots=True)
class Chat:
    """A conversation with the server at `url`.

    With `template` the model's chat template shapes it (`/v1/chat/completions`); without, the model goes on with the
    plain text of all that was said (`/v1/completions`). `history` holds what was said, `("user", text)` and
    `("assistant", text)`, and may be cleared.
    """

    caller: Caller
    url: str
    template: bool = True
    api_key: str | None = field(default=None, repr=False)
    system: str | None = None
    wishes: Wishes = Wishes()
    history: list[tuple[str, str]] = field(default_factory=list)

    def ask(self, prompt: str) -> Answer:
        """Send a prompt and return its answer, to be iterated over as it comes.

        Raises UnfitError when the conversation is longer than the context, AccessDeniedError for a wrong key,
        NetworkError when the server does not answer or breaks off; the history is then as it was.
        """
        if self.template:
            messages = [("system", self.system)] if self.system else []
            messages += [*self.history, ("user", prompt)]
            request: dict[str, Any] = {"messages": [{"role": role, "content": text} for role, text in messages]}
        else:
            said = [self.system] if self.system else []
            request = {"prompt": "\n".join([*said, *(text for _, text in self.history), prompt])}
        path = "/v1/chat/completions" if self.template else "/v1/completions"
        request |= _wished(self.wishes) | {"stream": True, "stream_options": {"include_usage": True}}
        reply = self.caller.request(
            "POST",
            self.url + path,
            headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
            authorization=f"Bearer {self.api_key}" if self.api_key else None,
            body=json.dumps(request).encode(),
        )
        if reply.status != _OK:
            raise _refused(reply)
        return Answer(reply.body(), self.history, prompt)


class Answer(Iterator[str]):
    """The pieces of an answer, as they come; a context manager that closes it.

    When it ends, or is closed before, `outcome` is set and the history knows what was said until then. Closing ends
    the generation in the server.
    """

    def __init__(self, body: Piecewise, history: list[tuple[str, str]], prompt: str) -> None:
        self.outcome: Outcome | None = None
        self._body = body
        self._history = history
        self._prompt = prompt
        self._said: list[str] = []
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self._pieces = self._read()

    def __next__(self) -> str:
        """Return the next piece of text, never empty; a `Thought` is no part of the answer proper."""
        if self.outcome is not None:
            raise StopIteration
        try:
            return next(self._pieces)
        except StopIteration:
            self._end(self._finish or "stop")
            raise
        except LadingError:
            self._body.close()
            self.outcome = Outcome("failed")
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the answer; harmless when it has ended."""
        if self.outcome is None:
            self._end("cancelled")

    def _end(self, finish: str) -> None:
        self._body.close()
        self._history += [("user", self._prompt), ("assistant", "".join(self._said))]
        self.outcome = Outcome(
            finish,
            _number(self._usage, "prompt_tokens"),
            _number(self._usage, "completion_tokens"),
            _speed(self._timings, "prompt_per_second"),
            _speed(self._timings, "predicted_per_second"),
        )

    def _read(self) -> Iterator[str]:
        for data in events(_blocks(self._body)):
            if data == "[DONE]":
                return
            part = _parse(data)
            for name, kept in (("usage", self._usage), ("timings", self._timings)):
                if isinstance(part.get(name), dict):
                    kept.update(part[name])
            for choice in _dicts(part.get("choices")):
                yield from self._texts(choice)
        if self._finish is None:
            msg = "the server broke off in the middle of its answer"
            raise NetworkError(msg)

    def _texts(self, choice: dict[str, Any]) -> Iterator[str]:
        delta = choice.get("delta")
        told = delta if isinstance(delta, dict) else {"content": choice.get("text")}
        thought, text = told.get("reasoning_content"), told.get("content")
        if isinstance(choice.get("finish_reason"), str):
            self._finish = choice["finish_reason"]
        if isinstance(thought, str) and thought:
            yield Thought(thought)
        if isinstance(text, str) and text:
            self._said.append(text)
            yield text


def events(blocks: Iterable[bytes]) -> Iterator[str]:
    """Yield the data of each event in a text/event-stream (HTML standard, 9.2.6), however the bytes are cut up.

    Comments, other fields and empty events are skipped; an event that the stream's end cuts short is dropped. An `error` field, as
    older llama.cpp writes it, counts as data. Raises FormatError for an event of more than 1 MiB or of no UTF-8.
    """
    data: list[str] = []
    for line in _lines(blocks):
        if not line:
            if text := "\n".join(data):
                yield text
            data = []
            continue
        name, _, value = line.partition(b":")
        if name not in (b"data", b"error"):
            continue
        try:
            text = value.removeprefix(b" ").decode("utf-8")
        except UnicodeDecodeError as error:
            msg = "the server's answer is not UTF-8"
            raise FormatError(msg) from error
        data.append(text if name == b"data" else f'{{"error": {text}}}')
        if sum(map(len, data)) > _LONGEST_EVENT:
            raise _too_long()


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines without their ends, which are CR LF, LF or CR."""
    rest = b""
    after_cr = False
    for block in blocks:
        # The LF of a CR LF that was cut in two.
        piece = block[1:] if after_cr and block.startswith(b"\n") else block
        after_cr = block.endswith(b"\r") if block else after_cr
        # bytes.splitlines splits at these three only.
        lines = (rest + piece).splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        if len(rest) > _LONGEST_EVENT:
            raise _too_long()
        for line in lines:
            yield line.rstrip(b"\r\n")


def _blocks(body: Piecewise) -> Iterator[bytes]:
    while block := body.read1(_PIECE):
        yield block


def _too_long() -> FormatError:
    return FormatError("the server sent an event of more than 1 MiB")


def _parse(data: str) -> dict[str, Any]:
    try:
        part = json.loads(data)
    except (ValueError, RecursionError) as error:
        msg = f"the server sent what is no JSON: {data[:80]!r}"
        raise FormatError(msg) from error
    if not isinstance(part, dict):
        msg = f"the server sent what is no answer: {data[:80]!r}"
        raise FormatError(msg)
    if part.get("error"):
        raise _told(part["error"], "the server failed in the middle of its answer")
    return part


def _refused(reply: Reply) -> LadingError:
    if reply.status in (_UNAUTHORIZED, _FORBIDDEN):
        reply.read(_LONGEST_ERROR)
        return AccessDeniedError("the server wants another key", hint="--api-key-file FILE, or LADING_API_KEY")
    said: Any = None
    with suppress(ValueError, RecursionError, AttributeError, FormatError):
        said = json.loads(reply.read(_LONGEST_ERROR)).get("error")
    if reply.status == _UNAVAILABLE and not said:
        return NetworkError("the server is not ready (503)", hint="try again later")
    return _told(said, f"the server refused the request ({reply.status})")


def _told(said: Any, what: str) -> LadingError:
    """Return the error for llama.cpp's `{"code", "type", "message", ...}`."""
    told = said if isinstance(said, dict) else {"message": said}
    if told.get("type") == "exceed_context_size_error":
        needed, size = told.get("n_prompt_tokens"), told.get("n_ctx")
        return UnfitError(
            f"the conversation has {needed} tokens and the context holds {size}",
            hint="a larger --ctx-size, or a new chat",
        )
    message = "".join(char if char.isprintable() else " " for char in str(told.get("message") or ""))[:_QUOTED]
    text = f"{what}: {message}" if message else what
    return NetworkError(text) if told.get("code") == _UNAVAILABLE else LadingError(text)


def _wished(wishes: Wishes) -> dict[str, Any]:
    named = {
        "max_tokens": wishes.max_tokens,
        "temperature": wishes.temperature,
        "top_p": wishes.top_p,
        "top_k": wishes.top_k,
        "min_p": wishes.min_p,
        "repeat_penalty": wishes.repeat_penalty,
        "seed": wishes.seed,
        "stop": list(wishes.stop) or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _number(table: dict[str, Any], name: str) -> int | None:
    value = table.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _speed(table: dict[str, Any], name: str) -> float | None:
    value = table.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
