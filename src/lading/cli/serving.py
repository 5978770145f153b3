"""The options that `run` and `serve` share."""

from __future__ import annotations

import math
import os
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from lading.errors import UsageError
from lading.text import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lading.api import Options, Serving

_PLAIN = ("threads", "n_gpu_layers", "cache_type_k", "cache_type_v", "runtime", "quant", "platform")
_SAMPLING = ("top_p", "top_k", "min_p", "repeat_penalty", "seed")
_NAMES = ("ctx_size", "fit", "temp", *_PLAIN, *_SAMPLING)

_CONTEXT_STEP = 256


def runtime_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags of the runtime, as llama-server spells them; it receives them as `chosen`."""

    @click.option(
        "-c",
        "--ctx-size",
        type=click.IntRange(min=1),
        help="Context in tokens, in steps of 256; what fits if not given.",
    )
    @click.option("--threads", type=click.IntRange(min=1), help="CPU threads; all usable cores if not given.")
    @click.option(
        "-ngl", "--n-gpu-layers", type=click.IntRange(min=0), help="Layers to keep on the GPU; what fits if not given."
    )
    @click.option("-ctk", "--cache-type-k", metavar="TYPE", help="Keep keys so: f16, or q8_0 where that does not fit.")
    @click.option("-ctv", "--cache-type-v", metavar="TYPE", help="Keep values so; likewise.")
    @click.option(
        "--fit",
        type=click.Choice(["on", "off"]),
        default="on",
        show_default=True,
        help="Choose what fits, and refuse what does not.",
    )
    @click.option("--quant", metavar="NAME", help="Of several quantizations, take this one.")
    @click.option("--platform", metavar="OS/ARCH", help="Of images for several, take that for this; as in linux/arm64.")
    @click.option("--temp", type=click.FloatRange(0, 5), help="Sampling temperature.")
    @click.option("--top-p", type=click.FloatRange(0, 1), help="Nucleus sampling.")
    @click.option("--top-k", type=click.IntRange(min=0), help="Sample from the best K tokens.")
    @click.option("--min-p", type=click.FloatRange(0, 1), help="Least probability, relative to the best token.")
    @click.option("--repeat-penalty", type=click.FloatRange(0.1, 10), help="Penalty for repeated tokens.")
    @click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of the sampling.")
    @click.option(
        "--runtime",
        metavar="NAME",
        help="llama-server (on the PATH) or embedded; the first that is there if not given.",
    )
    @wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        chosen = {name: options.pop(name) for name in _NAMES}
        return function(*args, chosen=chosen, **options)

    return wrapped


def make_options(chosen: Mapping[str, Any], **more: Any) -> Options:
    """Return the library's options for the flags."""
    from lading.api import Options  # noqa: PLC0415 - the library is loaded when a command runs
    from lading.runtime import Sampling  # noqa: PLC0415 - as above

    if any(isinstance(value, float) and math.isnan(value) for value in chosen.values()):
        msg = "NaN is no setting"
        raise UsageError(msg, hint="give a number, or leave the flag away")
    sampling = Sampling(temperature=chosen["temp"], **{name: chosen[name] for name in _SAMPLING})
    return Options(
        ctx_size=_padded(chosen["ctx_size"]),
        fit=chosen["fit"] == "on",
        sampling=sampling,
        **{name: chosen[name] for name in _PLAIN},
        **more,
    )


def _padded(ctx_size: int | None) -> int | None:
    # llama.cpp holds contexts in steps of 256 and cannot begin with less; what is said is what it has.
    return None if ctx_size is None else -(-ctx_size // _CONTEXT_STEP) * _CONTEXT_STEP


def environment() -> Mapping[str, str]:
    """Return the user's environment: the runtime is searched on its PATH and sees a harmless part of it."""
    return os.environ  # noqa: TID251 - the surface hands the environment down as a value


def read_keys(file: Path | None, given: str | None, configured: str | None) -> tuple[str, ...]:
    """Return the API keys: of the file, a line each, else the one given, else the configured one."""
    if given is not None:
        click.echo("warning: --api-key shows in the process list; use --api-key-file or LADING_API_KEY", err=True)
    if file is None:
        key = given or configured
        return (key,) if key else ()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the key file {file} cannot be read"
        raise UsageError(msg, hint="a text file with one key on each line") from error
    keys = tuple(line.strip() for line in lines if line.strip())
    if not keys:
        msg = f"the key file {file} holds no key"
        raise UsageError(msg, hint="a text file with one key on each line")
    return keys


def introduce(serving: Serving) -> str:
    """Say what serves which model, with its digest, in one line."""
    prepared = serving.prepared
    digest = f"   {prepared.digest.short}" if prepared.digest else ""
    trained = prepared.facts.context_length
    context = f"context {serving.ctx_size:,}" + (f" of {trained:,}" if trained and trained > serving.ctx_size else "")
    needs = f"   {memory(serving.fitted.row.total)}" if serving.fitted else ""
    return f"{prepared.name}{digest}   {serving.runtime.name} {serving.runtime.version}   {context}{needs}"


def flush_word(piece: str) -> None:
    """Write a piece of an answer on stdout at once."""
    sys.stdout.write(piece)
    sys.stdout.flush()
