from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lading.runtime import Sampling, ServeSettings
from lading.runtime.child import parameters
from lading.runtime.process import tethered


def test_every_setting_reaches_the_library(story: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("xllamacpp")
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0].content }}ü")
    params = parameters(
        ServeSettings(
            story,
            mmproj=tmp_path / "p.gguf",
            chat_template=template,
            host="::1",
            port=9,
            api_keys=("a", "b"),
            ctx_size=512,
            threads=3,
            n_gpu_layers=0,
            alias="story",
            embeddings=True,
            pooling="mean",
            parallel=2,
            cache_type_k="q8_0",
            cache_type_v="iq4_nl",
            cache_ram=64,
            repack=False,
            sampling=Sampling(0.0, 0.5, 40, 0.25, 1.5, 7, ("</s>",)),
        ),
        library,
    )
    assert params.model.path == str(story)
    assert params.mmproj.path == str(tmp_path / "p.gguf")
    assert params.chat_template == "{{ messages[0].content }}ü"
    assert (params.hostnames, params.port, params.api_keys) == (["::1"], 9, ["a", "b"])
    assert (params.n_ctx, params.n_parallel, params.n_gpu_layers) == (512, 2, 0)
    assert params.cache_type_k == library.ggml_type.GGML_TYPE_Q8_0
    assert params.cache_type_v == library.ggml_type.GGML_TYPE_IQ4_NL
    assert (params.cache_ram_mib, params.no_extra_bufts, params.fit_params) == (64, True, False)
    assert params.cpuparams.n_threads == params.cpuparams_batch.n_threads == 3
    assert params.model_alias == {"story"}
    assert (params.embedding, params.pooling_type) == (True, library.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN)
    assert (params.warmup, params.antiprompt) == (False, ["</s>"])
    sampling = params.sampling
    assert (sampling.temp, sampling.top_p, sampling.top_k) == (0.0, 0.5, 40)
    assert (sampling.min_p, sampling.penalty_repeat, sampling.seed) == (0.25, 1.5, 7)


@pytest.mark.skipif(sys.platform != "linux", reason="the tie is Linux's")
def test_a_tied_program_dies_with_its_starter(environment: dict[str, str]) -> None:
    code = (
        "import subprocess, sys, time\n"
        "from lading.runtime.process import tethered\n"
        "child = subprocess.Popen(tethered(('/bin/sleep', '60')))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        child = int(starter.stdout.readline())
        wait_until(lambda: "sleep" in command_of(child))
        starter.kill()
    wait_until(lambda: not command_of(child))


@pytest.mark.skipif(sys.platform != "linux", reason="the tie is Linux's")
def test_a_program_whose_starter_is_dead_already_does_not_start() -> None:
    argv = list(tethered(("/bin/echo", "started")))
    argv[argv.index(str(os.getpid()))] = "1"
    done = subprocess.run(argv, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_program_that_cannot_be_run_says_so(tmp_path: Path) -> None:
    done = subprocess.run(tethered((str(tmp_path / "no"),)), capture_output=True, check=False)
    assert done.returncode == 126
    assert b"No such file" in done.stderr


@pytest.mark.parametrize("ending", ["input", "signal"])
def test_the_embedded_runtime_ends_with_its_input_and_by_signal(
    story: Path, environment: dict[str, str], ending: str
) -> None:
    from lading.runtime import choose  # noqa: PLC0415  # only this test starts a runtime

    command = choose("embedded", environment).command(ServeSettings(story, port=0, ctx_size=128, threads=1))
    with subprocess.Popen(
        command.argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        assert command.stdin is not None
        child.stdin.write(command.stdin)
        child.stdin.flush()
        while b"listening" not in (line := child.stderr.readline()):
            assert line
        if ending == "input":
            child.stdin.close()
        else:
            child.send_signal(signal.SIGTERM)
        child.stderr.read()
        assert child.wait(20) == 0


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_until(done: object, seconds: float = 20) -> None:
    assert callable(done)
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
