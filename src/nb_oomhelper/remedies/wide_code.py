"""Code that makes wider arrays, or more of them at once, than what is computed needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake, Place, find_keepers, kept_by
from nb_oomhelper.remedies.row_wise import find_row_parts
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import cures, narrowing, rewriting
from nb_oomhelper.source.collecting import find_wide


def find_wide_code(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Arrays that are wider, or more of them at once, than what is computed needs."""
    for place in places:
        running = _running(place)
        if event.framework != "numpy" or not running:
            continue
        if edits := narrowing.sparse_dummies(place.text, running):
            yield Mistake(kind="sparse", subject="get_dummies", place=place, edits=edits)
        yield from find_row_parts(written, event, shortage, place)
        if edits := rewriting.concat_once(place.text, place.body):
            yield Mistake(kind="concat_once", subject="concat", place=place, edits=edits)
        yield from _in_place(written, held, place, running)
        if edits := narrowing.still_sparse(place.text, running):
            yield Mistake(
                kind="still_sparse", subject="toarray", place=place, edits=edits, explains=event.requested, in_cell=True
            )
        yield from _in_float32(written, event, shortage, place, running)
    yield from _wide_members(written, held, shortage, places)


def _in_float32(
    written: Written, event: OomEvent, shortage: Shortage, place: Place, running: list[ast.stmt]
) -> Iterator[Mistake]:
    """The array that was refused has 16 digits: it is told so where it is made, or what it is computed from."""
    half = None if event.requested is None else event.requested // 2
    if "float64" not in event.message or (half is not None and shortage.room is not None and half >= shortage.room):
        return
    edits = cures.in_float32(place.text, running)
    edits += [] if edits else narrowing.collected_as_float32(place.text, running, _lists_of_float64(written, place))
    explains = half if edits else None
    if edits := edits or cures.in_float32(place.text, place.body):
        yield Mistake(kind="float32", subject="float32", place=place, edits=edits, explains=explains, in_cell=True)


def _lists_of_float64(written: Written, place: Place) -> set[str]:
    """Names of lists of arrays with 16 digits, as the code of a place knows them."""
    one = place.definition
    kept = written.kept if one is None else written.local.get((one.file, one.line), {})
    return {name for name, what in kept.items() if what.element is not None and what.element.kind == "float64"}


def _running(place: Place) -> list[ast.stmt]:
    """The innermost statement that was running, in a list."""
    if place.line is None:
        return []
    body, found = place.body, list[ast.stmt]()
    while True:
        fitting = [one for one in body if cures.first_line(one) <= place.line <= (one.end_lineno or 0)]
        if not fitting:
            return found
        found = fitting[:1]
        inner = [getattr(found[0], name, None) for name in ("body", "orelse", "finalbody")]
        body = [one for part in inner if isinstance(part, list) for one in part if isinstance(one, ast.stmt)]


def _in_place(written: Written, held: Holdings, place: Place, running: list[ast.stmt]) -> Iterator[Mistake]:
    """`x = (x - x.mean()) / x.std()` of an array that nobody else looks at."""
    for row in held.rows:
        alone = row.kind == "variable" and row.type_name == "ndarray"
        alone = alone and kept_by(held, row.name, local=False) >= max(row.own + row.shared, WORTH_MENDING)
        floats = all(dtype.startswith("float") for dtype, _ in row.dtypes)
        meant = place.definition is None and alone and floats and row.name in written.cell.sets
        if meant and (edits := narrowing.in_place(place.text, running, row.name)):
            yield Mistake(
                kind="in_place", subject=row.name, place=place, edits=edits, explains=row.own + row.shared, in_cell=True
            )


def _wide_members(written: Written, held: Holdings, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """`features.append(extract(i))`: each array has 16 digits; what views of one array take is not theirs."""
    missing = 0 if shortage.needs is None or shortage.room is None else shortage.needs - shortage.room
    for path, kept, within, local in find_keepers(written, places):
        if kept.element is None or kept.element.kind != "float64" or not kept.call:
            continue
        size = kept_by(held, path, local=local)
        for place in within if size // 2 >= max(WORTH_MENDING, missing // 4) and _is_here(within) else ():
            if edits := find_wide(place.text, place.body, path, kept.element):
                yield Mistake(
                    kind="float32", subject="float32", place=place, edits=edits, explains=size // 2, in_cell=True
                )


def _is_here(places: list[Place]) -> bool:
    return any(place.line is not None for place in places)
