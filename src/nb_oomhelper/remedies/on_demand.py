"""An array whose rows are computed when they are read: `nb_oomhelper.on_demand`."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from nb_oomhelper.errors import UsageError
from nb_oomhelper.remedies.demand_functions import called, elementwise, product
from nb_oomhelper.remedies.demand_items import changed, is_view, taken, with_diagonal
from nb_oomhelper.remedies.demand_source import Source, as_now, see_rows
from nb_oomhelper.remedies.demand_views import FIXED, IN_USE, Views
from nb_oomhelper.remedies.demanded import Demanded, WholeError, demanded
from nb_oomhelper.source.in_place import METHODS

_FEW = 8  # rows: fewer are not worth it
_SMALL = 16 << 20  # bytes: what is smaller is made as it is, and so much is tried
_CUT_OUT = frozenset({"diagonal", "diag", "real", "imag"})  # functions that give what shares memory with an array


def on_demand(function: Callable[[Any], Any], rows: int) -> Any:
    """Give an array of which each row is computed when it is read, and not kept.

    It is used like an array of NumPy's: rows, slices, arithmetic, comparisons, NumPy's functions and reductions compute
    a few rows at a time. What needs all of them at once, as `numpy.asarray`, makes the whole array. Views of it, as
    `x[0]`, cannot be written to; and while one is in use, neither can it. What the function reads must stay as it is:
    names that are bound anew do not count, and where the first row comes out as another one, reading fails.

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
    count, function = operator.index(rows), as_now(function, (list, OnDemand))
    if count < _FEW:
        return function(sys.modules["numpy"].arange(count))
    see_rows(function, count, _SMALL)
    made = demanded(Source(function).rows, count)
    return made.whole() if made.nbytes < _SMALL else OnDemand(made)


