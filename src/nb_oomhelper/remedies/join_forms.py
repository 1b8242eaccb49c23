"""How arrays are joined: along which axis, and whether as they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from nb_oomhelper.remedies.arrays import is_array, is_tensor

_NUMPY = ("array", "asarray", "stack", "concatenate", "vstack", "hstack", "dstack", "column_stack")
_TORCH = ("stack", "cat", "concat", "concatenate", "vstack", "hstack", "dstack")
_OPTIONS = frozenset({"axis", "dim", "dtype", "casting"})
_IN_ORDER = 2  # axes of tensors up to which the result lies in their order, however they lie
_TRIED = 3  # parts that are joined to see where each lies; each has at most two numbers along an axis
_KINDS = "biufcmM"  # of dtypes that are written as they are joined


def form_of_joined(join: Callable[..., Any], part: Any, options: dict[str, Any]) -> tuple[int, bool, Any] | None:
    """Tell along which axis parts are joined, whether it is one of its own, and the result's dtype.

    Args:
        join, options: As of `joined`.
        part: One of the parts.

    Returns:
        None where it may be anything else, or where the result does not lie in the order of its axes.
    """
    tried = tried_on(join, part, options)
    found = None if tried is None else axis_of(tuple(part[corner(part)].shape), tuple(tried.shape))
    ordered = is_tensor(tried) or (tried is not None and tried.flags.c_contiguous)
    return (*found, tried.dtype) if found is not None and ordered else None


def corner(part: Any) -> tuple[slice, ...]:
    """Give what cuts a corner out of a part."""
    return tuple(slice(0, 2) for _ in part.shape)


def tried_on(join: Callable[..., Any], part: Any, options: dict[str, Any]) -> Any:
    """What `join` makes of a corner of a part; None where parts like it are not joined as they are."""
    if not is_plain(part) or not options.keys() <= _OPTIONS or not _is_known(join, part):
        return None
    small = part[corner(part)]
    try:
        return join([small.contiguous() if is_tensor(part) else small] * _TRIED, **options)
    except (TypeError, ValueError, IndexError, RuntimeError):  # joined in the end, they raise the same
        return None


def axis_of(small: tuple[int, ...], tried: tuple[int, ...]) -> tuple[int, bool] | None:
    """Along which axis parts were joined, and whether it is one of its own."""
    for axis in range(len(tried)):
        if tried == (*small[:axis], _TRIED, *small[axis:]):
            return axis, True
        if tried == (*small[:axis], *(_TRIED * one for one in small[axis : axis + 1]), *small[axis + 1 :]):
            return axis, False
    return None


def _is_known(join: Callable[..., Any], part: Any) -> bool:
    module = sys.modules["torch" if is_tensor(part) else "numpy"]
    return any(join is getattr(module, name, None) for name in (_TORCH if is_tensor(part) else _NUMPY))


def is_plain(part: Any) -> bool:
    """Whether a part is an array or a tensor with nothing but its numbers, and no graph."""
    if is_tensor(part):
        plain = part.layout is sys.modules["torch"].strided and not (part.is_conj() or part.is_neg())
        ordered = part.is_contiguous() or part.ndim <= _IN_ORDER
        return plain and not part.requires_grad and not part.is_quantized and ordered and part.numel() > 0
    return is_array(part) and part.dtype.kind in _KINDS and part.dtype.isnative and part.ndim > 0 and part.size > 0
