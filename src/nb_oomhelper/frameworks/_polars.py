"""Polars: the memory behind its frames and series. Its lack of memory ends the process."""

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

name = "polars"
module = "polars"


def loaded() -> bool:
    """Whether Polars has been imported by someone."""
    return bool(_kinds())


def storages(objects: Iterable[object]) -> Iterator[tuple[int, Hashable, str, int | None, int]]:
    """The memory that each column among these objects keeps.

    Only columns of one piece with numbers tell where they lie. Of others those that have name, type, length and bytes
    in common are taken for one: a frame that was made of another one has its columns.

    Yields:
        Index of the object, key, "host", None, bytes.
    """
    kinds = _kinds()
    if not kinds:
        return
    for index, thing in enumerate(objects):
        if any(type(thing) is kind for kind in kinds):
            try:
                found = [_row(column) for column in _columns(kinds, thing)]
            except Exception:  # borrowed by another thread
                continue
            for key, size in found:
                yield index, key, "host", None, size


def _columns(kinds: tuple[Any, ...], thing: Any) -> list[Any]:
    return thing.get_columns() if type(thing) is kinds[0] else [thing]


def _row(column: Any) -> tuple[Hashable, int]:
    size: int = column.estimated_size()
    if column.n_chunks() == 1:  # of several, asking would make one
        try:
            return ("host", None, column.as_single_ptr()), size
        except Exception:  # texts, lists, structures
            pass
    return ("polars", column.name(), str(column.dtype()), column.len(), size), size


def label(obj: object) -> str | None:  # noqa: ARG001
    """Its rows are named by what keeps them."""
    return None


def role(obj: object) -> str | None:
    """ "array" for what the classes in Python keep of a frame or series, by class alone."""
    return "array" if any(type(obj) is kind for kind in _kinds()) else None


def array_classes() -> tuple[type, ...]:
    """None: the garbage collector knows nothing of them."""
    return ()


def _kinds() -> tuple[Any, ...]:
    """The classes in Rust of frames and of series, once Polars has been imported far enough."""
    home = sys.modules.get("polars._plr") or sys.modules.get("polars.polars")
    kinds = tuple(getattr(home, kind, None) for kind in ("PyDataFrame", "PySeries"))
    return kinds if all(isinstance(kind, type) for kind in kinds) else ()
