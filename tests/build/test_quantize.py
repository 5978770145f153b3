"""Quantizing by each of the builds that are here, held against llama-quantize called by hand."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import disks
import pytest

from lading import ranges
from lading.build import quantizers
from lading.build.quantize import QuantizeOptions, quantize
from lading.errors import (
    BusyError,
    FormatError,
    LadingError,
    NoSpaceError,
    NotFoundError,
    StoppedError,
    UnfitError,
    UsageError,
)
from lading.formats import gguf
from lading.formats.tool_types import QUANTIZE_TYPES
from lading.fs import scratch

if TYPE_CHECKING:
    from conftest import CommandLine

    from .conftest import Heard

PLAIN = [
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S"),
    *("Q5_K_M", "Q6_K", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4_MOE", "F16", "BF16", "F32"),
    *("Q3_K", "Q4_K", "Q5_K", "COPY"),
]
MATRIX_ONLY = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"]
NEW = ["Q1_0", "Q2_0"]


def by_hand(tools: dict[str, str], *arguments: str | Path, folder: Path) -> None:
    subprocess.run(
        ["llama-quantize", *map(str, arguments)], env=tools, cwd=folder, check=True, capture_output=True, timeout=120
    )


def metadata(file: Path) -> dict[str, object]:
    reader = ranges.FileRanges(ranges.open_regular(file), str(file))
    try:
        return dict(gguf.read_header(reader).metadata)
    finally:
        reader.close()


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory, storyteller: Path, tools: dict[str, str]) -> Path:
    from lading.build.imatrix import ImatrixOptions, compute_imatrix  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("matrix")
    text = folder / "words.txt"
    text.write_text("Once upon a time there was a ship, and the ship had a captain who told stories. " * 60)
    return compute_imatrix(storyteller, text, folder / "words.gguf", ImatrixOptions(ctx_size=64, chunks=4), tools)


@pytest.mark.integration
@pytest.mark.parametrize("kind", NEW)
def test_the_newest_types_are_made_by_the_program_alone(
    kind: str, storyteller: Path, tools: dict[str, str], bare: dict[str, str], tmp_path: Path
) -> None:
    by_hand(tools, storyteller, tmp_path / "hand.gguf", kind, "1", folder=tmp_path)
    (made,) = quantize(storyteller, tmp_path / "made.gguf", QuantizeOptions(type=kind, threads=2), tools)
    assert made.read_bytes() == (tmp_path / "hand.gguf").read_bytes()
    only = quantizers.Binding(quantizers.CYLLAMA, bare)
    assert only.lacks(QuantizeOptions(type=kind)) == f"the type {kind}"


@pytest.mark.integration
@pytest.mark.parametrize("flag", ["--include-weights", "--exclude-weights"])
def test_a_matrix_is_used_for_some_tensors_only(
    flag: str, storyteller: Path, matrix: Path, tools: dict[str, str], tmp_path: Path
) -> None:
    parts = ("ffn_up", "attn_q")
    every = QuantizeOptions(type="Q4_K_M", imatrix=matrix)
    some = replace(every, include_weights=parts) if "include" in flag else replace(every, exclude_weights=parts)
    (whole,) = quantize(storyteller, tmp_path / "whole.gguf", every, tools)
    (made,) = quantize(storyteller, tmp_path / "made.gguf", some, tools)
    shutil.copy(matrix, tmp_path / "words.gguf")
    flags = [word for part in parts for word in (flag, part)]
    by_hand(tools, "--imatrix", "words.gguf", *flags, storyteller, tmp_path / "hand.gguf", "Q4_K_M", folder=tmp_path)
    assert made.read_bytes() == (tmp_path / "hand.gguf").read_bytes()
    assert made.read_bytes() != whole.read_bytes()


@pytest.mark.integration
@pytest.mark.parametrize("kind", PLAIN)
def test_every_build_writes_the_same_bytes_with_any_number_of_threads(
    kind: str, storyteller: Path, tools: dict[str, str], bare: dict[str, str], tmp_path: Path
) -> None:
    by_hand(tools, storyteller, tmp_path / "hand.gguf", kind, "1", folder=tmp_path)
    expected = (tmp_path / "hand.gguf").read_bytes()
    for threads, environment in ((2, tools), (1, bare), (2, bare)):
        options = QuantizeOptions(type=kind, threads=threads)
        made = quantize(storyteller, tmp_path / "made.gguf", options, environment)
        assert made == (tmp_path / "made.gguf",)
        assert made[0].read_bytes() == expected


def test_all_types_are_tried() -> None:
    assert sorted([*PLAIN, *MATRIX_ONLY, *NEW]) == sorted(QUANTIZE_TYPES)


@pytest.mark.integration
@pytest.mark.parametrize("kind", MATRIX_ONLY)
def test_a_low_type_asks_for_a_matrix_and_is_made_with_one(
    kind: str, storyteller: Path, matrix: Path, tools: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="it needs an importance matrix"):
        quantize(storyteller, tmp_path / "without.gguf", QuantizeOptions(type=kind), tools)
    made = quantize(storyteller, tmp_path / "with.gguf", QuantizeOptions(type=kind, imatrix=matrix), tools)
    shutil.copy(matrix, tmp_path / "words.gguf")
    by_hand(tools, "--imatrix", "words.gguf", storyteller, tmp_path / "hand.gguf", kind, "1", folder=tmp_path)
    assert made[0].read_bytes() == (tmp_path / "hand.gguf").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hand.gguf", "with.gguf", "words.gguf"]


@pytest.mark.integration
def test_no_path_of_this_machine_stands_in_the_file(
    storyteller: Path, matrix: Path, tools: dict[str, str], tmp_path: Path
) -> None:
    options = QuantizeOptions(type="Q4_K_M", imatrix=matrix)
    (made,) = quantize(storyteller, tmp_path / "made.gguf", options, tools)
    said = {key: value for key, value in metadata(made).items() if key.startswith("quantize.")}
    assert said["quantize.imatrix.file"] == "words.gguf"
    assert said["quantize.imatrix.dataset"] == "words.txt"
    assert str(tmp_path).encode() not in made.read_bytes()


OVERRIDES = ("general.name=str:Other", "my.size=int:-4", "my.part=float:0.5")
FLAGS: list[tuple[QuantizeOptions, list[str]]] = [
    (QuantizeOptions(type="Q4_K_M", pure=True), ["--pure"]),
    (QuantizeOptions(type="Q4_K_M", leave_output_tensor=True), ["--leave-output-tensor"]),
    (QuantizeOptions(type="Q4_K_M", output_tensor_type="Q8_0"), ["--output-tensor-type", "q8_0"]),
    (QuantizeOptions(type="Q4_K_M", token_embedding_type="Q5_0"), ["--token-embedding-type", "q5_0"]),
]
MORE_FLAGS: list[tuple[QuantizeOptions, list[str]]] = [
    (
        QuantizeOptions(type="Q4_K_M", tensor_types=(("attn_q", "Q8_0"), ("ffn_down", "F16"))),
        ["--tensor-type", "attn_q=q8_0", "--tensor-type", "ffn_down=f16"],
    ),
    (
        QuantizeOptions(type="Q8_0", overrides=OVERRIDES),
        [word for text in OVERRIDES for word in ("--override-kv", text)],
    ),
    (QuantizeOptions(type="Q8_0", overrides=("my.flag=bool:true",)), ["--override-kv", "my.flag=bool:true"]),
]


@pytest.mark.integration
@pytest.mark.parametrize(("options", "flags"), [*FLAGS, *MORE_FLAGS])
def test_every_flag_reaches_the_program(
    options: QuantizeOptions, flags: list[str], storyteller: Path, tools: dict[str, str], tmp_path: Path
) -> None:
    by_hand(tools, *flags, storyteller, tmp_path / "hand.gguf", options.type, "2", folder=tmp_path)
    by_hand(tools, storyteller, tmp_path / "plain.gguf", options.type, "2", folder=tmp_path)
    (made,) = quantize(storyteller, tmp_path / "made.gguf", options, tools)
    assert made.read_bytes() == (tmp_path / "hand.gguf").read_bytes()
    # The storyteller ties its output to its embeddings, so what is said of output.weight changes nothing.
    said_of_output = options.leave_output_tensor or options.output_tensor_type
    assert said_of_output or made.read_bytes() != (tmp_path / "plain.gguf").read_bytes()


@pytest.mark.integration
@pytest.mark.parametrize(("options", "flags"), FLAGS)
def test_every_flag_that_a_package_can_set_reaches_it(
    options: QuantizeOptions, flags: list[str], storyteller: Path, bare: dict[str, str], tools: dict[str, str],
    tmp_path: Path,
) -> None:  # fmt: skip
    assert flags
    (made,) = quantize(storyteller, tmp_path / "made.gguf", options, bare)
    (expected,) = quantize(storyteller, tmp_path / "expected.gguf", options, tools)
    assert made.read_bytes() == expected.read_bytes()


# -- llama-cpp-python ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled(bare: dict[str, str]) -> dict[str, str]:
    """An environment with llama-cpp-python, for children only: its numpy is none of ours."""
    folder = Path(__file__).parents[2] / ".tools/llama-cpp-python"
    if not (folder / "llama_cpp").is_dir():
        pytest.skip("no llama-cpp-python, which compiles for long: CONTRIBUTING.md has the command")
    return {**bare, "PYTHONPATH": f"{bare['PYTHONPATH']}:{folder}"}


@pytest.fixture
def package(compiled: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same, where llama-cpp-python is all that there is to quantize with."""
    only = (quantizers.Binding(quantizers.LLAMA_CPP, compiled),)
    monkeypatch.setattr(quantizers, "found", lambda _environment: only)
    return compiled


