"""A function called with some columns of a table at a time, and what it gives put together."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.joined_rows import tuple_like
from nb_oomhelper.remedies.joined_tables import arrangement_of, is_of_pandas, joined
from nb_oomhelper.remedies.probing import attempt, drawn_apart
from nb_oomhelper.remedies.releasing import trim
from nb_oomhelper.remedies.table_parts import is_table, told

_DEPEND = "the columns depend on each other: in parts something else would come out"
_ELSE = "a part gave something else than its columns"
_TOTALS = {  # how totals of parts are added up: of arrays, and of tables, which leave out what is missing
    "any": ("logical_or", "logical_or"),
    "all": ("logical_and", "logical_and"),
    "sum": ("add", "add"),
    "min": ("minimum", "fmin"),
    "max": ("maximum", "fmax"),
}
_PROBES, _SHARE = 4, 8  # columns that are tried, and at most this part of all


def columns_in_parts(
    function: Callable[..., Any], table: Any, parts: int, names: Sequence[Any] | None, agg: Any = None
) -> Any:
    """As `nb_oomhelper.in_parts` with `axis=1`.

    First it is called with columns from all over the table, alone and together.

    Args:
        function: Gets some columns; gives as many: a DataFrame or an array, of any number of rows, or one number for
            each, in a Series or an array; or a tuple of such.
        table: A DataFrame, or an array of two axes.
        parts: In how many parts to begin.
        names: The columns of a DataFrame that are meant, by name; None for all of them.
        agg: Which total of each row is wanted of what comes out: "any", "all", "sum", "min" or "max"; None: all of it.

    Raises:
        RowsError: The columns depend on each other, or a part gave something else than its columns.
        UsageError: It is no table, or has no such columns.
    """
    columns = _Columns(table, names)
    if agg not in (None, *_TOTALS):
        raise UsageError(f"in_parts: with `axis=1`, `agg` is one of {', '.join(_TOTALS)}")
    if columns.count < 2:
        made = function(columns.some([*range(columns.count)]))
        return made if agg is None else getattr(made, agg)(axis=1)
    joined = _put_into(columns.count, agg)
    form = _tried(function, columns, agg)
    trim()  # what comes out of all lies in one piece
    joined.begin(form, columns.some([0]))
    del form
    done, size = 0, max(1, -(-columns.count // max(1, parts)))
    while done < columns.count:
        some = columns.part(done, done + size)
        if (made := attempt(told(function), [some], last=size == 1)) is None:
            size = -(-size // 2)
            continue
        joined.put(done, made[0], some)
        done += some.shape[1]
        del made, some
    return joined.whole()


class _Columns:
    """The columns of a table.

    Attributes:
        count: How many there are.
    """

    def __init__(self, table: Any, names: Sequence[Any] | None) -> None:
        self._table, self._frame = table, is_table(table)
        array = type(table) is getattr(sys.modules.get("numpy"), "ndarray", None) and table.ndim == 2
        if not self._frame and (not array or names is not None):
            raise UsageError("in_parts takes `axis=1` with a DataFrame of pandas or an array of two axes")
        self._at: list[int] | None = None
        if names is not None:
            places = table.columns.get_indexer_for([*names])
            if isinstance(names, str) or len(places) != len(names) or (places < 0).any():
                raise UsageError("in_parts: `columns` names columns of the table, each once")
            self._at = places.tolist()
        self.count = table.shape[1] if self._at is None else len(self._at)

    def part(self, start: int, end: int) -> Any:
        """Give the columns from one on up to another."""
        if self._at is not None:
            return self.some([*range(start, min(end, self.count))])
        return self._table.iloc[:, start:end] if self._frame else self._table[:, start:end]

    def some(self, which: list[int]) -> Any:
        """Give copies of some columns."""
        at = which if self._at is None else [self._at[one] for one in which]
        return self._table.iloc[:, at] if self._frame else self._table[:, at]


def _put_into(count: int, agg: str | None) -> _Joined | _Total:
    return _Joined(count) if agg is None else _Total(agg)


def _tried(function: Callable[..., Any], columns: _Columns, agg: str | None) -> Any:
    """See that of columns from all over the same comes out, alone and together; give what does of the first one."""
    many = max(2, min(_PROBES, columns.count // _SHARE))
    at = [one * (columns.count - 1) // (many - 1) for one in range(many)]
    groups = [at[:1], at[1:]]
    calls = [(told(function), [columns.some(one)]) for one in (at, *groups)]
    found = drawn_apart(function, calls, last=True)
    (together, *apart), drawn = found or ([None], True)
    if drawn:
        raise RowsError("it draws random numbers, which would be others in parts")
    made = _put_into(many, agg)
    made.begin(apart[0], columns.some([0]))
    for start, one in zip((0, 1), apart, strict=True):
        made.put(start, one, columns.some(groups[start]))
    together = together if agg is None else getattr(together, agg)(axis=1)
    if arrangement_of(made.whole(), together, None, values=True, fixed=True) is None:
        raise RowsError(_DEPEND)
    return apart[0]


class _Joined:
    """What came out of one part after another."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._first: Any = None  # without what is in it, but of a tuple
        self._made: Any = None

    def begin(self, form: Any, of: Any) -> None:
        """Make room for all columns.

        Args:
            form: What came out of one column.
            of: This column.

        Raises:
            RowsError: It is nothing that can be put together.
        """
        numpy = sys.modules["numpy"]
        if isinstance(form, tuple):
            self._made = [_Joined(self._count) for _ in form]
            for own, one in zip(self._made, form, strict=True):
                own.begin(one, of)
        elif is_of_pandas(form):
            self._made = _Table(self._count, form) if is_table(form) else _Numbers()
        elif type(form) is numpy.ndarray and 0 < form.ndim <= 2:
            shape = (*form.shape[:-1], self._count)
            self._made = _Array(numpy.empty(shape, form.dtype, order="F" if is_table(of) else "C"))
        else:
            raise RowsError(f"it gives {type(form).__name__}, of which columns cannot be joined")
        self._first = form if isinstance(form, tuple) else form[:0]

    def put(self, start: int, part: Any, of: Any) -> None:
        """Put what came out of some columns beside what came before.

        Args:
            start: How many columns came before.
            part: What came out.
            of: These columns.

        Raises:
            RowsError: It is nothing that can be put together, or not of so many columns.
        """
        if type(part) is not type(self._first):
            raise RowsError("parts gave things of several kinds")
        if not isinstance(part, tuple):
            self._made.put(start, part, of)
            return
        for own, one in zip(self._made, part, strict=True):
            own.put(start, one, of)

    def whole(self) -> Any:
        """Give all columns, in the form of the parts."""
        if isinstance(self._made, list):
            return tuple_like(self._first, [one.whole() for one in self._made])
        return self._made.whole()


