"""Parts that are made one by one, joined without being there twice: `nb_oomhelper.joined`, `nb_oomhelper.Joining`.

A list of arrays and the array that `np.stack` makes of it take the same memory, and at that moment both are there.
Where it is known how many parts come, the result can be there from the first part on, and each is written into it.
"""

from __future__ import annotations

import math
import operator
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.errors import UsageError
from nb_oomhelper.remedies.arrays import is_array, is_tensor
from nb_oomhelper.remedies.join_forms import axis_of, corner, is_plain, tried_on

_NUMBERS = "biufc"  # kinds of dtypes that may be converted


def joined(join: Callable[..., Any], parts: Iterable[Any], count: int, **options: Any) -> Any:
    """Join parts as `join` would, with each written into the result as soon as it is made.

    Args:
        join: `np.array`, `np.asarray`, `np.stack`, `np.concatenate`, `np.vstack`, `np.hstack`, `np.dstack`,
            `np.column_stack`, or one of these names in `torch`.
        parts: Makes arrays or tensors one by one: a generator.
        count: How many they are.
        options: More arguments of `join`: `axis`, `dim`, `dtype`, `casting`.

    Returns:
        What `join` gives for a list of the parts. See `Joining` for where that is what makes it.
    """
    joining, coming = Joining(join, count, **options), iter(parts)
    try:
        while True:
            joining.append(next(coming))  # in no name here: only its maker may keep it
    except StopIteration:
        return joining.joined()


class Joining:
    """Takes the place of a list whose parts are joined in the end.

    The result is there in its whole size from the first part on. Parts that somebody else may still change are written
    once more in the end, as they are then. Parts that are no plain arrays of one dtype and shape, that need a graph, or
    are more than there is room for, are kept in a list from there on, with a warning, and joined by `join`.
    """

    def __init__(self, join: Callable[..., Any], count: int, **options: Any) -> None:
        """Begin with no parts.

        Args:
            join, count, options: As of `joined`.
        """
        self._join, self._count, self._options = join, operator.index(count), options
        self._result: _Result | None = None
        self._listed: list[Any] | None = None
        self._shared: dict[int, Any] = {}
        self._newest: Any = None
        self._length, self._ended = 0, False

    def __len__(self) -> int:
        """How many parts there are."""
        return self._length

    def append(self, part: Any) -> None:
        """Write a part into the result.

        Args:
            part: An array or a tensor, as the parts before.

        Raises:
            MemoryError: The result has no room, or what `torch` raises then.
            UsageError: It is joined already.
        """
        fresh = object()
        shared = sys.getrefcount(part) > sys.getrefcount(fresh) or _is_shared(part)
        self._settle()
        if self._ended:
            raise UsageError("these parts are joined already")
        if self._listed is None and not self._write(part):
            self._listed = self._as_list()
            warnings.warn(f"from part {self._length + 1} on the parts are kept, and joined at the end", stacklevel=2)
        if self._listed is not None:
            self._listed.append(part)
        elif shared:
            self._newest = part
        self._length += 1

    def joined(self) -> Any:
        """Give the result, once.

        Raises:
            UsageError: It was given before.
            Exception: What `join` raises of these parts.
        """
        self._settle()
        if self._ended:
            raise UsageError("these parts are joined already")
        self._ended = True
        result, self._result, listed, self._listed = self._result, None, self._listed, None
        whole = None
        if result is not None and listed is None:
            alike = all(result.writes(part, at) for at, part in self._shared.items())
            whole = result.whole(self._length == self._count) if alike else None
            listed = [self._shared.get(at, result.part(at)) for at in range(self._length)] if whole is None else None
        self._shared = {}
        return self._join(listed or [], **self._options) if whole is None else whole

    def _settle(self) -> None:
        """Write the newest part as it is now; keep it where somebody else does: it may be changed until the end."""
        part, self._newest, fresh, at = self._newest, None, object(), self._length - 1
        if part is None:
            return
        shared = sys.getrefcount(part) > sys.getrefcount(fresh) or _is_shared(part)
        if shared or self._result is None or not self._result.writes(part, at):
            self._shared[at] = part

    def _write(self, part: Any) -> bool:
        if self._result is None and not self._length:
            self._result = _begin(self._join, part, self._count, self._options)
        return self._result is not None and self._result.writes(part)

    def _as_list(self) -> list[Any]:
        result = self._result
        return [] if result is None else [self._shared.get(at, result.part(at)) for at in range(self._length)]


