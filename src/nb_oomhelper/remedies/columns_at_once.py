"""What the cell computes of all columns of a table at once, where some of them at a time would do."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.places import Mistake, Place, failed_cell, refused_shape
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.column_kinds import Kind
from nb_oomhelper.source.columns_apart import ColumnsApart, columns_apart

_FEW, _NARROW = 1000, 4  # rows, and columns: fewer do not fill memory, or cannot be parted
_PARTS, _STEPS = 32, 4  # parts of the columns; tables of one that are there at once


def find_columns_at_once(
    written: Written, event: OomEvent, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find statements of the cell that compute with whole columns: `(df - df.mean()) / df.std()`.

    Args:
        written: What the notebook's code says.
        event: What failed.
        shortage: What the cell needs.
        places: Where it may be written.
    """
    place = failed_cell(places)
    if place is None or event.backend != "host" or event.phase == "train" or event.requested is None:
        return
    shape = refused_shape(event) or ()
    refused = math.prod(shape)
    for table, (rows, columns, size) in find_tables(written).items():
        if refused > rows * columns and columns not in shape:  # it is no table of its columns
            continue
        found = _way(written, place, table)
        if found is None or written.misses(found.gone):
            continue
        whole = max(size, event.requested if 2 * refused >= rows * columns else 0)
        own = size if table in written.made_names() else 0  # the cell makes it anew
        left = own + found.tables * whole + _STEPS * whole // min(columns, _PARTS)
        yield Mistake(
            kind="columns_apart",
            subject=table,
            place=place,
            edits=found.edits,
            explains=shortage.saved(left),
            in_cell=True,
            partly=found.more,
        )
        return


def find_tables(written: Written) -> dict[str, tuple[int, int, int]]:
    """Give DataFrames and arrays of two axes by name: how many rows and columns, and bytes of as many numbers.

    Args:
        written: What the notebook's code says.

    Returns:
        The largest first.
    """
    shapes = {name: (one.rows, one.width) for name, one in written.frames.items()}
    arrays = {name: one.shape for name, one in written.kept.items() if one.shape is not None and len(one.shape) == 2}
    found = {**shapes, **{name: (shape[0], shape[1]) for name, shape in arrays.items() if name in written.names}}
    fitting = {name: one for name, one in found.items() if one[0] >= _FEW and one[1] >= _NARROW}
    order = sorted(fitting, key=lambda name: -math.prod(fitting[name]))
    return {name: (*fitting[name], 8 * math.prod(fitting[name])) for name in order}


def _way(written: Written, place: Place, table: str) -> ColumnsApart | None:
    lists = {name for name, one in written.kept.items() if one.texts}
    barred = {name for name, one in written.kept.items() if one.shape is not None} | {*written.frames}
    barred |= {name for name, (_, is_text) in written.rows.items() if not is_text}
    kind: Kind = "frame" if table in written.frames else "array"
    return columns_apart(
        place.text,
        place.body,
        place.line or 0,
        table,
        kind,
        barred - {table},
        lists,
        functools.cache(written.function_named),
    )