@pytest.mark.integration
@pytest.mark.parametrize("how", ["plain", "weighed"])
@pytest.mark.parametrize("kind", QUANTIZE_TYPES)
def test_llama_cpp_python_writes_the_same_bytes(
    kind: str, how: str, storyteller: Path, matrix: Path, tools: dict[str, str], package: dict[str, str],
    tmp_path: Path,
) -> None:  # fmt: skip
    if how == "plain" and kind in MATRIX_ONLY:
        with pytest.raises(UsageError, match="it needs an importance matrix"):
            quantize(storyteller, tmp_path / "made.gguf", QuantizeOptions(type=kind), package)
        return
    shutil.copy(matrix, tmp_path / "words.gguf")
    flags = ["--imatrix", "words.gguf"] if how == "weighed" else []
    by_hand(tools, *flags, storyteller, tmp_path / "hand.gguf", kind, "1", folder=tmp_path)
    expected = (tmp_path / "hand.gguf").read_bytes()
    for threads in (1, 2):
        options = QuantizeOptions(type=kind, threads=threads, imatrix=matrix if how == "weighed" else None)
        (made,) = quantize(storyteller, tmp_path / "made.gguf", options, package)
        assert made.read_bytes() == expected


@pytest.mark.integration
@pytest.mark.parametrize("how", ["plain", "weighed"])
@pytest.mark.parametrize(("options", "flags"), [*FLAGS, *MORE_FLAGS])
def test_every_flag_reaches_llama_cpp_python(
    options: QuantizeOptions, flags: list[str], how: str, storyteller: Path, matrix: Path, tools: dict[str, str],
    package: dict[str, str], tmp_path: Path,
) -> None:  # fmt: skip
    shutil.copy(matrix, tmp_path / "words.gguf")
    more = ["--imatrix", "words.gguf"] if how == "weighed" else []
    by_hand(tools, *more, *flags, storyteller, tmp_path / "hand.gguf", options.type, "1", folder=tmp_path)
    wanted = replace(options, imatrix=matrix if how == "weighed" else None)
    (made,) = quantize(storyteller, tmp_path / "made.gguf", wanted, package)
    assert made.read_bytes() == (tmp_path / "hand.gguf").read_bytes()


