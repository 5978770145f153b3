"""The rules about models: whether what a recipe makes can be run, is as good as it could be, and says what it is."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from lading.formats import tool_types as types
from lading.recipe.command import ROLES
from lading.recipe.contents import image_path
from lading.recipe.instructions import Add, Cmd, Convert, Copy, Label, Quantize
from lading.recipe.lint.subject import Rule
from lading.recipe.llama_arguments import ARGUMENTS
from lading.recipe.place import near
from lading.recipe.sources import Artifact, Context, Git, Hub, Image, StageFiles, pinned

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from lading.recipe.contents import Contents
    from lading.recipe.lint.subject import Said, Subject
    from lading.recipe.nodes import Node
    from lading.recipe.place import Range
    from lading.recipe.plan import Stage
    from lading.recipe.sources import Origin, Source

_LICENCES = ("license*", "licence*", "*.license", "*.licence", "copying*", "notice*")
_LICENCE_LABELS = ("gguf.model.licenses", "org.opencontainers.image.licenses")
_TEMPLATES = (".jinja", ".jinja2")
_NEEDED = ("model", "drafter", "projector", "lora", "control-vector", "template", "system-prompt")
_WITHOUT_CHAT = ("embedding", "reranking")


def _command(subject: Subject) -> tuple[Node, Stage, Cmd] | None:
    """Return the CMD in force for the result, as written, with the stage it stands in."""
    wanted = subject.final.command
    for section, stage in zip(subject.draft.outline.sections, subject.stages, strict=True):
        for node, step in zip(section.nodes, stage.steps, strict=True):
            if wanted is not None and step.instruction is wanted:
                return node, stage, wanted
    return None


def _model_missing(subject: Subject) -> Iterator[Said]:
    found = _command(subject)
    if found is None:
        if not isinstance(_root(subject, subject.final), Image | Artifact | Hub | Context):
            yield subject.final.where, "no CMD says which file is the model", 'as in CMD ["-m", "model.gguf"]'
        return
    yield from _missing(subject, ("model",), "the main model is not in the image")


def _file_missing(subject: Subject) -> Iterator[Said]:
    yield from _missing(subject, _NEEDED[1:], "CMD names a file that no step makes")


def _missing(subject: Subject, roles: tuple[str, ...], what: str) -> Iterator[Said]:
    found = _command(subject)
    if found is None:
        return
    node, _stage, cmd = found
    contents = subject.contents[subject.final.index]
    for file in cmd.command.files:
        if file.role in roles and not contents.may_have(file.path):
            word = next((one for one in node.words if one.text == file.path), None)
            where = word.where if word else _value(node, {name for name, role in ROLES.items() if role == file.role})
            known = [path if file.path.startswith("/") else path[1:] for path in contents.types]
            yield where, f"{what}: `{file.path}`", near(file.path, known)


def _value(node: Node, arguments: Collection[str]) -> Range:
    """Return where the last value of one of these arguments stands in a CMD; its keyword where a variable hides them."""
    pairs = pairwise(node.words)
    found = [value.where for flag, value in pairs if ARGUMENTS.get(flag.text, ("",))[0] in arguments]
    return found[-1] if found else node.keyword_where


def _requantized(subject: Subject) -> Iterator[Said]:
    for section, stage in zip(subject.draft.outline.sections, subject.stages, strict=True):
        for node, step in zip(section.nodes, stage.steps, strict=True):
            made = step.instruction
            if not isinstance(made, Quantize) or made.allow_requantize or made.type == "COPY":
                continue
            known = _contents_before(subject, stage, made)
            kind = known.types.get(image_path(made.source)) if known else None
            if kind is not None and kind not in types.UNQUANTIZED:
                hint = "quantize from F16; or --allow-requantize, and lose quality twice"
                yield node.words[0].where, f"`{made.source}` is quantized already, as {kind}", hint


def _contents_before(subject: Subject, stage: Stage, made: Quantize) -> Contents | None:
    index = stage.index if made.origin is None else made.origin.index if isinstance(made.origin, StageFiles) else None
    return None if index is None else subject.contents[index]


def _imatrix_missing(subject: Subject) -> Iterator[Said]:
    for node, step in subject.steps():
        made = step.instruction
        if not isinstance(made, Quantize) or made.imatrix is not None:
            continue
        where = next((flag.where for flag in node.flags if flag.name == "type"), node.keyword_where)
        if made.type in types.REFUSED_WITHOUT_IMATRIX:
            yield where, f"llama-quantize refuses {made.type} without an importance matrix", "--imatrix=FILE"
        elif made.type in types.POOR_WITHOUT_IMATRIX:
            yield where, f"{made.type} is poor without an importance matrix", "--imatrix=FILE"


def _unpinned(subject: Subject) -> Iterator[Said]:
    for where, source, text in _sources(subject):
        if not pinned(source) and not _at_hand(subject, source):
            yield where, "the source may give other bytes tomorrow", _pin(source, text)


def _sources(subject: Subject) -> Iterator[tuple[Range, Source | Origin, str]]:
    """Yield what a recipe takes things from, where it stands and as it is written; not what has a checksum."""
    for section, stage in zip(subject.draft.outline.sections, subject.stages, strict=True):
        base = section.start.words[0]
        yield base.where, stage.base.base, base.text
        for node, step in zip(section.nodes, stage.steps, strict=True):
            made = step.instruction
            if isinstance(made, Add) and made.checksum is None:
                for word, source in zip(node.words, made.sources, strict=False):
                    yield word.where, source, word.text
            elif isinstance(made, Copy | Convert | Quantize) and made.origin is not None:
                flag = next(one for one in node.flags if one.name == "from")
                yield flag.where, made.origin, flag.value or ""


def _at_hand(subject: Subject, source: Source | Origin) -> bool:
    return isinstance(source, Image) and source.bare is not None and subject.stored(source.bare)


def _pin(source: Source | Origin, text: str) -> str:
    if ".git" in text or isinstance(source, Git):
        return "#COMMIT behind the address pins it"
    if isinstance(source, Hub):
        return "@COMMIT behind the name pins it"
    if isinstance(source, Image | Artifact):
        return "@sha256:… behind the name pins it"
    return "--checksum=sha256:… pins it"


def _licence_missing(subject: Subject) -> Iterator[Said]:
    if subject.contents[subject.final.index].may_match(*_LICENCES):
        return
    if any(name in _LICENCE_LABELS for name in _labels(subject, subject.final)):
        return
    if isinstance(_root(subject, subject.final), Image | Artifact | Hub):
        return
    yield subject.final.where, "no licence in the image", "a file LICENSE, or LABEL org.opencontainers.image.licenses=…"


def _labels(subject: Subject, stage: Stage) -> set[str]:
    return {
        name
        for one in _chain(subject, stage)
        for step in one.steps
        if isinstance(step.instruction, Label)
        for name, _value in step.instruction.labels
    }


def _template_missing(subject: Subject) -> Iterator[Said]:
    found = _command(subject)
    if found is None:
        return
    node, _stage, cmd = found
    command = cmd.command
    if command.of("template") or command.parameter("chat-template") is not None:
        return
    if any(command.parameter(name) for name in _WITHOUT_CHAT):
        return
    if any(path.lower().endswith(_TEMPLATES) for path in subject.contents[subject.final.index].types):
        return
    yield node.keyword_where, "CMD names no chat template", "the one inside the weights is used, if there is one"


def _doubts(subject: Subject, kind: str) -> Iterator[Said]:
    for node, step in subject.steps():
        if isinstance(step.instruction, Cmd):
            for doubt in step.instruction.command.doubts:
                if doubt.kind == kind:
                    yield node.words[min(doubt.index, len(node.words) - 1)].where, doubt.reason, doubt.note


def _unheeded(subject: Subject) -> Iterator[Said]:
    for node, step in subject.steps():
        if isinstance(step.instruction, Cmd):
            for name, value in step.instruction.command.parameters:
                if taken := subject.taken(name, value):
                    where = _value(node, {f"--{name}"})
                    yield where, f"`run` and `serve` pass over {name} {value}", f"they take {taken}"


def _root(subject: Subject, stage: Stage) -> object:
    """Return what a stage is based on in the end, through all stages between."""
    return _chain(subject, stage)[-1].base.base


def _chain(subject: Subject, stage: Stage) -> list[Stage]:
    """Return a stage, the one it is based on, and so on."""
    chain = [stage]
    while isinstance(base := chain[-1].base.base, StageFiles):
        chain.append(subject.stages[base.index])
    return chain


RULES = (
    Rule("model-missing", "the main model that CMD names is in the image", _model_missing),
    Rule("file-missing", "so are the other files that it names", _file_missing),
    Rule("requantized", "what is quantized already is not quantized again", _requantized),
    Rule("imatrix-missing", "types of few bits come with an importance matrix", _imatrix_missing),
    Rule("source-unpinned", "sources name a commit, a digest or a checksum", _unpinned),
    Rule("licence-missing", "the image has a licence, as a file or a label", _licence_missing),
    Rule("template-missing", "a chat template is named", _template_missing, "note"),
    Rule(
        "argument-unknown",
        "CMD's arguments are llama-server's; unknown ones are kept",
        lambda subject: _doubts(subject, "unknown"),
    ),
    Rule(
        "argument-removed",
        "CMD's arguments are those of today's llama-server",
        lambda subject: _doubts(subject, "removed"),
    ),
    Rule("argument-value", "CMD's arguments have values of their kind", lambda subject: _doubts(subject, "value")),
    Rule("argument-unheeded", "CMD's arguments have values that `run` and `serve` take", _unheeded, "note"),
)
