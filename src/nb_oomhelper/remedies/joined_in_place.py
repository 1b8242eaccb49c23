"""A list of arrays that becomes one array, without being there twice: `nb_oomhelper.joined_in_place`."""

from __future__ import annotations

import math
import sys
import tempfile
import weakref
from collections.abc import Callable
from typing import Any, BinaryIO

from nb_oomhelper.loading.disk import scratch
from nb_oomhelper.remedies.arrays import is_array, is_tensor
from nb_oomhelper.remedies.join_forms import form_of_joined
from nb_oomhelper.remedies.releasing import trim

# What was made here, as long as somebody has it: of another array that parts are views of, a copy is wanted.
_MADE = weakref.WeakValueDictionary[int, Any]()


def joined_in_place(join: Callable[..., Any], parts: list[Any], **options: Any) -> Any:
    """Join the arrays of a list by way of a temporary file, so that they are never there twice.

    The list has views of the result then: of the same values, and what is written into one is seen in the other. Where
    the parts are no plain arrays of one dtype, or where no disk has room, nothing of this is done but `join(parts)`.

    Args:
        join: `np.array`, `np.asarray`, `np.stack`, `np.concatenate`, `np.vstack`, `np.hstack`, `np.dstack`,
            `np.column_stack`, or one of these names in `torch`.
        parts: The list.
        options: More arguments of `join`: `axis`, `dim`, `dtype`, `casting`.

    Returns:
        What `join` gives.

    Raises:
        MemoryError: There is no room for the result, or what `torch` raises then. The list is as it was.
    """
    plan = _plan(join, parts, options) if type(parts) is list and parts else None
    if plan is None:
        return join(parts, **options)
    shape, keys = plan
    base = _base(parts[0])
    if base is not None and id(base) in _MADE and tuple(base.shape) == shape and _are_views(parts, base, keys):
        return base  # joined before
    folder, free = scratch()
    if folder is None or free is None or free < 2 * sum(map(_size, parts)):
        return join(parts, **options)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            places = _write(file, parts)
        except OSError:  # no more than so much may be written
            return join(parts, **options)
        made = _moved(file, parts, places, shape, keys)
    _MADE[id(made)] = made
    return made


def _write(file: BinaryIO, parts: list[Any]) -> list[int]:
    """Write the parts to a file, and give where each lies."""
    places = list[int]()
    for one in parts:
        places.append(file.tell())
        file.write(_bytes(_in_order(one)))
    file.flush()
    return places


def _moved(
    file: BinaryIO, parts: list[Any], places: list[int], shape: tuple[int, ...], keys: list[tuple[Any, ...]]
) -> Any:
    """Let go of the parts, the last one first: what lies at the end of the heap goes back to the system."""
    forms = [(tuple(one.shape), one.dtype, is_tensor(one)) for one in parts]
    result = None
    try:
        for at in reversed(range(len(parts))):
            parts[at] = None
        trim()
        result = _empty(shape, *forms[0][1:])
        for at in range(len(parts)):
            parts[at] = _read(file, places[at], forms[at], result[keys[at]])
    except BaseException:  # no room, or somebody stopped it: the parts come back
        result = None
        for at, one in enumerate(parts):
            if one is None:
                parts[at] = _read(file, places[at], forms[at], None)
        raise
    return result


def _read(file: BinaryIO, place: int, form: tuple[Any, ...], into: Any) -> Any:
    """Read a part, to where it belongs in the result, or anew."""
    made = into if into is not None and _is_in_order(into) else _empty(*form)
    file.seek(place)
    file.readinto(_bytes(made))  # type: ignore[attr-defined]
    if into is None or made is into:
        return made
    into[...] = made
    return into


def _plan(
    join: Callable[..., Any], parts: list[Any], options: dict[str, Any]
) -> tuple[tuple[int, ...], list[tuple[Any, ...]]] | None:
    """The result's shape, and where in it each part lies; None where it may be anything else."""
    first = parts[0]
    found = form_of_joined(join, first, options)
    if found is None or found[2] != first.dtype or len({id(one) for one in parts}) < len(parts):
        return None
    axis, stacked, _ = found
    ends, keys, end = [*first.shape], list[tuple[Any, ...]](), 0
    for one in parts:
        if not _is_like(one, first, None if stacked else axis):
            return None
        start, end = end, end + (1 if stacked else one.shape[axis])
        keys.append((*[slice(None)] * axis, start if stacked else slice(start, end)))
    whole = [*ends[:axis], end, *ends[axis:]] if stacked else [*ends[:axis], end, *ends[axis + 1 :]]
    return tuple(whole), keys


def _is_like(one: Any, first: Any, axis: int | None) -> bool:
    """Whether a part is like the first, but for its length along an axis."""
    if type(one) is not type(first) or one.dtype != first.dtype or one.ndim != first.ndim:
        return False
    if is_tensor(one) and (one.requires_grad or one.device.type != "cpu"):
        return False
    return all(size == own or at == axis for at, (size, own) in enumerate(zip(one.shape, first.shape, strict=True)))


def _base(part: Any) -> Any:
    return part.base if is_array(part) else part._base


def _are_views(parts: list[Any], base: Any, keys: list[tuple[Any, ...]]) -> bool:
    if type(base) is not type(parts[0]) or base.dtype != parts[0].dtype:
        return False
    return all(_base(one) is base and _place(one) == _place(base[key]) for one, key in zip(parts, keys, strict=True))


def _place(one: Any) -> tuple[Any, ...]:
    if is_array(one):
        return one.__array_interface__["data"][0], one.shape, one.strides
    return one.data_ptr(), tuple(one.shape), one.stride()


def _empty(shape: tuple[int, ...], dtype: Any, tensor: bool) -> Any:
    return sys.modules["torch" if tensor else "numpy"].empty(shape, dtype=dtype)


def _is_in_order(one: Any) -> bool:
    return bool(one.is_contiguous() if is_tensor(one) else one.flags.c_contiguous)


def _in_order(one: Any) -> Any:
    return one.contiguous() if is_tensor(one) else sys.modules["numpy"].ascontiguousarray(one)


def _bytes(one: Any) -> Any:
    """The bytes of an array that lies in its order."""
    if is_tensor(one):
        one = one.view(-1).view(sys.modules["torch"].uint8).numpy()
    return one.reshape(-1).view("u1")


def _size(one: Any) -> int:
    each = one.element_size() if is_tensor(one) else one.dtype.itemsize
    return math.prod(map(int, one.shape)) * int(each)
