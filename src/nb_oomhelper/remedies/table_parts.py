"""A function called with a part of a DataFrame's rows at a time, and what it gives put together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.joined_tables import Join, arranged, arrangement_of, joined
from nb_oomhelper.remedies.probing import DEPEND, attempt, drawn_apart

_FEW, _FEW_GROUPS = 128, 2  # rows, or groups of rows, that are tried at least


def is_table(thing: Any) -> bool:
    """Tell whether something is a DataFrame of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(thing, pandas.DataFrame)


def table_in_parts(function: Callable[..., Any], table: Any, parts: int, by: Sequence[str], join: Join) -> Any:
    """As `nb_oomhelper.in_parts`, of one DataFrame.

    Args:
        function: Gets a part of its rows; gives a DataFrame, a Series, a number, or a tuple of such.
        table: The DataFrame.
        parts: In how many parts to begin.
        by: Columns; rows that are alike in them stay together.
        join: How what comes out is put together.

    Raises:
        RowsError: The rows, or the groups of them, depend on each other.
        UsageError: There is no such column, or no such way to put them together.
    """
    if join not in ("rows", "sum", "max", "min") or {*by} - {*table.columns}:
        raise UsageError("in_parts: `join` is one of rows, sum, max, min, and `by` names columns of the table")
    rows = _Rows(table, by)
    few = _FEW_GROUPS if by else _FEW
    if rows.count < few:
        return function(table)
    ways = _try(function, rows, by, join, few=few, many=2 * rows.count // max(1, parts))
    done, size, made = 0, max(1, -(-rows.count // max(1, parts))), list[Any]()
    while done < rows.count:
        one = attempt(function, [rows.part(done, done + size)], last=size == 1)
        if one is None:
            size = -(-size // 2)
            continue
        made.append(one[0])
        done += size
        del one
        if join != "rows":  # totals need not be kept apart
            made = [joined(made, join)]
    return arranged(joined(made, join), table, ways)


class _Rows:
    """A table's rows in parts; those of a group lie in one.

    Attributes:
        count: Of the rows, or of the groups.
    """

    def __init__(self, table: Any, by: Sequence[str]) -> None:
        self._table = table
        self._order: Any = None
        self.count = len(table)
        if by and len(table):
            numbers = table.groupby([*by], sort=True, dropna=False, observed=True).ngroup().to_numpy()
            self._order = numbers.argsort(kind="stable").astype("int32" if len(table) < 1 << 31 else "int64")
            self._ends = [0, *sys.modules["numpy"].bincount(numbers).cumsum().tolist()]
            self.count = len(self._ends) - 1

    def part(self, start: int, end: int) -> Any:
        """Give the rows from one on up to another, or those of such groups."""
        if self._order is None:
            return self._table.iloc[start:end]
        return self._at(self._order[self._ends[start] : self._ends[min(end, self.count)]])

    def some(self, many: int) -> Any:
        """Give rows from all over, or those of groups."""
        which = range(0, self.count, max(1, self.count // many))
        if self._order is None:
            return self._table.iloc[:: which.step]
        spans = [self._order[self._ends[one] : self._ends[one + 1]] for one in which]
        return self._at(sys.modules["numpy"].concatenate(spans))

    def _at(self, places: Any) -> Any:
        """Rows by their places, in the table's own order."""
        places.sort()
        return self._table.iloc[places]


def _try(function: Callable[..., Any], rows: _Rows, by: Sequence[str], join: Join, *, few: int, many: int) -> Any:
    """See with some rows from all over that in parts the same comes out; how it must be arranged for that."""
    many = max(few, many)
    while True:
        chosen = rows.some(many)
        own = _Rows(chosen, by)
        third = own.count // 3
        calls = [[own.part(0, third)], [own.part(third, own.count)], [chosen]]
        found = drawn_apart(function, calls, last=many == few)
        if found is not None:
            break
        many = max(few, many // 4)
    (first, second, together), drawn = found
    ways = arrangement_of(joined([first, second], join), together, chosen, values=not drawn)
    if ways is None:
        raise RowsError(DEPEND)
    return ways
