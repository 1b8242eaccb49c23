"""What the cell makes of all rows of a DataFrame at once, where some of them at a time would do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.columns_at_once import find_columns_at_once
from nb_oomhelper.remedies.places import Mistake, Place, failed_cell, refused_shape
from nb_oomhelper.remedies.scaled_rows import find_scaled_rows
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.frame_ends import OF_EXPRESSION
from nb_oomhelper.source.frames_apart import frames_apart, with_totals_first
from nb_oomhelper.source.rows_apart import RowsApart

_FEW = 1000  # rows: fewer do not fill memory
_STEPS = 3  # of an expression, that are there at once
_TABLES = 4  # that are tried, the largest first


def find_tables_in_parts(
    written: Written, event: OomEvent, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find statements of the cell that may get some rows of a table at a time, or some columns.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        shortage: What the cell needs.
        places: Where it may be written.
    """
    rows = [
        *find_scaled_rows(written, event, shortage, places),
        *_find_tables_at_once(written, event, shortage, places),
    ]
    columns = list(find_columns_at_once(written, event, shortage, places))
    yield from rows if rows and any(one.partly for one in columns) else columns or rows


def _find_tables_at_once(
    written: Written, event: OomEvent, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Statements that make large tables of one, and little of those."""
    place = failed_cell(places)
    if place is None or event.phase == "train" or event.call is not None:
        return
    frames, function = written.frames, functools.cache(written.function_named)
    order = sorted(frames, key=lambda name: (name in written.cell.sets, -frames[name].rows))
    ways = [one for table in order[:_TABLES] if (one := _way(written, place, table, function)) is not None]
    best = max(ways, key=lambda one: (one.rank, len(one.gone)), default=None)  # of those alike the first
    if best is not None:
        table = best.tables[0]
        saved = _saved(event, shortage, best, frames[table].rows)
        yield Mistake(kind="rows_apart", subject=table, place=place, edits=best.edits, explains=saved, in_cell=True)


def _saved(event: OomEvent, shortage: Shortage, found: RowsApart, rows: int) -> int | None:
    """Bytes that parts do not take: half, for nobody has seen how much of it comes out; or all but the result."""
    if shortage.needs is None or event.requested is None:
        return None
    shape = refused_shape(event)
    if found.totals and shape is not None and len(shape) > 1 and max(shape) < rows:
        return None  # it may have been the groups that had no room: they are as many in the end
    if found.rank != OF_EXPRESSION:
        return shortage.needs // 2
    whole = shortage.needs <= _STEPS * event.requested  # and not a mask
    return shortage.saved(event.requested + event.requested // 8) if whole else None


def _way(written: Written, place: Place, table: str, function: Callable[[str], Function | None]) -> RowsApart | None:
    """How a table's rows are taken in parts; None where they cannot be."""
    frames, rows = written.frames, written.frames[table].rows
    if rows < _FEW:
        return None
    alike = {name for name, one in frames.items() if one.rows == rows}
    alike |= {name for name, (count, _) in written.rows.items() if count == rows}
    columns = frames[table].columns
    found = frames_apart(place.text, place.body, place.line or 0, table, columns, alike - {table}, function)
    if found is None:
        lists = [name for name, one in written.kept.items() if one.items is not None and name.isidentifier()]
        first = with_totals_first(place.text, place.body, place.line or 0, table, written.names, lists)
        if first is None:
            return None
        text, line = first
        found = frames_apart(text, text.tree.body, line, table, columns, alike - {table}, function)
        if found is not None:
            whole = (0, len(place.source), text.edited(found.edits))  # the lines that differ are told from that
            found = replace(found, edits=[whole])
    return None if found is None or written.misses(found.gone) else found
