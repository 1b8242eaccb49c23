"""NumPy's functions of rows that are computed on demand."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import sys
from collections.abc import Callable
from typing import Any

from nb_oomhelper.remedies.demand_totals import REDUCTIONS, axes_of, is_plain, reduced
from nb_oomhelper.remedies.demanded import Demanded, WholeError, demanded

_ELEMENTWISE = frozenset({"round", "around", "nan_to_num", "real", "imag", "angle", "where", "isclose"})
_ALONG = {
    **dict.fromkeys(("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"), 2),
    "fftshift": 1,
    "ifftshift": 1,
    "sort": 1,
    "argsort": 1,
    "cumsum": 1,
    "cumprod": 1,
    "partition": 2,
    "argpartition": 2,
}  # arguments before axis


def called(name: str, *given: Any, **told: Any) -> Any:
    """Give what a function of NumPy's gives, as an array or as rows that are computed on demand.

    Args:
        name: The function's.
        given, told: What it is given; rows that are computed on demand are among it.

    Raises:
        WholeError: It needs all rows at once.
    """
    numpy = sys.modules["numpy"]
    if not given or told.keys() & {"out", "order"} or not all(map(is_plain, told.values())):
        raise WholeError
    told.pop("overwrite_input", None)
    of, *given = given  # type: ignore[assignment]
    if name in _OF_SEVERAL:
        return _fitting(_OF_SEVERAL[name])(of, *given, **told)
    if name == "nan_to_num" and (given or not told.get("copy", True)):
        raise WholeError
    if name in _ELEMENTWISE and (name != "where" or given):
        return elementwise(lambda *parts: getattr(numpy, name)(*parts, **told), of, *given)
    if not isinstance(of, Demanded) or any(isinstance(one, Demanded) for one in (*given, *told.values())):
        raise WholeError
    if name in REDUCTIONS:
        return reduced(name, of, *given, **told)
    if name in _ALONG:
        return _along(name, of, *given, **told)
    own = _OWN.get(name)
    if own is None:
        raise WholeError
    return _fitting(own)(of, *given, **told)


def _fitting(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function, where it knows all that it is given."""

    def fit(*given: Any, **told: Any) -> Any:
        try:
            inspect.signature(function).bind(*given, **told)
        except TypeError:
            raise WholeError from None
        return function(*given, **told)

    return fit


def _clipped(of: Any, *given: Any, **told: Any) -> Demanded:
    bounds = dict(zip(("min", "max"), given, strict=False)) | {one.removeprefix("a_"): told[one] for one in told}
    if len(bounds) != len(given) + len(told) or bounds.keys() - {"min", "max"}:
        raise WholeError
    return elementwise(sys.modules["numpy"].clip, of, bounds.get("min"), bounds.get("max"))


def elementwise(function: Callable[..., Any], *inputs: Any) -> Demanded:
    """Give what a function makes of numbers that lie at the same place.

    Args:
        function: Gets a part of each of its inputs.
        inputs: Rows that are computed on demand, with arrays and numbers that go together with them.

    Raises:
        WholeError: Not all of them have these rows.
    """
    numpy = sys.modules["numpy"]
    shapes = [one.shape if isinstance(one, Demanded) else numpy.shape(one) for one in inputs]
    shape = numpy.broadcast_shapes(*shapes)
    lazy = [one for one in inputs if isinstance(one, Demanded)]
    if any(len(one.shape) != len(shape) or one.count != shape[0] for one in lazy):
        raise WholeError
    few = max(one.few for one in lazy)
    parts = [_part_of(one, shape, few) for one in inputs]
    return demanded(lambda which: function(*(part(which) for part in parts)), shape[0], *lazy)


def _part_of(one: Any, shape: tuple[int, ...], few: int) -> Callable[[Any], Any]:
    """How a part of an input is had, as the input is now: of what is the same for all rows all of it."""
    if isinstance(one, Demanded):
        return one.make
    numpy = sys.modules["numpy"]
    if isinstance(one, (list, tuple, numpy.ndarray)):
        if numpy.size(one) * numpy.asarray(one).itemsize > few:
            raise WholeError
        one = numpy.array(one)  # it may be changed before it is read
    if isinstance(one, numpy.ndarray) and one.ndim == len(shape) and one.shape[0] == shape[0]:
        return lambda which: one[which]
    return lambda _: one


def product(one: Any, other: Any) -> Any:
    """Give `one @ other`.

    Args:
        one, other: Matrices, or vectors; one of them of rows that are computed on demand.

    Raises:
        WholeError: Both are, or it is no product of these.
    """
    numpy = sys.modules["numpy"]
    if isinstance(one, Demanded) and not isinstance(other, Demanded):
        other = numpy.array(other)
        if other.nbytes > one.few or len(one.shape) != 2 or other.ndim not in (1, 2) or other.shape[0] != one.shape[1]:
            raise WholeError
        return one.then(lambda part: part @ other)
    if isinstance(other, Demanded) and not isinstance(one, Demanded):
        one = numpy.asarray(one)
        if len(other.shape) != 2 or one.ndim not in (1, 2) or one.shape[-1] != other.count:
            raise WholeError
        return functools.reduce(
            operator.add, (one[..., start : start + len(part)] @ part for start, part in other.blocks())
        )
    raise WholeError


