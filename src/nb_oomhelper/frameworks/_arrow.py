"""Arrow: the memory behind its arrays and tables, which pandas keeps texts in.

Its lack of memory is a MemoryError of Python's.
"""

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
from nb_oomhelper.introspection import instances

name = "pyarrow"
module = "pyarrow.lib"


def loaded() -> bool:
    """Whether Arrow has been imported by someone."""
    return _lib() is not None


def storages(objects: Iterable[object]) -> Iterator[tuple[int, Hashable, str, int | None, int]]:
    """The buffers of each array, column, table and buffer among these objects. A slice keeps the whole buffers.

    Yields:
        Index of the object, key, "host", None, bytes.
    """
    lib = _lib()
    if lib is None:
        return
    for kind in _kinds(lib):
        for index, thing in instances(objects, kind):
            try:
                found = [(one.address, one.size) for one in _buffers(lib, thing) if one is not None and one.is_cpu]
            except Exception:  # one that was made by `__new__` alone, or lies on a GPU
                continue
            for address, size in found:
                yield index, ("host", None, address), "host", None, size


def _buffers(lib: Any, thing: Any) -> Iterator[Any]:
    """The buffers below an object. Arrow's own functions are called: a subclass may have others of its user's."""
    if issubclass(type(thing), lib.Buffer):
        yield thing
    elif issubclass(type(thing), lib.Array):
        yield from lib.Array.buffers(thing)
        if issubclass(type(thing), lib.DictionaryArray):
            yield from lib.Array.buffers(lib.DictionaryArray.dictionary.__get__(thing))
    elif issubclass(type(thing), lib.ChunkedArray):
        for chunk in lib.ChunkedArray.chunks.__get__(thing):
            yield from _buffers(lib, chunk)
    else:
        kind = lib.Table if issubclass(type(thing), lib.Table) else lib.RecordBatch
        for column in kind.columns.__get__(thing):
            yield from _buffers(lib, column)


def label(obj: object) -> str | None:  # noqa: ARG001
    """Its rows are named by what keeps them: a column's type says little of its bytes."""
    return None


def role(obj: object) -> str | None:
    """ "array" for what has buffers, by class alone."""
    lib = _lib()
    known = lib is not None and any(type.__subclasscheck__(kind, type(obj)) for kind in _kinds(lib))
    return "array" if known else None


def array_classes() -> tuple[type, ...]:
    """None: the garbage collector knows nothing of them."""
    return ()


def _kinds(lib: Any) -> tuple[type, ...]:
    return lib.Array, lib.ChunkedArray, lib.Table, lib.RecordBatch, lib.Buffer


def _lib() -> Any:
    """The module in C++ if it has been imported, and far enough."""
    found = sys.modules.get(module)
    return found if isinstance(getattr(found, "Buffer", None), type) and hasattr(found, "RecordBatch") else None
