from __future__ import annotations

import os
import struct
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lading.http import Client, Patience
from lading.runtime import Runtime, ServeSettings, choose
from lading.server import Server, http_probe, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def story() -> Path:
    """The example model, a Llama of 1.4 M parameters."""
    return ROOT / "examples" / "storyteller" / "storyteller-f16.gguf"


@pytest.fixture
def endless(story: Path, tmp_path: Path) -> Path:
    """The same without an end token, made to believe that it was trained for 128 Ki tokens: it goes on for minutes."""
    data = bytearray(story.read_bytes())
    for name, value in ((b"llama.context_length", 128 * 1024), (b"tokenizer.ggml.eos_token_id", 0)):
        key = name + struct.pack("<I", 4)  # a GGUF value of type u32
        place = data.index(key) + len(key)
        data[place : place + 4] = struct.pack("<I", value)
    # llama.cpp also knows an end token by its text.
    token = struct.pack("<Q", 4) + b"</s>"
    data[data.index(token) : data.index(token) + len(token)] = struct.pack("<Q", 4) + b"<zz>"
    path = tmp_path / "endless.gguf"
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module", params=["embedded", "llama-server"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Each runtime in turn, the real one."""
    mine = dict(os.environ)  # tests stand where the surface does
    named = mine.get("LADING_TEST_LLAMA_SERVER")
    folder = Path(named).parent if named else ROOT / ".tools" / "llama" / "bin"
    if request.param == "llama-server" and not (folder / "llama-server").exists():
        pytest.skip("no llama-server: scripts/fetch_llama_server.sh .tools/llama")
    return choose(request.param, {**mine, "PYTHONPATH": str(ROOT / "src"), "PATH": f"{folder}:{mine.get('PATH', '')}"})


@pytest.fixture(scope="module")
def server(runtime: Runtime, story: Path) -> Iterator[Server]:
    """A server with a key, one slot and a short context."""
    settings = ServeSettings(story, port=0, ctx_size=256, threads=1, api_keys=("sesame",))
    with start(runtime, settings, http_probe()) as server:
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    """A client as `run` uses it: nothing is tried twice, and silence may last."""
    client = Client(patience=Patience(tries=1, read=60))
    yield client
    client.close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., str]]:
    """Serves given bytes, as an event stream in chunks, on loopback; returns the server's URL."""
    servers: list[ThreadingHTTPServer] = []

    def serve(*blocks: bytes, status: int = 200, whole: bool = True) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                with suppress(ConnectionError):  # the client may have heard enough
                    for block in blocks:
                        self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
                        self.wfile.flush()
                    if whole:
                        self.wfile.write(b"0\r\n\r\n")
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield serve
    for each in servers:
        each.shutdown()
        each.server_close()
