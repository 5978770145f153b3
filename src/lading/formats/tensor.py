"""A tensor as a file's header describes it."""

from __future__ import annotations

from typing import NamedTuple


# Named tuples, here and in gguf: importing dataclasses would take longer than reading most headers.
class Tensor(NamedTuple):
    """One tensor: its name, shape, element type and place in the file.

    `shape` is in the file's own order: GGUF writes the fastest-varying dimension first, safetensors last.
    `type` is the format's name for it ("Q4_K", "BF16"). `offset`, from the start of the file, and `size`
    are in bytes and lie within the file.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size: int

    @property
    def elements(self) -> int:
        """The product of the shape; 1 for a scalar."""
        product = 1
        for dimension in self.shape:
            product *= dimension
        return product
