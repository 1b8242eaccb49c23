"""Large arrays of which each row can be computed when it is read."""

from __future__ import annotations

import ast
import functools
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Protocol

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.remedies.places import Mistake, Place, refused_shape
from nb_oomhelper.remedies.row_wise import function_called, is_elementwise
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.demand_changes import is_changed
from nb_oomhelper.source.demand_reads import Reads
from nb_oomhelper.source.reduced import COPYING
from nb_oomhelper.source.rows_on_demand import Known, OnDemand, rows_on_demand
from nb_oomhelper.source.tree import last_name, walk

_OWN_ARRAYS = frozenset({"pytorch", "jax", "tensorflow", "cupy"})  # which are none of NumPy's
_WIDTH = 8  # bytes of a number, where they are not known


def find_sparse(names: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Find the sparse matrices of SciPy's that can be cut, with their shapes.

    Args:
        names: Names and their objects.
    """
    sparse = sys.modules.get("scipy.sparse")
    kinds = [getattr(sparse, name, None) for name in ("csr_matrix", "csr_array")]
    return {
        name: tuple(map(int, thing.shape))  # type: ignore[attr-defined]
        for name, thing in names.items()
        if sparse is not None and any(type(thing) is one for one in kinds)
    }


def find_demandable(written: Written, event: OomEvent, places: list[Place]) -> Iterator[Mistake]:
    """Find arrays that need not be there as a whole, in the cell or else in the function of it that failed.

    Args:
        written: What the notebook's code says.
        event: What failed.
        places: Where it may be written.
    """
    if event.backend != "host" or event.framework in _OWN_ARRAYS or event.call is not None or event.phase == "train":
        return
    for place in sorted((one for one in places if one.line is not None), key=lambda one: one.definition is not None):
        found = rows_on_demand(place.text, place.body, place.line or 0, _known(written, event, place))
        if found is None:
            continue
        there = sum(_size(written, place, name) for name in found.names)
        size = there + (event.requested or 0)
        saved = size - size // 8 - (event.requested or 0) * _copies_before(found)
        yield Mistake(
            kind="on_demand",
            subject=", ".join(found.names),
            place=place,
            edits=found.edits,
            explains=saved if saved > 0 and is_read_little(written, place, found) else None,
            in_cell=True,
        )
        return


def _copies_before(found: OnDemand) -> bool:
    """Whether totals that are had before make a copy of what they are of: `np.nanmean(x, axis=0)`."""
    lines = [code for _, _, code in found.edits if "on_demand(" not in code]
    return any(f".{name}(" in code for code in lines for name in COPYING)


def _known(written: Written, event: OomEvent, place: Place) -> Known:
    kept, one, refused = written.kept_in(place.definition), place.definition, refused_shape(event)
    lists = {path: what.items for path, what in kept.items() if what.items is not None and not what.plain}
    return Known(
        shapes={path: what.shape for path, what in kept.items() if what.shape is not None},
        lists={path: many for path, many in lists.items() if refused is None or refused[0] == many},
        sparse=written.sparse if one is None else {},
        elementwise=functools.cache(lambda name: is_elementwise(written, name)),
        functions=functools.partial(function_called, written, "" if one is None else one.owner),
        find=written.function_named,
        taken=written.names,
    )


class Read(Protocol):
    """How an array is read, as of `OnDemand`."""

    @property
    def read(self) -> bool:
        """All that the rest of the code does with it is known to need a few rows at a time."""

    @property
    def returned(self) -> bool:
        """The same, but that it is given back."""


def is_read_little(written: Written, place: Place, found: Read) -> bool:
    """Tell whether a few rows at a time are enough: where a function gives them back, for the cell that calls it.

    Args:
        written: What the notebook's code says.
        place: Where the array is made.
        found: How it is read there.
    """
    cell = written.read(written.cell.source)
    if found.read or not found.returned or place.definition is None or cell is None:
        return found.read
    reads = Reads(cell.tree, written.function_named)
    calls = [
        one
        for one in walk(cell.tree.body)
        if isinstance(one, ast.Call) and last_name(one.func) == place.definition.name
    ]
    names = [reads.read(one) for one in calls]
    known = {name for one in names if one is not None for name in one}
    later = [one for one in cell.tree.body if not any(call in ast.walk(one) for call in calls)]
    return bool(calls) and None not in names and not is_changed(later, known) and reads.are_few(later, known)


def _size(written: Written, place: Place, name: str) -> int:
    """Bytes of an array that was there when it failed."""
    kept = written.kept_in(place.definition).get(name)
    made = kept is not None and kept.shape is not None and (place.definition or name in written.made_names())
    return math.prod(kept.shape) * _WIDTH if made else 0  # type: ignore[union-attr,arg-type]