class OnDemand:
    """Rows that are computed when they are read; used like an array of NumPy's."""

    __slots__ = ("__weakref__", "_looks", "_rows", "_views")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, rows: Demanded, views: Views | None = None) -> None:
        self._rows = rows
        self._looks = views is not None  # of an array it would be a view, and is not written to
        self._views = Views() if views is None else views

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
            yield from self._views.fixed(rows.copy())

    def __repr__(self) -> str:
        return f"<{' × '.join(map(str, self.shape))} of {self.dtype}, computed when they are read>"

    def __bool__(self) -> bool:
        raise ValueError("of many numbers nobody can tell whether they are true: use x.any() or x.all()")

    def __contains__(self, item: Any) -> bool:
        return bool((self == item).any())

    def __getitem__(self, key: Any) -> Any:
        try:
            found = taken(self._rows, _plain(key))
        except WholeError:
            return _whole(self)[_all_whole(key)]
        return _shared(self, found) if is_view(key) else _given(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        _change(self, lambda: changed(self._rows, _plain(key), value))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._rows.whole().__reduce_ex__(protocol)

    def __copy__(self) -> OnDemand:
        return OnDemand(self._rows)

    def __deepcopy__(self, _memo: Any) -> OnDemand:
        return OnDemand(self._rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if copy is False:
            raise ValueError("a whole array of it is always a new one")
        whole = self._rows.whole() if copy else _whole(self)
        return whole if dtype is None or whole.dtype == dtype else whole.astype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **told: Any) -> Any:
        numpy = sys.modules["numpy"]
        if not all(_goes_together(one) or isinstance(one, numpy.ndarray) for one in inputs):
            return NotImplemented
        out = told.pop("out", None)
        plain = method == "__call__" and not told and ufunc.nout == 1 and ufunc.signature is None
        if out is not None and any(isinstance(one, OnDemand) for one in out):
            if plain and any(one is out[0] for one in inputs):
                return _in_place(ufunc, out[0], inputs)
            raise TypeError(FIXED)
        told |= {} if out is None else {"out": out}
        try:
            if ufunc.__name__ == "matmul" and method == "__call__" and not told:
                return _given(product(*map(_plain, inputs)))
            if not plain or out is not None or not all(map(_goes_together, inputs)):
                raise WholeError
            return _given(elementwise(ufunc, *map(_plain, inputs)))
        except WholeError:
            return getattr(ufunc, method)(*map(_all_whole, inputs), **_all_told(told))

    def __array_function__(self, function: Any, types: Any, given: Any, told: Any) -> Any:
        name, rows = function.__name__, next(iter(given), None)
        if name == "fill_diagonal" and rows is self and len(given) == 2 and not told:
            return _change(self, lambda: with_diagonal(self._rows, given[1]))
        try:
            found = called(name, *map(_plain, given), **{one: _plain(value) for one, value in told.items()})
        except WholeError:
            return function(*map(_all_whole, given), **_all_told(told))
        return _shared(self, found) if name in _CUT_OUT else _given(found)

    def __getattr__(self, name: str) -> Any:
        numpy = sys.modules["numpy"]
        if name.startswith("_") or name in METHODS or not hasattr(numpy.ndarray, name):
            known = hasattr(numpy.ndarray, name)
            raise AttributeError(FIXED if known else f"an array that is computed on demand has no {name!r}", name=name)
        return partial(_method, self, name) if callable(getattr(numpy.ndarray, name)) else getattr(_whole(self), name)


def _method(of: OnDemand, name: str, *given: Any, **told: Any) -> Any:
    try:
        found = called(name, *map(_plain, (of, *given)), **{one: _plain(value) for one, value in told.items()})
    except WholeError:
        return getattr(_whole(of), name)(*map(_all_whole, given), **_all_told(told))
    if name == "astype" and found is of._rows:
        return of
    return _shared(of, found) if name in _CUT_OUT else _given(found)


def _change(target: OnDemand, make: Callable[[], Demanded | None]) -> None:
    """Let the rows be computed otherwise from now on."""
    try:
        found = None if target._looks else make()
    except WholeError:
        found = None
    if found is None or target._views:
        raise TypeError(FIXED if found is None else IN_USE)
    target._rows = found


def _in_place(function: Any, target: OnDemand, inputs: tuple[Any, ...]) -> OnDemand:
    """`x *= 2`: the rows are computed like that from now on."""

    def make() -> Demanded | None:
        kind, made = target.dtype, elementwise(function, *map(_plain, inputs))
        if made.shape != target.shape or not sys.modules["numpy"].can_cast(made.dtype, kind, "same_kind"):
            return None
        return made if made.dtype == kind else made.then(lambda part: part.astype(kind))

    _change(target, make)
    return target


def _goes_together(one: Any) -> bool:
    numpy = sys.modules["numpy"]
    known = (OnDemand, numpy.generic, int, float, complex, list, tuple, str, bytes, type(None))
    return isinstance(one, known) or type(one) is numpy.ndarray


def _plain(one: Any) -> Any:
    if isinstance(one, (tuple, list)):
        return type(one)(map(_plain, one))
    return one._rows if isinstance(one, OnDemand) else one


def _given(found: Any) -> Any:
    """What is found, as it is handed out: rows that are few are computed."""
    if not isinstance(found, Demanded):
        return found
    return found.whole() if found.nbytes <= found.few else OnDemand(found)


def _shared(of: OnDemand, found: Any) -> Any:
    """What is found, where it would share memory with an array."""
    if not isinstance(found, Demanded) or found.nbytes <= found.few:
        return of._views.fixed(_given(found))
    made = OnDemand(found, of._views)
    of._views.add(made)
    return made


def _whole(one: OnDemand) -> Any:
    return one._views.fixed(one._rows.whole())


def _all_whole(one: Any) -> Any:
    """As `_whole`, of what stands in tuples and lists as well."""
    if isinstance(one, (tuple, list)):
        return type(one)(map(_all_whole, one))
    return _whole(one) if isinstance(one, OnDemand) else one


def _all_told(told: dict[str, Any]) -> dict[str, Any]:
    return {name: _all_whole(value) for name, value in told.items()}


def _operator(name: str, *, swapped: bool = False) -> Callable[..., Any]:
    function = getattr(operator, name)

    def own(self: OnDemand, *other: Any) -> Any:
        inputs = (*other, self) if swapped else (self, *other)
        try:
            if not all(map(_goes_together, other)):
                raise WholeError
            return _given((product if name == "matmul" else partial(elementwise, function))(*map(_plain, inputs)))
        except WholeError:
            return function(*map(_all_whole, inputs))

    return own


def _within(name: str) -> Callable[..., Any]:
    def own(self: OnDemand, other: Any) -> Any:
        return _in_place(getattr(operator, name), self, (self, other)) if _goes_together(other) else NotImplemented

    return own


def _no_product(_self: OnDemand, _other: Any) -> Any:
    raise TypeError(FIXED)


OnDemand.__imatmul__ = _no_product  # type: ignore[attr-defined]
_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift")
for _name in (*_BINARY, "matmul"):
    setattr(OnDemand, f"__{_name.strip('_')}__", _operator(_name))
    setattr(OnDemand, f"__r{_name.strip('_')}__", _operator(_name, swapped=True))
for _name in _BINARY:
    setattr(OnDemand, f"__i{_name.strip('_')}__", _within(_name))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert"):
    setattr(OnDemand, f"__{_name}__", _operator(_name))
