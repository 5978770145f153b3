"""The rules about models: whether what a recipe makes can be run, is as good as it could be, and says what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lading.formats import tool_types as types
from lading.recipe.contents import image_path
from lading.recipe.instructions import Add, Cmd, Label, Quantize
from lading.recipe.lint.subject import Rule
from lading.recipe.place import near
from lading.recipe.sources import Artifact, Git, Hub, Image, StageFiles, pinned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.recipe.contents import Contents
    from lading.recipe.lint.subject import Said, Subject
    from lading.recipe.nodes import Node
    from lading.recipe.plan import Stage

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
        if not isinstance(_root(subject, subject.final), Image | Artifact | Hub):
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
            where = word.where if word else node.keyword_where
            known = [path if file.path.startswith("/") else path[1:] for path in contents.types]
            yield where, f"{what}: `{file.path}`", near(file.path, known)


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
    for section, stage in zip(subject.draft.outline.sections, subject.stages, strict=True):
        if not pinned(stage.base.base):
            yield section.start.words[0].where, *_pin(stage.base.base)
        for node, step in zip(section.nodes, stage.steps, strict=True):
            made = step.instruction
            if isinstance(made, Add) and made.checksum is None:
                for word, source in zip(node.words, made.sources, strict=False):
                    if not pinned(source):
                        yield word.where, *_pin(source, is_git=".git" in word.text)


def _pin(source: object, *, is_git: bool = False) -> tuple[str, str]:
    hint = "--checksum=sha256:… pins it"
    if is_git or isinstance(source, Git):
        hint = "#COMMIT behind the address pins it"
    elif isinstance(source, Hub):
        hint = "@COMMIT behind the name pins it"
    elif isinstance(source, Image | Artifact):
        hint = "@sha256:… behind the name pins it"
    return "the source may give other bytes tomorrow", hint


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
)