def _joined(name: str, parts: Any, axis: int) -> Demanded:
    """What is put together along another axis than that of the rows."""
    if not isinstance(parts, (list, tuple)) or not all(hasattr(one, "shape") for one in parts):
        raise WholeError
    ndims = {len(one.shape) if isinstance(one, Demanded) else sys.modules["numpy"].ndim(one) for one in parts}
    if len(ndims) != 1 or 0 in axes_of(axis, ndims.pop() + (name == "stack")):
        raise WholeError
    lazy = [one for one in parts if isinstance(one, Demanded)]
    count, few = lazy[0].count, max(one.few for one in lazy)
    if {len(one) if not isinstance(one, Demanded) else one.count for one in parts} != {count}:
        raise WholeError
    makers = [_part_of(one, (count, *one.shape[1:]), few) for one in parts]
    function = getattr(sys.modules["numpy"], name)
    return demanded(lambda which: function([make(which) for make in makers], axis=axis), count, *lazy)


def _along(name: str, rows: Demanded, *given: Any, **told: Any) -> Demanded:
    """What goes along one axis, which is not that of the rows."""
    numpy, shifts = sys.modules["numpy"], name.endswith("shift")
    usual = None if name.startswith("cum") or shifts else -1
    if not all(map(is_plain, given)):
        raise WholeError
    axis = given[_ALONG[name] - 1] if len(given) >= _ALONG[name] else told.get("axes" if shifts else "axis", usual)
    if axis is None or 0 in axes_of(axis, len(rows.shape)):
        raise WholeError
    function = getattr(numpy.fft if shifts or "fft" in name else numpy, name)
    return rows.then(lambda part: function(part, *given, **told))


def _nonzero(rows: Demanded) -> tuple[Any, ...]:
    numpy = sys.modules["numpy"]
    found = [numpy.empty((0, len(rows.shape)), int)]
    for start, part in rows.blocks():
        places = numpy.argwhere(part)
        places[:, 0] += start
        found.append(places)
    return tuple(numpy.concatenate(found).T.copy())


def _argwhere(rows: Demanded) -> Any:
    return sys.modules["numpy"].stack(_nonzero(rows), axis=1)


def _diagonal(rows: Demanded) -> Any:
    numpy = sys.modules["numpy"]
    if len(rows.shape) != 2:
        raise WholeError
    many = min(rows.shape)
    found = numpy.empty(many, rows.dtype)
    for start, part in rows.at(range(many)).blocks():
        places = numpy.arange(start, start + len(part))
        found[places] = part[places - start, places]
    return found


def _trace(rows: Demanded) -> Any:
    return _diagonal(rows).sum()


def _triangle(keep: Callable[[Any, Any], Any]) -> Callable[..., Demanded]:
    def of(rows: Demanded, k: int = 0) -> Demanded:
        numpy = sys.modules["numpy"]
        if len(rows.shape) != 2:
            raise WholeError
        across = numpy.arange(rows.shape[1])
        zero = numpy.zeros(1, rows.dtype)[0]
        return rows.with_numbers(lambda part, at: numpy.where(keep(across - at[:, None], k), part, zero))

    return of


def _astype(rows: Demanded, dtype: Any, *, copy: bool = True) -> Demanded:
    if not copy and sys.modules["numpy"].dtype(dtype) == rows.dtype:
        return rows
    return rows.then(lambda part: part.astype(dtype))


_OF_SEVERAL: dict[str, Callable[..., Any]] = {
    "stack": lambda parts, axis=0: _joined("stack", parts, axis),
    "concatenate": lambda parts, axis=0: _joined("concatenate", parts, axis),
    "dot": product,
    "matmul": product,
    "clip": _clipped,
}
_OWN: dict[str, Callable[..., Any]] = {
    "nonzero": _nonzero,
    "where": _nonzero,
    "argwhere": _argwhere,
    "diagonal": _diagonal,
    "diag": _diagonal,
    "trace": _trace,
    "triu": _triangle(lambda offset, k: offset >= k),
    "tril": _triangle(lambda offset, k: offset <= k),
    "astype": _astype,
    "copy": lambda rows: rows,
    "conj": lambda rows: rows.then(lambda part: part.conj()),
    "shape": lambda rows: rows.shape,
    "ndim": lambda rows: len(rows.shape),
    "size": lambda rows: math.prod(rows.shape),
}
