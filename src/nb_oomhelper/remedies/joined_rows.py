"""What a function gives for some rows after others: joined along the first axis, and compared."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterable
from typing import Any

from nb_oomhelper.errors import RowsError

_CLOSE = {2: 3e-2, 4: 1e-3}  # of the largest number, by the bytes of one: products of other rows are rounded otherwise
_CLOSE_ELSE = 1e-6


class Joined:
    """Rows that come part by part; those of arrays and tensors are put right where all of them lie."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._first: Any = None  # of the parts; of arrays and tensors without rows
        self._made: Any = None

    def put(self, start: int, count: int, part: Any) -> None:
        """Put some rows behind those that are there.

        Args:
            start: How many there are.
            count: How many come.
            part: They.

        Raises:
            RowsError: It is something else than so many rows, or they have another form than those before.
        """
        if self._made is None:
            self._begin(part)
        if not _has_form(part, self._first) or not (_is_many(part) or len(part) == count):
            raise RowsError("a part gave something else than its rows")
        if _is_many(part):
            for joined, one in zip(self._made, _parts(part), strict=True):
                joined.put(start, count, one)
        elif type(part) is list:
            self._made += part
        else:
            self._made[start : start + count] = part.detach() if hasattr(part, "detach") else part

    def _begin(self, part: Any) -> None:
        if _is_many(part):
            self._first, self._made = part, [Joined(self._count) for _ in _parts(part)]
        elif type(part) is list:
            self._first, self._made = part, []
        elif _is_rows(part):
            self._first, self._made = part[:0], _room_for(part, self._count)
        else:
            raise RowsError(f"it gives {type(part).__name__}, of which parts cannot be joined")

    def whole(self) -> Any:
        """Give all rows, in the form of the parts."""
        if not _is_many(self._first):
            return self._made
        made = [one.whole() for one in self._made]
        if isinstance(self._first, dict):
            whole = copy.copy(self._first)
            whole.update(zip(self._first, made, strict=True))
            return whole
        return tuple_like(self._first, made)


def tuple_like(other: Any, parts: Iterable[Any]) -> Any:
    """Give a tuple of the kind of another one, be it plain or one with names.

    Args:
        other: The other.
        parts: What is in it.
    """
    return getattr(type(other), "_make", type(other))(parts)


def is_same(made: Any, other: Any, *, values: bool, rows: tuple[list[int], list[int]] | None = None) -> bool:
    """Tell whether two results are the same, but for how their numbers are rounded.

    Args:
        made, other: The results, as of `Joined.whole`.
        values: Compare what the numbers are, too, and not only their form.
        rows: Which rows of the one and of the other are compared; not given: all.
    """
    if not _has_form(other, made):
        return False
    if _is_many(made):
        pairs = zip(_parts(made), _parts(other), strict=True)
        return all(is_same(one, two, values=values, rows=rows) for one, two in pairs)
    if rows is None and len(made) != len(other):
        return False
    if not values:
        return True
    if type(made) is list:
        own, others = (made, other) if rows is None else ([made[at] for at in rows[0]], [other[at] for at in rows[1]])
        return _are_equal(own, others)
    return _are_close(made, other) if rows is None else _are_close(made[rows[0]], other[rows[1]], among=other)


def _has_form(part: Any, first: Any) -> bool:
    """Whether a part is like the first: its class and keys, the shape of a row, and its numbers."""
    if type(part) is not type(first):
        return False
    if isinstance(part, dict):
        return list(part) == list(first)
    if not _is_rows(part):
        return not _is_many(part) or len(part) == len(first)
    same = part.shape[1:] == first.shape[1:] and part.dtype == first.dtype
    return same and getattr(part, "device", None) == getattr(first, "device", None)


def _is_many(thing: Any) -> bool:
    return isinstance(thing, (tuple, dict))


def _parts(many: Any) -> Iterable[Any]:
    return many.values() if isinstance(many, dict) else many


def _is_rows(thing: Any) -> bool:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    array = numpy is not None and type(thing) is numpy.ndarray
    dense = torch is not None and isinstance(thing, torch.Tensor) and thing.layout is torch.strided
    return (array or dense) and thing.ndim > 0


def _room_for(part: Any, count: int) -> Any:
    shape = (count, *part.shape[1:])
    if hasattr(part, "new_empty"):
        return part.new_empty(shape)
    return sys.modules["numpy"].empty(shape, part.dtype)


def _are_equal(made: Any, other: Any) -> bool:
    """Whether members of lists are equal, but for how numbers in them are rounded."""
    if type(made) is not type(other):
        return False
    if isinstance(made, dict):
        return list(made) == list(other) and _are_equal(list(made.values()), list(other.values()))
    if isinstance(made, (list, tuple)):
        return len(made) == len(other) and all(map(_are_equal, made, other))
    if isinstance(made, float):
        return math.isclose(made, other, rel_tol=_CLOSE[4], abs_tol=_CLOSE_ELSE) or (made != made and other != other)
    if _is_rows(made):
        return _has_form(made, other) and len(made) == len(other) and _are_close(made, other)
    return bool(made == other)


def _are_close(made: Any, other: Any, *, among: Any = None) -> bool:
    """Whether arrays hold the same, as numbers are rounded beside the largest, of all those that they are among."""
    one, two = _array(made), _array(other)
    if one.dtype.kind not in "fc":
        return bool((one == two).all())
    numpy = sys.modules["numpy"]
    sizes = abs(two if among is None else _array(among))
    close = _CLOSE.get(made.dtype.itemsize // (2 if one.dtype.kind == "c" else 1), _CLOSE_ELSE)
    largest = numpy.nan_to_num(sizes, nan=0, posinf=0, neginf=0).max(initial=0)
    return bool(numpy.allclose(one, two, rtol=close, atol=close * largest, equal_nan=True))


def _array(rows: Any) -> Any:
    """A tensor's numbers as an array of NumPy's, which knows no bfloat16."""
    if not hasattr(rows, "detach"):
        return rows
    plain = rows.detach().cpu()
    return (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).resolve_conj().numpy()
