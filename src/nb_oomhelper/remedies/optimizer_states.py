"""What an optimizer keeps for each weight, where there was no room for it."""

from __future__ import annotations

from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.remedies.on_the_way import gathers
from nb_oomhelper.remedies.places import Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import narrowing


def find_states(written: Written, event: OomEvent, held: Holdings, places: list[Place]) -> Iterator[Mistake]:
    """Find Adam's state, where an optimizer step could not make it; all is not said where models are collected, too.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase and stage.
        held: Who keeps what.
        places: Where it may be written.
    """
    if event.phase != "train" or event.stage != "optimizer":
        return
    size = max((dict(row.parts).get("optimizer state", 0) for row in held.rows), default=0)
    found = [(place, "Adam", narrowing.less_state(place.text, place.body)) for place in places]
    cell = next((place for place in places if place.definition is None), None)
    if cell is not None and not any(edits for _, _, edits in found) and _imports_torch(written):
        adams = [row.name for row in held.rows if row.role == "optimizer" and row.type_name in ("Adam", "AdamW")]
        free = [name for name in adams if name.isidentifier() and name not in written.cell.sets]
        found = [(cell, name, narrowing.other_optimizer(name)) for name in free[:1]]
    for place, name, edits in found:
        if edits:
            yield Mistake(
                kind="less_state",
                subject=name,
                place=place,
                edits=edits,
                explains=size,
                in_cell=True,
                partly=gathers(written, places, event.backend, ()),
            )


def _imports_torch(written: Written) -> bool:
    return any("torch." in source for source in written.sources())
