"""Writes tests/estimate/oracle.json and held_out.json: what llama.cpp would allocate, to the byte, for many models.

The first has what rules were made from; the second other models in other settings, which no rule may be made from.

usage: oracle_table.py ORACLE BACKENDS VERSION, which is what `scripts/oracle.sh` calls. ORACLE is the program made from
memory_oracle.cpp, BACKENDS the folder of ggml's backends that it loads, VERSION what is recorded of both.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "estimate"
STORYTELLER = ROOT / "examples" / "storyteller" / "storyteller-f16.gguf"
PORT = 50_899
MOST_LAYERS = 100
DEVICES = 2

CPU = (
    "ctx=4096",
    "ctx=512",
    "ctx=32768",
    "ctx=1",
    "ctx=5000 parallel=3",
    "ctx=4096 parallel=4 unified=1",
    "ctx=4096 parallel=4",
    "ctx=4096 ctk=q8_0 ctv=q8_0",
    "ctx=4096 ctk=q4_0 ctv=q5_1",
    "ctx=4096 ctk=iq4_nl ctv=q4_1",
    "ctx=4096 ctk=f32 ctv=bf16",
    "ctx=4096 ctk=q5_0",
    "ctx=4096 flash=0",
    "ctx=4096 flash=1",
    "ctx=16384 flash=0 ctk=q8_0",
    "ctx=4096 ctv=q8_0 flash=0",
    "ctx=4096 ubatch=64",
    "ctx=8192 ubatch=2048",
    "ctx=4096 batch=128",
    "ctx=8192 parallel=2 unified=1 ubatch=256",
    "ctx=8192 swa_full=1",
    "ctx=2048 ubatch=2048 embeddings=1",
    "ctx=30000 ctk=f32 ctv=f32",
    "ctx=77 parallel=2",
)
PLACED = (
    "ctx=4096 ngl=99 devices=1",
    "ctx=4096 ngl=99 devices=2 ts=1,1",
    "ctx=4096 ngl=99 devices=2 ts=3,1 parallel=2",
    "ctx=4096 ngl=5 devices=1",
    "ctx=16384 ngl=99 devices=1 flash=0",
    "ctx=4096 ngl=7 devices=2 ts=1,2 ctk=q8_0 ctv=q8_0",
    "ctx=4096 ngl=99 devices=2 ts=1,1 kv_offload=0",
    r"ctx=4096 ngl=99 devices=1 cpu=\.ffn_(up|down|gate)_(ch|)exps",
    r"ctx=4096 ngl=99 devices=1 cpu=blk\.[0-3]\.ffn_up",
    "ctx=30000 ngl=99 devices=2 ts=0,1",
)
EXPERTS = (
    "ctx=4096 ngl=99 devices=1 moe=5",
    "ctx=9000 ngl=9 devices=2 ts=2,1 moe=7",
    "ctx=4096 ngl=99 devices=2 ts=1,1 moe=999",
)


HELD_OUT_CPU = (
    "ctx=5000",
    "ctx=1200",
    "ctx=100000 ubatch=256",
    "ctx=2100 ubatch=64",
    "ctx=7777 ubatch=2048",
    "ctx=24000 ubatch=1000 batch=3000",
    "ctx=11000 parallel=6 unified=1",
    "ctx=9000 parallel=5 ctk=q8_0 ctv=q8_0",
    "ctx=6500 parallel=7 ubatch=192",
    "ctx=1800 flash=0",
    "ctx=14000 flash=0 ubatch=96 ctk=q4_1",
    "ctx=12000 parallel=2 swa_full=1",
    "ctx=900 ubatch=768 embeddings=1",
)
HELD_OUT_PLACED = (
    "ctx=6000 ngl=99 devices=1 ubatch=1024",
    "ctx=18000 ngl=99 devices=2 ts=5,4",
    "ctx=3500 ngl=9 devices=1 ubatch=320",
    "ctx=30000 ngl=99 devices=2 ts=1,2 parallel=3 flash=0",
    r"ctx=8000 ngl=99 devices=1 cpu=blk\.(0|1|2|3|4|5|6)\.ffn_(up|down|gate|gate_up)_(ch|)exps",
    "ctx=2600 ngl=15 devices=2 ts=2,1 ctk=q8_0 ctv=q8_0",
)
LIMITS = (
    *(("phi3", layers, 128) for layers in (19, 20, 21, 32, 39, 40, 41, 42, 43, 79, 80, 83, 84, 85)),
    *(("phi3", 40, head) for head in (64, 80, 96, 256)),
    ("qwen3", 4, 48),
    ("qwen3", 4, 80),
    ("gemma3", 12, 80),
    ("bert", 4, 80),
    ("deepseek2", 4, 64),
    ("deepseek2-legacy", 4, 64),
)
AT_LIMITS = (
    "ctx=512 parallel=3",
    "ctx=512 ctk=q8_0",
    "ctx=512 ctv=q8_0",
    "ctx=512 ctk=bf16",
    "ctx=512 ctk=q8_0 ctv=q4_0",
    "ctx=512 ctk=q8_0 ctv=q8_0",
    "ctx=512 ctk=q8_0 ctv=q8_0 parallel=3",
    "ctx=512 ctk=q8_0 ctv=q8_0 parallel=3 unified=1",
    "ctx=512 ctk=q8_0 parallel=3",
    "ctx=512 ctk=q8_0 flash=0",
    "ctx=512 ctk=q8_0 flash=0 parallel=3",
)
REPACKED = ("F16", "IQ4_NL", "IQ4_XS", "MXFP4", "Q2_K", "Q3_K", "Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0")


def measure(oracle: list[str], models: dict[str, Path], settings: tuple[str, ...]) -> list[list[object]]:
    """Return a row for each model and setting: names, what the context became, and bytes by device."""
    return [one for name, path in models.items() for one in _measure(oracle, name, path, settings)]


def _measure(oracle: list[str], name: str, path: Path, settings: tuple[str, ...]) -> list[list[object]]:
    lines = "".join("\t".join([f"model={path}", *map(_told, words.split())]) + "\n" for words in settings)
    done = subprocess.run(oracle, input=lines, stdout=subprocess.PIPE, text=True, check=False, timeout=600)
    if done.returncode:
        if len(settings) == 1:
            return [[name, *settings, f"llama.cpp ends with {-done.returncode}"]]
        return [one for words in settings for one in _measure(oracle, name, path, (words,))]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [row(name, words, answer) for words, answer in zip(settings, answers, strict=True)]


def _told(word: str) -> str:
    """Return a word as the oracle takes it: for --n-cpu-moe the overrides that llama.cpp makes of it (common/arg.cpp)."""
    key, _, value = word.partition("=")
    layers = range(min(int(value), MOST_LAYERS)) if key == "moe" else ()
    patterns = ";".join(rf"blk\.{index}\.ffn_(up|down|gate|gate_up)_(ch|)exps" for index in layers)
    return f"cpu={patterns}" if patterns else word


def row(name: str, words: str, answer: dict[str, object]) -> list[object]:
    """Return one row: model, settings, then bytes of weights, context and compute by device, MiB of output; or a refusal."""
    said = " | ".join(str(line) for line in answer["log"])  # type: ignore[attr-defined]
    buffers = answer.get("buffers")
    if not isinstance(buffers, dict):
        return [name, words, said]
    output = re.search(r"output buffer size =\s*([0-9.]+) MiB", said)
    devices = {re.sub(r"\[.*", "", device): data for device, data in sorted(buffers.items())}
    return [name, words, answer["n_ctx"], answer["n_ctx_seq"], devices, float(output[1]) if output else None]


def write(name: str, version: str, **tables: list[list[object]]) -> None:
    """Write a table with a row on each line."""
    parts = [f'"version":{json.dumps(version)}']
    for key, rows in tables.items():
        text = ",\n".join(json.dumps(one, separators=(",", ":")) for one in rows)
        parts.append(f'"{key}":[\n{text}\n]')
        refused = sum(isinstance(one[2], str) and one[2] != "" for one in rows)
        print(f"{name}: {len(rows)} {key}, {refused} of them refused by llama.cpp")
    (FOLDER / name).write_text(f"{{{','.join(parts)}}}\n", encoding="utf-8")


def main() -> int:
    """Measure everything and write the tables."""
    oracle, backends, version = sys.argv[1:]
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from held_out import HELD_OUT, held_out  # noqa: PLC0415 - the path to it is set above
    from shapes import REAL, TOYS, limit, shape  # noqa: PLC0415 - as is this one's

    # Where llama.cpp ends itself, it is not to start a debugger.
    host = ["env", "GGML_NO_BACKTRACE=1", oracle, backends]
    placed = [*host, str(DEVICES), str(PORT)]
    with tempfile.TemporaryDirectory() as folder:
        made = {name: shape(name) for name in (*TOYS, *REAL)}
        models = {name: one.write(Path(folder) / f"{name}.gguf") for name, one in made.items()}
        mixed = {
            name: models[name] for name, one in made.items() if any("_exps." in tensor for tensor, *_ in one.tensors)
        }
        models["storyteller"] = STORYTELLER
        rows = measure(host, models, CPU) + measure(placed, models, PLACED) + measure(placed, mixed, EXPERTS)
        size = replace(REAL["Llama-3.1-8B"][1], layers=2)
        typed = {
            kind: shape("llama", replace(size, weights=kind)).write(Path(folder) / f"{kind}.gguf") for kind in REPACKED
        }
        limits = {f"{kind} {layers} {head}": limit(kind, layers, head) for kind, layers, head in LIMITS}
        models = {name: made.write(Path(folder) / f"{name}.gguf") for name, made in limits.items()}
        asked = measure(host, models, AT_LIMITS)
        limited = [[name, words, said if isinstance(said, str) else ""] for name, words, said, *_ in asked]
        repacked = measure(host, typed, ("ctx=512 repack=1",))
        write("oracle.json", version, rows=rows, repacked=repacked, limits=limited)
        models = {name: held_out(name).write(Path(folder) / f"{name}.gguf") for name in HELD_OUT}
        rows = measure(host, models, HELD_OUT_CPU) + measure(placed, models, HELD_OUT_PLACED)
        write("held_out.json", version, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
