from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lading.errors import UnfitError, UsageError
from lading.runtime import Runtime, Sampling, ServeSettings, choose
from lading.runtime.process import passed_on

MODEL = Path("/models/a.gguf")


def program(folder: Path, text: str) -> Path:
    path = folder / "llama-server"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


def test_llama_server_on_the_path_comes_first(tmp_path: Path) -> None:
    program(tmp_path, "echo 'version: 1234 (abcdef)' >&2")
    runtime = choose(None, {"PATH": str(tmp_path)})
    assert (runtime.name, runtime.version) == ("llama-server", "1234 (abcdef)")


def test_the_embedded_one_is_next() -> None:
    runtime = choose(None, {"PATH": "/nowhere"})
    assert runtime.name == "embedded"
    assert runtime.version == f"xllamacpp {importlib.metadata.version('xllamacpp')}"


def test_the_user_can_name_one(tmp_path: Path) -> None:
    program(tmp_path, "true")
    assert choose("embedded", {"PATH": str(tmp_path)}).name == "embedded"


def test_choosing_does_not_load_the_library(environment: dict[str, str]) -> None:
    code = (
        "import sys; from lading.runtime import choose; r = choose('embedded', {}); r.version;"
        "sys.exit('xllamacpp' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("wanted", [None, "embedded", "llama-server"])
def test_without_any_the_error_says_how_to_get_one(wanted: str | None) -> None:
    with pytest.raises(UnfitError) as caught:
        choose(wanted, {"PATH": "/nowhere"})
    assert "pip install 'lading[llama]'" in caught.value.hint
    assert caught.value.exit_code == 8


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match="vllm") as caught:
        choose("vllm", {})
    assert "llama-server, embedded" in caught.value.hint


def test_a_program_that_does_not_start_is_named_with_its_reason(tmp_path: Path) -> None:
    path = program(tmp_path, "echo 'libllama.so.0: cannot open shared object file' >&2; exit 127")
    with pytest.raises(UnfitError, match=r"libllama\.so\.0") as caught:
        _ = choose("llama-server", {"PATH": str(tmp_path)}).version
    assert str(path) in caught.value.message


