"""A function called with a part of a DataFrame's rows at a time, and what it gives put together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.joined_rows import Joined
from nb_oomhelper.remedies.joined_tables import arranged, arrangement_of, joined, total
from nb_oomhelper.remedies.probing import DEPEND, attempt, drawn_apart
from nb_oomhelper.remedies.totals import Agg, Totals

_FEW, _FEW_GROUPS = 128, 2  # rows, or groups of rows, that are tried at least


def is_table(thing: Any) -> bool:
    """Tell whether something is a DataFrame of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(thing, pandas.DataFrame)


def table_in_parts(function: Callable[..., Any], table: Any, parts: int, by: Sequence[str], agg: Agg | None) -> Any:
    """As `nb_oomhelper.in_parts`, of one DataFrame.

    Args:
        function: Gets a part of its rows; gives a DataFrame, a Series or an array, with `agg` groups; or a tuple.
        table: The DataFrame.
        parts: In how many parts to begin.
        by: Columns; rows that are alike in them stay together.
        agg: What is wanted of what comes out: as `.agg()` is given it. Not given: all of it, one part behind the other.

    Raises:
        RowsError: The rows, or the groups of them, depend on each other.
        UsageError: There is no such column, or `agg` is nothing that can be had from parts.
    """
    if {*by} - {*table.columns}:
        raise UsageError("in_parts: `by` names columns of the table")
    work = _Rowwise(function, in_order=not by) if agg is None else _Totaled(function, Totals(agg))
    rows = _Rows(table, by)
    few = _FEW_GROUPS if by else _FEW
    if rows.count < few:
        return work.whole(table)
    ways = _try(work, rows, by, few=few, many=2 * rows.count // max(1, parts))
    done, size, made = 0, max(1, -(-rows.count // max(1, parts))), list[Any]()
    while done < rows.count:
        some = rows.part(done, done + size)
        one = attempt(work.part, [some], last=size == 1)
        if one is None:
            size = -(-size // 2)
            continue
        made = work.put(made, one[0], done, len(some), len(table))
        done += size
        del one, some
    return arranged(work.end(made), table, ways)


class _Rowwise:
    """Rows come out of each part, and are put one behind the other; those of arrays right where all of them lie."""

    def __init__(self, function: Callable[..., Any], *, in_order: bool) -> None:
        self.function = self.part = self.whole = function
        self._in_order = in_order

    def put(self, made: list[Any], part: Any, start: int, count: int, total: int) -> list[Any]:
        """Put what comes out of a part, `count` rows of `total`, behind what came before, of `start` rows."""
        if not self._in_order or type(part) is not sys.modules["numpy"].ndarray:
            return [*made, part]
        whole = made[0] if made else Joined(total)
        whole.put(start, count, part)
        return [whole]

    def end(self, made: list[Any]) -> Any:
        """Give what came out of all."""
        return made[0].whole() if isinstance(made[0], Joined) else joined(made)


class _Totaled:
    """Groups, tables or columns come out of each part, and totals of these are wanted."""

    def __init__(self, function: Callable[..., Any], totals: Totals) -> None:
        self.function, self._totals = function, totals

    def part(self, rows: Any) -> list[tuple[Any, ...]]:
        """Give a part's share in the totals; in a list, one for each thing that the function gives."""
        given = self.function(rows)
        return [self._totals.of_part(one) for one in (given if type(given) is tuple else (given,))]

    def whole(self, rows: Any) -> Any:
        """Give the totals of rows that are all there."""
        given = self.function(rows)
        return tuple(map(self._totals.of_all, given)) if type(given) is tuple else self._totals.of_all(given)

    def put(self, made: list[Any], part: Any, *_of_rows: int) -> list[Any]:
        """Add a part's share to those before."""
        return [[self._added(*pair) for pair in zip(made[0], part, strict=True)]] if made else [part]

    def _added(self, before: tuple[Any, ...], share: tuple[Any, ...]) -> tuple[Any, ...]:
        ways = zip(before, share, self._totals.ways, strict=True)
        return tuple(total([one, two], way) for one, two, way in ways)

    def end(self, made: list[Any]) -> Any:
        """Give the totals."""
        found = [self._totals.made_of(one) for one in made[0]]
        return tuple(found) if len(found) > 1 else found[0]


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


def _try(work: _Rowwise | _Totaled, rows: _Rows, by: Sequence[str], *, few: int, many: int) -> Any:
    """See with some rows from all over that in parts the same comes out; how it must be arranged for that."""
    many = max(few, many)
    while True:
        chosen = rows.some(many)
        own = _Rows(chosen, by)
        third = own.count // 3
        parts = [own.part(0, third), own.part(third, own.count)]
        calls = [*((work.part, [one]) for one in parts), (work.whole, [chosen])]
        found = drawn_apart(work.function, calls, last=many == few)
        if found is not None:
            break
        many = max(few, many // 4)
    (first, second, together), drawn = found
    made = work.put([], first, 0, len(parts[0]), len(chosen))
    made = work.put(made, second, len(parts[0]), len(parts[1]), len(chosen))
    ways = arrangement_of(work.end(made), together, chosen, values=not drawn)
    if ways is None:
        raise RowsError(DEPEND)
    return ways
