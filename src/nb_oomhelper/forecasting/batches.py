"""How many rows a call works on at once, where its arguments show that, and how many of them would fit."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nb_oomhelper.records.forecast import Forecast

_TRIES = 3


class Batch:
    """Calls a function with the first rows of the batch that is among its arguments.

    Attributes:
        rows: How many; None for all of them.
        found: How many there were, once it was called; None where the arguments do not show one batch.
    """

    def __init__(self) -> None:
        self.rows: int | None = None
        self.found: int | None = None

    def __call__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call it; what it is given stays as it is."""
        first = {one.shape[0] for one in _tensors((args, kwargs)) if one.dim()}
        self.found = first.pop() if len(first) == 1 else None
        if self.rows is not None and self.found is not None:
            args, kwargs = _cut(args, self.rows), _cut(kwargs, self.rows)
        return function(*args, **kwargs)


def largest_batch(first: Forecast, forecast: Callable[[int], Forecast]) -> int | None:
    """Find how many rows would fit in place of more: by the line through two forecasts, and a third to prove it.

    Args:
        first: Of all rows, which are too many or may be.
        forecast: Gives the same for fewer.

    Returns:
        0 where not even one would fit; None where that cannot be told.
    """
    if first.batch is None or first.batch < 2 or first.room is None or first.ended != "returned":
        return None
    half = first.batch // 2
    known = {half: forecast(half)}
    rows = _on_the_line(first, known[half])
    for _ in range(_TRIES):
        if rows is None:
            return None
        tried = known[rows] = known.get(rows) or forecast(rows)
        if tried.ended != "returned":
            return None
        if tried.verdict == "fits":
            return rows
        if rows == 1:
            return 0 if tried.verdict == "does_not" else None
        rows -= max(1, rows // 16)
    return half if known[half].verdict == "fits" else None


def fitting_part(one: tuple[float, Forecast], other: tuple[float, Forecast]) -> float | None:
    """Find the part of a size that fits, by the line through two; None where nothing grows with the size.

    Args:
        one, other: A part of the size, and what is expected then.
    """
    (more, upper), (less, lower) = sorted((one, other), key=lambda pair: -pair[0])
    if upper.room is None or more <= less or any(found.ended != "returned" for found in (upper, lower)):
        return None
    each = (_most(upper) - _most(lower)) / (more - less)
    return None if each <= 0 else max(0.0, more - (_most(upper) - upper.room) / each)


def _on_the_line(first: Forecast, half: Forecast) -> int | None:
    """The rows at which the most that is expected is what there is room for."""
    if half.ended != "returned" or first.batch is None or first.room is None:
        return None
    more, less = (_most(one) for one in (first, half))
    each = (more - less) / (first.batch - first.batch // 2)
    if each <= 0:  # nothing grows with the batch
        return None
    return min(first.batch - 1, max(1, first.batch - math.ceil((more - first.room) / each)))


def _most(one: Forecast) -> int:
    return (one.reserved or one.allocated).high


def _tensors(found: Any) -> Iterator[Any]:
    if isinstance(found, sys.modules["torch"].Tensor):
        yield found
    elif isinstance(found, list | tuple):
        for one in found:
            yield from _tensors(one)
    elif isinstance(found, Mapping):
        yield from _tensors(list(found.values()))


def _cut(found: Any, rows: int) -> Any:
    """The same with the first rows of each tensor."""
    if isinstance(found, sys.modules["torch"].Tensor):
        return found[:rows] if found.dim() else found
    if type(found) in (list, tuple):
        return type(found)(_cut(one, rows) for one in found)
    if isinstance(found, Mapping):
        make: Any = type(found)
        return make({name: _cut(one, rows) for name, one in found.items()})
    return found