@pytest.fixture(params=["llama-server", "embedded"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    program(tmp_path, "true")
    return choose(request.param, {"PATH": str(tmp_path), "HOME": "/h", "CUDA_VISIBLE_DEVICES": "0", "HF_TOKEN": "hush"})


def test_keys_are_never_in_argv_nor_shown(runtime: Runtime) -> None:
    command = runtime.command(ServeSettings(MODEL, api_keys=("sesame", "mellon")))
    assert "sesame" not in " ".join(command.argv)
    assert "sesame" not in repr(command)
    if runtime.name == "llama-server":
        assert command.environment["LLAMA_API_KEY"] == "sesame,mellon"
    else:
        assert command.stdin is not None
        assert json.loads(command.stdin)["api_keys"] == ["sesame", "mellon"]
        assert "sesame" not in str(dict(command.environment))


def test_a_runtime_sees_devices_and_no_secrets(runtime: Runtime) -> None:
    environment = runtime.command(ServeSettings(MODEL)).environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert "HF_TOKEN" not in environment


def test_secrets_and_flags_stay_out_of_a_childs_environment() -> None:
    secret = {"HF_TOKEN": "a", "LADING_API_KEY": "b", "AWS_SECRET_ACCESS_KEY": "c", "NVIDIA_API_KEY": "d"}
    steering = {"LLAMA_ARG_HOST": "0.0.0.0", "LLAMA_ARG_LOG_FILE": "/x", "LLAMA_API_KEY": "e"}
    kept = {
        "PATH": "/bin",
        "LD_LIBRARY_PATH": "/l",
        "GGML_VK_VISIBLE_DEVICES": "0",
        "LC_ALL": "C",
        "OMP_NUM_THREADS": "1",
    }
    assert passed_on(secret | steering | kept) == kept


def test_every_setting_reaches_llama_server(tmp_path: Path) -> None:
    path = program(tmp_path, "true")
    settings = ServeSettings(
        MODEL,
        mmproj=Path("/models/p.gguf"),
        chat_template=Path("/models/t.jinja"),
        host="::1",
        port=9,
        ctx_size=512,
        threads=3,
        n_gpu_layers=0,
        alias="-x",
        embeddings=True,
        pooling="mean",
        parallel=2,
        cache_type_k="q8_0",
        cache_type_v="q4_0",
        cache_ram=64,
        repack=False,
        n_cpu_moe=3,
        sampling=Sampling(0.0, 0.9, 40, 0.05, 1.1, 7, ("</s>", "--host")),
    )
    command = choose("llama-server", {"PATH": str(tmp_path)}).command(settings)
    argv = command.argv
    mine = list(argv[argv.index(str(path)) + 1 :])
    assert mine == [
        *("--model", "/models/a.gguf", "--host", "::1", "--port", "9", "--threads", "3", "--parallel", "2"),
        *("--no-warmup", "--jinja", "--cache-type-k", "q8_0", "--cache-type-v", "q4_0"),
        *("--mmproj", "/models/p.gguf", "--chat-template-file", "/models/t.jinja"),
        *("--ctx-size", "512", "--n-gpu-layers", "0", "--alias", "-x", "--pooling", "mean", "--n-cpu-moe", "3"),
        "--embeddings",
        *("--temp", "0.0", "--top-p", "0.9", "--top-k", "40", "--min-p", "0.05", "--repeat-penalty", "1.1"),
        *("--seed", "7", "--reverse-prompt", "</s>", "--reverse-prompt", "--host"),
    ]
    told = {name: value for name, value in command.environment.items() if name.startswith("LLAMA_ARG_")}
    assert (told["LLAMA_ARG_CACHE_RAM"], told["LLAMA_ARG_REPACK"], told["LLAMA_ARG_FIT"]) == ("64", "0", "off")


def test_what_is_not_said_about_memory_is_left_to_llama_server_but_for_the_prompt_cache(tmp_path: Path) -> None:
    program(tmp_path, "true")
    told = choose("llama-server", {"PATH": str(tmp_path)}).command(ServeSettings(MODEL)).environment
    assert told["LLAMA_ARG_CACHE_RAM"] == "0"
    assert not {"LLAMA_ARG_REPACK", "LLAMA_ARG_FIT"} & set(told)


def test_llama_server_names_its_devices(tmp_path: Path) -> None:
    program(
        tmp_path,
        "echo 'Available devices:\n  CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23700 MiB free)\n  Vulkan1: Other (8 MiB)'",
    )
    assert choose("llama-server", {"PATH": str(tmp_path)}).devices == ("CUDA0", "Vulkan1")
    program(tmp_path, "echo 'error: unknown argument: --list-devices' >&2; exit 1")
    assert choose("llama-server", {"PATH": str(tmp_path)}).devices == ()


def test_the_embedded_runtime_counts_no_processor_as_a_device() -> None:
    library = pytest.importorskip("xllamacpp")
    real = {one["name"] for one in library.get_device_info()} - {"CPU"}
    assert set(choose("embedded", {}).devices) == real


def test_without_a_key_other_sites_may_not_read_the_answers(tmp_path: Path) -> None:
    program(tmp_path, "true")
    runtime = choose("llama-server", {"PATH": str(tmp_path)})
    assert runtime.command(ServeSettings(MODEL)).environment["LLAMA_ARG_CORS_ORIGINS"] == "localhost"
    keyed = runtime.command(ServeSettings(MODEL, api_keys=("k",))).environment
    assert "LLAMA_ARG_CORS_ORIGINS" not in keyed


def test_a_folder_named_lading_in_the_working_folder_is_not_run(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lading").mkdir()
    (tmp_path / "lading" / "__init__.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    argv = choose("embedded", environment).command(ServeSettings(MODEL)).argv
    done = subprocess.run(argv, input=b"{}", capture_output=True, check=False, env=environment, timeout=60)
    assert b"hijacked" not in done.stderr
    assert b"FormatError" in done.stderr
