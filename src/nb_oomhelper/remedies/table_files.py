"""The beginning of a file that a table is read from: its columns, and how much memory a row of it takes."""

from __future__ import annotations

import ast
import csv
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nb_oomhelper.source.table_reads import Layout

_HEAD = 64 << 10  # bytes that are read
_LINES = 200  # that are looked at
_NUMBER, _TEXT = 8, 57  # bytes of a value in a column; of a text its characters come on top
_COMPRESSED = (".gz", ".bz2", ".zip", ".xz", ".zst", ".tar", ".tgz")
_JOINS = frozenset({"os.path.join", "path.join", "join", "Path", "pathlib.Path"})
_MISSING = frozenset({"", "NA", "NaN", "nan", "NULL", "null", "None", "N/A", "n/a"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """A file of text with a table in it.

    Attributes:
        columns: Their names, in the file's order; none where they cannot be told.
        widths: Bytes that a value of each takes in memory, about.
        rows: How many rows there are, about.
    """

    columns: tuple[str, ...]
    widths: Mapping[str, float]
    rows: int

    @property
    def row(self) -> float:
        """Bytes that a row takes, about."""
        return sum(self.widths.values())

    def bytes_of(self, columns: frozenset[str] | None = None) -> int:
        """Tell what a table takes in memory, about.

        Args:
            columns: Those that are read; None for all.
        """
        return int(self.rows * sum(size for name, size in self.widths.items() if columns is None or name in columns))


def read_head(path: str, layout: Layout) -> TableFile | None:
    """Read the beginning of a file.

    Args:
        path: Where it is.
        layout: How it is laid out.

    Returns:
        None where it is no plain file of text on this machine; one without columns where these cannot be told.
    """
    if path.lower().endswith(_COMPRESSED):
        return None
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):  # to open a pipe would wait
            return None
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
        lines = head.decode(layout.encoding, errors="replace").splitlines()[
            : None if len(head) == found.st_size else -1
        ]
        lines[:1] = [one.removeprefix("\ufeff") for one in lines[:1]]
        rows = list(csv.reader(lines[layout.skipped : layout.skipped + _LINES], delimiter=layout.separator))
    except (OSError, RuntimeError, ValueError, LookupError, csv.Error):
        return None
    return _read_rows([row for row in rows if row], layout, found.st_size)


def _read_rows(rows: list[list[str]], layout: Layout, size: int) -> TableFile:
    names = layout.names or tuple(rows[0] if rows else ())
    values = rows[1:] if layout.has_header else rows
    odd = len({*names}) < len(names) or "" in names
    if odd or not values or any(len(row) != len(names) for row in values):  # the first ones may be the rows' names
        return TableFile(columns=(), widths={}, rows=0)
    columns = zip(names, zip(*values, strict=True), strict=True)
    taken = sum(len(",".join(row)) + 1 for row in values)
    return TableFile(
        columns=names,
        widths={name: _width(column) for name, column in columns},
        rows=max(1, size * len(values) // taken),
    )


def _width(values: tuple[str, ...]) -> float:
    """What one value takes in memory, about: a text more than a number."""
    if all(map(_is_number, values)):
        return _NUMBER
    return _TEXT + sum(map(len, values)) / len(values)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return value.strip() in _MISSING
    return True


def path_of(node: ast.expr | None, texts: Mapping[str, str]) -> str | None:
    """Tell what a path is that some code gives: a text, a name, `f"{folder}/a.csv"`, `folder / "a.csv"`.

    Args:
        node: The code.
        texts: What names stand for.

    Returns:
        None where it cannot be told, and where it is no file of this machine: a URL.
    """
    found = _text_of(node, texts)
    if found is None or "://" in found or found.startswith(("//", "\\\\")):  # the last are another machine's
        return None
    try:
        return str(Path(found).expanduser())
    except RuntimeError:  # nobody has that home
        return None


def is_read_again(node: ast.expr | None, texts: Mapping[str, str]) -> bool:
    """Tell whether a file can be read once more from its beginning: one that is open goes on where it stands.

    Args:
        node: What says which file it is.
        texts: What names stand for, of those that stand for texts and paths.
    """
    return node is not None and (not isinstance(node, ast.Name) or node.id in texts)


def _text_of(node: ast.expr | None, texts: Mapping[str, str]) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return texts.get(node.id)
    if isinstance(node, ast.JoinedStr):
        plain = [
            one.value if isinstance(one, ast.FormattedValue) and one.conversion < 0 and not one.format_spec else one
            for one in node.values
        ]
        return _joined([_text_of(one, texts) for one in plain], "")
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Div)):
        sides = [_text_of(node.left, texts), _text_of(node.right, texts)]
        return _joined(sides, "" if isinstance(node.op, ast.Add) else "/")
    joins = isinstance(node, ast.Call) and ast.unparse(node.func) in _JOINS and not node.keywords
    return _joined([_text_of(one, texts) for one in node.args], "/") if joins else None  # type: ignore[union-attr]


def _joined(parts: list[str | None], between: str) -> str | None:
    found = [one for one in parts if one is not None]
    if len(found) < len(parts) or not found:
        return None
    return str(Path(*found)) if between else "".join(found)
