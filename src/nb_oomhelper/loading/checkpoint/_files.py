"""Bounded reading of files that others made: regular files only, strict JSON, and an end to it all.

Nothing of a file is believed before it was checked. What cannot be used is `UnreadableError`, with a note;
it never leaves `measure`.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from nb_oomhelper.records.note import Note, note

LONGEST_JSON = 100_000_000  # bytes; safetensors' own cap for a header (0.8, MAX_HEADER_SIZE in tensor.rs)
_MOST_PARTS = 2_000_000  # of one JSON text: 200,000 tensors; 100 MB of "[]," would become gigabytes of lists
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe must not hold us up


class UnreadableError(Exception):
    """A file cannot be used; `note` says why, to be read after "NAME: ".

    Attributes:
        note: Why.
        named: Whether the note has the file's name already.
    """

    def __init__(self, why: str | Note, *, named: bool = False, **fields: str | int | Note | None) -> None:
        self.note = why if isinstance(why, Note) else note(why, **fields)
        self.named = named
        super().__init__(self.note.key)


class LateError(UnreadableError):
    """The time that was given is up."""


def check(until: float) -> None:
    """Stop where the time is up.

    Args:
        until: The end, on the clock of `time.monotonic`.

    Raises:
        LateError: It has come.
    """
    if time.monotonic() >= until:
        raise LateError("checkpoint.late")


class Place(Protocol):
    """A file or folder: as much of `pathlib.Path` as is asked for here, so that it may lie elsewhere."""

    @property
    def name(self) -> str:
        """Its last name."""

    @property
    def parent(self) -> Place:
        """The folder that it is in."""

    def __truediv__(self, name: str, /) -> Place: ...

    def is_file(self) -> bool:
        """Whether it is a file."""

    def is_dir(self) -> bool:
        """Whether it is a folder."""


class Elsewhere(Place, Protocol):
    """A file or folder that is not on this machine."""

    def opened(self) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """Open the file and tell its size in bytes; raises `UnreadableError`."""

    def names(self) -> list[str]:
        """Give the names of the files that are right in the folder."""


def names_in(folder: Place, most: int) -> list[str]:
    """Give the names of the files that are right in a folder, sorted.

    Args:
        folder: The folder.
        most: How many are looked at.
    """
    if not isinstance(folder, Path):
        return sorted(cast("Elsewhere", folder).names()[:most])
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in islice(entries, most) if entry.is_file())


@contextmanager
def opened(path: Place) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file and tell its size in bytes.

    Raises:
        UnreadableError: It cannot be opened, or is no regular file.
    """
    if not isinstance(path, Path):
        with cast("Elsewhere", path).opened() as there:
            yield there
        return
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise UnreadableError("checkpoint.missing") from None
    except (OSError, ValueError) as error:  # ValueError: no system has such a name
        reason = getattr(error, "strerror", None) or note("checkpoint.no_name")
        raise UnreadableError("checkpoint.not_opened", reason=reason) from None
    with os.fdopen(descriptor, "rb") as file:
        try:
            told = os.fstat(descriptor)
            if not stat.S_ISREG(told.st_mode):
                raise UnreadableError("checkpoint.not_regular")
            yield file, told.st_size
        except OSError as error:
            raise UnreadableError("checkpoint.io_error", error=error.strerror) from None


def read_json(path: Place) -> dict[str, Any]:
    """Read a file that is one JSON object.

    Raises:
        UnreadableError: It is not, or is too large for one.
    """
    with opened(path) as (file, size):
        if size > LONGEST_JSON:
            raise UnreadableError("checkpoint.too_large")
        return parse_json(file.read(size + 1))


def parse_json(data: bytes) -> dict[str, Any]:
    """Read one JSON object strictly: UTF-8, and no name twice in an object.

    Raises:
        UnreadableError: It is something else.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > _MOST_PARTS:
        raise UnreadableError("checkpoint.json_parts")
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unlike)
    except RecursionError:
        raise UnreadableError("checkpoint.json_deep") from None
    except ValueError:  # not UTF-8, not JSON, or a number of thousands of digits
        raise UnreadableError("checkpoint.json_invalid") from None
    if not isinstance(found, dict):
        raise UnreadableError("checkpoint.json_no_object")
    return found


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UnreadableError("checkpoint.json_twice")
    return found


def whole(value: object) -> int | None:
    """Take a number from JSON or a pickle: not negative, not a bool, of 63 bits at most; None for all else."""
    return value if type(value) is int and 0 <= value < 1 << 63 else None