class _Total:
    """A total of each row, to which every part adds its share."""

    def __init__(self, agg: str) -> None:
        self._agg = agg
        self._made: Any = None
        self._first: Any = None

    def begin(self, _form: Any, _of: Any) -> None:
        """There is as much room as a part takes."""

    def put(self, _start: int, part: Any, of: Any) -> None:
        if getattr(part, "ndim", 0) != of.ndim or part.shape[1] != of.shape[1]:
            raise RowsError(_ELSE)
        share = getattr(part, self._agg)(axis=1)
        if self._made is None:
            self._first, self._made = share, _array(share)
            return
        if type(share) is not type(self._first) or len(share) != len(self._made) or not _is_alike(share, self._first):
            raise RowsError(_DEPEND)
        way = _TOTALS[self._agg][is_of_pandas(share)]
        self._made = getattr(sys.modules["numpy"], way)(self._made, _array(share))

    def whole(self) -> Any:
        if not is_of_pandas(self._first):
            return self._made
        return sys.modules["pandas"].Series(self._made, index=self._first.index, name=self._first.name)


def _array(share: Any) -> Any:
    return share.to_numpy() if is_of_pandas(share) else share


def _is_alike(share: Any, first: Any) -> bool:
    return not is_of_pandas(share) or share.index.identical(first.index)


class _Array:
    """Columns of an array, put right where all of them lie."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    def put(self, start: int, part: Any, of: Any) -> None:
        place = self._whole[..., start : start + of.shape[1]]
        if part.shape != place.shape or part.dtype != place.dtype:
            raise RowsError(_ELSE)
        place[...] = part

    def whole(self) -> Any:
        return self._whole


class _Numbers:
    """A number for each column."""

    def __init__(self) -> None:
        self._parts = list[Any]()

    def put(self, _start: int, part: Any, of: Any) -> None:
        if (
            not hasattr(of, "columns")
            or not part.index.identical(of.columns)
            or part.name != (self._parts or [part])[0].name
        ):
            raise RowsError(_ELSE)
        self._parts.append(part.copy())

    def whole(self) -> Any:
        return joined(self._parts)


class _Table:
    """Columns of a DataFrame, put into one block as far as they are of the first one's kind."""

    def __init__(self, count: int, form: Any) -> None:
        dtype = form.dtypes.iloc[0]
        self._count, self._index = count, form.index
        self._names = list[Any]()
        self._block: Any = None
        if isinstance(dtype, sys.modules["numpy"].dtype) and dtype.kind != "O":
            with contextlib.suppress(MemoryError):  # columns one by one still fit between what is there
                self._block = sys.modules["numpy"].empty((count, len(form)), dtype)
        self._others = dict[int, Any]()

    def put(self, start: int, part: Any, of: Any) -> None:
        if part.shape[1] != of.shape[1]:
            raise RowsError(_ELSE)
        names = part.columns
        moved = not names.equals(of.columns) and names.isin(of.columns).all()
        if moved or not part.index.identical(self._index):
            raise RowsError(_DEPEND)
        for at, dtype in enumerate(part.dtypes):
            column = part.iloc[:, at]
            if self._block is not None and dtype == self._block.dtype:
                self._block[start + at] = column.to_numpy()
            else:
                plain = getattr(column.dtype, "kind", "") == "O"  # pandas would look for texts, and dates, in it
                self._others[start + at] = column.copy() if plain else column.array.copy()
        self._names.append(part.columns)

    def whole(self) -> Any:
        pandas = sys.modules["pandas"]
        if self._others:
            columns = {at: self._others[at] if at in self._others else self._block[at] for at in range(self._count)}
            whole = pandas.DataFrame(columns, index=self._index, copy=False)
        else:
            whole = pandas.DataFrame(self._block.T, index=self._index, copy=False)
        whole.columns = self._names[0].append(self._names[1:])
        return whole
