"""What is read in square brackets of rows that are computed on demand, and the little that may be written there."""

from __future__ import annotations

import copy
import operator
import sys
from typing import Any

from nb_oomhelper.remedies.demand_functions import elementwise
from nb_oomhelper.remedies.demanded import Demanded, WholeError


def taken(rows: Demanded, key: Any) -> Any:
    """Give `rows[key]`: an array, or rows that are computed on demand.

    Args:
        rows: The rows.
        key: What stands in the brackets; rows that are computed on demand may be among it.

    Raises:
        WholeError: It needs all of them.
        IndexError: As of an array.
    """
    numpy = sys.modules["numpy"]
    if _is_mask(key, rows):
        return _masked(rows, key)
    first, rest = _split(key, len(rows.shape))
    if isinstance(first, slice):
        return _within(rows.at(range(rows.count)[first]), rest)
    if _is_place(first):
        at = range(rows.count)[operator.index(first)]
        return rows.make(slice(at, at + 1))[(0, *rest)]
    if isinstance(first, (list, numpy.ndarray)) and numpy.ndim(first) == 1:
        numbers = numpy.arange(rows.count)[first]
        others = [one for one in rest if one is not None and one is not Ellipsis and not isinstance(one, slice)]
        if not others:
            spans = _is_span(numbers)
            return _within(rows.at(range(int(numbers[0]), int(numbers[-1]) + 1) if spans else numbers), rest)
        if len(rest) == 1 and len(rows.shape) == 2:
            return _cells(rows, numbers, rest[0])
    raise WholeError


def changed(rows: Demanded, key: Any, value: Any) -> Demanded | None:
    """Give the rows after `rows[key] = value`, where that can be told of each: a mask, or single cells.

    Args:
        rows: The rows.
        key: What stands in the brackets.
        value: One number.

    Returns:
        None where it is anything else.
    """
    numpy = sys.modules["numpy"]
    if not _is_number(value):
        return None
    if _is_mask(key, rows):
        kept = _kept(value, rows)
        return elementwise(lambda mask, old: numpy.where(mask, kept, old), key, rows)
    if isinstance(key, tuple) and len(key) == len(rows.shape) == 2 and all(map(_is_numbers, key)):
        down, across = (numpy.arange(many)[one] for many, one in zip(rows.shape, key, strict=True))
        if down.ndim == across.ndim == 1 and len(down) == len(across):
            return _with_cells(rows, down, across, value)
    return None


def with_diagonal(rows: Demanded, value: Any) -> Demanded | None:
    """Give the rows after `numpy.fill_diagonal(rows, value)`.

    Args:
        rows: The rows.
        value: One number.

    Returns:
        None where it is anything else, or they are no matrix.
    """
    if not _is_number(value) or len(rows.shape) != 2:
        return None
    at = sys.modules["numpy"].arange(min(rows.shape))
    return _with_cells(rows, at, at, value)


def is_view(key: Any) -> bool:
    """Tell whether what is read would share memory with an array.

    Args:
        key: What stands in the brackets.
    """
    parts = key if isinstance(key, tuple) else (key,)
    return all(one is None or one is Ellipsis or isinstance(one, slice) or _is_place(one) for one in parts)


def _is_place(key: Any) -> bool:
    return isinstance(key, (int, sys.modules["numpy"].integer)) and not isinstance(key, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, sys.modules["numpy"].generic))


def _kept(value: Any, rows: Demanded) -> Any:
    """A number as it is kept among others; an error where NumPy raises one."""
    kept = sys.modules["numpy"].zeros(1, rows.dtype)
    kept[[True]] = value
    return kept[0]


def _with_cells(rows: Demanded, down: Any, across: Any, value: Any) -> Demanded:
    """Rows in which some cells say something else."""
    numpy, value = sys.modules["numpy"], _kept(value, rows)
    order = numpy.argsort(down, kind="stable")
    down, across = down[order], across[order]

    def put(part: Any, numbers: Any) -> Any:
        part = part.copy()
        starts, ends = (numpy.searchsorted(down, numbers, side) for side in ("left", "right"))
        for place in numpy.flatnonzero(ends > starts):
            part[place, across[starts[place] : ends[place]]] = value
        return part

    return rows.with_numbers(put)


def _is_span(numbers: Any) -> bool:
    return len(numbers) > 0 and bool((numbers[1:] - numbers[:-1] == 1).all())


def _is_numbers(key: Any) -> bool:
    return isinstance(key, list) or (isinstance(key, sys.modules["numpy"].ndarray) and key.dtype.kind in "iu")


def _is_mask(key: Any, rows: Demanded) -> bool:
    """Whether it says of each number whether it is meant."""
    numpy = sys.modules["numpy"]
    known = isinstance(key, (Demanded, numpy.ndarray)) and key.dtype == bool
    return known and key.shape == rows.shape and len(rows.shape) > 1


def _split(key: Any, ndim: int) -> tuple[Any, tuple[Any, ...]]:
    """What stands there for the rows, and for what is in each."""
    first, *rest = (key or (Ellipsis,)) if isinstance(key, tuple) else (key,)
    lists = [one for one in rest if isinstance(one, (list, sys.modules["numpy"].ndarray))]
    places = sum(map(_is_place, rest))
    if len(lists) + places + sum(map(is_view, rest)) - places != len(rest) or first is None:
        raise WholeError
    if lists and len(lists) + places > 1:  # their axis may come to lie before that of the rows
        raise WholeError
    if first is Ellipsis:
        many = len(rest) - sum(one is None for one in rest)
        if lists or many >= ndim:
            raise WholeError
        first, rest = slice(None), [Ellipsis, *rest]
    if sum(one is not None and one is not Ellipsis for one in rest) >= ndim:
        raise IndexError("too many indices for array")
    return first, tuple(rest)


def _within(rows: Demanded, rest: tuple[Any, ...]) -> Demanded:
    rest = tuple(copy.copy(one) for one in rest)  # they may be changed before it is read
    return rows.then(lambda part: part[(slice(None), *rest)]) if rest else rows


def _masked(rows: Demanded, mask: Any) -> Any:
    numpy = sys.modules["numpy"]
    found = []
    for start, part in rows.blocks():
        own = slice(start, start + len(part))
        found.append(part[mask.make(own) if isinstance(mask, Demanded) else mask[own]])
    return numpy.concatenate(found) if found else numpy.empty(0, rows.dtype)


def _cells(rows: Demanded, down: Any, across: Any) -> Any:
    """`rows[down, across]`: one number for each two places."""
    numpy = sys.modules["numpy"]
    down, across = numpy.broadcast_arrays(down, numpy.arange(rows.shape[1])[across])
    if down.ndim != 1:
        raise WholeError
    found = numpy.empty(len(down), rows.dtype)
    order = numpy.argsort(down, kind="stable")
    ordered = down[order]
    for start, part in rows.blocks():
        places = order[slice(*numpy.searchsorted(ordered, [start, start + len(part)]))]
        found[places] = part[down[places] - start, across[places]]
    return found
