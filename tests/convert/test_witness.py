from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from archives import Layers

from lading.convert.witness import Witness
from lading.errors import IntegrityError
from lading.ranges import BytesRanges

if TYPE_CHECKING:
    from lading.content import ByteReader, RangeReader
    from lading.manifest import Descriptor

DATA = b"GGUF" + bytes(range(256)) * 5000


class Lying(Layers):
    """A source whose ranges show another header than its streams have."""

    def ranges(self, blob: Descriptor, /) -> RangeReader:
        return BytesRanges(b"GGUF other header" + DATA[17:], blob.digest.short)


def drain(reader: ByteReader, step: int) -> None:
    while reader.read(step):
        pass


@pytest.mark.parametrize("step", [10, 4096, 1 << 20])
@pytest.mark.parametrize("looked", [(0, 64), (10, 7), (16, 4096)])
def test_a_header_that_differs_from_the_stream_is_noticed(step: int, looked: tuple[int, int]) -> None:
    source = Lying(DATA)
    blob = source.add(DATA, "x/y")
    witness = Witness(source)
    witness.ranges(blob).read_at(*looked)
    reader = witness.open(blob)
    with pytest.raises(IntegrityError, match="showed another header"):
        drain(reader, step)


def test_it_is_noticed_where_a_stream_is_taken_up_too() -> None:
    source = Lying(DATA)
    blob = source.add(DATA, "x/y")
    witness = Witness(source)
    witness.ranges(blob).read_at(0, 64)
    with pytest.raises(IntegrityError, match="showed another header"):
        witness.open(blob, 8).read(100)
    assert witness.open(blob, 17).read(1000) == DATA[17:1017]
