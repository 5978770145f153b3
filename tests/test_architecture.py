"""The rules of the house that a linter's table cannot say, held over the syntax tree of the whole package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = Path(__file__).resolve().parent.parent / "src" / "lading"
MODULES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
LONGEST = 500
NAMELESS = {"base.py", "common.py", "helper.py", "helpers.py", "misc.py", "util.py", "utils.py"}
HEAVY = {"http.client", "jinja2", "numpy", "rich", "ssl", "urllib3", "yaml"}

_ALLOWED_NAMES = {"auth/helper.py"}  # docker's and podman's own word for a program that keeps credentials
_OPEN_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"}
_WRITERS = {
    "os": {
        "chmod", "chown", "fchmod", "ftruncate", "link", "makedirs", "mkdir", "mkfifo", "pwrite", "remove", "removedirs",
        "rename", "renames", "replace", "rmdir", "symlink", "truncate", "unlink", "utime", "writev",
    },
    "shutil": {"chown", "copy", "copy2", "copyfile", "copyfileobj", "copymode", "copystat", "copytree", "move", "rmtree"},
    "tempfile": {"NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile", "mkdtemp", "mkstemp", "mktemp"},
}  # fmt: skip
# Methods of pathlib that no other type of ours has; `replace` and `rename` are also words of str and dataclasses.
_PATH_WRITERS = {
    "chmod", "hardlink_to", "mkdir", "rmdir", "symlink_to", "touch", "unlink", "write_bytes", "write_text",
}  # fmt: skip

# What may write outside of `fs`, and why.
WRITERS = {
    # the root that a locked-up program sees, in memory, gone with it
    "build/jail.py": {"os.makedirs", "os.mkdir", "os.open", "os.rmdir", "os.symlink"},
    "cli/entry.py": {"os.open"},  # the null device, in place of a reader that has gone
    "server/process.py": {"tempfile.mkstemp", ".unlink"},  # the log of a runtime in the foreground, gone with it
    "server/record.py": {"os.open"},  # the last line of a log whose writer was killed
    "server/supervisor.py": {"os.open"},  # a log that grows as long as the server runs, so not atomic by nature
}
READERS_OF_THE_ENVIRONMENT = {"cli/app.py", "cli/entry.py", "cli/serving.py"}
PRINTERS = {"ui.py"}
BLOB_PATHS = {"digest.py", "store/__init__.py", "store/blobs.py"}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for name in MODULES:
        yield name, ast.parse((SOURCE / name).read_text(encoding="utf-8"), name)


def found(rule: Callable[[ast.AST], str | None]) -> dict[str, set[str]]:
    """What a rule says of each module, by the module's path; modules of which it says nothing are left out."""
    result: dict[str, set[str]] = {}
    for name, tree in trees():
        said = {word for node in ast.walk(tree) if (word := rule(node))}
        if said:
            result[name] = said
    return result