@pytest.mark.integration
@pytest.mark.parametrize("parts", [{"include_weights": ("ffn",)}, {"exclude_weights": ("attn_q", "ffn_up")}])
def test_llama_cpp_python_takes_a_matrix_for_some_tensors_only(
    parts: dict[str, tuple[str, ...]], storyteller: Path, matrix: Path, tools: dict[str, str], package: dict[str, str],
    tmp_path: Path,
) -> None:  # fmt: skip
    options = QuantizeOptions(
        type="IQ4_XS",
        imatrix=matrix,
        include_weights=parts.get("include_weights", ()),
        exclude_weights=parts.get("exclude_weights", ()),
        tensor_types=(("attn_v", "Q8_0"),),
        overrides=("my.size=int:3",),
    )
    shutil.copy(matrix, tmp_path / "words.gguf")
    flags = [word for name, texts in parts.items() for text in texts for word in (f"--{name.replace('_', '-')}", text)]
    flags += ["--imatrix", "words.gguf", "--tensor-type", "attn_v=q8_0", "--override-kv", "my.size=int:3"]
    by_hand(tools, *flags, storyteller, tmp_path / "hand.gguf", "IQ4_XS", "2", folder=tmp_path)
    (made,) = quantize(storyteller, tmp_path / "made.gguf", options, package)
    assert made.read_bytes() == (tmp_path / "hand.gguf").read_bytes()


