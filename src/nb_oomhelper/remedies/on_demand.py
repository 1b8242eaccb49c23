"""An array whose rows are computed when they are read: `nb_oomhelper.on_demand`."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from nb_oomhelper.errors import UsageError
from nb_oomhelper.remedies.demand_functions import called, elementwise, product
from nb_oomhelper.remedies.demand_items import changed, taken, with_cells
from nb_oomhelper.remedies.demand_source import Source, as_now, see_rows
from nb_oomhelper.remedies.demanded import Demanded, WholeError, demanded

_FEW = 8  # rows: fewer are not worth it
_SMALL = 16 << 20  # bytes: what is smaller is made as it is, and so much is tried
_FIXED = "its rows are computed when they are read, and cannot be changed: numpy.array(x) gives a whole array"
_IN_PLACE = frozenset({"sort", "partition", "fill", "put", "resize", "itemset", "setflags", "setfield", "byteswap"})


def on_demand(function: Callable[[Any], Any], rows: int) -> Any:
    """Give an array of which each row is computed when it is read, and not kept.

    It is used like an array of NumPy's: rows, slices, arithmetic, comparisons, NumPy's functions and reductions compute
    a few rows at a time. What needs all of them at once, as `numpy.asarray`, makes the whole array. Views of it, as
    `x[0]`, cannot be written to. What the function reads must stay as it is: names that are
    bound anew do not count, and where the first row comes out as another one, reading fails.

    First some rows from all over are computed, alone and together: where something else comes out, the rows depend on
    each other, and nothing more is done.

    Args:
        function: Gets an array of numbers of rows; gives these rows, as an array of NumPy's.
        rows: How many there are.

    Returns:
        What is used like an array; an array where that is small.

    Raises:
        RowsError: The rows depend on each other, or on random numbers; or it gives no rows of an array. While it is
            read: what the function reads has changed.
        UsageError: It is no number of rows.
    """
    if isinstance(rows, bool) or not hasattr(rows, "__index__") or operator.index(rows) < 0:
        raise UsageError("on_demand needs the number of rows")
    count, function = operator.index(rows), as_now(function)
    if count < _FEW:
        return function(sys.modules["numpy"].arange(count))
    see_rows(function, count, _SMALL)
    made = demanded(Source(function).rows, count)
    return made.whole() if made.nbytes < _SMALL else OnDemand(made)


class OnDemand:
    """Rows that are computed when they are read; used like an array of NumPy's."""

    __slots__ = ("_looks", "_rows")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, rows: Demanded, *, looks: bool = False) -> None:
        self._rows, self._looks = rows, looks  # looks: of an array it would be a view, which cannot be written to

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return self._rows.shape

    @property
    def dtype(self) -> Any:
        """As of an array."""
        return self._rows.dtype

    @property
    def ndim(self) -> int:
        """As of an array."""
        return len(self._rows.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the whole array would take."""
        return self._rows.nbytes

    @property
    def size(self) -> int:
        """As of an array."""
        return self._rows.nbytes // int(self._rows.dtype.itemsize)

    def __len__(self) -> int:
        return self._rows.count

    def __iter__(self) -> Iterator[Any]:
        for _, rows in self._rows.blocks():
            yield from _fixed(rows)

    def __repr__(self) -> str:
        return f"<{' × '.join(map(str, self.shape))} of {self.dtype}, computed when they are read>"

    def __bool__(self) -> bool:
        raise ValueError("of many numbers nobody can tell whether they are true: use x.any() or x.all()")

    def __contains__(self, item: Any) -> bool:
        return bool((self == item).any())

    def __getitem__(self, key: Any) -> Any:
        try:
            first = key[0] if isinstance(key, tuple) and key else key
            return _fixed(_given(taken(self._rows, _plain(key)), looks=first is Ellipsis or isinstance(first, slice)))
        except WholeError:
            return _whole(self)[_all_whole(key)]

    def __setitem__(self, key: Any, value: Any) -> None:
        found = None if self._looks else changed(self._rows, _plain(key), value)
        if found is None:
            raise TypeError(_FIXED)
        self._rows = found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if copy is False:
            raise ValueError("a whole array of it is always a new one")
        whole = self._rows.whole() if copy else _whole(self)
        return whole if dtype is None or whole.dtype == dtype else whole.astype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **told: Any) -> Any:
        if not all(map(_goes_together, inputs)):
            return NotImplemented
        out = told.pop("out", None)
        plain = method == "__call__" and not told and ufunc.nout == 1 and ufunc.signature is None
        if out is not None and any(isinstance(one, OnDemand) for one in out):
            if plain and any(one is out[0] for one in inputs):
                return _in_place(ufunc, out[0], inputs)
            raise TypeError(_FIXED)
        told |= {} if out is None else {"out": out}
        try:
            if ufunc.__name__ == "matmul" and method == "__call__" and not told:
                return _given(product(*map(_plain, inputs)))
            if not plain or out is not None:
                raise WholeError
            return _given(elementwise(ufunc, *map(_plain, inputs)))
        except WholeError:
            return getattr(ufunc, method)(*map(_all_whole, inputs), **told)

    def __array_function__(self, function: Any, types: Any, given: Any, told: Any) -> Any:
        name, rows = function.__name__, next(iter(given), None)
        if name == "fill_diagonal" and rows is self and not self._looks and (len(given), self.ndim, told) == (2, 2, {}):
            at = sys.modules["numpy"].arange(min(self.shape))
            self._rows = with_cells(self._rows, at, at, given[1])
            return None
        try:
            return _given(called(name, *map(_plain, given), **{one: _plain(value) for one, value in told.items()}))
        except WholeError:
            return function(*map(_all_whole, given), **{one: _all_whole(value) for one, value in told.items()})

    def __getattr__(self, name: str) -> Any:
        numpy = sys.modules["numpy"]
        if name.startswith("_") or name in _IN_PLACE or not hasattr(numpy.ndarray, name):
            known = hasattr(numpy.ndarray, name)
            raise AttributeError(_FIXED if known else f"an array that is computed on demand has no {name!r}", name=name)
        return partial(_method, self, name) if callable(getattr(numpy.ndarray, name)) else getattr(_whole(self), name)


def _method(of: OnDemand, name: str, *given: Any, **told: Any) -> Any:
    try:
        return _given(called(name, *map(_plain, (of, *given)), **told))
    except WholeError:
        return getattr(_whole(of), name)(*map(_all_whole, given), **told)


def _in_place(function: Any, target: OnDemand, inputs: tuple[Any, ...]) -> OnDemand:
    """`x *= 2`: the rows are computed like that from now on."""
    kind = target.dtype
    if target._looks:
        raise TypeError(_FIXED)
    try:
        made = elementwise(function, *map(_plain, inputs))
    except WholeError:
        raise TypeError(_FIXED) from None
    if made.shape != target.shape or not sys.modules["numpy"].can_cast(made.dtype, kind, "same_kind"):
        raise TypeError(_FIXED)
    target._rows = made if made.dtype == kind else made.then(lambda part: part.astype(kind))
    return target


def _goes_together(one: Any) -> bool:
    numpy = sys.modules["numpy"]
    return isinstance(one, (OnDemand, numpy.generic, int, float, complex, list)) or type(one) is numpy.ndarray


def _plain(one: Any) -> Any:
    if isinstance(one, (tuple, list)):
        return type(one)(map(_plain, one))
    return one._rows if isinstance(one, OnDemand) else one


def _given(found: Any, *, looks: bool = False) -> Any:
    """What is found, as it is handed out: rows that are few are computed."""
    if not isinstance(found, Demanded):
        return found
    return found.whole() if found.nbytes <= found.few else OnDemand(found, looks=looks)


def _fixed(found: Any) -> Any:
    """Rows that nobody can write to: it would change nothing of what is read later."""
    if isinstance(found, sys.modules["numpy"].ndarray):
        found = found.view()
        found.flags.writeable = False
    return found


def _whole(one: OnDemand) -> Any:
    return _fixed(one._rows.whole())


def _all_whole(one: Any) -> Any:
    """As `_whole`, of what stands in tuples and lists as well."""
    if isinstance(one, (tuple, list)):
        return type(one)(map(_all_whole, one))
    return _whole(one) if isinstance(one, OnDemand) else one


def _operator(name: str, *, swapped: bool = False) -> Callable[..., Any]:
    function = getattr(operator, name)

    def own(self: OnDemand, *other: Any) -> Any:
        inputs = (*other, self) if swapped else (self, *other)
        if not all(map(_goes_together, other)):
            return NotImplemented
        try:
            return _given((product if name == "matmul" else partial(elementwise, function))(*map(_plain, inputs)))
        except WholeError:
            return function(*map(_all_whole, inputs))

    return own


def _within(name: str) -> Callable[..., Any]:
    def own(self: OnDemand, other: Any) -> Any:
        return _in_place(getattr(operator, name), self, (self, other)) if _goes_together(other) else NotImplemented

    return own


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor")
for _name in (*_BINARY, "matmul"):
    setattr(OnDemand, f"__{_name.strip('_')}__", _operator(_name))
    setattr(OnDemand, f"__r{_name.strip('_')}__", _operator(_name, swapped=True))
for _name in _BINARY:
    setattr(OnDemand, f"__i{_name.strip('_')}__", _within(_name))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert"):
    setattr(OnDemand, f"__{_name}__", _operator(_name))
