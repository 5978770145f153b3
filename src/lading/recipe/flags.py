"""Every flag of every instruction, as data: the parser checks by it, and the language page is written from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lading.recipe.place import near

if TYPE_CHECKING:
    from lading.recipe.nodes import Flag, Node
    from lading.recipe.place import Script

_SWITCH = {"": True, "true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class FlagRule:
    """A flag: whether it takes a value, none, or may be given several times; `expands` says if variables are replaced.

    `about` is a line for the language page; `example` a line of a recipe that uses it.
    """

    name: str
    kind: Literal["value", "switch", "list"]
    about: str
    example: str
    expands: bool = True


_FROM = FlagRule(
    "from",
    "value",
    "take files from this stage (name or number), `context`, a named context or an image",
    "--from=f16",
    expands=False,
)
_FILES = (
    FlagRule("chown", "value", "owner, or owner:group, of the files", "--chown=1000:1000"),
    FlagRule("chmod", "value", "permissions, in octal", "--chmod=0644"),
    FlagRule("link", "switch", "make the layer independent of those before it", "--link"),
    FlagRule("exclude", "list", "leave out what matches the pattern", "--exclude=*.bin", expands=False),
    FlagRule("checksum", "value", "refuse the source unless its bytes have this digest", "--checksum=sha256:…"),
)

FLAGS: dict[str, tuple[FlagRule, ...]] = {
    "ADD": (*_FILES, FlagRule("keep-git-dir", "switch", "keep the folder .git of a git source", "--keep-git-dir")),
    "ARG": (),
    "CAT": (),
    "CMD": (),
    "CONVERT": (
        _FROM,
        FlagRule("class", "value", "what is made: model, lora (`adapter` is the same) or mmproj", "--class=lora"),
        FlagRule("type", "value", "F32, F16 (the default), BF16, Q8_0, TQ1_0 or TQ2_0", "--type=BF16"),
        FlagRule("base", "value", "the folder of the model that a LoRA was trained on", "--base=base"),
        FlagRule("allow-pickle", "switch", "accept weights in `.bin` files, which can run code", "--allow-pickle"),
    ),
    "COPY": (
        _FROM,
        *_FILES,
        FlagRule("parents", "switch", "keep the folders of the sources' paths (after `/./`)", "--parents"),
    ),
    "FROM": (FlagRule("platform", "value", "take the base image for this platform", "--platform=linux/arm64"),),
    "LABEL": (),
    "QUANTIZE": (
        _FROM,
        FlagRule("type", "value", "any type of llama-quantize; the default is Q5_K_M", "--type=Q4_K_M"),
        FlagRule("imatrix", "value", "an importance matrix, a file of the stage", "--imatrix=m.imatrix"),
        FlagRule(
            "include-weights",
            "list",
            "use the matrix for these tensors only, commas between",
            "--include-weights=ffn",
            expands=False,
        ),
        FlagRule(
            "exclude-weights",
            "list",
            "do not use the matrix for these tensors, commas between",
            "--exclude-weights=ffn",
            expands=False,
        ),
        FlagRule("leave-output-tensor", "switch", "keep output.weight as it is", "--leave-output-tensor"),
        FlagRule("pure", "switch", "give every tensor the same type", "--pure"),
        FlagRule("output-tensor-type", "value", "the type of output.weight", "--output-tensor-type=Q8_0"),
        FlagRule("token-embedding-type", "value", "the type of the token embeddings", "--token-embedding-type=Q8_0"),
        FlagRule(
            "tensor-type",
            "list",
            "the type of the tensors whose names match, NAME=TYPE",
            "--tensor-type=attn_q=Q8_0",
            expands=False,
        ),
        FlagRule(
            "override-kv",
            "list",
            "set a key of the metadata, KEY=TYPE:VALUE with int, float, bool or str",
            "--override-kv=general.name=str:Story",
        ),
        FlagRule("keep-split", "switch", "write as many shards as the source has", "--keep-split"),
        FlagRule("allow-requantize", "switch", "accept a source that is quantized already", "--allow-requantize"),
        FlagRule("threads", "value", "threads to use; the result is the same with any number", "--threads=4"),
    ),
}

ABOUT = {
    "ADD": "bring in files of the context, URLs, git and hub repositories, models of registries, and documents",
    "ARG": "name variables and their defaults; before the first FROM they hold in every stage",
    "CAT": "write documents, or words, into one file, one after the other; into a folder, each as a file",
    "CMD": "tell llama-server its arguments, as a JSON array; they name the model and its companions",
    "CONVERT": "make a GGUF of a folder of safetensors",
    "COPY": "bring in files of the context, another stage, a named context or an image",
    "FROM": "begin a stage: from nothing (`scratch`), an earlier stage, an image or a model",
    "LABEL": "describe the image",
    "QUANTIZE": "make a smaller GGUF of a GGUF",
}
"""A line for each instruction."""


def check_flags(node: Node, script: Script) -> dict[str, list[Flag]]:
    """Return an instruction's flags by name; raises RecipeError for one that is unknown, double, or lacks its value."""
    if not node.flags:
        return {}
    rules = {rule.name: rule for rule in FLAGS[node.keyword]}
    found: dict[str, list[Flag]] = {}
    for flag in node.flags:
        rule = rules.get(flag.name)
        if rule is None:
            note = near(f"--{flag.name}", [f"--{name}" for name in rules])
            if not rules:
                note = f"{node.keyword} takes no flags"
            raise script.error(flag.where, f"{node.keyword} has no flag `--{flag.name}`", note=note)
        if flag.name in found and rule.kind != "list":
            raise script.error(flag.where, f"`--{flag.name}` is given twice")
        if rule.kind == "switch":
            if (flag.value or "").lower() not in _SWITCH:
                raise script.error(flag.where, f"`--{flag.name}` is true or false, not `{flag.value}`")
        elif flag.value is None or (flag.value == "" and rule.kind == "list"):
            raise script.error(flag.where, f"`--{flag.name}` wants a value", note=f"as in {rule.example}")
        found.setdefault(flag.name, []).append(flag)
    return found


def switched(flags: dict[str, list[Flag]], name: str) -> bool:
    """Say whether a switch is on."""
    return name in flags and _SWITCH[(flags[name][0].value or "").lower()]


def rule_of(keyword: str, name: str) -> FlagRule:
    """Return the rule of a flag that is known to exist."""
    return next(rule for rule in FLAGS[keyword] if rule.name == name)
