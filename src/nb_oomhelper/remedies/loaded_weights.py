"""Checkpoints that go to the device from which they were saved, beside the model that they are for."""

from __future__ import annotations

from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake, Place
from nb_oomhelper.source import loaded


def find_loaded_weights(event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find `torch.load` where host memory would do: what it gives is only copied into a model or an optimizer.

    Args:
        event: What failed.
        held: Who keeps what.
        shortage: What the cell needs.
        places: Where it may be written.
    """
    if event.backend == "host":
        return
    for place in places:
        if event.call is not None:
            more = place.definition is None and len(place.body) > 1  # else the load alone is the cell
            if more and (edits := loaded.on_host(place.text, place.body)):
                yield Mistake(
                    kind="map_location", subject="torch.load", place=place, edits=edits, explains=shortage.needs
                )
        elif place.definition is None:
            for name, edits in loaded.copied_on(place.text, place.body):
                size = held.freed_after_release(held.named(name))
                if size >= WORTH_MENDING:
                    yield Mistake(
                        kind="map_location", subject="torch.load", place=place, edits=edits, explains=size, in_cell=True
                    )