@pytest.mark.integration
def test_llama_cpp_python_is_taken_for_what_the_other_package_cannot_set(
    lading: CommandLine,
    compiled: dict[str, str],
    storyteller: Path,
    matrix: Path,
    tools: dict[str, str],
    tmp_path: Path,
) -> None:
    more = {"PATH": compiled["PATH"], "PYTHONPATH": compiled["PYTHONPATH"]}
    lading("quantize", storyteller, tmp_path / "made.gguf", "--type", "IQ2_XS", "--imatrix", matrix, more=more)
    (expected,) = quantize(
        storyteller, tmp_path / "expected.gguf", QuantizeOptions(type="IQ2_XS", imatrix=matrix), tools
    )
    assert (tmp_path / "made.gguf").read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (QuantizeOptions(type="IQ2_S", imatrix=Path("m.gguf")), "an importance matrix"),
        (QuantizeOptions(tensor_types=(("attn_q", "Q8_0"),)), "types of single tensors"),
        (QuantizeOptions(overrides=("a=int:1",)), "overrides of the metadata"),
        (QuantizeOptions(type="Q2_0"), "the type Q2_0"),
    ],
)
def test_what_the_package_cannot_set_is_refused_with_what_to_install(
    options: QuantizeOptions, missing: str, bare: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = (quantizers.Binding(quantizers.CYLLAMA, bare),)
    monkeypatch.setattr(quantizers, "found", lambda _environment: only)
    with pytest.raises(UnfitError, match=missing) as caught:
        quantizers.choose(options, bare)
    assert "llama-quantize is on the PATH" in caught.value.hint


def test_with_nothing_here_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizers, "found", lambda _environment: ())
    with pytest.raises(UnfitError, match="nothing is here to quantize with") as caught:
        quantizers.choose(QuantizeOptions(), {})
    assert "pip install 'lading[quantize]'" in caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"type": "Q5_KM"},
        {"output_tensor_type": "Q4_K_M"},
        {"tensor_types": (("attn_q", "Q9"),)},
        {"include_weights": ("a",), "exclude_weights": ("b",), "imatrix": Path("m.gguf")},
        {"include_weights": ("a",)},
        {"overrides": ("general.name",)},
        {"overrides": ("general.name=text:x",)},
        {"overrides": ("x=int:one",)},
    ],
)
def test_what_llama_cpp_does_not_know_is_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        QuantizeOptions(**options)  # type: ignore[arg-type]


def test_progress_goes_from_start_to_end(storyteller: Path, bare: dict[str, str], tmp_path: Path, heard: Heard) -> None:
    quantize(storyteller, tmp_path / "made.gguf", QuantizeOptions(type="Q8_0"), bare, reporter=heard)
    assert heard.went_from_start_to_end()


def test_a_quantized_source_is_refused_unless_that_is_allowed(
    storyteller: Path, bare: dict[str, str], tmp_path: Path
) -> None:
    (small,) = quantize(storyteller, tmp_path / "small.gguf", QuantizeOptions(type="Q8_0"), bare)
    with pytest.raises(UsageError, match="it is quantized already"):
        quantize(small, tmp_path / "smaller.gguf", QuantizeOptions(type="Q4_0"), bare)
    assert not (tmp_path / "smaller.gguf").exists()
    quantize(small, tmp_path / "smaller.gguf", QuantizeOptions(type="Q4_0", allow_requantize=True), bare)
    assert (tmp_path / "smaller.gguf").stat().st_size < small.stat().st_size


def test_a_file_cannot_take_its_own_place(story: Path, bare: dict[str, str]) -> None:
    before = story.read_bytes()
    with pytest.raises(UsageError, match="is the file to be quantized"):
        quantize(story, story, QuantizeOptions(type="Q8_0"), bare)
    assert story.read_bytes() == before


def test_what_is_no_gguf_or_not_there_is_named(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "words.gguf").write_text("no model")
    with pytest.raises(FormatError, match=r"words\.gguf"):
        quantize(tmp_path / "words.gguf", tmp_path / "made.gguf", QuantizeOptions(), bare)
    with pytest.raises(NotFoundError, match=r"absent\.gguf"):
        quantize(tmp_path / "absent.gguf", tmp_path / "made.gguf", QuantizeOptions(), bare)
    assert [path.name for path in tmp_path.iterdir()] == ["words.gguf"]


def fake(folder: Path, script: str) -> dict[str, str]:
    """An environment whose llama-quantize is a script: how tools fail cannot be asked of the real one."""
    folder.mkdir()
    program = folder / "llama-quantize"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_a_crash_shows_the_last_lines_and_leaves_nothing(storyteller: Path, tmp_path: Path) -> None:
    environment = fake(tmp_path / "bin", "echo half >made.gguf; echo 'tensor 7 is odd' >&2; kill -SEGV $$")
    (tmp_path / "made.gguf").write_text("the old one")
    with pytest.raises(LadingError, match=r"SIGSEGV.*\n    tensor 7 is odd"):
        quantize(storyteller, tmp_path / "made.gguf", QuantizeOptions(), environment)
    assert (tmp_path / "made.gguf").read_text() == "the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "made.gguf"]


