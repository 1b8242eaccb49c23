"""Arrays and tensors as NumPy and PyTorch describe them, past any code of the user's; neither is imported."""

from __future__ import annotations

import math
import mmap
import re
import sys
from typing import Any

_HEAD = 16  # bytes before a block, with its size


def is_tensor(thing: object) -> bool:
    """Tell whether something is a plain tensor of PyTorch's."""
    torch = sys.modules.get("torch")
    return torch is not None and type(thing) is getattr(torch, "Tensor", None)


def is_array(thing: object) -> bool:
    """Tell whether something is a plain array of NumPy's."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(thing) is getattr(numpy, "ndarray", None)


def form_of(thing: object) -> dict[str, Any]:
    """Give the shape and the dtype of an array or a tensor, and whether it can be cut, as `Kept` has them."""
    of: Any = sys.modules["torch"]._C.TensorBase if is_tensor(thing) else type(thing)
    form = {"shape": tuple(of.shape.__get__(thing)), "dtype": str(of.dtype.__get__(thing))}
    if not is_tensor(thing):
        return form
    dense = of.layout.__get__(thing) is sys.modules["torch"].strided
    return form | {"cuts": dense and not of.requires_grad.__get__(thing)}


def is_mapped(thing: object) -> bool:
    """Tell whether an array seems to have a mapping of its own, as glibc gives large blocks: behind the head of a page.

    Args:
        thing: Anything; a tensor counts as none.
    """
    if not is_array(thing):
        return False
    address = type(thing).__array_interface__.__get__(thing)["data"][0]  # type: ignore[attr-defined]
    return bool(address % mmap.PAGESIZE == _HEAD)


def bytes_of(shape: tuple[int, ...], dtype: str) -> int | None:
    """Give the bytes of an array or a tensor of some form; None where the dtype's name does not tell.

    Args:
        shape, dtype: As of `form_of`.
    """
    bits = re.search(r"\d+$", dtype)
    item = 1 if dtype.endswith("bool") else None if bits is None else int(bits[0]) // 8
    return None if item is None else item * math.prod(shape)
