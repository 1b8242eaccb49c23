"""Rows that a function gives for one part of a DataFrame after another, put right where all of them lie."""

from __future__ import annotations

import sys
from typing import Any

from nb_oomhelper.remedies.joined_tables import is_of_pandas

_NUMBERS = "biufcmM"  # kinds of NumPy's dtypes that take as many bytes in each row


class JoinedColumns:
    """Rows of as many as were given: numbers and times are written into their columns, which need not be put together.

    What else a column has is kept part by part, and put together one column after another.
    """

    def __init__(self, part: Any, total: int) -> None:
        """Make the columns.

        Args:
            part: The first rows: a DataFrame or a Series.
            total: How many rows there will be.
        """
        numpy = sys.modules["numpy"]
        self._first = part.iloc[:0]
        self._index = list[Any]()
        self._done = 0
        dtypes = [part.dtype] if part.ndim == 1 else list(part.dtypes)
        fixed = [isinstance(one, numpy.dtype) and one.kind in _NUMBERS for one in dtypes]
        self._block: Any = None
        self._columns: list[Any] = []
        if part.ndim == 2 and all(fixed) and len({*dtypes}) == 1:  # as pandas itself keeps them: one array for all
            self._block = numpy.empty((len(dtypes), total), dtypes[0])
        else:
            self._columns = [numpy.empty(total, one) if fit else [] for one, fit in zip(dtypes, fixed, strict=True)]

    def put(self, part: Any, count: int) -> bool:
        """Put some rows behind those that are there; whether they are such as the first.

        Args:
            part: What comes out.
            count: How many rows it came out of.
        """
        if not _is_alike(part, self._first) or len(part) != count:
            return False
        end = self._done + count
        if self._block is not None:
            self._block[:, self._done : end] = part.to_numpy().T
        for whole, one in zip(self._columns, _columns_of(part) if self._columns else (), strict=True):
            if isinstance(whole, list):
                whole.append(one.copy())
            else:
                whole[self._done : end] = one.to_numpy()
        self._index.append(part.index)
        self._done = end
        return True

    def parts(self) -> list[Any]:
        """Give the rows that are there as one part; none where there are none."""
        return [self.whole()] if self._done else []

    def whole(self) -> Any:
        """Give the rows that are there."""
        pandas, columns = sys.modules["pandas"], dict[int, Any]()
        index = self._index[0].append(self._index[1:])
        if self._block is not None:
            block = self._block[:, : self._done].T
            return pandas.DataFrame(block, index=index, columns=self._first.columns, copy=False)
        for at, one in enumerate(self._columns):
            columns[at] = pandas.concat(one).array if isinstance(one, list) else one[: self._done]
            self._columns[at] = []
        if self._first.ndim == 1:
            return pandas.Series(columns[0], index=index, name=self._first.name, copy=False)
        table = pandas.DataFrame(columns, index=index, copy=False)
        table.columns = self._first.columns
        return table


def put_columns(made: list[Any], part: Any, count: int, total: int) -> list[Any]:
    """Put what comes out of some rows behind what came before: into columns that are there, as long as it fits.

    Args:
        made: What came before.
        part: What comes out.
        count, total: Of how many rows, and how many there are in all.
    """
    if not made and is_of_pandas(part):
        made = [JoinedColumns(part, total)]
    if not made or not isinstance(made[0], JoinedColumns):
        return [*made, part]
    if made[0].put(part, count):
        return made
    return [*made[0].parts(), part]


def _columns_of(part: Any) -> list[Any]:
    return [part] if part.ndim == 1 else [part.iloc[:, at] for at in range(part.shape[1])]


def _is_alike(part: Any, first: Any) -> bool:
    if type(part) is not type(first):
        return False
    if part.ndim == 1:
        return bool(part.dtype == first.dtype and part.name == first.name)
    return bool(part.columns.identical(first.columns) and (part.dtypes == first.dtypes).all())