@dataclass(slots=True)
class _Result:
    """An array that parts are written into.

    Attributes:
        array: It.
        first: Shape, dtype and place of the first part, which all others have.
        axis: The axis along which the parts lie.
        stacked: That is an axis of its own.
        count: How many parts are expected.
        ends: Where along it each part ends.
    """

    array: Any
    first: tuple[Any, ...]
    axis: int
    stacked: bool
    count: int
    ends: list[int]

    def writes(self, part: Any, at: int | None = None) -> bool:
        """Write a part behind the others, or once more; False where it is not like them, or there is no room."""
        if not is_plain(part) or _form(part)[1:] != self.first[1:]:
            return False
        length = 1 if self.stacked else part.shape[self.axis] if part.ndim == len(self.first[0]) else 0
        alike = [*self.first[0]]
        if not self.stacked:
            alike[self.axis] = length
        start, end = self._span(len(self.ends) if at is None else at, length)
        if tuple(part.shape) != tuple(alike) or not self._has_room(end):
            return False
        if at is None:
            self.ends.append(end)
        elif end != self.ends[at]:
            return False
        self.array[self._key(start, end)] = part
        return True

    def part(self, at: int) -> Any:
        """Give a part that was written, as a view."""
        return self.array[self._key(*self._span(at, self.ends[at] - (self.ends[at - 1] if at else 0)))]

    def whole(self, as_many: bool) -> Any:
        """Give the array with what was written; None where its end is empty and cannot be cut off.

        Args:
            as_many: There were as many parts as expected.
        """
        array, end = self.array, self.ends[-1]
        if is_tensor(array):
            if array.is_inference() != sys.modules["torch"].is_inference_mode_enabled():
                return None
            if end == array.shape[self.axis]:
                return array
            return array[:end] if as_many and not self.axis else None
        if end < array.shape[self.axis]:
            if not self._can_be_cut():
                return None
            array.resize((end, *array.shape[1:]), refcheck=False)
        return array

    def _has_room(self, end: int) -> bool:
        """Whether a part up to there fits; an array whose parts lie one after another in memory can become longer."""
        array = self.array
        if end <= array.shape[self.axis]:
            return True
        if not self._can_be_cut():
            return False
        likely = end * self.count * 51 // (50 * (len(self.ends) + 1))  # with the length that parts had so far
        try:
            array.resize((max(likely, end + end // 8), *array.shape[1:]), refcheck=False)
        except MemoryError:  # where the system cannot make it longer in its place
            return False
        return True

    def _can_be_cut(self) -> bool:
        """Whether its end can be cut off, or moved: nothing else refers to it, parts are copied into it."""
        array = self.array
        return is_array(array) and not self.axis and array.flags.c_contiguous and array.flags.owndata

    def _span(self, at: int, length: int) -> tuple[int, int]:
        start = self.ends[at - 1] if at else 0
        return start, start + length

    def _key(self, start: int, end: int) -> tuple[Any, ...]:
        return (*[slice(None)] * self.axis, start if self.stacked else slice(start, end))


def _begin(join: Callable[..., Any], part: Any, count: int, options: dict[str, Any]) -> _Result | None:
    """An empty result for parts like the first; None where `join` may make something else of them."""
    tried = tried_on(join, part, options)
    found = None if tried is None else axis_of(tuple(part[corner(part)].shape), tuple(tried.shape))
    if found is None or not _converts(part, tried):
        return None
    axis, stacked = found
    shape = tuple(part.shape)
    whole = [*shape[:axis], count, *shape[axis:]] if stacked else [*shape]
    if not stacked:
        whole[axis] *= count
    if min(whole) < 1:
        return None
    if is_tensor(part):
        array = sys.modules["torch"].empty(whole, dtype=tried.dtype, device=part.device)
    else:
        array = sys.modules["numpy"].empty_like(tried, shape=whole)  # in the order in which these lie in memory
    return _Result(array=array, first=_form(part), axis=axis, stacked=stacked, count=count, ends=[])


def _converts(part: Any, tried: Any) -> bool:
    """Whether numbers become those of the result by being written into it."""
    if is_tensor(part):
        return bool(part.dtype == tried.dtype and part.device == tried.device)
    kinds = {part.dtype.kind, tried.dtype.kind}
    return bool(part.dtype == tried.dtype) or kinds <= {*_NUMBERS}


def _form(part: Any) -> tuple[Any, ...]:
    return (tuple(part.shape), part.dtype, part.device if is_tensor(part) else None)


def _is_shared(part: Any) -> bool:
    """Whether somebody else may write into the memory of a part, as far as can be told."""
    if is_tensor(part):
        return _uses(part) > _uses(sys.modules["torch"].empty(2)[:1] if part._is_view() else part.new_empty(1))
    base, fresh = part.base if is_array(part) else None, object()
    if base is None or type(base) is bytes:
        return False
    plain = is_tensor(base) or (is_array(base) and base.base is None)
    return not plain or sys.getrefcount(base) > sys.getrefcount(fresh) + 1 or (is_tensor(base) and _is_shared(base))


def _uses(tensor: Any) -> tuple[float, int]:
    """How many tensors lie in the same memory, and how many times the one is kept that this is a view of."""
    count = getattr(sys.modules["torch"]._C, "_storage_Use_Count", None)
    uses = math.inf if count is None else count(tensor.untyped_storage()._cdata)
    return uses, sys.getrefcount(tensor._base) if tensor._is_view() else 0
