"""A text from outside as what can be searched: decoded, and of a notebook the outputs of its cells.

Nothing of it is run or loaded but its letters. What is too large is read from its end: an error is the last thing that
a program prints.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nb_oomhelper.errors import UsageError
from nb_oomhelper.records.told import Spot

MOST = 16 << 20  # bytes of a text; a training's log has one or two
_NOTEBOOK = 128 << 20  # bytes of a notebook, whose pictures are most of it
_BLOCK = 1 << 20
_BINARY = 0.1  # share of NUL bytes; a log that was cut while it was written to has some
_QUOTED = re.compile(r'^[ \t]*"(.*?)(?:\\n)?",?[ \t\r]*$', re.MULTILINE)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True, slots=True)
class Piece:
    """A text of one origin; the first line's spot, from which the others are counted."""

    text: str
    spot: Spot


@dataclass(frozen=True, slots=True)
class Document:
    """What is searched: its pieces, and how many bytes of the beginning were left out."""

    pieces: tuple[Piece, ...]
    skipped: int = 0


def read_file(path: Path) -> Document:
    """Read a file, whatever it is.

    Raises:
        UsageError: It cannot be read, or is no text.
    """
    try:
        if not path.is_file():
            raise UsageError(f"{path} is no file")
        with path.open("rb") as file:
            return read_stream(file, path.stat().st_size, path.name)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def read_stream(stream: BinaryIO, size: int | None, name: str) -> Document:
    """Read what a file or a pipe gives.

    Args:
        stream: Read to its end.
        size: Bytes that it has; None where that is not known.
        name: What it is called; a notebook's ends with ".ipynb".

    Raises:
        UsageError: It is no text.
    """
    notebook = name.lower().endswith(".ipynb") and (size is None or size <= _NOTEBOOK)
    data, skipped, newlines = _end_of(stream, _NOTEBOOK if notebook else MOST)
    if not skipped and (notebook or data.lstrip()[:1] == b"{"):
        pieces = _cells(data)
        if pieces is not None:
            return Document(pieces)
    text = _decoded(data, name)
    text = _unquoted(text) if notebook else text  # a notebook that is damaged, or whose beginning was left out
    return Document((Piece(text, Spot(line=1 + newlines)),), skipped)


def read_pasted(text: str) -> Document:
    """Read a text that somebody has pasted."""
    return Document((Piece(text[-MOST:], Spot(line=1)),), max(0, len(text) - MOST))


def _end_of(stream: BinaryIO, most: int) -> tuple[bytes, int, int]:
    """The last bytes of a stream; how many were left out before them, and how many line breaks these had."""
    kept: list[bytes] = []
    size = skipped = newlines = 0
    while block := stream.read(_BLOCK):
        kept.append(block)
        size += len(block)
        while size - len(kept[0]) >= most:
            size -= len(kept[0])
            skipped += len(kept[0])
            newlines += kept.pop(0).count(b"\n")
    return b"".join(kept), skipped, newlines


def _decoded(data: bytes, name: str) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    data = data.lstrip(b"\0")
    sample = data[:_BLOCK]
    if sample.count(0) > _BINARY * len(sample):
        wide = _wide(sample)
        if wide is None:
            raise UsageError(f"{name} is no text")
        return data.decode(wide, errors="replace")
    return data.decode("utf-8", errors="replace")


def _wide(sample: bytes) -> str | None:
    """UTF-16 without a mark: of a text that is mostly ASCII every other byte is 0."""
    half = len(sample) // 2 or 1
    odd, even = sample[1::2].count(0) / half, sample[::2].count(0) / half
    if max(odd, even) < 0.5 or min(odd, even) > _BINARY:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


# notebooks


def _unquoted(text: str) -> str:
    """A notebook's file line by line, without the marks of JSON around each line of an output."""
    return _QUOTED.sub(r"\1", text).replace("\\u001b", "\x1b").replace('\\"', '"')


def _cells(data: bytes) -> tuple[Piece, ...] | None:
    """The outputs of a notebook's cells; None where it is none."""
    try:
        book = json.loads(data.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(book, dict):
        return None
    sheets = [book, *_rows(book, "worksheets")]  # until version 3 of the format cells were in worksheets
    cells = [cell for sheet in sheets for cell in _rows(sheet, "cells")]
    if not cells and "nbformat" not in book:
        return None
    return tuple(piece for number, cell in enumerate(cells, 1) for piece in _outputs(cell, number))


def _outputs(cell: dict[str, Any], number: int) -> Iterator[Piece]:
    count = cell.get("execution_count", cell.get("prompt_number"))
    spot = Spot(line=1, cell=number, count=count if type(count) is int else None)
    for output in _rows(cell, "outputs"):
        text = _printed(output)
        if text:
            yield Piece(text[-MOST:], spot)


def _printed(output: dict[str, Any]) -> str:
    """What an output prints as text: a stream, or an error. A shown object, such as a panel of ours, does not count."""
    kind = output.get("output_type")
    if kind == "stream":
        return _joined(output.get("text"), "")
    if kind not in ("error", "pyerr"):
        return ""
    traceback = _joined(output.get("traceback"), "\n")
    said = f"{_joined(output.get('ename'), '')}: {_joined(output.get('evalue'), '')}"
    return traceback if traceback.strip() else said


def _rows(table: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = table.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _joined(value: object, between: str) -> str:
    if isinstance(value, list):
        return between.join(one for one in value if isinstance(one, str))
    return value if isinstance(value, str) else ""
