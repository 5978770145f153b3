"""Archives, read by our own reader and never extracted by a library: tar, uncompressed or in gzip or zstd.

Nothing here writes a file or follows a name: a reader tells what is in an archive and hands over the bytes, and
who asked decides what becomes of them.
"""

from __future__ import annotations

from lading.formats.archive.compression import Compression, decompressed
from lading.formats.archive.cursor import Cursor, RangeCursor, StreamCursor
from lading.formats.archive.tar import Entry, Kind, read_entries
from lading.formats.archive.wrap import END, WrappedReader, Wrapping, file_head, folder_head, padding, wrap

__all__ = [
    "END",
    "Compression",
    "Cursor",
    "Entry",
    "Kind",
    "RangeCursor",
    "StreamCursor",
    "WrappedReader",
    "Wrapping",
    "decompressed",
    "file_head",
    "folder_head",
    "padding",
    "read_entries",
    "wrap",
]
