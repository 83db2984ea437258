"""Errors a user can act on: one line with the rule, the value, the place and the next step."""

import errno
import re
import tempfile
from collections.abc import Iterable

LONGEST_VALUE = 200
LONGEST_MESSAGE = 2_000
_LONG_WORD = re.compile(r"\S{500,}")


class DedupError(Exception):
    """Base of every error that the user can fix."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class SettingsError(DedupError):
    """A setting, flag or partition key is outside its rule."""


class InputError(DedupError):
    """The input files break a rule (missing column, invalid row, duplicate id, ...)."""


class StaleError(DedupError):
    """An artifact that this step reads is missing, or was made from something else."""


class IntegrityError(DedupError):
    """A promise of the product does not hold for the artifacts found (rows lost, say)."""


class LockedError(DedupError):
    """Another run is writing what this one would write or read.

    Attributes:
        run: id of that run; empty if it is a command, or if a lease was lost.
        expires: when its lease does unless it is renewed, in seconds since the epoch.
    """

    def __init__(self, message: str, run: str = "", expires: float = 0.0) -> None:
        super().__init__(message)
        self.run = run
        self.expires = expires


class EngineError(DedupError):
    """A Ray cluster cannot be had, or does not do its tasks."""


class StorageError(DedupError):
    """A store refused a request, kept failing, or holds a damaged file."""


def describe_fault(error: OSError) -> str:
    """What to say of a fault of the file system: what, where, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        scratch, place = tempfile.gettempdir(), str(error.filename)
        if place == scratch or place.startswith(f"{scratch}/dedup-assets-"):
            return one_line(
                f"{error.strerror} for temporary files in {scratch}; free space there, or point "
                "TMPDIR to another folder, and run again"
            )
        return one_line(f"{error}; free space there or choose another output_path, and run again")
    if isinstance(error, PermissionError):
        return one_line(f"{error}; give the user that runs this the right to it, and run again")
    return one_line(error)


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def one_line(message: object) -> str:
    """A message in one line, with what is long in it shortened, wherever it came from."""
    text = " ".join(str(message).splitlines())
    return shorten(_LONG_WORD.sub(lambda word: shorten(word[0]), text), LONGEST_MESSAGE)


def shorten(value: object, longest: int = LONGEST_VALUE) -> str:
    """A value for a message, without its middle where it is long."""
    text = str(value)
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]}... ({len(text):,} characters) ...{text[-longest // 3 :]}"


def shown(value: object) -> str:
    """An id, a name or a value, quoted, for a message."""
    return shorten(repr(value))


def listed(names: Iterable[object], most: int = 10) -> str:
    """Some names for a message: the first ones, and how many more there are."""
    found = [shorten(name, LONGEST_VALUE // 2) for name in names]
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
