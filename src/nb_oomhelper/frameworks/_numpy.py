"""NumPy: its out-of-memory message, and which memory an array keeps. It has no cache to empty."""

from __future__ import annotations

import mmap
import re
import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from nb_oomhelper.frameworks._messages import SIZE, Rule, event_of, find, read_fields, squeeze
from nb_oomhelper.frameworks._nothing import allocator as allocator
from nb_oomhelper.frameworks._nothing import cached_blocks as cached_blocks
from nb_oomhelper.frameworks._nothing import caches as caches
from nb_oomhelper.frameworks._nothing import device_uuids as device_uuids
from nb_oomhelper.frameworks._nothing import pinned as pinned
from nb_oomhelper.frameworks._nothing import private_pools as private_pools
from nb_oomhelper.introspection import instances
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.units import parse_bytes

name = "numpy"
module = "numpy"

RULES = (
    # numpy/_core/_exceptions.py, _ArrayMemoryError; a plain MemoryError before NumPy 1.17, and in pandas
    Rule("numpy.array", "host", rf"Unable to allocate (?:(?:{SIZE}|\d[\d.]{{0,20}}) for an )?array with shape \("),
    Rule("numpy.array", "host", rf"Unable to allocate {SIZE} for an array"),  # cut before the shape
    Rule("numpy.array", "host", rf"^(?:MemoryError: )?Unable to allocate {SIZE}"),
)
FIELDS = {
    "requested": rf"Unable to allocate ({SIZE})",
    "shape": r"with shape \(([\d, ]{0,500})\)",
    "dtype": r"data type <?([A-Za-z]{1,12}\d{0,6})",
}
_BITS = re.compile(r"(?:u?int|float|complex)(\d{1,3})")
_BYTES = {"bool": 1, "object": 8, "datetime64": 8, "timedelta64": 8}
_DEPTH = 100  # views of views; NumPy itself keeps such chains short


def loaded() -> bool:
    """Whether NumPy has been imported by someone."""
    return _numpy() is not None


def recognize(text: str, exception_type: str) -> OomEvent | None:
    """Read NumPy's message; None where it is another text.

    Args:
        text: The error's own.
        exception_type: Its class, as a traceback prints it.
    """
    match = find(RULES, squeeze(text), exception_type)
    if match is None:
        return None
    return replace(
        event_of(name, match, text, exception_type, {}), requested=_requested(read_fields(FIELDS, match.window))
    )


def _requested(fields: dict[str, str]) -> int | None:
    """Shape times item size, which is exact; NumPy prints three digits of it ("337. GiB")."""
    printed = parse_bytes(fields["requested"]) if "requested" in fields else None
    item = _item_size(fields.get("dtype", ""))
    if item is None or "shape" not in fields:
        return printed
    exact = prod(int(length) for length in fields["shape"].split(",") if length.strip()) * item
    if printed is None:
        return exact if exact < 1 << 60 else None
    return exact if abs(exact - printed) <= printed // 100 else printed


def _item_size(dtype: str) -> int | None:
    """Bytes of one element by the type's printed name; None for structures and texts."""
    bits = _BITS.fullmatch(dtype)
    return int(bits[1]) // 8 if bits else _BYTES.get(dtype)


def storages(objects: Iterable[object]) -> Iterator[tuple[int, Hashable, str, int | None, int]]:
    """The memory that each array among these objects keeps.

    A view keeps the whole array that owns the memory. Files mapped into memory (`numpy.memmap`) are
    left out: the system takes their pages back when it needs them. Of memory that is not NumPy's own,
    the part that the array spans is counted, at the address where PyTorch counts its tensors.

    Yields:
        Index of the object, key, "host", None, bytes.
    """
    numpy = _numpy()
    if numpy is None:
        return
    for index, thing in instances(objects, numpy.ndarray):
        try:
            found = _owned(numpy.ndarray, thing)
        except Exception:  # an array of another library's making that breaks the rules: leave it out
            continue
        if found is not None:
            yield index, ("host", None, found[0]), "host", None, found[1]


def _owned(ndarray: Any, array: Any) -> tuple[int, int] | None:
    """Address and bytes of the memory behind an array; None for a mapped file.

    NumPy's own descriptors are called, not the object's attributes: a subclass may override those.
    """
    for _ in range(_DEPTH):
        base = ndarray.base.__get__(array)
        if type(base) is memoryview:
            base = base.obj
        elif any(type(base) is link for link in _links()):
            base = base.base
        if not type.__subclasscheck__(ndarray, type(base)):
            break
        array = base
    if type.__subclasscheck__(mmap.mmap, type(base)):
        return None
    address, _read_only = ndarray.__array_interface__.__get__(array)["data"]
    if base is None:
        return address, ndarray.nbytes.__get__(array)
    return _span(ndarray, array, address)


def _links() -> list[object]:
    """The class that `as_strided` puts between a view and its array, by its place in NumPy 2 and 1."""
    homes = (sys.modules.get(f"{module}.lib.{home}") for home in ("_stride_tricks_impl", "stride_tricks"))
    return [getattr(home, "DummyArray", None) for home in homes]


def _span(ndarray: Any, array: Any, address: int) -> tuple[int, int]:
    """First byte and number of bytes between an array's lowest and highest element."""
    steps = zip(ndarray.shape.__get__(array), ndarray.strides.__get__(array), strict=True)
    reaches = [(length - 1) * stride for length, stride in steps]
    if not ndarray.size.__get__(array):
        return address, 0
    below = sum(reach for reach in reaches if reach < 0)
    above = sum(reach for reach in reaches if reach > 0)
    return address + below, above - below + ndarray.itemsize.__get__(array)


def beyond(objects: Sequence[object], nodes: dict[int, object]) -> Iterator[tuple[object, str]]:  # noqa: ARG001
    """The members of arrays of objects, which the garbage collector does not see.

    Args:
        objects: Any objects.
        nodes: Graph nodes that were met, by id; what the search keeps alive.
    """
    numpy = _numpy()
    if numpy is None:
        return
    for thing in objects:
        if has_objects(thing):
            yield from ((member, "tensors") for member in numpy.ndarray.flat.__get__(thing))


def has_objects(thing: object) -> bool:
    """Whether it is an array of objects."""
    numpy = _numpy()
    known = numpy is not None and type.__subclasscheck__(numpy.ndarray, type(thing))
    return known and numpy.ndarray.dtype.__get__(thing).char == "O"


def members(array: Any) -> list[object]:
    """The members of an array of objects, all at once."""
    return list(_numpy().ndarray.flat.__get__(array))  # NumPy's own iterator: a subclass may have one of its user's


def label(obj: object) -> str | None:
    """Type and shape, "float64 (3, 4)"; None for what is no array."""
    numpy = _numpy()
    if numpy is None or not type.__subclasscheck__(numpy.ndarray, type(obj)):
        return None
    return f"{numpy.ndarray.dtype.__get__(obj)} {numpy.ndarray.shape.__get__(obj)}"


def role(obj: object) -> str | None:
    """ "array" for NumPy's arrays, by class alone."""
    numpy = _numpy()
    return "array" if numpy is not None and type.__subclasscheck__(numpy.ndarray, type(obj)) else None


def array_classes() -> tuple[type, ...]:
    """The class of NumPy's arrays. The garbage collector knows only those of classes derived from it."""
    numpy = _numpy()
    return () if numpy is None else (numpy.ndarray,)


def _numpy() -> Any:
    """The module if it has been imported, and far enough."""
    found = sys.modules.get(module)
    return found if isinstance(getattr(found, "ndarray", None), type) else None
