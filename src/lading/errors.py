"""The one tree of errors.

    LadingError                 1    any other failure
    ├── UsageError              2    the request itself is malformed
    ├── NotFoundError           3    no such model, tag, file or blob
    ├── AccessDeniedError       4    a login, key or permission is missing
    ├── NetworkError            5    the other side failed; a retry may help
    ├── IntegrityError          6    bytes are not what they claim to be
    │   └── FormatError         6    a file or document breaks its format's rules
    │       └── RecipeError     6    a recipe breaks the rules of its language, at a line and column
    ├── NoSpaceError            7    the disk is full
    ├── UnfitError              8    does not fit, or no such device or runtime
    ├── PolicyError             9    refused by a rule of the user or of safety
    ├── BusyError              10    somebody else held a lock for too long
    └── StoppedError          130    stopped by the user (Ctrl-C); 143 when by SIGTERM

The numbers are the exit codes of the command line and never change meaning.
"""

from __future__ import annotations

from typing import ClassVar


class LadingError(Exception):
    """A failure with a message for people: what happened to which thing, and what to do.

    `message` names the thing; `hint` says what to do, or is empty. `placed` says that the message begins with a place in
    a text, and `error:` behind it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", placed: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.placed = placed


class UsageError(LadingError):
    """The request is malformed: a bad reference, flag or combination."""

    exit_code = 2


class NotFoundError(LadingError):
    """The named model, tag, file or blob does not exist there."""

    exit_code = 3


class AccessDeniedError(LadingError):
    """A login, key or permission is missing or refused."""

    exit_code = 4


class NetworkError(LadingError):
    """The other side could not be reached or failed; a retry may help."""

    exit_code = 5


class IntegrityError(LadingError):
    """Bytes are not what their digest, size or media type claims."""

    exit_code = 6


class FormatError(IntegrityError):
    """A file or document breaks the rules of its format."""


class RecipeError(FormatError):
    """A recipe breaks the rules of its language.

    The message is whole: `file` and place, `reason`, then the line with carets and `note` below. `place` is the line and
    column where it begins, and those where it ends; all count from 1, columns in characters, the end is the first after.
    """

    def __init__(self, message: str, *, reason: str, note: str, file: str, place: tuple[int, int, int, int]) -> None:
        super().__init__(message, placed=True)
        self.reason = reason
        self.note = note
        self.file = file
        self.line, self.column, self.end_line, self.end_column = place


class NoSpaceError(LadingError):
    """The disk or quota is full."""

    exit_code = 7


class UnfitError(LadingError):
    """The model does not fit, or the device or runtime it needs is not here."""

    exit_code = 8


class PolicyError(LadingError):
    """Refused by a rule, of the user or of safety."""

    exit_code = 9


class BusyError(LadingError):
    """A lock stayed taken for longer than the caller would wait."""

    exit_code = 10


class StoppedError(LadingError):
    """The user stopped the work; `signal_number` decides the exit code (128 + it)."""

    exit_code = 130

    def __init__(self, message: str, *, hint: str = "", signal_number: int = 2) -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number
