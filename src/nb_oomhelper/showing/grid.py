"""Rows and columns as aligned text and as an HTML table."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

Rows = Sequence[Sequence[str]]


def to_text(columns: Sequence[str], rows: Rows) -> str:
    """Write an aligned table: the first column to the left, the others to the right.

    Args:
        columns: Their titles.
        rows: One text a column.
    """
    table = [list(columns), *(list(row) for row in rows)]
    widths = [max(width_of(row[column]) for row in table) for column in range(len(columns))]
    return "\n".join("  ".join(_cells(row, widths)).rstrip() for row in table)


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
        blank = " " * (width - width_of(cell))
        yield blank + cell if at else cell + blank


def width_of(text: str) -> int:
    """Give the columns of a terminal that a text takes: two for a Chinese character."""
    from wcwidth import wcswidth

    width = wcswidth(text)
    return width if width >= 0 else len(text)  # there is a character in it that has no width


def to_html(columns: Sequence[str], rows: Rows, above: Sequence[str] = (), below: Sequence[str] = ()) -> str:
    """Write a table element, escaped, between lines of text.

    Args:
        columns: Their titles.
        rows: One text a column.
        above: Lines before the table.
        below: Lines after it.
    """
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    before, after = ("".join(f"<div>{html.escape(line)}</div>" for line in lines) for lines in (above, below))
    return f"{before}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{after}"
