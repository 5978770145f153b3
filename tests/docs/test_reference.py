from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lading import errors
from lading.cli.group import SECTIONS

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"
MODEL = ROOT / "examples" / "storyteller" / "storyteller-f16.gguf"
SPOKEN = (
    *(
        "pull",
        "push",
        "copy",
        "save",
        "load",
        "build",
        "pack",
        "list",
        "inspect",
        "fit",
        "lint",
        "prune",
        "verify",
        "ps",
        "serve",
    ),
    *("info", "version"),
)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each command prints with --json, after one voyage in a store of its own."""
    folder = tmp_path_factory.mktemp("voyage")
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "LADING_STORE": str(folder / "store")}

    def lading(*arguments: str) -> str:
        command = [sys.executable, "-m", "lading", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    layout = f"oci-layout:{folder / 'layout'}:story"
    voyage = {
        "pack": ("pack", str(MODEL), "-t", "story:1", "--copy"),
        "push": ("push", "story:1", layout),
        "pull": ("pull", layout),
        "copy": ("copy", "story:1", f"oci-layout:{folder / 'other'}:story", "--format", "both"),
        "save": ("save", "story:1", "-o", str(folder / "story.tar")),
        "load": ("load", str(folder / "story.tar"), "-t", "story:2"),
        "build": ("build", str(folder / "recipe"), "-t", "story:3", "--format", "both"),
        "list": ("list",),
        "inspect": ("inspect", "story:1"),
        "fit": ("fit", "story:1", "--on", "h100"),
        "verify": ("verify",),
        "prune": ("prune",),
        "ps": ("ps",),
        "info": ("info",),
        "lint": ("lint", str(ROOT / "tests" / "recipes" / "lint-models" / "Recipe")),
        "version": ("version",),
    }
    (folder / "recipe").mkdir()
    (folder / "recipe/story.gguf").write_bytes(MODEL.read_bytes())
    (folder / "recipe/GGUFPackerfile").write_text('FROM scratch\nCOPY story.gguf /\nCMD ["-m", "story.gguf"]\n')
    said = {verb: lading(*arguments, "--json") for verb, arguments in voyage.items() if verb != "ps"}
    detached = ("--detach", "--port", "0", "--runtime", "embedded", "--ctx-size", "256", "--threads", "1")
    said["serve"] = lading("serve", "story:1", *detached, "--json")
    try:
        said["ps"] = lading(*voyage["ps"], "--json")
    finally:
        lading("stop", "--all")
    return {verb: json.loads(text) for verb, text in said.items()}


def closed(schema: Any) -> Any:
    """The same schema, with no field allowed that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(one) for key, one in schema.items()}
    return {**inner, "additionalProperties": False} if "properties" in inner else inner


@pytest.mark.parametrize("script", ["cli_reference.py", "json_reference.py", "recipe_reference.py"])
def test_the_generated_pages_are_up_to_date(script: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", SPOKEN)
def test_what_a_command_prints_is_what_its_schema_says(verb: str, printed: dict[str, Any]) -> None:
    schema = json.loads((REFERENCE / "schemas" / f"{verb}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(printed[verb], closed(schema), cls=jsonschema.Draft202012Validator)


def test_every_command_with_json_has_a_schema() -> None:
    pages = re.split(r"^### lading ", (REFERENCE / "commands.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    spoken = {page.split()[0] for page in pages if "--json " in page}
    assert {page.split()[0] for page in pages} == {verb for verbs in SECTIONS.values() for verb in verbs}
    assert spoken == set(SPOKEN) == {path.stem for path in (REFERENCE / "schemas").glob("*.json")}


def test_the_page_of_exit_codes_tells_every_error() -> None:
    page = (REFERENCE / "exit-codes.md").read_text(encoding="utf-8")
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LadingError)]
    assert told == {0, 143, *(kind.exit_code for kind in kinds)}


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_variable_that_is_read_is_on_the_page_of_the_environment() -> None:
    source = (ROOT / "src" / "lading" / "config.py").read_text(encoding="utf-8")
    read = set(re.findall(r"""environ(?:\.get\(|\[|, )"([A-Za-z_]+)["]""", source))
    assert {"LADING_STORE", "XDG_DATA_HOME", "LADING_OFFLINE", "HOME"} <= read
    page = (REFERENCE / "environment.md").read_text(encoding="utf-8").lower()
    assert [name for name in sorted(read) if f"`{name.lower()}`" not in page] == []
