"""A function called with some rows at a time, and what it gives joined: `nb_oomhelper.in_parts`."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.column_parts import columns_in_parts
from nb_oomhelper.remedies.joined_rows import Joined, is_same
from nb_oomhelper.remedies.probing import DEPEND, attempt, drawn_apart
from nb_oomhelper.remedies.read_parts import is_reader, reader_in_parts
from nb_oomhelper.remedies.table_parts import is_table, table_in_parts
from nb_oomhelper.remedies.totals import Agg

PARTS = 32
_PROBES = 64  # rows from all over the tables, that are computed in other company as well
_FEW = 8  # rows: of fewer nothing is seen


def in_parts(
    function: Callable[..., Any],
    *tables: Any,
    parts: int = PARTS,
    by: str | list[str] | None = None,
    agg: Agg | None = None,
    axis: int = 0,
    columns: Sequence[Any] | None = None,
) -> Any:
    """Call a function with some rows at a time, and give what it would have given for all of them.

    First it is called with rows from all over the tables, alone and together; in their parts the same must come out
    for them. Where something else does, the rows depend on each other, and nothing more is done. Where a part runs
    out of memory, smaller ones are taken from there on.

    Args:
        function: Gets some rows of each table; gives one row for each: an array, a tensor, a list, or a tuple or dict
            of such. Of a DataFrame it may give any number of rows, and with `agg` groups.
        tables: Arrays, tensors, lists or tuples, of as many rows each; or one DataFrame of pandas; or what reads one
            in parts, `pd.read_csv(path, chunksize=100_000)`, without `by`: these are the parts then.
        parts: In how many parts to begin.
        by: Of a DataFrame: columns; rows that are alike in them stay together. Not given: any row may lie in any part.
        agg: Of a DataFrame: the totals that are wanted of what comes out, as `.agg()` is given them: `"mean"`,
            `["count", "mean"]`, `{"price": "sum"}`. Groups that lie in several parts are one then. With
            `axis=1`, the total of each row: "any", "all", "sum", "min" or "max".
        axis: 1 for parts of the columns, of one DataFrame or one array of two axes: the function gives as many columns
            as it gets, or a number for each.
        columns: With `axis=1`, of a DataFrame: the columns that are meant, by name. Not given: all of them.

    Returns:
        The parts, joined along that axis. No gradients go back through tensors.

    Raises:
        RowsError: The rows, or columns, depend on each other, or a part gave something else than them.
        UsageError: There are no tables, or they differ in their number of rows; or an option is not for these.
    """
    if axis == 1 and len(tables) == 1 and by is None and not isinstance(agg, (list, dict)):
        return columns_in_parts(function, tables[0], parts, columns, agg)
    if axis or columns is not None:
        raise UsageError("in_parts takes `axis=1` with one table, and `columns` with that alone")
    if len(tables) == 1 and is_table(tables[0]):
        return table_in_parts(function, tables[0], parts, [by] if isinstance(by, str) else by or [], agg)
    if len(tables) == 1 and is_reader(tables[0]) and by is None:
        return reader_in_parts(function, tables[0], agg)
    if by is not None or agg is not None:
        raise UsageError("in_parts takes `by`, and `agg` without `axis=1`, with one DataFrame of pandas alone")
    count = _count_rows(tables)
    if count < 2:
        return function(*tables)
    done, size = 0, max(1, -(-count // max(1, parts)))
    probes = _probed(function, tables, count, min(_PROBES, max(size, _FEW)))
    joined = Joined(count)
    while done < count:
        end = done + size + (size > 1 and count - done == size + 1)  # one row alone may come out in another form
        rows = [one[done:end] for one in tables]
        if (made := attempt(function, rows, last=size == 1)) is None:
            size = -(-size // 2)
            continue
        joined.put(done, len(rows[0]), made[0])
        probes.check(done, len(rows[0]), made[0])
        done += len(rows[0])
        del made, rows
    return joined.whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probes:
    """Rows that were computed in other company: where they lie, what came out, and whether numbers were drawn."""

    at: list[int]
    made: Any
    drawn: bool

    def check(self, start: int, count: int, part: Any) -> None:
        """See that those among a part's rows have come out the same."""
        own = [(one, at - start) for one, at in enumerate(self.at) if start <= at < start + count]
        if not is_same(part, self.made, values=not self.drawn, rows=([at for _, at in own], [one for one, _ in own])):
            raise RowsError(DEPEND)


def _count_rows(tables: Sequence[Any]) -> int:
    try:
        counts = {len(one) for one in tables}
    except TypeError as error:
        raise UsageError("in_parts needs tables that have rows") from error
    if len(counts) != 1:
        raise UsageError("in_parts needs at least one table, and as many rows in each")
    return counts.pop()


def _probed(function: Callable[..., Any], tables: Sequence[Any], count: int, most: int) -> _Probes:
    """Compute rows from all over the tables, alone and together; of fewer where they run out of memory, too."""
    made = None
    while made is None:
        many = min(most, count)
        at = [one * (count - 1) // (many - 1) for one in range(many)]
        half = many // 2
        calls = [(function, [_taken(one, some) for one in tables]) for some in (at[:half], at[half:], at)]
        made = drawn_apart(function, calls, last=most == _FEW)
        most = max(_FEW, most // 2)
    (first, second, together), drawn = made
    joined = Joined(many)
    joined.put(0, half, first)
    joined.put(half, many - half, second)
    if not is_same(joined.whole(), together, values=not drawn):
        raise RowsError(DEPEND)
    return _Probes(at=at, made=together, drawn=drawn)


def _taken(table: Any, at: list[int]) -> Any:
    """Copies of some rows, which a function may change."""
    if hasattr(table, "shape"):
        return table[at]
    rows = [table[one] for one in at]
    with contextlib.suppress(Exception):  # of a tensor with a graph there is none
        rows = copy.deepcopy(rows)
    return tuple(rows) if isinstance(table, tuple) else rows
