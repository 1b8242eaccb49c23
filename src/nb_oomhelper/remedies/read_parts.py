"""A function called with one part of a table after another, as they are read: `pd.read_csv(…, chunksize=…)`."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.joined_rows import tuple_like
from nb_oomhelper.remedies.joined_tables import arranged, is_of_pandas, is_same_but_for_kinds
from nb_oomhelper.remedies.table_parts import FEW, Rows, Rowwise, Totaled, check_seen, in_pieces, is_table, told, tried
from nb_oomhelper.remedies.totals import Agg, Totals

_FEWER = 16  # of so many rows one is tried, where totals are wanted
_SAMPLE = 1000  # rows that are computed once more where a column turns out to be of another kind
_TEXTS = frozenset({"string", "empty"})
_KINDS = "parts of the file have values of several kinds in {name!r}: read whole, they would be others"


def is_reader(thing: Any) -> bool:
    """Tell whether something gives one part after another, as pandas' readers of files do."""
    return hasattr(thing, "__next__") and hasattr(thing, "__iter__")


def reader_in_parts(function: Callable[..., Any], reader: Iterator[Any], agg: Agg | None) -> Any:
    """As `nb_oomhelper.in_parts`, of the parts of a table that a reader gives, in their order.

    Args:
        function: Gets a part of the rows; gives a DataFrame, a Series or an array, with `agg` groups; or a tuple.
        reader: Gives the parts, each a DataFrame; it is used up then.
        agg: What is wanted of what comes out: as `.agg()` is given it. Not given: all of it, one part behind the other.

    Raises:
        RowsError: The rows depend on each other, or the file's parts have values of several kinds.
        UsageError: It gives something else, or nothing; or `agg` is nothing that can be had from parts.
    """
    work = Rowwise(function, in_order=False) if agg is None else Totaled(function, Totals(agg))
    with contextlib.closing(reader) if hasattr(reader, "close") else contextlib.nullcontext():  # type: ignore[type-var]
        return _computed(work, reader)


def _computed(work: Rowwise | Totaled, reader: Iterator[Any]) -> Any:
    first, second = _next(reader), _next(reader)
    if first is None:
        raise UsageError("in_parts got a reader that gives nothing")
    if second is None:
        return work.whole(first)
    if len(first) < FEW:
        raise UsageError(f"in_parts needs parts of {FEW} rows or more")
    kinds, ways, seen = _Kinds(work, first), None, False
    made, index = list[Any](), list[Any]()
    part: Any = first
    first = None
    while part is not None:
        index.append(part.index)
        part = kinds.seen_to(part)
        if not seen and len(part) >= FEW:  # until it is seen how what comes out lies
            many = len(part) // _FEWER if isinstance(work, Totaled) else len(part)
            ways, seen = tried(work, Rows(part, []), [], few=FEW, many=many)
        for one, _, _ in in_pieces(work, _copied(part), len(part), len(part)):
            made = work.put(made, one)
            del one
        part, second = second, None
        second = None if part is None else _next(reader)
    check_seen(made, seen=seen)
    if isinstance(work, Rowwise):
        made[:] = [kinds.as_read_whole(one) for one in made]
    whole = kinds.as_read_whole(work.end(made))
    del made
    return arranged(whole, sys.modules["pandas"].DataFrame(index=index[0].append(index[1:])), ways)


def _next(reader: Iterator[Any]) -> Any:
    part = next(reader, None)
    if part is not None and not is_table(part):
        raise UsageError("in_parts takes a reader that gives DataFrames of pandas")
    return part


def _copied(table: Any) -> Callable[[int, int], Any]:
    """Gives rows that a function may change, and then get once more."""
    return lambda start, end: table.iloc[start:end].copy()


