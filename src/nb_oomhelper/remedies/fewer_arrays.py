"""Arithmetic that makes several arrays where one would do, in the cell or in a function of it that failed."""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.arrays import bytes_of
from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.places import Mistake, Place, refused_dtype, refused_shape
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import narrowing
from nb_oomhelper.source.one_array import Arrays, is_number, one_array
from nb_oomhelper.source.row_calls import ELEMENTWISE
from nb_oomhelper.source.tree import is_name, last_name, pairs

_SMALLER = 8  # times
_TWICE = 1.9  # times what was asked for, from which on there was another array beside it


def find_one_array(
    written: Written, event: OomEvent, shortage: Shortage, place: Place, running: list[ast.stmt]
) -> Iterator[Mistake]:
    """Find arithmetic that can be done in one array: `z = (x - x.mean(axis=0)) / x.std(axis=0)`.

    Args:
        written: What the notebook's code says.
        event: What failed.
        shortage: What the cell needs, and what room there is.
        place: Where it may be written.
        running: The statement of it that was running.
    """
    shape, dtype = refused_shape(event), refused_dtype(event)
    if shape is None or dtype not in ("float32", "float64") or not running or event.requested is None:
        return
    if shortage.needs is not None and shortage.needs - bytes_named(written, place) < _TWICE * event.requested:
        return  # there was no other, but what has a name
    found = one_array(place.text, running[0], _arrays(written, place, shape, dtype))
    if found is not None:
        name, edits = found
        grows = any(_makes_more(one, name) for one in place.body if one.lineno > running[0].lineno)
        yield Mistake(
            kind="in_place",
            subject=name,
            place=place,
            edits=edits,
            explains=event.requested,
            in_cell=True,
            partly=grows,
        )


def bytes_named(written: Written, place: Place, gone: Collection[str] = ()) -> int:
    """Add up what the cell had made that has a name: this stays as it is.

    Args:
        written: What the notebook's code says.
        place: The cell; of a function nothing is counted.
        gone: Names that do not stay.
    """
    kept = [written.kept[name] for name in written.made_names().difference(gone) if name in written.kept]
    sizes = [bytes_of(one.shape, one.dtype) or 0 for one in kept if one.shape is not None]
    return sum(sizes) if place.definition is None else 0


def _makes_more(node: ast.stmt, name: str) -> bool:
    """Whether a statement makes an array more of one, as `y = 2 * x` does: there may be no room for that, either."""
    sides = [side for one in ast.walk(node) if isinstance(one, ast.BinOp) for side in (one.left, one.right)]
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call) and last_name(one.func) in ELEMENTWISE]
    return any(is_name(one, name) for one in [*sides, *(one for call in calls for one in call.args)])


def _arrays(written: Written, place: Place, shape: tuple[int, ...], dtype: str) -> Arrays:
    known = {path: kept for path, kept in written.known_in(place.definition).items() if kept.shape is not None}
    whole = {path for path, kept in known.items() if kept.shape == shape and kept.dtype.startswith(("int", "uint"))}
    numbers = {
        target.id
        for node in place.body
        for target, value in pairs(node)
        if isinstance(target, ast.Name) and is_number(value)
    }
    # what a reduction gives is as wide as what it is of, which nobody knows any more
    reduced = narrowing.reduced_names(place.body) if dtype == "float64" else set()
    small = {path for path, kept in known.items() if _goes_with(kept, shape, dtype)}
    return Arrays(
        shape=shape,
        alike={path for path, kept in known.items() if kept.shape == shape and kept.dtype == dtype},
        whole=whole if dtype == "float64" else (),
        small=small | ((numbers | reduced) - known.keys()),
        floats={path for path in small if known[path].dtype == dtype},
        taken=written.names,
    )


def _goes_with(kept: Kept, shape: tuple[int, ...], dtype: str) -> bool:
    """Whether an array is small, and one of some shape and dtype stays so beside it."""
    own = kept.shape or ()
    fit = len(own) <= len(shape) and all(one in (1, of) for one, of in zip(own[::-1], shape[::-1], strict=False))
    return fit and math.prod(own) * _SMALLER <= math.prod(shape) and stays_as_wide(dtype, kept.dtype)


def stays_as_wide(dtype: str, other: str) -> bool:
    """Tell whether an array keeps its dtype when it is computed with another one.

    Args:
        dtype, other: Its dtype, and the other one's.
    """
    return other == dtype or (
        dtype == "float64" and other.startswith(("float", "int", "uint", "bool")) and other != "float128"
    )
