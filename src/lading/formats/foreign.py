"""What a file is that is not the one hoped for, told from its first bytes."""

from __future__ import annotations

ENOUGH = 64
"""Bytes from a file's start that suffice for `hint_for`."""

_TOO_OLD = "it is in a format of llama.cpp from before August 2023; convert the original model again"
_OTHER = (
    (b"GGUF", "it is a GGUF file"),
    (b"lmgg", _TOO_OLD),
    (b"fmgg", _TOO_OLD),
    (b"tjgg", _TOO_OLD),
    (b"algg", _TOO_OLD),
    (b"version https://git-lfs", "it is a Git LFS pointer; `git lfs pull` fetches the file itself"),
    (b"<", "it looks like a web page: the download met an error or a login page"),
    (b"PK\x03\x04", "it is a zip archive, perhaps a PyTorch checkpoint, which is not read"),
    (b"\x80\x02", "it is a Python pickle, which is never read"),
    (b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it first"),
    (b"{", "it is a JSON document, perhaps an error message that was saved as a model"),
)


def hint_for(head: bytes) -> str:
    """Say what a file that begins with `head` seems to be, or else ask to check what was downloaded."""
    trimmed = head.lstrip()
    for magic, words in _OTHER:
        if trimmed.startswith(magic):
            return words
    if head[8:9] == b"{":
        return "it looks like a safetensors file"
    return "check what was downloaded"
