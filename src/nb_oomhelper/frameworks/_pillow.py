"""Pillow: the memory behind an image. Its lack of memory is a MemoryError of Python's."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from nb_oomhelper.frameworks._nothing import allocator as allocator
from nb_oomhelper.frameworks._nothing import beyond as beyond
from nb_oomhelper.frameworks._nothing import cached_blocks as cached_blocks
from nb_oomhelper.frameworks._nothing import caches as caches
from nb_oomhelper.frameworks._nothing import device_uuids as device_uuids
from nb_oomhelper.frameworks._nothing import pinned as pinned
from nb_oomhelper.frameworks._nothing import private_pools as private_pools
from nb_oomhelper.frameworks._nothing import recognize as recognize
from nb_oomhelper.introspection import class_dict, class_name

name = "pillow"
module = "PIL.Image"

_WIDE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # bytes of a pixel; 4 of all others
_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made while Python runs, as all classes of users are


def loaded() -> bool:
    """Whether Pillow has been imported by someone."""
    return isinstance(getattr(sys.modules.get(module), "Image", None), type)


def storages(objects: Iterable[object]) -> Iterator[tuple[int, Hashable, str, int | None, int]]:
    """The pixels of each image among these objects, as its part in C keeps them.

    Yields:
        Index of the object, key, "host", None, bytes.
    """
    for index, thing in enumerate(objects):
        if _is_core(thing):
            mode, (width, height) = _own(thing, "mode"), _own(thing, "size")
            yield index, ("host", None, id(thing)), "host", None, width * height * _WIDE.get(mode, 4)


def label(obj: object) -> str | None:
    """Mode and size, "RGB (640, 480)"; None for what is no image."""
    return f"{_own(obj, 'mode')} {_own(obj, 'size')}" if _is_core(obj) else None


def role(obj: object) -> str | None:
    """ "array" for what keeps an image's pixels, by class alone."""
    return "array" if _is_core(obj) else None


def array_classes() -> tuple[type, ...]:
    """None: the garbage collector knows nothing of them."""
    return ()


def _own(core: object, attribute: str) -> Any:
    descriptor: Any = class_dict(type(core))[attribute]
    return descriptor.__get__(core)


def _is_core(thing: object) -> bool:
    """Whether it is Pillow's part in C of an image; its class has no name in any module."""
    kind = type(thing)
    return class_name(kind) == "ImagingCore" and not _flags(kind) & _HEAP and loaded()


def _flags(kind: type) -> int:
    flags: int = class_dict(type)["__flags__"].__get__(kind)  # type: ignore[attr-defined]
    return flags
