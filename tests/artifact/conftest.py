from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from lading.digest import Digest
from lading.manifest import Descriptor, Manifest
from lading.model import Model, ModelFacts, Part, Role

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMAS = Path(__file__).parent.parent / "data" / "schemas"

GGUF_FACTS = ModelFacts(
    format="gguf",
    architecture="llama",
    name="Storyteller",
    parameters=1_443_584,
    bits_per_weight=16.02,
    file_type="F16",
    context_length=512,
    vocabulary_size=1024,
    chat_template='{{ bos_token }}"',
    licence="cc0-1.0",
    vendor="Example",
    description="Tells stories",
    metadata={
        "general.architecture": "llama",
        "general.name": "Storyteller",
        "general.license": "cc0-1.0",
        "general.organization": "Example",
        "general.description": "Tells stories",
        "llama.context_length": "512",
        "llama.vocab_size": "1024",
        "general.file_type": "1",
        "tokenizer.chat_template": '{{ bos_token }}"',
    },
)
SAFETENSORS_FACTS = ModelFacts(
    format="safetensors",
    architecture="llama",
    parameters=8_030_261_248,
    file_type="BF16",
    context_length=131_072,
    metadata={"format": "pt", "tensor_count": "291"},
)


def make_part(role: Role, name: str, size: int = 1000) -> Part:
    return Part(
        role, name, Descriptor(media_type="application/octet-stream", digest=Digest.of(name.encode()), size=size)
    )


MODELS = {
    "gguf": Model((make_part(Role.WEIGHTS, "story.gguf", 2_891_680),), GGUF_FACTS),
    "gguf-without-suffix": Model((make_part(Role.WEIGHTS, "story"),), GGUF_FACTS),
    "shards": Model(
        tuple(make_part(Role.WEIGHTS, f"story-{number:05d}-of-00012.gguf") for number in range(1, 13)), GGUF_FACTS
    ),
    "dressed": Model(
        (
            make_part(Role.LICENCE, "LICENSE"),
            make_part(Role.LICENCE, "NOTICE"),
            make_part(Role.TEMPLATE, "chat_template.jinja"),
            make_part(Role.PROJECTOR, "mmproj-story-f16.gguf"),
            make_part(Role.WEIGHTS, "story.gguf"),
        ),
        GGUF_FACTS,
    ),
    "folder": Model(
        (
            make_part(Role.LICENCE, "LICENSE"),
            make_part(Role.DOC, "README.md"),
            make_part(Role.TEMPLATE, "chat_template.jinja"),
            make_part(Role.CONFIG, "config.json"),
            make_part(Role.OTHER, "code/modeling_story.py"),
            make_part(Role.OTHER, "imatrix.dat"),
            make_part(Role.WEIGHTS, "model-00001-of-00002.safetensors"),
            make_part(Role.WEIGHTS, "model-00002-of-00002.safetensors"),
            make_part(Role.CONFIG, "model.safetensors.index.json"),
            make_part(Role.TOKENIZER, "tokenizer.json"),
        ),
        SAFETENSORS_FACTS,
    ),
    # Roles that no name tells: they stand in annotations.
    "told": Model(
        (
            make_part(Role.ADAPTER, "bible.gguf"),
            make_part(Role.DRAFTER, "draft/small.gguf"),
            make_part(Role.PROJECTOR, "eyes.gguf"),
            make_part(Role.PARAMS, "params.json"),
            make_part(Role.SYSTEM, "system.txt"),
            make_part(Role.WEIGHTS, "x-lora-mmproj.gguf"),
            make_part(Role.LICENCE, "terms.md"),
            make_part(Role.TEMPLATE, "words.txt"),
        ),
        GGUF_FACTS,
    ),
    "bare": Model((make_part(Role.WEIGHTS, "a.gguf", 0),), ModelFacts(format="gguf")),
}


@dataclass(frozen=True)
class Contents:
    """What a model is made of, in a form that does not depend on the order of its files."""

    files: tuple[tuple[str, str, str, int], ...]

    @classmethod
    def of(cls, model: Model) -> Contents:
        return cls(tuple(sorted((p.name, p.role.value, str(p.blob.digest), p.blob.size) for p in model.parts)))


@pytest.fixture(scope="session")
def part() -> Callable[..., Part]:
    return make_part


@pytest.fixture(scope="session")
def contents() -> Callable[[Model], Contents]:
    return Contents.of


@pytest.fixture(scope="session")
def models() -> dict[str, Model]:
    return MODELS


@pytest.fixture(params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]


@pytest.fixture(scope="session")
def facts() -> ModelFacts:
    return GGUF_FACTS


@pytest.fixture(scope="session")
def valid() -> Callable[[str, bytes], Any]:
    """Check a config against a schema and return it decoded."""

    def check(schema: str, raw: bytes) -> Any:
        tree = json.loads(raw)
        path = SCHEMAS / schema
        rules = json.loads(path.read_bytes())
        beside = Registry().with_resources(
            (urljoin(rules.get("id", ""), other.name), Resource.from_contents(json.loads(other.read_bytes()), DRAFT4))
            for other in path.parent.glob("*.json")
        )
        validator_for(rules, default=Draft202012Validator)(rules, registry=beside).validate(tree)
        return tree

    return check


@pytest.fixture(scope="session")
def made() -> Callable[..., Manifest]:
    """Make a manifest as another tool might: layers are (media type, annotations), None for a size and digest."""

    def make(
        config_type: str, *layers: tuple[str, dict[str, str]], config: bytes = b"{}", artifact_type: str | None = None
    ) -> Manifest:
        blobs = tuple(
            replace_annotations(Descriptor.of(f"{index} {media_type}".encode(), media_type), annotations)
            for index, (media_type, annotations) in enumerate(layers)
        )
        return Manifest.build(Descriptor.of(config, config_type), blobs, artifact_type=artifact_type)

    return make


def replace_annotations(blob: Descriptor, annotations: dict[str, str]) -> Descriptor:
    return Descriptor(media_type=blob.media_type, digest=blob.digest, size=blob.size, annotations=annotations)


@pytest.fixture(scope="session")
def with_facts() -> Callable[..., Model]:
    def change(model: Model, **facts: Any) -> Model:
        return Model(model.parts, replace(model.facts, **facts))

    return change
