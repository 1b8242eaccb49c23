"""Data that is on a GPU whole where a batch of it would do."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.may_move import may_lie_on_host
from nb_oomhelper.remedies.places import Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import growing, moving, moving_last
from nb_oomhelper.source.collecting import root_of
from nb_oomhelper.source.element import Element
from nb_oomhelper.source.moving_computed import where_computed
from nb_oomhelper.source.source_text import Edit
from nb_oomhelper.source.to_host import is_only_collected
from nb_oomhelper.source.tree import last_name, pairs, walk


def find_moved_data(written: Written, event: OomEvent, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find data that need not lie on the GPU whole.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        shortage: What the cell needs.
        places: Where a mistake may be written.
    """
    for place in places if event.backend != "host" else ():
        if place.line is None:
            continue
        found = moving.where_used(place.text, place.body, place.line)
        if found is None:
            found = where_computed(place.text, place.body, place.line, _on_device(written, place))
        if found is not None and not _is_read_elsewhere(written, place, found[0]):
            # what the code does with the batches comes after the error: nobody has seen what it needs
            yield Mistake(kind="move_batches", subject=found[0], place=place, edits=found[1], in_cell=True)
        elif found is None and (found := moving_last.host_first(place.text, place.body, place.line)):
            later = [edit for line in _lines_after(place) for edit in _host_first(place, line)]
            yield Mistake(
                kind="move_last",
                subject=found[0],
                place=place,
                edits=[*found[1], *later],
                explains=None if later else _beside_result(event, shortage, place),  # nobody has seen what those need
                in_cell=True,
            )
        yield from _joined(written, event, shortage, places, place)


def _on_device(written: Written, place: Place) -> set[str]:
    """Names of tensors, models and the like that lie on a device, and that the statements do not bind themselves."""
    known = written.known_in(place.definition)
    return {root_of(path) for path, one in known.items() if one.element is not None and one.element.reaches_device}


def _lines_after(place: Place) -> list[int]:
    """The lines of the statements after the one that was running."""
    return [node.lineno for node in place.body if node.lineno > (place.line or 0)]


def _host_first(place: Place, line: int) -> list[Edit]:
    found = moving_last.host_first(place.text, place.body, line)
    return [] if found is None else found[1]


def _is_read_elsewhere(written: Written, place: Place, names: str) -> bool:
    """Whether functions of the notebook read what then lies in host memory, or a loader of it."""
    if place.definition is not None:
        return False
    bound = [(target, value) for node in walk(place.body) for target, value in pairs(node)]
    loaders = {ast.unparse(to) for to, value in bound if isinstance(value, ast.Call) and _loads(value)}
    return any(written.is_read_by_functions(name) for name in {*names.split(", "), *loaders})


def _loads(call: ast.Call) -> bool:
    return last_name(call.func) == "DataLoader"


def _beside_result(event: OomEvent, shortage: Shortage, place: Place) -> int | None:
    """All but the result, which is as large as the request that failed; None where a loop is still to come."""
    line = place.line or 0
    after = [one for one in place.body if one.lineno > line]
    if shortage.needs is None or event.requested is None or any(_works(one) for one in after):
        return None
    return max(0, shortage.needs - event.requested)


def _works(node: ast.stmt) -> bool:
    return any(isinstance(one, (ast.For, ast.While, ast.comprehension)) for one in ast.walk(node))


def _joined(
    written: Written, event: OomEvent, shortage: Shortage, places: list[Place], place: Place
) -> Iterator[Mistake]:
    """`out = torch.cat([out, part])` in a loop."""
    if event.phase == "train" or written.autograd is not False or place.line is None:
        return
    found = growing.join_on_host(place.text, place.body, place.line)
    alone = found and is_only_collected(place.body, {found[0]: Element("other", on_device=True)})
    if found and alone and may_lie_on_host(written, places, place, [found[0]]):
        yield Mistake(
            kind="append_host",
            subject=found[0],
            place=place,
            edits=found[1],
            explains=shortage.needs,
            in_cell=True,
            grows=True,
        )