def test_a_program_that_makes_nothing_is_a_failure(storyteller: Path, tmp_path: Path) -> None:
    with pytest.raises(LadingError, match="ended without a result"):
        quantize(storyteller, tmp_path / "made.gguf", QuantizeOptions(), fake(tmp_path / "bin", "exit 0"))


def test_a_full_disk_is_told_as_such(storyteller: Path, bare: dict[str, str], tmp_path: Path) -> None:
    with disks.mounted(tmp_path / "disk", 1024 * 1024) as disk:
        with pytest.raises(NoSpaceError):
            quantize(storyteller, disk.path / "made.gguf", QuantizeOptions(type="Q8_0"), bare)
        assert list(disk.path.iterdir()) == []


def test_two_do_not_make_the_same_file_at_once(storyteller: Path, bare: dict[str, str], tmp_path: Path) -> None:
    with scratch(tmp_path / "made.gguf"), pytest.raises(BusyError):
        quantize(storyteller, tmp_path / "made.gguf", QuantizeOptions(), bare)


def test_what_a_killed_one_left_is_swept(storyteller: Path, bare: dict[str, str], tmp_path: Path) -> None:
    left = tmp_path / ".made.gguf.making"
    left.mkdir()
    (left / "made.gguf").write_text("half")
    quantize(storyteller, tmp_path / "made.gguf", QuantizeOptions(type="Q8_0"), bare)
    assert [path.name for path in tmp_path.iterdir()] == ["made.gguf"]


def test_cancelling_ends_the_program(storyteller: Path, tmp_path: Path) -> None:
    environment = fake(tmp_path / "bin", f"echo $$ >{tmp_path}/pid; sleep 60")
    asked = threading.Event()

    def cancelled() -> bool:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip():
            asked.set()
        return asked.is_set()

    with pytest.raises(StoppedError):
        quantize(storyteller, tmp_path / "made.gguf", QuantizeOptions(), environment, cancelled=cancelled)
    assert not alive(int((tmp_path / "pid").read_text()))
    assert not (tmp_path / ".made.gguf.making").exists()


def test_ctrl_c_ends_the_program(lading: CommandLine, storyteller: Path, tmp_path: Path) -> None:
    lading.environment["PATH"] = fake(tmp_path / "bin", f"echo $$ >{tmp_path}/pid; sleep 60")["PATH"]
    process = lading.start("quantize", storyteller, tmp_path / "made.gguf", "--type", "Q8_0")
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.strip().endswith("interrupted")
    assert not alive(int((tmp_path / "pid").read_text()))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.endswith(("gguf", "making"))) == []


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.integration
def test_shards_are_kept_or_joined(
    storyteller: Path, bare: dict[str, str], tools: dict[str, str], tmp_path: Path
) -> None:
    split = Path(tools["PATH"].partition(":")[0]) / "llama-gguf-split"
    if not split.exists():
        pytest.skip("no llama-gguf-split: scripts/fetch_llama_server.sh .tools/llama")
    subprocess.run(
        [split, "--split-max-tensors", "10", storyteller, tmp_path / "part"], check=True, capture_output=True
    )
    parts = sorted(tmp_path.glob("part-*.gguf"))
    assert len(parts) == 3
    options = QuantizeOptions(type="Q8_0", keep_split=True)
    for name, environment in (("program", tools), ("package", bare)):
        made = quantize(parts[0], tmp_path / f"{name}.gguf", options, environment)
        assert [path.name for path in made] == [f"{name}-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert [path.read_bytes() for path in sorted(tmp_path.glob("program-*"))] == [
        path.read_bytes() for path in sorted(tmp_path.glob("package-*"))
    ]
    (joined,) = quantize(parts[0], tmp_path / "joined.gguf", QuantizeOptions(type="Q8_0"), bare)
    (whole,) = quantize(storyteller, tmp_path / "whole.gguf", QuantizeOptions(type="Q8_0"), bare)
    assert joined.stat().st_size >= whole.stat().st_size
    parts[1].unlink()
    with pytest.raises(NotFoundError, match="part-00002-of-00003"):
        quantize(parts[0], tmp_path / "again.gguf", options, bare)
    with pytest.raises(UsageError, match="part 3 of 3"):
        quantize(parts[2], tmp_path / "again.gguf", options, bare)