def dotted(node: ast.AST) -> str:
    """`os.path.join` of the expression that spells it, empty for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def writes(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    name = dotted(node.func)
    room, _, verb = name.rpartition(".")
    if verb in _WRITERS.get(room, ()):
        return name
    if name == "os.open":
        return name if _flags(node) & _OPEN_FLAGS or not _flags(node) else None
    if isinstance(node.func, ast.Attribute) and node.func.attr in _PATH_WRITERS and room != "fs":
        return f".{node.func.attr}"
    if (name == "open" or (isinstance(node.func, ast.Attribute) and node.func.attr == "open")) and _mode(node):
        return "open for writing"
    return None


def _flags(call: ast.Call) -> set[str]:
    return {inner.attr for inner in ast.walk(call) if isinstance(inner, ast.Attribute) and inner.attr.startswith("O_")}


def _mode(call: ast.Call) -> str:
    texts = [one.value for one in [*call.args, *(key.value for key in call.keywords)] if isinstance(one, ast.Constant)]
    modes = [text for text in texts if isinstance(text, str) and 0 < len(text) <= 3 and not set(text) - set("rwxabt+")]
    return next((mode for mode in modes if set(mode) & set("wxa+")), "")


def test_only_the_room_of_files_writes_files() -> None:
    outside = {name: calls for name, calls in found(writes).items() if not name.startswith("fs/")}
    assert outside == WRITERS


def test_the_rule_for_writing_sees_every_way_to_write() -> None:
    ways = (
        "open(x, 'w')", "open(x, mode='ab')", "path.open('r+b')", "os.open(x, os.O_RDWR)", "os.open(x, flags)",
        "os.replace(a, b)", "path.write_text('')", "path.unlink()", "shutil.copyfile(a, b)", "os.link(a, b)",
    )  # fmt: skip
    harmless = ("open(x, 'rb')", "open(x)", "os.open(x, os.O_RDONLY)", "path.read_text()", "text.replace(a, b)")
    assert [way for way in ways if not any(map(writes, ast.walk(ast.parse(way))))] == []
    assert [way for way in harmless if any(map(writes, ast.walk(ast.parse(way))))] == []


def test_only_the_surface_looks_at_the_environment() -> None:
    readers = found(lambda node: dotted(node) if dotted(node) in {"os.environ", "os.getenv", "os.environb"} else None)
    assert set(readers) == READERS_OF_THE_ENVIRONMENT


def test_only_the_surface_prints() -> None:
    printers = found(lambda node: "print" if isinstance(node, ast.Call) and dotted(node.func) == "print" else None)
    assert {name for name in printers if not name.startswith("cli/")} == PRINTERS


def test_no_shell_sees_a_string() -> None:
    def rule(node: ast.AST) -> str | None:
        if isinstance(node, ast.Call) and any(key.arg == "shell" for key in node.keywords):
            return "shell="
        return dotted(node) if dotted(node) in {"os.system", "os.popen", "subprocess.getoutput"} else None

    assert found(rule) == {}


def test_code_is_never_made_at_run_time() -> None:
    makers = {"eval", "exec", "compile", "__import__"}
    assert (
        found(lambda node: dotted(node.func) if isinstance(node, ast.Call) and dotted(node.func) in makers else None)
        == {}
    )


def test_only_one_room_opens_urls() -> None:
    def rule(node: ast.AST) -> str | None:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        return next((name for name in names if name in {"urllib.request", "http.client", "urllib3"}), None)

    assert {name for name in found(rule) if not name.startswith("http/")} == set()


def test_no_failure_is_swallowed_unseen() -> None:
    """A handler for everything must do more than pass; a `suppress` names what it suppresses."""

    def rule(node: ast.AST) -> str | None:
        if isinstance(node, ast.ExceptHandler) and (node.type is None or dotted(node.type) in broad):
            silent = all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
            return f"line {node.lineno}" if silent else None
        if isinstance(node, ast.Call) and dotted(node.func).endswith("suppress"):
            return f"line {node.lineno}" if any(dotted(one) in broad for one in node.args) else None
        return None

    broad = {"BaseException", "Exception", "LadingError"}
    assert found(rule) == {}


def test_paths_of_blobs_are_made_in_one_place() -> None:
    """S02: no second way to a path of a digest, which could forget the check."""

    def rule(node: ast.AST) -> str | None:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return "/ blobs" if isinstance(node.right, ast.Constant) and node.right.value == "blobs" else None
        text = node.value if isinstance(node, ast.Constant) else None
        return text if isinstance(text, str) and text.startswith("blobs/") and "\n" not in text else None

    assert set(found(rule)) == BLOB_PATHS


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_has_a_name(name: str) -> None:
    lines = len((SOURCE / name).read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST
    assert name.rpartition("/")[2] not in NAMELESS or name in _ALLOWED_NAMES


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_the_first_words_load_nothing_heavy(argument: str) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['lading', {argument!r}]\n"
        "from lading.cli.entry import main\n"
        "code = main()\n"
        "print(*sorted(sys.modules), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    loaded = set(done.stderr.split())
    assert "lading.cli.entry" in loaded
    assert loaded & HEAVY == set()


def test_help_loads_no_verb() -> None:
    code = (
        "import sys\nsys.argv = ['lading', '--help']\nfrom lading.cli.entry import main\nmain()\n"
        "print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stderr.split() if name.startswith("lading.")}
    surface = {f"lading.cli.{name}" for name in ("entry", "group", "messages")}
    assert loaded <= {"lading.cli", "lading.errors", "lading.text", *surface}
