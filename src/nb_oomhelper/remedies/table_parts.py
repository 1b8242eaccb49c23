"""A function called with a part of a DataFrame's rows at a time, and what it gives put together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.failure.detection import detect
from nb_oomhelper.remedies.joined_columns import JoinedColumns, put_columns
from nb_oomhelper.remedies.joined_rows import Joined
from nb_oomhelper.remedies.joined_tables import (
    arranged,
    arrangement_of,
    is_otherwise_known,
    joined,
    total,
)
from nb_oomhelper.remedies.probing import DEPEND, attempt, drawn_apart
from nb_oomhelper.remedies.totals import Agg, Totals

FEW, _FEW_GROUPS = 128, 2  # rows, or groups of rows, that are tried at least


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
    work = Rowwise(function, in_order=not by) if agg is None else Totaled(function, Totals(agg))
    rows = Rows(table, by)
    few = _FEW_GROUPS if by else FEW
    if rows.count < few:
        return work.whole(table)
    ways, seen = tried(work, rows, by, few=few, many=2 * rows.count // max(1, parts))
    made = list[Any]()
    for one, start, count in in_pieces(work, rows.part, rows.count, max(1, -(-rows.count // max(1, parts)))):
        made = work.put(made, one, start, count, len(table))
        del one
    check_seen(made, seen=seen)
    whole = work.end(made)
    del made
    return arranged(whole, table, ways)


def in_pieces(
    work: Rowwise | Totaled, part: Callable[[int, int], Any], count: int, size: int
) -> Iterator[tuple[Any, int, int]]:
    """Give what comes out of one part after another; where it runs out of memory, of smaller and smaller ones.

    Args:
        work: What is done with them.
        part: Gives the rows, or groups, from one on up to another.
        count, size: How many there are, and how many a part has to begin with.

    Returns:
        What comes out, the first one that it is of, and how many rows these are.
    """
    done = 0
    while done < count:
        some = part(done, done + size)
        made = attempt(told(work.part), [some], last=size == 1)
        if made is None:
            size = -(-size // 2)
        else:
            yield made[0], done, len(some)
            done += size
        del made, some


def check_seen(made: Sequence[Any], *, seen: bool) -> None:
    """See that no more came out than a sample had shown the order of.

    Args:
        made: What came out of the parts.
        seen: Whether any rows came out of the sample.

    Raises:
        RowsError: None came out there, but of several parts.
    """
    if not seen and any(map(_has_rows, made[1:])):
        raise RowsError("of the rows that were tried, none came out: how they lie was not seen")


def told(part: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give a function of some rows whose errors say that it is these that are at fault, but where memory runs out.

    Args:
        part: The function.
    """

    def call(rows: Any) -> Any:
        try:
            return part(rows)
        except Exception as error:
            if isinstance(error, RowsError) or detect(error) is not None:
                raise
            raise RowsError(f"with a part of the rows it fails: {type(error).__name__}: {error}") from error

    return call


class Rowwise:
    """Rows come out of each part, and are put one behind the other; those of arrays right where all of them lie.

    Attributes:
        function, part, whole: The function; it is the same for a part and for all.
        in_own_order: What comes out has an order of its own.
    """

    def __init__(self, function: Callable[..., Any], *, in_order: bool) -> None:
        """Keep a function.

        Args:
            function: Gets some rows.
            in_order: The parts come in the order of the rows, and it is known how many there are.
        """
        self.function = self.part = self.whole = function
        self._in_order = in_order
        self.in_own_order = False

    def put(self, made: list[Any], part: Any, start: int = 0, count: int = 0, total: int = 0) -> list[Any]:
        """Put what comes out of a part behind what came before.

        Args:
            made: What came before.
            part: What comes out.
            start, count, total: How many rows were done before, are done here, and there are in all; of parts that do
                not come in the order of the rows nobody asks.
        """
        if self._in_order and type(part) is sys.modules["numpy"].ndarray:
            whole = made[0] if made else Joined(total)
            whole.put(start, count, part)
            return [whole]
        return put_columns(made, part, count, total) if self._in_order else [*made, part]

    def end(self, made: list[Any]) -> Any:
        """Give what came out of all."""
        return made[0].whole() if isinstance(made[0], (Joined, JoinedColumns)) else joined(made)


