"""Writes tests/estimate/oracle.json: what llama.cpp would allocate, to the byte, for models of all kinds and settings.

usage: oracle_table.py ORACLE BACKENDS VERSION, which is what `scripts/oracle.sh` calls. ORACLE is the program made from
memory_oracle.cpp, BACKENDS the folder of ggml's backends that it loads, VERSION what is recorded of both.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "estimate" / "oracle.json"
PORT = 50_899
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
)


def measure(oracle: list[str], models: dict[str, Path], settings: tuple[str, ...]) -> list[list[object]]:
    """Return a row for each model and setting: names, what the context became, and bytes by device."""
    asked = [(name, words) for name in models for words in settings]
    lines = "".join("\t".join([f"model={models[name]}", *words.split()]) + "\n" for name, words in asked)
    done = subprocess.run(oracle, input=lines, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != len(asked):
        sys.exit(f"oracle_table: {len(asked)} were asked, {len(answers)} answered")
    return [row(*one, answer) for one, answer in zip(asked, answers, strict=True)]


def row(name: str, words: str, answer: dict[str, object]) -> list[object]:
    """Return one row: model, settings, then bytes of weights, context and compute by device, MiB of output; or a refusal."""
    said = " | ".join(str(line) for line in answer["log"])  # type: ignore[attr-defined]
    buffers = answer.get("buffers")
    if not isinstance(buffers, dict):
        return [name, words, said]
    output = re.search(r"output buffer size =\s*([0-9.]+) MiB", said)
    devices = {re.sub(r"\[.*", "", device): data for device, data in sorted(buffers.items())}
    return [name, words, answer["n_ctx"], answer["n_ctx_seq"], devices, float(output[1]) if output else None]


def main() -> int:
    """Measure everything and write the table."""
    oracle, backends, version = sys.argv[1:]
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from shapes import REAL, TOYS, shape  # noqa: PLC0415 - the path to it is set above

    with tempfile.TemporaryDirectory() as folder:
        models = {name: shape(name).write(Path(folder) / f"{name}.gguf") for name in (*TOYS, *REAL)}
        rows = measure([oracle, backends], models, CPU)
        rows += measure([oracle, backends, str(DEVICES), str(PORT)], models, PLACED)
    text = ",\n".join(json.dumps(one, separators=(",", ":")) for one in rows)
    TABLE.write_text(f'{{"version":{json.dumps(version)},"rows":[\n{text}\n]}}\n', encoding="utf-8")
    refused = [one for one in rows if isinstance(one[2], str)]
    print(f"{len(rows)} rows, {len(refused)} of them refused by llama.cpp, {TABLE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
