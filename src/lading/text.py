"""How figures and strangers' words are written for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP = 1000
_MEBIBYTE = 1024**2
_GIBIBYTE = 1024**3
_COUNTS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


def size(count: int) -> str:
    """Write bytes as disks are sold: 5.85 GB, 11.3 kB, 512 B."""
    value, unit = float(count), 0
    while value >= _STEP and unit < len(_DECIMAL) - 1:
        value, unit = value / _STEP, unit + 1
    if unit == 0:
        return f"{count} B"
    # From gigabytes on, the second digit is worth showing.
    return f"{value:.{2 if unit >= _DECIMAL.index('GB') else 1}f} {_DECIMAL[unit]}"


def memory(count: int) -> str:
    """Write bytes as memory is counted: 23.5 GiB, 512 MiB."""
    if count >= _GIBIBYTE:
        return f"{count / _GIBIBYTE:.1f} GiB"
    return f"{count / _MEBIBYTE:.0f} MiB"


def parameters(count: int) -> str:
    """Write a number of weights: 8.2 B, 1.4 M."""
    for value, unit in _COUNTS:
        if count >= value:
            return f"{count / value:.1f} {unit}"
    return str(count)


def count(number: int, thing: str) -> str:
    """Write a number of things: 1 blob, 2 blobs."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def settings(values: Mapping[str, object]) -> str:
    """Write how a model is to be served: ctx_size 8192, temperature 0.7."""
    return clean(", ".join(f"{name} {value}" for name, value in values.items()))


def told(source: str) -> str:
    """Return where something came from as it may be told: without the query of a URL, which may hold a token."""
    return source.partition("?")[0] if source.startswith(("http://", "https://")) else source


def clean(words: str) -> str:
    """Make a stranger's words safe for a terminal: control characters and line ends are written as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in words)


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Lay out rows in columns with two spaces between; columns in `right` are aligned on that side."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)