class Totaled:
    """Groups, tables or columns come out of each part, and totals of these are wanted.

    Attributes:
        function: The function.
        in_own_order: What comes out has an order of its own.
    """

    def __init__(self, function: Callable[..., Any], totals: Totals) -> None:
        """Keep a function.

        Args:
            function: Gets some rows, and gives what totals are wanted of.
            totals: Which.
        """
        self.function, self._totals = function, totals
        self._by_name = list[bool]()
        self.in_own_order = True

    def part(self, rows: Any) -> list[tuple[Any, ...]]:
        """Give a part's share in the totals; in a list, one for each thing that the function gives."""
        given = self.function(rows)
        given = given if type(given) is tuple else (given,)
        self._by_name = [getattr(one, "sort", False) is True for one in given]  # groups that lie in their order
        self.in_own_order = all(getattr(one, "sort", True) is True for one in given) and not self._totals.counts_values
        return [self._totals.of_part(one) for one in given]

    def whole(self, rows: Any) -> Any:
        """Give the totals of rows that are all there."""
        given = self.function(rows)
        return tuple(map(self._totals.of_all, given)) if type(given) is tuple else self._totals.of_all(given)

    def put(self, made: list[Any], part: Any, *_of_rows: int) -> list[Any]:
        """Add a part's share to those before, once the new ones are as long: to add each would take long.

        Args:
            made: The shares before.
            part: The share.
            _of_rows: What `Rowwise.put` wants.
        """
        made.append(part)
        if sum(map(_length, made[1:])) >= _length(made[0]):
            made[:] = [self._added(made)]
        return made

    def _added(self, made: list[Any]) -> list[tuple[Any, ...]]:
        return [
            tuple(total(some, way) for *some, way in zip(*shares, self._totals.ways, strict=True))
            for shares in zip(*made, strict=True)
        ]

    def end(self, made: list[Any]) -> Any:
        """Give the totals."""
        found = [self._totals.made_of(one) for one in self._added(made)]
        found = [one.sort_index() if by_name else one for one, by_name in zip(found, self._by_name, strict=True)]
        return tuple(found) if len(found) > 1 else found[0]


def _length(part: list[tuple[Any, ...]]) -> int:
    return sum(len(one) if hasattr(one, "index") else 1 for shares in part for one in shares)


class Rows:
    """A table's rows in parts; those of a group lie in one.

    Attributes:
        table: The table.
        count: Of the rows, or of the groups.
        in_order: The groups' rows lie one group behind the other, in their order.
    """

    def __init__(self, table: Any, by: Sequence[str]) -> None:
        """Find the groups.

        Args:
            table: The table.
            by: The columns that are alike in the rows of a group; none where any row may lie in any part.
        """
        self.table = table
        self._order: Any = None
        self.count, self.in_order = len(table), True
        if by and len(table):
            numbers = table.groupby([*by], sort=True, dropna=False, observed=True).ngroup().to_numpy()
            self._order = numbers.argsort(kind="stable").astype("int32" if len(table) < 1 << 31 else "int64")
            self._ends = [0, *sys.modules["numpy"].bincount(numbers).cumsum().tolist()]
            self.count = len(self._ends) - 1
            self.in_order = bool((numbers[1:] >= numbers[:-1]).all())

    def part(self, start: int, end: int) -> Any:
        """Give the rows from one on up to another, or those of such groups.

        Args:
            start, end: The first one, and the one behind the last.
        """
        if self._order is None:
            return self.table.iloc[start:end]
        return self._at(self._order[self._ends[start] : self._ends[min(end, self.count)]])

    def some(self, many: int) -> Any:
        """Give rows from all over, or those of groups."""
        step = max(1, self.count // many)
        if self._order is None:
            return self.table.iloc[::step]
        which = sorted({*range(0, self.count, step), self.count - 1})  # the last may be those without a name
        spans = [self._order[self._ends[one] : self._ends[one + 1]] for one in which]
        return self._at(sys.modules["numpy"].concatenate(spans))

    def _at(self, places: Any) -> Any:
        """Rows by their places, in the table's own order."""
        return self.table.iloc[sys.modules["numpy"].sort(places)]


def tried(work: Rowwise | Totaled, rows: Rows, by: Sequence[str], *, few: int, many: int) -> Any:
    """See with some rows from all over that in parts the same comes out.

    Args:
        work: What is done with them.
        rows: All rows.
        by: The columns of groups.
        few, many: How many rows, or groups, are tried at least, and to begin with.

    Returns:
        How it must be arranged for that, and whether any rows came out.

    Raises:
        RowsError: Something else comes out.
    """
    many = max(few, many)
    while True:
        chosen = rows.some(many)
        own = Rows(chosen, by)
        third = own.count // 3
        parts = [own.part(0, third), own.part(third, own.count)]
        calls = [(told(work.whole), [chosen.copy()]), *((told(work.part), [one.copy()]) for one in parts)]
        found = drawn_apart(work.function, calls, last=many == few)
        if found is not None:
            break
        many = max(few, many // 4)
    (together, first, second), drawn = found
    made = told(lambda both: _put_together(work, parts, both))((first, second))
    total = isinstance(work, Totaled)
    ways = arrangement_of(made, together, rows.table, values=not drawn, fixed=total)
    if ways is not None and own.in_order and not rows.in_order and not work.in_own_order:
        ways = ways if is_otherwise_known(ways) else None  # that rows lie as they came out may be so of these alone
    if ways is None or (drawn and by):
        raise RowsError(DEPEND)
    return ways, total or _has_rows(second)


def _put_together(work: Rowwise | Totaled, parts: list[Any], found: tuple[Any, Any]) -> Any:
    made, start, count = list[Any](), 0, sum(map(len, parts))
    for rows, one in zip(parts, found, strict=True):
        made = work.put(made, one, start, len(rows), count)
        start += len(rows)
    return work.end(made)


def _has_rows(made: Any) -> bool:
    """Whether any rows have come out, of each thing that did."""
    return all(map(_has_rows, made)) if isinstance(made, tuple) else len(made) > 0