class _Kinds:
    """What kinds of values the columns have: those of each part must be those of the whole file, read at once."""

    def __init__(self, work: Rowwise | Totaled, first: Any) -> None:
        self._work = work
        self._sample = first.iloc[:_SAMPLE].copy()
        self._dtypes = first.dtypes.to_dict()
        self._empty = {name for name, dtype in self._dtypes.items() if dtype.kind == "f"}  # as far as was seen
        self._names = list(first.columns)
        self._widened = dict[Any, Any]()

    def seen_to(self, part: Any) -> Any:
        """Give a part with the kinds of values that the whole file has, as far as it was read.

        Raises:
            RowsError: These cannot be told from parts.
        """
        if list(part.columns) != self._names:
            raise RowsError("the file's parts have other columns")
        wanted = {}
        for name, dtype in part.dtypes.items():
            self._check_texts(part[name])
            before, empty = self._dtypes[name], name in self._empty
            if empty and part[name].notna().any():
                self._empty.discard(name)
            if dtype == before:
                continue
            nothing = dtype.kind == "f" and before.kind == "O" and part[name].isna().all()
            if nothing or (before.kind == "f" and dtype.kind == "i"):
                wanted[name] = before
            elif (before.kind == "i" and dtype.kind == "f") or (empty and dtype.kind == "O"):
                self._widen(name, dtype)
            else:
                raise RowsError(_KINDS.format(name=name))
        return part.astype(wanted) if wanted else part

    def _check_texts(self, column: Any) -> None:
        """See that a column of objects has texts alone: of others, which are which goes by how it is read."""
        kind = sys.modules["pandas"].api.types.infer_dtype
        if getattr(column.dtype, "char", "") == "O" and kind(column, skipna=True) not in _TEXTS:
            raise RowsError(_KINDS.format(name=column.name))

    def _widen(self, name: Any, dtype: Any) -> None:
        """What was whole numbers, or nothing, has turned out to be other: what was computed must come to the same."""
        work, sample = self._work, self._sample
        if not is_same_but_for_kinds(work.whole(sample.copy()), work.whole(sample.astype({name: dtype}).copy())):
            raise RowsError(_KINDS.format(name=name))
        self._dtypes[name] = self._widened[name] = dtype

    def as_read_whole(self, made: Any) -> Any:
        """Give what came out with the kinds of values that it has where the file is read whole.

        Args:
            made: What came out of some parts, or of all: a part that was read before may have had other kinds.
        """
        if not self._widened:
            return made
        return _as_in(made, self._of_sample)

    @functools.cached_property
    def _of_sample(self) -> Any:
        """What comes out of some rows with the kinds of values that the whole file has; for when it has been read."""
        return told(self._work.whole)(self._sample.astype(self._widened))


def _as_in(made: Any, other: Any) -> Any:
    """What came out, with another's kinds of values, where these say as much of it: 1.0 of 1, a missing text of NaN."""
    numpy = sys.modules["numpy"]
    if isinstance(made, tuple) and isinstance(other, tuple) and len(made) == len(other):
        return tuple_like(made, map(_as_in, made, other))
    if isinstance(made, numpy.number) and isinstance(other, numpy.floating):
        return other.dtype.type(made)
    if type(made) is not type(other) or not is_of_pandas(made):
        return made
    if made.ndim == 1:
        made = made.astype(other.dtype) if _says_as_much(made, other.dtype) else made
    elif made.columns.is_unique and made.columns.equals(other.columns):
        made = made.astype({name: one for name, one in other.dtypes.items() if _says_as_much(made[name], one)})
    if made.index.nlevels == other.index.nlevels == 1 and _says_as_much(made.index, other.index.dtype):
        made.index = made.index.astype(other.index.dtype)
    return made


def _says_as_much(values: Any, dtype: Any) -> bool:
    """Whether values stay what they are in another dtype: whole numbers as others, texts and nothing as texts."""
    if values.dtype == dtype or isinstance(dtype, sys.modules["pandas"].CategoricalDtype):
        return False
    own = values.dtype.kind
    if dtype.kind == "f":
        return own in "iu"
    texts = own == "O" and not isinstance(values.dtype, sys.modules["pandas"].CategoricalDtype)
    return dtype.kind == "O" and (texts or (own == "f" and bool(values.isna().all())))
