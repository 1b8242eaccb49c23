"""A table of rows, or of tables, that lie on disk, without all of these at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

_ROWS = frozenset({dict, list, tuple, int, float, bool, str})  # that have no names of their own, as a Series has


def framed(blocks: Callable[[], Iterator[list[Any]]], options: dict[str, Any]) -> Any:
    """Give the `pandas.DataFrame` of dicts or tuples.

    Args:
        blocks: Gives them, in lists of some at a time.
        options: More arguments of `pandas.DataFrame`, but no `index`.
    """
    pandas = sys.modules["pandas"]
    if any(type(item) not in _ROWS for block in blocks() for item in block):
        return pandas.DataFrame([one for block in blocks() for one in block], **options)
    some = [pandas.DataFrame(one, **options) for one in blocks()]
    if len({tuple(one.dtypes.items()) for one in some}) != 1:  # what they are together is told by all of them
        some.clear()
        return pandas.DataFrame([one for block in blocks() for one in block], **options)
    return pandas.concat(some, ignore_index=True)


def concatenated(blocks: Callable[[], Iterator[list[Any]]], options: dict[str, Any]) -> Any:
    """Give what `pandas.concat` makes of tables: column by column, where all have the same columns.

    Args:
        blocks: Gives the tables, in lists of some at a time.
        options: More arguments of `pandas.concat`: `ignore_index`.
    """
    pandas = sys.modules["pandas"]
    forms, rows, indexes = dict[tuple[Any, ...], None](), 0, list[Any]()
    for table in _tables(blocks):
        forms[_form(table)] = None
        rows += len(table)
        indexes.append(None if options.get("ignore_index") else table.index)
    form = next(iter(forms), ())
    columns = [name for name, _ in form]
    if len(forms) != 1 or not form or len({*columns}) < len(columns) or options.keys() - {"ignore_index"}:
        return pandas.concat([*_tables(blocks)], **options)
    found = _columns(blocks, [dtype for _, dtype in form], rows)
    joined = pandas.DataFrame(dict(enumerate(found)), copy=False)
    joined.columns = next(_tables(blocks)).columns
    if indexes[0] is not None:
        joined.index = indexes[0].append(indexes[1:])
    return joined


def _columns(blocks: Callable[[], Iterator[list[Any]]], dtypes: list[Any], rows: int) -> list[Any]:
    """The columns of all tables: of those of NumPy's dtypes all rows are there from the start."""
    numpy, pandas = sys.modules["numpy"], sys.modules["pandas"]
    plain = [isinstance(one, numpy.dtype) for one in dtypes]
    made: list[Any] = [numpy.empty(rows, one) if is_plain else [] for one, is_plain in zip(dtypes, plain, strict=True)]
    start = 0
    for table in _tables(blocks):
        for at, is_plain in enumerate(plain):
            column = table.iloc[:, at]
            if is_plain:
                made[at][start : start + len(table)] = column.to_numpy()
            else:
                made[at].append(column)
        start += len(table)
    for at, is_plain in enumerate(plain):
        if not is_plain:
            made[at] = pandas.concat(made[at], ignore_index=True)
        elif dtypes[at].kind == "O":  # pandas would look for texts, and dates, in it
            made[at] = pandas.Series(made[at], dtype=object, copy=False)
    return made


def _tables(blocks: Callable[[], Iterator[list[Any]]]) -> Iterator[Any]:
    for block in blocks():
        yield from (one for one in block if one is not None)  # as `pandas.concat` leaves them out


def _form(table: Any) -> tuple[Any, ...]:
    """Its columns with their dtypes; nothing of what is no plain table."""
    plain = type(table) is sys.modules["pandas"].DataFrame and table.columns.nlevels == 1
    return tuple(zip(table.columns, table.dtypes, strict=True)) if plain and not table.attrs else ()
