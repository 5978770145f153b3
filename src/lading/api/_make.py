"""Convert, quantize, imatrix: llama.cpp's own tools on files of the user's; the store is not touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lading.api.session import Session
    from lading.build.convert import ConvertOptions
    from lading.build.imatrix import ImatrixOptions
    from lading.build.quantize import QuantizeOptions


def convert(
    session: Session, source: Path, target: Path, options: ConvertOptions, environment: Mapping[str, str]
) -> Path:
    """Make a GGUF file of a folder of safetensors; see `lading.build.convert` for what it raises.

    What the converter needs is fetched at the first call, which raises NetworkError offline.
    """
    from lading.build import converter  # noqa: PLC0415 - each command loads its own tool
    from lading.build.convert import convert as make_converted  # noqa: PLC0415 - as above

    offline = session.offline or session.config.offline
    tool = converter.prepare(session.config.converter(), environment, session.reporter, offline=offline)
    return make_converted(source, target, options, tool, environment, reporter=session.reporter)


def quantize(
    session: Session, source: Path, target: Path, options: QuantizeOptions, environment: Mapping[str, str]
) -> tuple[Path, ...]:
    """Make a smaller GGUF file of a GGUF file; see `lading.build.quantize` for what it raises."""
    from lading.build.quantize import quantize as make_quantized  # noqa: PLC0415 - as above

    return make_quantized(source, target, options, environment, reporter=session.reporter)


def imatrix(
    session: Session, model: Path, text: Path, target: Path, *, options: ImatrixOptions, environment: Mapping[str, str]
) -> Path:
    """Write the importance matrix of a model over a text; see `lading.build.imatrix` for what it raises."""
    from lading.build.imatrix import compute_imatrix  # noqa: PLC0415 - as above

    return compute_imatrix(model, text, target, options, environment, reporter=session.reporter)
