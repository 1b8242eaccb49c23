"""Scalers of scikit-learn's that get all rows of a table at once, where some of them at a time would do."""

from __future__ import annotations

from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.columns_at_once import find_tables
from nb_oomhelper.remedies.places import Mistake, Place, failed_cell
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.scaled_in_parts import scaled_in_parts

_PARTS, _STEPS = 32, 4  # parts of the rows; tables of one that are there at once


def find_scaled_rows(written: Written, event: OomEvent, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find `scaler.fit_transform(X)` in the statement that failed.

    Args:
        written: What the notebook's code says.
        event: What failed.
        shortage: What the cell needs.
        places: Where it may be written.
    """
    place = failed_cell(places)
    if place is None or event.backend != "host" or written.learned.gives_frames:
        return
    for table, (rows, _, size) in find_tables(written).items():
        if table not in written.complete:  # a part in which a column has no number spoils what was learned before
            continue
        edits = scaled_in_parts(
            place.text, place.body, place.line or 0, table, -(-rows // _PARTS), frame=table in written.frames
        )
        if edits:
            left = size + _STEPS * size // _PARTS
            saved = shortage.saved(left)
            yield Mistake(kind="rows_apart", subject=table, place=place, edits=edits, explains=saved, in_cell=True)
            return
