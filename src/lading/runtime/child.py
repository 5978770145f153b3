"""What the embedded runtime's own process runs: `python -m lading.runtime.child PARENT`, settings on its input.

A crash of the library ends this process only. It ends on SIGTERM, and when its input does: that is its parent's death.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lading.hardware.cores import usable_cores
from lading.runtime import tether, wire
from lading.runtime.settings import ServeSettings

if TYPE_CHECKING:
    from lading.runtime.settings import Sampling

_INFO = 4  # llama.cpp's threshold for what it allocates, and some lines per request; prompts are not among them
_NOT_LOADED = 1
# llama.cpp's common.h: which of the values below came from the user, so that the model's own do not replace them.
_TOP_K, _TOP_P, _MIN_P, _TEMPERATURE, _REPEAT_PENALTY = 1 << 1, 1 << 2, 1 << 3, 1 << 6, 1 << 8


def main() -> None:
    """Serve until told to end; told `devices` in place of a parent, name the devices there are, a line each."""
    if sys.argv[1] == "devices":
        import xllamacpp  # noqa: PLC0415  # a crash of it ends this process only

        sys.stdout.write("".join(f"{name}\n" for name in devices(xllamacpp)))
        return
    tether.tie(int(sys.argv[1]))
    settings = wire.decode(sys.stdin.buffer.readline(), ServeSettings)
    # Waited for below, instead of interrupting the library wherever it is.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    threading.Thread(target=_end_with_input, daemon=True).start()

    import xllamacpp  # noqa: PLC0415  # after the tie, so that a parent's death is seen while it loads

    try:
        _serving = xllamacpp.Server(parameters(settings, xllamacpp))
    except RuntimeError as error:
        # An ordinary exit, unlike the one below: the library's log has a thread of its own, which must say its last words.
        sys.stderr.write(f"{error}\n")
        sys.exit(_NOT_LOADED)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # Ending in order would wait for answers that still stream; nothing in this process needs saving.
    os._exit(0)


def parameters(settings: ServeSettings, library: Any) -> Any:
    """Return the settings as the library's CommonParams."""
    params = library.CommonParams()
    params.verbosity = _INFO
    params.model.path = str(settings.model)
    if settings.mmproj is not None:
        params.mmproj.path = str(settings.mmproj)
    if settings.chat_template is not None:
        params.chat_template = Path(settings.chat_template).read_text(encoding="utf-8")
    params.use_jinja = True
    params.hostnames = [settings.host]
    params.port = settings.port
    if settings.api_keys:
        params.api_keys = list(settings.api_keys)
    else:
        params.cors_origins = "localhost"
    if settings.ctx_size is not None:
        params.n_ctx = settings.ctx_size
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads or usable_cores()
    if settings.n_gpu_layers is not None:
        params.n_gpu_layers = settings.n_gpu_layers
    if settings.alias is not None:
        params.model_alias = {settings.alias}
    params.embedding = settings.embeddings
    if settings.pooling is not None:
        params.pooling_type = getattr(library.llama_pooling_type, f"LLAMA_POOLING_TYPE_{settings.pooling.upper()}")
    params.n_parallel = settings.parallel
    params.cache_type_k, params.cache_type_v = (
        getattr(library.ggml_type, f"GGML_TYPE_{kind.upper()}")
        for kind in (settings.cache_type_k, settings.cache_type_v)
    )
    params.cache_ram_mib = settings.cache_ram
    params.no_extra_bufts = not settings.repack
    # Its own trial of what fits reads the vocabulary twice, and has nothing to find out where there is no device.
    params.fit_params = settings.n_gpu_layers is None and bool(devices(library))
    params.warmup = False
    params.offline = True
    params.antiprompt = list(settings.sampling.stop)
    _set_sampling(params.sampling, settings.sampling)
    return params


def devices(library: Any) -> list[str]:
    """Return the names of the devices, the processor excepted, that the library would use."""
    processor = library.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return [str(one["name"]) for one in library.get_device_info() if one["type"] != processor]


def _set_sampling(target: Any, sampling: Sampling) -> None:
    for name, value, bit in (
        ("temp", sampling.temperature, _TEMPERATURE),
        ("top_p", sampling.top_p, _TOP_P),
        ("top_k", sampling.top_k, _TOP_K),
        ("min_p", sampling.min_p, _MIN_P),
        ("penalty_repeat", sampling.repeat_penalty, _REPEAT_PENALTY),
        ("seed", sampling.seed, 0),
    ):
        if value is not None:
            setattr(target, name, value)
            target.user_sampling_config |= bit


def _end_with_input() -> None:
    # Not through sys.stdin, whose lock the interpreter waits for in vain when it ends.
    while os.read(0, 4096):
        continue
    os._exit(0)


if __name__ == "__main__":
    main()
