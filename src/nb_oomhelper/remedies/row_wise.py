"""Arrays that are made row by row, of which little is kept: they need not be there as a whole."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.places import Mistake, Place, refused_shape
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.cures import reads_global
from nb_oomhelper.source.in_parts import PARTS
from nb_oomhelper.source.row_functions import RowFunction
from nb_oomhelper.source.row_parts import RowParts, in_row_parts
from nb_oomhelper.source.row_sources import UnfitError
from nb_oomhelper.source.row_values import computes_elementwise
from nb_oomhelper.source.tree import last_name


def find_row_parts(written: Written, event: OomEvent, shortage: Shortage, place: Place) -> Iterator[Mistake]:
    """Find what can be computed in parts of its rows.

    Args:
        written: What the notebook's code says.
        event: What failed; its message tells the shape of what was refused.
        shortage: What the cell needs.
        place: Where to look.
    """
    refused = refused_shape(event)
    if place.line is None or refused is None:
        return
    one = place.definition
    shapes = {path: what.shape for path, what in written.kept_in(one).items() if what.shape is not None}
    found = in_row_parts(
        place.text,
        place.body,
        place.line,
        shapes,
        refused,
        functools.cache(lambda name: is_elementwise(written, name)),
        written.names,
        at_top=one is None,
        functions=functools.partial(function_called, written, "" if one is None else one.owner),
        whole=_whole(written, place, refused[0]),
    )
    if found is not None and not (one is None and any(written.is_read_by_functions(name) for name in found.gone)):
        yield Mistake(
            kind="by_parts",
            subject=event.function or "numpy",
            place=place,
            edits=found.edits,
            explains=_saved(written, event, shortage, found),
            in_cell=True,
        )


def _whole(written: Written, place: Place, rows: int) -> set[str]:
    """Names of lists and pandas' tables with so many rows."""
    kept = written.known_in(place.definition)
    lists = {name for name, one in kept.items() if one.items == rows}
    return lists | {name for name, (count, _) in written.rows.items() if count == rows and name not in kept}


def _saved(written: Written, event: OomEvent, shortage: Shortage, found: RowParts) -> int | None:
    """Bytes that parts do not take: all but a part of what is made there, and no less than what was refused."""
    if event.requested is None or found.wide:
        return None
    alone = found.alone and not written.made_names()
    size = shortage.needs if alone and shortage.needs is not None else event.requested
    return size - 2 * size // PARTS


def function_called(written: Written, owner: str, call: ast.Call) -> RowFunction | None:
    """Give the one function of the notebook, or the one method of `self`, that a call can be of.

    Args:
        written: What the notebook's code says.
        owner: The class of the method that is read; "" for code that is of none.
        call: The call.

    Raises:
        UnfitError: Several functions of the notebook have that name.
    """
    name = last_name(call.func)
    method = isinstance(call.func, ast.Attribute)
    if method and ast.unparse(call.func.value) != "self":  # type: ignore[attr-defined]
        return None
    meant = [one for one in written.definitions if one.name == name]
    found = written.function(meant[0]) if len(meant) == 1 and meant[0].owner == (owner if method else "") else None
    if found is None and meant and not method and any(not one.owner for one in meant):
        raise UnfitError
    shapes = {path: kept.shape for path, kept in written.kept.items() if kept.shape is not None}
    return None if found is None else RowFunction(text=found[0], node=found[1], shapes=shapes)


def is_elementwise(written: Written, name: str) -> bool:
    """Tell whether a function of the notebook computes element by element, and reads no array beside.

    Args:
        written: What the notebook's code says.
        name: The function's name.
    """
    functions = [written.function(one) for one in written.definitions if one.name == name and not one.owner]
    arrays = [path for path, kept in written.kept.items() if kept.shape is not None]
    return bool(functions) and all(
        one is not None and computes_elementwise(one[1]) and not any(reads_global(one[1], path) for path in arrays)
        for one in functions
    )
