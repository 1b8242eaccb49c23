"""Arrays that are made row by row, of which little is kept: they need not be there as a whole."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.arrays import bytes_of
from nb_oomhelper.remedies.may_move import models_in
from nb_oomhelper.remedies.model_weights import still_to_come
from nb_oomhelper.remedies.part_sizes import count_parts
from nb_oomhelper.remedies.places import Mistake, Place, refused_shape
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.collecting import root_of
from nb_oomhelper.source.cures import reads_global
from nb_oomhelper.source.in_parts import PARTS
from nb_oomhelper.source.row_functions import RowFunction, no_function
from nb_oomhelper.source.row_parts import RowParts, in_row_parts
from nb_oomhelper.source.row_sources import NUMPY, TORCH, Library, UnfitError
from nb_oomhelper.source.row_totals import SIMPLE
from nb_oomhelper.source.row_values import computes_elementwise
from nb_oomhelper.source.tree import is_at, last_name, names_bound, names_in, walk


def find_row_parts(written: Written, event: OomEvent, shortage: Shortage, place: Place) -> Iterator[Mistake]:
    """Find what can be computed in parts of its rows.

    Args:
        written: What the notebook's code says.
        event: What failed; NumPy's message tells the shape of what was refused.
        shortage: What the cell needs.
        place: Where to look.
    """
    if place.line is None:
        return
    shapes = _shapes(written, place)
    refused = refused_shape(event)
    ways: Iterable[_Way]
    count = count_parts(event, shortage, _largest(written, place))
    if event.framework == "pytorch":
        ways = _of_tensors(written, place, shapes, count)
    else:
        ways = [] if refused is None else [_in_parts(written, place, shapes, refused, NUMPY, count)]
    for found, shape in ways:
        if found is None or _is_missed(written, place, found):
            continue
        yield Mistake(
            kind="by_parts" if event.framework == "numpy" else "tensor_parts",
            subject=event.function or "numpy",
            place=place,
            edits=found.edits,
            explains=_saved(written, event, shortage, found, shape, _there(written, place, found), count),
            in_cell=True,
        )
        return


def find_loss_parts(written: Written, event: OomEvent, held: Holdings, places: list[Place]) -> Iterator[Mistake]:
    """Find what a training step computes of all rows, and can compute in parts that are made again for `backward()`.

    Args:
        written: What the notebook's code says.
        event: What failed, with its stage.
        held: Who keeps what.
        places: Where to look.
    """
    if event.requested is None or event.stage or not (written.autograd or event.phase == "train"):
        return
    for place in places:
        if place.line is not None:
            yield from _loss_parts(written, event, held, place)


def _loss_parts(written: Written, event: OomEvent, held: Holdings, place: Place) -> Iterator[Mistake]:
    shapes = _shapes(written, place)
    for found, _ in _of_tensors(written, place, shapes, PARTS, again=True):
        if found is None or found.wide or _is_missed(written, place, found):
            continue
        later = [one for one in place.body if one.lineno > (place.line or 0) and not _is_within(place, one, found)]
        alike = (_of_tensors(written, replace(place, line=one.lineno), shapes, PARTS, again=True) for one in later)
        made = (event.requested or 0) + _there(written, place, found)
        saved = made - 2 * made // PARTS - still_to_come(held)
        yield Mistake(
            kind="loss_in_parts",
            subject=event.function or "torch",
            place=place,
            edits=found.edits,
            explains=saved if saved > 0 else None,
            in_cell=True,
            partly=any(one is not None for ways in alike for one, _ in ways),  # they are next to have no room
        )
        return


def _shapes(written: Written, place: Place) -> dict[str, tuple[int, ...]]:
    kept = written.kept_in(place.definition)
    return {path: what.shape for path, what in kept.items() if what.shape is not None}


def _is_within(place: Place, node: ast.stmt, found: RowParts) -> bool:
    """Whether a statement changes, or is in the loop."""
    start, end = place.text.span(node)
    return any(start < stop and begin < end for begin, stop, _ in found.edits)


def _largest(written: Written, place: Place) -> int:
    """Bytes of the largest array that was made by then."""
    kept, made = written.kept_in(place.definition), names_bound(walk(place.body))
    sizes = [bytes_of(kept[name].shape or (), kept[name].dtype) for name in made if name in kept]
    return max((one or 0 for one in sizes), default=0)


def _is_missed(written: Written, place: Place, found: RowParts) -> bool:
    return place.definition is None and any(written.is_read_by_functions(name) for name in found.gone)


def _there(written: Written, place: Place, found: RowParts) -> int:
    """Bytes of what a function had made by then, that goes into the loop."""
    kept = written.kept_in(place.definition) if place.definition else {}
    sizes = [bytes_of(kept[name].shape or (), kept[name].dtype) for name in found.gone if name in kept]
    return sum(one or 0 for one in sizes)


_Way = tuple[RowParts | None, tuple[int, ...]]


def _in_parts(
    written: Written,
    place: Place,
    shapes: Mapping[str, tuple[int, ...]],
    refused: tuple[int, ...],
    library: Library,
    count: int,
    *,
    again: bool = False,
) -> _Way:
    one, known = place.definition, library is NUMPY  # of tensors, functions of the notebook are not read
    found = in_row_parts(
        place.text,
        place.body,
        place.line or 0,
        shapes,
        refused,
        functools.cache(lambda name: known and is_elementwise(written, name)),
        written.names,
        at_top=one is None,
        functions=functools.partial(function_called, written, "" if one is None else one.owner)
        if known
        else no_function,
        whole=_whole(written, place, refused[0]),
        library=library,
        parts=count,
        again=again,
    )
    return found, refused


def _of_tensors(
    written: Written, place: Place, shapes: Mapping[str, tuple[int, ...]], parts: int, *, again: bool = False
) -> Iterator[_Way]:
    """Try each number of rows that the failing statement's tensors have: no message of PyTorch's tells a shape."""
    node = next((one for one in walk(place.body) if isinstance(one, SIMPLE) and is_at(one, place.line or 0)), None)
    words, kept = names_in(node) if node else set(), written.kept_in(place.definition)
    with_gradients = any(not kept[path].cuts for path in shapes if root_of(path) in words)
    if (not again and (written.autograd or with_gradients)) or words & models_in(written):
        return
    own = [shape for path, shape in shapes.items() if root_of(path) in words and shape]
    last = min((shape[-1] for shape in own if len(shape) > 1), default=1)
    for count in sorted({shape[0] for shape in own if shape[0] >= parts}, reverse=True):
        for axes in (3, 2):
            sides = (count, *(last for _ in range(axes - 1)))
            found, refused = _in_parts(written, place, shapes, sides, TORCH, parts, again=again)
            if found is not None and found.axes == axes:
                yield found, refused


def _whole(written: Written, place: Place, rows: int) -> set[str]:
    """Names of lists and pandas' tables with so many rows."""
    kept = written.known_in(place.definition)
    lists = {name for name, one in kept.items() if one.items == rows}
    return lists | {name for name, (count, _) in written.rows.items() if count == rows and name not in kept}


def _saved(
    written: Written,
    event: OomEvent,
    shortage: Shortage,
    found: RowParts,
    refused: tuple[int, ...],
    there: int,
    parts: int,
) -> int | None:
    """Bytes that parts do not take: all but a part of what is made there, and no less than what was refused.

    `there` is what had been made by then of what goes into the loop.
    """
    if event.requested is None or (found.wide and (len(refused) < 3 or not found.tables)):
        return None
    alone = found.alone and not written.made_names()
    size = shortage.needs if alone and shortage.needs is not None else event.requested + there
    tables = 2 * found.tables * event.requested // max(1, min(refused[1:], default=1))  # in parts, and put together
    return size - 2 * size // parts - tables


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
