"""Asks GGUF files what llama.cpp makes of them, loaded as the embedded runtime does: loaded.py JOBS ANSWERS, both JSON.

A process of its own, for a library that crashes takes its process with it. The answers come in the order of the jobs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOKENS = 8
_SECONDS = 300


@dataclass(frozen=True)
class Job:
    """`ask` is words (a text with the logarithms of its tokens' odds), an embedding, or the tokens of a text.

    `image` is the URL of one that is looked at before the text.
    """

    model: Path
    text: str = "Once upon a time there was a ship"
    ask: Literal["words", "embedding", "tokens"] = "words"
    lora: Path | None = None
    mmproj: Path | None = None
    image: str | None = None


def asked(jobs: Sequence[Job], folder: Path) -> list[Any]:
    """Do the jobs in a process of its own, which leaves its files in `folder`, and return what came of each."""
    told, answers = folder / "jobs.json", folder / "answers.json"
    told.write_text(json.dumps([asdict(job) for job in jobs], default=str))
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run(
        [sys.executable, __file__, str(told), str(answers)],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[Any] = json.loads(answers.read_text())
    return found


def _answer(job: dict[str, Any], kept: list[Any]) -> Any:
    import xllamacpp  # noqa: PLC0415  # only here: who imports `asked` needs no library

    from lading.runtime import ServeSettings  # noqa: PLC0415  # as above
    from lading.runtime.child import parameters  # noqa: PLC0415  # as above

    settings = ServeSettings(
        Path(job["model"]),
        mmproj=job["mmproj"] and Path(job["mmproj"]),
        port=0,
        ctx_size=512,
        threads=1,
        embeddings=job["ask"] == "embedding",
        pooling="mean" if job["ask"] == "embedding" else None,
    )
    params = parameters(settings, xllamacpp)
    params.verbosity = 0
    if job["lora"]:
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = job["lora"], 1.0
        params.lora_adapters = [adapter]
    server = xllamacpp.Server(params)
    kept.append(server)
    if job["ask"] == "tokens":
        body = json.dumps({"content": job["text"], "add_special": False}).encode()
        request = urllib.request.Request(f"{server.listening_address}/tokenize", body)
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)["tokens"]
    if job["ask"] == "embedding":
        return server.handle_embeddings({"input": job["text"]})["data"][0]["embedding"]
    content: Any = job["text"]
    if job["image"]:
        content = [{"type": "image_url", "image_url": {"url": job["image"]}}, {"type": "text", "text": job["text"]}]
    wish = {"max_tokens": _TOKENS, "temperature": 0, "seed": 1, "logprobs": True}
    said = server.handle_chat_completions({"messages": [{"role": "user", "content": content}], **wish})
    tokens = said["choices"][0]["logprobs"]["content"]
    return [[token["token"], token["logprob"]] for token in tokens]


def main() -> None:
    """Do the jobs of a file, and write their answers."""
    jobs = json.loads(Path(sys.argv[1]).read_text())
    kept: list[Any] = []
    Path(sys.argv[2]).write_text(json.dumps([_answer(job, kept) for job in jobs]))
    # Not in order: a server that is ended right after it began waits for ever.
    os._exit(0)


if __name__ == "__main__":
    main()
