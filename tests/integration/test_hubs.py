"""Models from hubs, as a user pulls them: chosen, told, pinned, and fetched once."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from ollama_push import push_ollama

if TYPE_CHECKING:
    from pathlib import Path

    from hub import LoopbackHub
    from real_registry import RegistryProcess

    from conftest import CommandLine

pytestmark = pytest.mark.integration


@pytest.fixture
def stocked(hub: LoopbackHub, storyteller: Path, lading: CommandLine) -> LoopbackHub:
    """The hub with the storyteller as an unsplit quantization among others, and as a folder of safetensors."""
    weights = storyteller.read_bytes()
    licence = b"CC0 1.0 Universal\n"
    hub.add(
        "team/story-GGUF",
        {
            "README.md": b"# Storyteller\n",
            "LICENSE": licence,
            "story-F16.gguf": weights,
            "story-BF16.gguf": weights[:-1] + b"\0",
            "story-Q4_K_M.gguf": weights,
            "config.json": b"{}",
        },
    )
    folder = storyteller.parent
    hub.add(
        "team/story",
        {
            name: (folder / name).read_bytes()
            for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "LICENSE")
        },
    )
    lading.environment |= {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
    return hub


def pulled(lading: CommandLine, *arguments: str, **options: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(lading("pull", *arguments, "--json", **options).stdout)[0]
    return document


def test_a_quantization_is_pulled_and_runs(lading: CommandLine, stocked: LoopbackHub) -> None:
    model = pulled(lading, "hf://team/story-GGUF:F16")
    assert model["reference"] == "hf:team/story-GGUF:F16"
    assert model["format"] == "modelpack"
    shown = json.loads(lading("inspect", "hf://team/story-GGUF:F16", "--json").stdout)
    assert {part["name"]: part["role"] for part in shown["parts"]} == {
        "story-F16.gguf": "weights",
        "LICENSE": "licence",
        "README.md": "doc",
    }
    assert lading("run", "hf://team/story-GGUF:F16", "Once upon a time", "-n", "8").stdout.strip()
    (listed,) = json.loads(lading("list", "--json").stdout)
    assert listed["source"].startswith("hf://team/story-GGUF@")


def test_what_was_chosen_is_told_and_what_was_asked_for_is_never_replaced(
    lading: CommandLine, stocked: LoopbackHub
) -> None:
    assert "BF16: best of 3 that fits whole in 8.0 GiB of memory" in lading("pull", "hf://team/story-GGUF").stderr
    kept = lading("copy", "hf://team/story-GGUF", "oci-layout:out:1").stderr
    assert "Q4_K_M of 3 quantizations" in kept, "what goes elsewhere does not depend on this machine"
    refused = lading("pull", "hf://team/story-GGUF:Q8_0", code=3).stderr
    for quant in ("BF16", "F16", "Q4_K_M"):
        assert quant in refused
    assert "hf:team/story-GGUF:Q8_0" not in lading("list").stdout


def test_the_same_commit_gives_the_same_digest_everywhere(
    lading: CommandLine, stocked: LoopbackHub, tmp_path: Path
) -> None:
    first = pulled(lading, "hf://team/story-GGUF:F16")
    other = pulled(
        lading, "hf://team/story-GGUF:F16", more={"LADING_STORE": str(tmp_path / "other"), "TZ": "Asia/Tokyo"}
    )
    assert other["digest"] == first["digest"]


def test_pulling_again_costs_two_requests_and_an_object_that_is_here_none(
    lading: CommandLine, stocked: LoopbackHub
) -> None:
    pulled(lading, "hf://team/story-GGUF:F16")
    before = len(stocked.asked)
    assert pulled(lading, "hf://team/story-GGUF:F16")["up_to_date"]
    assert len(stocked.asked) - before <= 2
    sent = stocked.sent.total()
    twin = pulled(lading, "hf://team/story-GGUF:Q4_K_M")
    assert not twin["up_to_date"]
    # The two files have the same bytes: only the small files, whose sha256 the hub does not tell, are asked for again.
    assert stocked.sent.total() - sent < 10_000
    from_the_other_hub = pulled(lading, "ms://team/story-GGUF:F16")
    assert from_the_other_hub["new_bytes"] < 10_000


def test_a_folder_of_safetensors_comes_with_what_it_needs(lading: CommandLine, stocked: LoopbackHub) -> None:
    pulled(lading, "hf://team/story")
    shown = json.loads(lading("inspect", "hf://team/story", "--json").stdout)
    assert {part["name"] for part in shown["parts"]} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "LICENSE",
    }
    assert shown["model"]["architecture"] == "llama"
    assert shown["model"]["file_type"] == "BF16"


def test_a_hub_model_is_looked_at_without_being_fetched(lading: CommandLine, stocked: LoopbackHub) -> None:
    page = lading("inspect", "hf://team/story-GGUF:F16").stdout
    assert "Storyteller, llama, 1.4 M parameters, F16" in page
    assert stocked.sent.total() < 700_000
    assert not lading.store.exists()


def test_a_gated_model_says_what_to_do_and_the_token_stays_secret(
    lading: CommandLine, stocked: LoopbackHub, storyteller: Path
) -> None:
    stocked.add("team/private", {"story-F16.gguf": storyteller.read_bytes()}, private=True)
    refused = lading("pull", "hf://team/private", code=4).stderr
    assert "HF_TOKEN" in refused
    token = lading.folder / ".cache/huggingface/token"
    token.parent.mkdir(parents=True)
    token.write_text(f"{stocked.token}\n")
    done = lading("pull", "hf://team/private")
    assert stocked.token not in done.stdout + done.stderr
    assert all(stocked.token not in str(asked.headers) for asked in stocked.storage_asked)


def test_a_hub_that_has_had_enough_is_asked_again_when_it_said(lading: CommandLine, stocked: LoopbackHub) -> None:
    stocked.limited, stocked.limit_headers = 2, {"RateLimit": '"api";r=0;t=1'}
    begun = time.monotonic()
    done = lading("pull", "hf://team/story-GGUF:F16")
    assert time.monotonic() - begun > 2
    assert len(re.findall(r"busy or failing \(429\); trying again in 1\.\d s", done.stderr)) == 2


def test_an_ollama_model_is_pulled_as_it_is_and_runs(
    lading: CommandLine, storyteller: Path, plain_registry: RegistryProcess
) -> None:
    digest = push_ollama(plain_registry, "library/story", "1", storyteller.read_bytes())
    reference = f"ollama://{plain_registry.host}/library/story:1"
    model = pulled(lading, reference)
    assert model["digest"] == digest
    assert model["format"] == "ollama"
    shown = json.loads(lading("inspect", reference, "--json").stdout)
    assert {part["role"] for part in shown["parts"]} >= {"weights", "params"}
    answer = lading("run", reference, "Once upon a time", "-n", "8")
    assert answer.stdout.strip()
    assert "num_gpu" in answer.stderr, "what an artifact may not decide is named"
