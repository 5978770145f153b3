"""The rules about the language itself; they are those of Dockerfiles, under their names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lading.recipe.instructions import Add, Copy
from lading.recipe.lint.subject import Rule
from lading.recipe.place import near
from lading.recipe.plan import begin
from lading.recipe.sources import Local, StageFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.recipe.lint.subject import Said, Subject

_SECRETS = frozenset(
    {"apikey", "auth", "credential", "credentials", "key", "passwd", "password", "pword", "secret", "token"}
)
_RESERVED = frozenset({"context", "scratch"})
_WORDS = re.compile(r"[a-z0-9]+")


def _stage_name_casing(subject: Subject) -> Iterator[Said]:
    for section in subject.draft.outline.sections:
        word = section.name_word
        if word is not None and word.text != word.text.lower():
            yield word.where, f"the stage's name `{word.text}` is not in lower case", f"write {word.text.lower()}"


def _from_as_casing(subject: Subject) -> Iterator[Said]:
    for section in subject.draft.outline.sections:
        node = section.start
        if section.name_word is not None and node.words[1].text.isupper() != node.written.isupper():
            yield node.words[1].where, f"`{node.written}` and `{node.words[1].text}` are in different case", ""


def _no_empty_continuation(subject: Subject) -> Iterator[Said]:
    for where in subject.recipe.empty_continuations:
        yield where, "an empty line stands within an instruction", "one day it may end it; take it out, or write `#`"


def _consistent_casing(subject: Subject) -> Iterator[Said]:
    nodes = subject.recipe.nodes
    upper = sum(node.written.isupper() for node in nodes)
    lower = sum(node.written.islower() for node in nodes)
    for node in nodes:
        wanted = node.written.lower() if lower > upper else node.written.upper()
        if node.written != wanted:
            yield node.keyword_where, f"`{node.written}` is in another case than most instructions", f"write {wanted}"


def _duplicate_stage_name(subject: Subject) -> Iterator[Said]:
    seen: set[str] = set()
    for section in subject.draft.outline.sections:
        if section.name_word is not None and section.name is not None:
            if section.name in seen:
                yield (
                    section.name_word.where,
                    f"a stage `{section.name}` stands above already",
                    "below, this one is meant",
                )
            seen.add(section.name)


def _reserved_stage_name(subject: Subject) -> Iterator[Said]:
    for section in subject.draft.outline.sections:
        if section.name_word is not None and section.name in _RESERVED:
            yield section.name_word.where, f"`{section.name}` has a meaning of its own", "give the stage another name"


def _undefined(subject: Subject, *, is_from: bool) -> Iterator[Said]:
    for unset in subject.draft.scope.unset:
        if unset.is_from == is_from:
            kind = "global ARG" if is_from else "variable"
            yield (
                unset.where,
                f"there is no {kind} `{unset.name}` here",
                near(unset.name, sorted(unset.known)),
            )


def _multiple_cmd(subject: Subject) -> Iterator[Said]:
    for section in subject.draft.outline.sections:
        commands = [node for node in section.nodes if node.keyword == "CMD"]
        for node in commands[:-1]:
            yield node.keyword_where, "the stage has several CMD, and only the last one counts", "take this one out"


def _legacy_label(subject: Subject) -> Iterator[Said]:
    for node in subject.nodes("LABEL"):
        if node.is_legacy:
            yield node.keyword_where, "LABEL is written with a blank in place of `=`", "write name=value"


def _base_platform(subject: Subject) -> Iterator[Said]:
    for section, stage in zip(subject.draft.outline.sections, subject.stages, strict=True):
        base = stage.base
        if isinstance(base.base, StageFiles) and base.platform is not None:
            own = subject.stages[base.base.index].base.platform or str(subject.draft.target)
            if own != base.platform:
                where = section.start.flags[0].where
                yield where, f"the stage it is based on is made for {own}, not for {base.platform}", ""


def _secrets(subject: Subject) -> Iterator[Said]:
    for node in subject.nodes("ARG"):
        for word in node.words:
            name = word.text.partition("=")[0]
            if _SECRETS & set(_WORDS.findall(name.lower())):
                hint = "what it holds can be read in the build's records; log in, or set HF_TOKEN"
                yield word.where, f"the ARG `{name}` seems to hold a secret", hint


def _default_in_from(subject: Subject) -> Iterator[Said]:
    draft = subject.draft
    plain = begin(subject.recipe, {}, str(draft.target), str(draft.target), draft.outline.contexts, lenient=True)
    for section in plain.outline.sections:
        plain.base(section)
    for node in plain.blank_bases:
        yield (
            node.words[0].where,
            f"without build arguments `{node.words[0].text}` names nothing",
            "give the ARG a default",
        )


def _copy_ignored(subject: Subject) -> Iterator[Said]:
    if subject.ignored is None:
        return
    for node, step in subject.steps():
        made = step.instruction
        if not isinstance(made, Add) and not (isinstance(made, Copy) and made.origin is None):
            continue
        for word, source in zip(node.words, made.sources, strict=False):
            if isinstance(source, Local) and not source.is_pattern and subject.ignored.ignores(source.path):
                yield word.where, f"`{source.path}` is left out of the context by the ignore file", ""


RULES = (
    Rule("stage-name-casing", "a stage's name is in lower case", _stage_name_casing),
    Rule("from-as-casing", "FROM and AS are in the same case", _from_as_casing),
    Rule("no-empty-continuation", "no empty lines stand within an instruction", _no_empty_continuation),
    Rule("consistent-instruction-casing", "all instructions are in the same case", _consistent_casing),
    Rule("duplicate-stage-name", "no two stages have the same name", _duplicate_stage_name),
    Rule("reserved-stage-name", "no stage is called `context` or `scratch`", _reserved_stage_name),
    Rule(
        "undefined-arg-in-from",
        "FROM uses global ARGs that exist",
        lambda subject: _undefined(subject, is_from=True),
    ),
    Rule("undefined-var", "variables that are used exist", lambda subject: _undefined(subject, is_from=False)),
    Rule("multiple-instructions-disallowed", "a stage has one CMD at most", _multiple_cmd),
    Rule("legacy-key-value-format", "LABEL is written with `=`", _legacy_label),
    Rule("invalid-base-image-platform", "a stage fits the platform of the one it is based on", _base_platform),
    Rule("secrets-used-in-arg-or-env", "no ARG is named like a secret", _secrets),
    Rule("invalid-default-arg-in-from", "FROM names something without build arguments too", _default_in_from),
    Rule("copy-ignored-file", "ADD and COPY name nothing that the ignore file leaves out", _copy_ignored),
)
