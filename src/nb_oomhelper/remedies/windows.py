"""Windows of one array joined without copying them: `nb_oomhelper.windows`.

Windows that overlap have most of their values in common, and as a list of slices they take next to nothing. Joined
by `np.array` each value is there as often as there are windows that it lies in.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.remedies.arrays import form_of, is_array, is_tensor

_SEEN = 1_000  # windows that are looked at after an error; these stand for all
_PLAIN = "biufcmM"  # kinds of dtypes of which an array is joined as it is


def windows(join: Callable[..., Any], parts: Any, **options: Any) -> Any:
    """Join windows of one array as `join` would, without a copy: a view of the array, in the shape of the copy.

    The view has the values of the array, also when that is changed later. NumPy's is read-only, `.copy()` makes it
    whole. Where the parts are anything else than slices of one array at equal steps, it is `join` that joins them.

    Args:
        join: `np.array`, `np.asarray`, `np.stack` or `torch.stack`.
        parts: A list of arrays or tensors.
        options: More arguments of `join`; a view has the dtype of the parts.
    """
    listed = type(parts) is list or type(parts) is tuple
    found = _spaced(parts, range(len(parts))) if listed and options.keys() <= {"dtype"} else None
    if found is None or not _keeps_dtype(options, parts[0]):
        return join(parts, **options)
    first, count = parts[0], len(parts)
    if is_tensor(first):
        return first.as_strided((count, *first.shape), (found.step, *first.stride()), first.storage_offset())
    strides, shape = (found.step, *first.strides), (count, *first.shape)
    return sys.modules["numpy"].lib.stride_tricks.as_strided(first, shape, strides, writeable=False)


def size_joined(parts: Sequence[object]) -> tuple[int, str] | None:
    """Give the bytes and the dtype of windows copied into one array, where that is twice as large as theirs, or more.

    Args:
        parts: A list, which may be anything of the user's.

    Returns:
        None where the list has something else, or its windows lie at no equal steps, as far as they are looked at.
    """
    count = len(parts)
    if count < 2 or not (is_array(parts[0]) or is_tensor(parts[0])):
        return None
    found = _spaced(parts, _chosen(count))
    return None if found is None or found.size * count < 2 * found.whole else (found.size * count, found.dtype)


def is_even(thing: object) -> bool:
    """Tell whether something is an array of whole numbers at equal steps, as far as they are looked at."""
    if not is_array(thing):
        return False
    of: Any = type(thing)
    count, kind = of.size.__get__(thing), of.dtype.__get__(thing).kind
    if of.ndim.__get__(thing) != 1 or count < 2 or kind not in "iu":
        return False
    start, step = of.item(thing, 0), of.item(thing, 1) - of.item(thing, 0)
    return all(of.item(thing, at) == start + at * step for at in _chosen(count))


def _chosen(count: int) -> Sequence[int]:
    """Of so many the places that are looked at: of many the first two, some from all over, and the last."""
    return range(count) if count <= _SEEN else [0, 1, *range(2, count - 1, count // _SEEN), count - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spaced:
    """How windows lie: how far one is behind the one before, its bytes and those of the array, and their dtype."""

    step: int
    size: int
    whole: int
    dtype: str


def _spaced(parts: Sequence[object], some: Sequence[int]) -> _Spaced | None:
    """How windows lie that are alike and at equal steps in one array; None where some of them do not."""
    read = _read_array if parts and is_array(parts[0]) else _read_tensor
    places = [read(parts[at]) for at in some[:2]]
    if len(places) < 2 or places[0] is None or places[1] is None:
        return None
    (alike, start, size, whole), step = places[0], places[1][1] - places[0][1]
    if not step:  # the same, twice
        return None
    for at in some:
        place = read(parts[at])
        if place is None or place[0] != alike or place[1] != start + at * step:
            return None
    return _Spaced(step=step, size=size, whole=whole, dtype=form_of(parts[0])["dtype"])


def _read_array(thing: object) -> tuple[Hashable, int, int, int] | None:
    """What slices have in common (the array, its dtype, their form), where this one begins, its bytes, the array's."""
    if not is_array(thing):
        return None
    of = type(thing)
    dtype, shape = of.dtype.__get__(thing), of.shape.__get__(thing)  # type: ignore[attr-defined]
    if dtype.kind not in _PLAIN or not dtype.isnative or not shape:
        return None
    whole: Any = thing
    while is_array(base := of.base.__get__(whole)):  # type: ignore[attr-defined]
        whole = base
    start = of.__array_interface__.__get__(thing)["data"][0]  # type: ignore[attr-defined]
    alike = (id(whole), dtype, shape, of.strides.__get__(thing))  # type: ignore[attr-defined]
    size = dtype.itemsize * math.prod(shape)
    return (alike, start, size, of.nbytes.__get__(whole)) if whole is not thing else None  # type: ignore[attr-defined]


def _read_tensor(thing: object) -> tuple[Hashable, int, int, int] | None:
    """The same of tensors; of one with a gradient there is none, since its windows have a graph each."""
    if not is_tensor(thing):
        return None
    torch = sys.modules["torch"]
    of = torch._C.TensorBase
    if of.layout.__get__(thing) is not torch.strided or of.requires_grad.__get__(thing):
        return None
    if of.is_conj(thing) or of.is_neg(thing) or of.is_quantized.__get__(thing) or not of.shape.__get__(thing):
        return None
    storage, shape = of.untyped_storage(thing), tuple(of.shape.__get__(thing))
    alike = (storage.data_ptr(), of.device.__get__(thing), of.dtype.__get__(thing), shape, of.stride(thing))
    return alike, of.storage_offset(thing), of.element_size(thing) * math.prod(shape), storage.nbytes()


def _keeps_dtype(options: dict[str, Any], part: Any) -> bool:
    """Whether the parts have the dtype already that is asked for."""
    asked = options.get("dtype")
    if asked is None or is_tensor(part):
        return asked is None
    return bool(sys.modules["numpy"].dtype(asked) == part.dtype)
