"""What the cell makes of all rows of a DataFrame at once, where some of them at a time would do."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.places import Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.frames_apart import frames_apart

_FEW = 1000  # rows: fewer do not fill memory
_TABLES = 4  # that are tried, the largest first


def find_tables_at_once(written: Written, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find statements of the cell that make large tables of one, and little of those.

    Args:
        written: What the notebook's code says.
        shortage: What the cell needs.
        places: Where it may be written.
    """
    place = next((one for one in places if one.definition is None and one.line is not None), None)
    if place is None:
        return
    frames = written.frames
    order = sorted(frames, key=lambda name: (name in written.cell.sets, -frames[name].rows))
    for table in order[:_TABLES]:
        rows = frames[table].rows
        if rows < _FEW:
            continue
        alike = {name for name, one in frames.items() if one.rows == rows}
        found = frames_apart(
            place.text,
            place.body,
            place.line or 0,
            table,
            frames[table].columns,
            (alike | {name for name, (count, _) in written.rows.items() if count == rows}) - {table},
            lambda name: _function(written, name),
        )
        if found is None or is_missed(written, found.gone):
            continue
        half = None if shortage.needs is None else shortage.needs // 2  # how much of it comes out, nobody has seen
        yield Mistake(kind="rows_apart", subject=table, place=place, edits=found.edits, explains=half, in_cell=True)
        return


def is_missed(written: Written, gone: Collection[str]) -> bool:
    """Tell whether a function reads a name that would be gone, or something older stands under it, which would stay.

    Args:
        written: What the notebook's code says.
        gone: The names.
    """
    older = written.names - written.made_names()
    return any(name in older or written.is_read_by_functions(name) for name in gone)


def _function(written: Written, name: str) -> Function | None:
    """The one function of the notebook that a name stands for."""
    meant = [one for one in written.definitions if one.name == name and not one.owner]
    found = written.function(meant[0]) if len(meant) == 1 else None
    return None if found is None else found[1]
