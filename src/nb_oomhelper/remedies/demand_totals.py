"""Sums, means, extremes and the like of rows that are computed on demand."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from nb_oomhelper.remedies.demanded import Demanded, WholeError

# How those of parts become that of all; and functions that need each row whole, or all of a column.
_JOINED = {
    "sum": "add",
    "nansum": "add",
    "count_nonzero": "add",
    "prod": "multiply",
    "max": "maximum",
    "amax": "maximum",
    "min": "minimum",
    "amin": "minimum",
    "nanmax": "fmax",
    "nanmin": "fmin",
    "any": "logical_or",
    "all": "logical_and",
}
_SPREAD = frozenset({"std", "var"})
_PLACES = {"argmax": "max", "argmin": "min"}
_OF_COLUMNS = {"median": 1, "nanmedian": 1, "percentile": 2, "quantile": 2, "nanpercentile": 2, "nanquantile": 2}
_OTHERS = frozenset({"ptp", "norm", "nanmean", "nanstd", "nanvar"})
REDUCTIONS = frozenset({*_JOINED, *_SPREAD, *_PLACES, *_OF_COLUMNS, *_OTHERS, "mean"})
"""Names of the functions."""
_BLOCKS = 8  # in which columns are taken: for each of them all rows are computed


def reduced(name: str, rows: Demanded, *given: Any, **told: Any) -> Any:
    """Give what a function makes of rows along an axis, or of all of them.

    Args:
        name: The function's.
        rows: The rows.
        given, told: What it is given beside them.

    Raises:
        WholeError: It needs all of them at once.
    """
    place = 1 if name == "norm" or _OF_COLUMNS.get(name) == 2 else 0
    axis = given[place] if len(given) > place else told.get("axis")
    ndim = len(rows.shape)
    axes = None if axis is None else axes_of(axis, ndim)
    function = _function(name)
    if axes is not None and 0 not in axes:
        return _of_each(function, rows, place, given, told)
    if len(given) > place + 1 or told.keys() - {"axis", "keepdims", "ddof"} or not rows.count:
        raise WholeError
    keep = bool(told.get("keepdims", False))
    if name in _JOINED:
        return _joined(name, rows, axes, keep=keep)
    if name == "mean" and "ddof" not in told:
        return _mean(rows, axes, keep=keep)
    if name in _SPREAD:
        return _spread(name, rows, axes, told.get("ddof", 0), keep=keep)
    if name in _PLACES and not keep and axes in (None, (0,)):
        return _place(name, rows, axes)
    if name in _OF_COLUMNS and axes == (0,) and not keep and ndim > 1:
        return _of_columns(lambda part: function(part, *given, **told), rows)
    raise WholeError


def _of_each(
    function: Callable[..., Any], rows: Demanded, place: int, given: tuple[Any, ...], told: dict[str, Any]
) -> Any:
    """What is had of each row by itself; several numbers of each lie along the first axis, and are few."""
    move, first = sys.modules["numpy"].moveaxis, given[0] if place and given else told.get("q")
    several = function.__name__ != "norm" and bool(sys.modules["numpy"].ndim(first))
    if not all(map(is_plain, given[several:])):
        raise WholeError
    if not several:
        return rows.then(lambda part: function(part, *given, **told))
    found = rows.then(lambda part: move(function(part, *given, **told), 0, -1))
    if found.nbytes > rows.few:
        raise WholeError
    return move(found.whole(), -1, 0)


def is_plain(given: Any) -> bool:
    """Tell whether something says the same for some rows as for all of them, and stays as it is.

    Args:
        given: What a function is given beside rows.
    """
    numpy = sys.modules["numpy"]
    kinds = (type(None), bool, int, float, complex, str, type, numpy.dtype, numpy.generic)
    return isinstance(given, kinds) or (isinstance(given, tuple) and all(isinstance(one, int) for one in given))


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """Give axes counted from the first.

    Args:
        axis: One, or several.
        ndim: How many there are.

    Raises:
        WholeError: There is no such.
    """
    axes = axis if isinstance(axis, tuple) else (axis,)
    if not all(isinstance(one, int) and -ndim <= one < ndim for one in axes):
        raise WholeError
    return tuple(one % ndim for one in axes)


def _function(name: str) -> Callable[..., Any]:
    numpy = sys.modules["numpy"]
    return getattr(numpy.linalg if name == "norm" else numpy, name)  # type: ignore[no-any-return]


def _joined(name: str, rows: Demanded, axes: tuple[int, ...] | None, *, keep: bool, dtype: Any = None) -> Any:
    """What that of the parts is together."""
    function = _function(name)
    whole: Any = None
    told = {} if dtype is None else {"dtype": dtype}
    for _, part in rows.blocks():
        one = function(part, axis=axes, keepdims=True, **told)
        whole = one if whole is None else getattr(sys.modules["numpy"], _JOINED[name])(whole, one)
    return whole if keep else whole.squeeze(axes)[()]


def _mean(rows: Demanded, axes: tuple[int, ...] | None, *, keep: bool) -> Any:
    numpy = sys.modules["numpy"]
    if rows.dtype.kind not in "biufc":
        raise WholeError
    kind = rows.dtype if rows.dtype.kind in "fc" else numpy.dtype(float)
    wide = numpy.promote_types(kind, numpy.float64) if rows.dtype.itemsize < 8 else kind  # as in one go, and closer
    total = _joined("sum", rows, axes, keep=keep, dtype=wide)
    return (total / _many(rows, axes)).astype(kind)


def _many(rows: Demanded, axes: tuple[int, ...] | None) -> int:
    return math.prod(rows.shape if axes is None else (rows.shape[one] for one in axes))


def _spread(name: str, rows: Demanded, axes: tuple[int, ...] | None, ddof: float, *, keep: bool) -> Any:
    numpy = sys.modules["numpy"]
    kind = rows.dtype if rows.dtype.kind == "f" else numpy.dtype(float)
    if rows.dtype.kind == "c":
        raise WholeError
    middle = _mean(rows.then(lambda part: part.astype(float)), axes, keep=True)
    total = _joined("sum", rows.then(lambda part: (part - middle) ** 2), axes, keep=keep)
    found = total / (_many(rows, axes) - ddof)
    return (numpy.sqrt(found) if name == "std" else found).astype(kind)


def _place(name: str, rows: Demanded, axes: tuple[int, ...] | None) -> Any:
    """Where the largest number lies: the first of those that are alike, or of those that are none."""
    numpy = sys.modules["numpy"]
    function, extreme = _function(name), _function(_PLACES[name])
    found: tuple[Any, Any] | None = None
    width = math.prod(rows.shape[1:])
    for start, part in rows.blocks():
        at = function(part, axis=axes and 0) + (start if axes else start * width)
        new = extreme(part, axis=axes and 0), at
        if found is not None:
            later = function(numpy.stack([found[0], new[0]]), axis=0)
            new = extreme(numpy.stack([found[0], new[0]]), axis=0), numpy.where(later, new[1], found[1])
        found = new
    return None if found is None else found[1][()]


def _of_columns(function: Callable[[Any], Any], rows: Demanded) -> Any:
    """What needs all numbers of a column: some columns at a time, and for each the rows once more."""
    numpy = sys.modules["numpy"]
    step = max(1, -(-rows.shape[1] // _BLOCKS))
    found = []
    for start in range(0, rows.shape[1], step):
        some = rows.then(lambda part, start=start: part[:, start : start + step])  # type: ignore[misc]
        found.append(function(some.whole()))
    return numpy.concatenate(found, axis=1 - len(rows.shape))
