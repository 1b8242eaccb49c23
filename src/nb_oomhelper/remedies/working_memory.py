"""Distances that scikit-learn computes in chunks, of which each takes up to 1 GiB, wherever there is less room."""

from __future__ import annotations

from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.places import Mistake, Place, failed_cell
from nb_oomhelper.source.cures import statement_at
from nb_oomhelper.source.within import put_within

_MIB = 1 << 20
_COPIES = 4  # of a chunk, that are there at once: the products, the distances, and what is made of them
_ROOM = 8  # times a chunk
_MOST = 256  # MiB: larger ones are no quicker


def find_large_chunks(event: OomEvent, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find a chunk that had no room: the statement can be told to make smaller ones.

    Args:
        event: What failed, with its stage.
        shortage: What room there is.
        places: Where it may be written: only the cell itself is changed.
    """
    cell = failed_cell(places)
    if cell is None or event.stage != "chunk" or event.requested is None or shortage.room is None:
        return
    size = 1
    while size < _MOST and 2 * size * _ROOM * _MIB <= shortage.room:
        size *= 2
    running = statement_at(cell.body, cell.line or 0)
    if running is None or event.requested <= _COPIES * size * _MIB:  # a few rows are the least that it takes
        return
    if edits := put_within(cell.text, [running], f"with sklearn.config_context(working_memory={size}):"):
        yield Mistake(
            kind="working_memory",
            subject=f"{size} MiB",
            place=cell,
            edits=edits,
            explains=event.requested - _COPIES * size * _MIB,
            in_cell=True,
        )
