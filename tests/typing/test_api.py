from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

from lading import api

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def check(*paths: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_library_keeps_the_types_that_it_promises(tmp_path: Path) -> None:
    done = check(HERE / "api.py", cache=tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_wrong_use_of_the_library_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from lading import api\n\n\ndef f(session: api.Session) -> int:\n    return api.pull(session, 1)\n"
    )
    done = check(wrong, cache=tmp_path / "cache")
    assert done.returncode == 1
    assert "[arg-type]" in done.stdout
    assert "[return-value]" in done.stdout


def test_every_public_function_is_in_the_example() -> None:
    used = set(re.findall(r"\bapi\.(\w+)", (HERE / "api.py").read_text(encoding="utf-8")))
    functions = {name for name in api.__all__ if inspect.isfunction(getattr(api, name))}
    assert functions <= used <= set(api.__all__)
