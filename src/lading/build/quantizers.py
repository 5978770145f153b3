"""The builds of llama.cpp that can quantize, and which of them is taken for what is asked.

`llama-quantize` on the PATH comes first, for it does all. Then cyllama, of the extra `[quantize]`, for all but what its
binding cannot set; then llama-cpp-python, which does all through the library's own structure, and which few have, since
it compiles. All write the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lading.errors import UnfitError
from lading.hardware.cores import usable_cores
from lading.runtime.process import Command, module, passed_on, tethered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lading.build.quantize import QuantizeOptions

PROGRAM = "llama-quantize"
CYLLAMA = "cyllama"
LLAMA_CPP = "llama-cpp-python"
_NOT_IN_CYLLAMA = frozenset({"Q1_0", "Q2_0"})  # newer than 0.2.18, the last with wheels for Python 3.11
_INSTALL = "install llama.cpp, so that llama-quantize is on the PATH"


class Quantizer(Protocol):
    """A build of llama.cpp that quantizes in a process of its own."""

    @property
    def name(self) -> str:
        """Its name, as people know it."""

    @property
    def identity(self) -> str:
        """What changes when another build takes its place, for caches of results."""

    def lacks(self, options: QuantizeOptions) -> str:
        """Return what of the options it cannot do, in a few words; empty if it can do all."""

    def command(self, source: Path, target: Path, options: QuantizeOptions, imatrix: str | None) -> Command:
        """Return how to run it; to be started by this very process. `imatrix` is what the file is to call the matrix."""


@dataclass(frozen=True)
class Program:
    """`llama-quantize` as found on a search path. `environment` is the user's; the program sees a part of it."""

    path: str
    environment: Mapping[str, str] = field(repr=False)

    name = PROGRAM

    @property
    def identity(self) -> str:
        """The program's file as it lies there; it cannot be asked for its version."""
        status = Path(self.path).stat()
        return f"{self.path} {status.st_size} {status.st_mtime_ns}"

    def lacks(self, options: QuantizeOptions) -> str:  # noqa: ARG002  # of the contract
        """Return nothing: it does all."""
        return ""

    def command(self, source: Path, target: Path, options: QuantizeOptions, imatrix: str | None) -> Command:
        """Return its command line."""
        argv = [self.path]
        for flag, wanted in (
            ("--allow-requantize", options.allow_requantize),
            ("--leave-output-tensor", options.leave_output_tensor),
            ("--pure", options.pure),
            ("--keep-split", options.keep_split),
        ):
            argv += [flag] if wanted else []
        pairs: list[tuple[str, str | None]] = [
            ("--imatrix", imatrix),
            *(("--include-weights", text) for text in options.include_weights),
            *(("--exclude-weights", text) for text in options.exclude_weights),
            ("--output-tensor-type", options.output_tensor_type),
            ("--token-embedding-type", options.token_embedding_type),
            *(("--tensor-type", f"{name}={type_name}") for name, type_name in options.tensor_types),
            *(("--override-kv", text) for text in options.overrides),
        ]
        for flag, value in pairs:
            argv += [flag, value] if value is not None else []
        argv += [str(source), str(target), options.type, str(options.threads or usable_cores())]
        return Command(argv=tethered(tuple(argv)), environment=passed_on(self.environment))


@dataclass(frozen=True)
class Binding:
    """A Python package that carries llama.cpp, called by a child process of ours."""

    name: str
    environment: Mapping[str, str] = field(repr=False)

    @property
    def identity(self) -> str:
        """The package and its version."""
        from importlib.metadata import version  # noqa: PLC0415  # not needed where there is a program

        return f"{self.name} {version(self.name)}"

    def lacks(self, options: QuantizeOptions) -> str:
        """Return what the package's binding cannot set."""
        if self.name == LLAMA_CPP:
            return ""
        missing = (
            ("an importance matrix", options.imatrix is not None),
            ("types of single tensors", bool(options.tensor_types)),
            ("overrides of the metadata", bool(options.overrides)),
            (f"the type {options.type}", options.type in _NOT_IN_CYLLAMA),
        )
        return " and ".join(words for words, wanted in missing if wanted)

    def command(self, source: Path, target: Path, options: QuantizeOptions, imatrix: str | None) -> Command:
        """Return the call of our child, which is told by its input."""
        told = {
            "library": self.name,
            "source": str(source),
            "target": str(target.with_suffix("") if options.keep_split else target),
            "type": options.type,
            "pure": options.pure,
            "imatrix": imatrix,
            "include_weights": options.include_weights,
            "exclude_weights": options.exclude_weights,
            "leave_output_tensor": options.leave_output_tensor,
            "output_tensor_type": options.output_tensor_type,
            "token_embedding_type": options.token_embedding_type,
            "tensor_types": options.tensor_types,
            "overrides": options.overrides,
            "keep_split": options.keep_split,
            "allow_requantize": options.allow_requantize,
            "threads": options.threads or usable_cores(),
        }
        return Command(
            argv=module("lading.build.quantize_child", str(os.getpid())),
            environment=passed_on(self.environment),
            stdin=json.dumps(told).encode(),
        )


def found(environment: Mapping[str, str]) -> Iterator[Quantizer]:
    """Look for the quantizers that are here, in the order in which they are taken."""
    path = shutil.which(PROGRAM, path=environment.get("PATH", ""))
    if path:
        yield Program(os.path.abspath(path), environment)  # noqa: PTH100  # a Path would follow its links
    for name in (CYLLAMA, LLAMA_CPP):
        if _is_installed(name):
            yield Binding(name, environment)


def choose(options: QuantizeOptions, environment: Mapping[str, str]) -> Quantizer:
    """Return the first quantizer here that can do what is asked; raises UnfitError saying what to install."""
    here: list[Quantizer] = []
    for one in found(environment):
        if not one.lacks(options):
            return one
        here.append(one)
    if not here:
        msg = "nothing is here to quantize with"
        raise UnfitError(msg, hint=f"pip install 'lading[quantize]', or {_INSTALL}")
    msg = f"{here[0].name} cannot set {here[0].lacks(options)}"
    raise UnfitError(msg, hint=_INSTALL)


def _is_installed(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  # as above

    # By the package's name: another one brings a module `llama_cpp` too.
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
