"""File formats of weights, read from their headers alone.

Every reader takes a RangeReader, so that a local file and a remote blob are read by the same code, and
treats the file as hostile: each count, length, offset and product is checked before it is used, and only
FormatError (or what the RangeReader itself raises) leaves the room.
"""

from __future__ import annotations
