"""What is done at once where parts would do: all rows through a model, or all compared with all."""

from __future__ import annotations

from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.may_move import models_in
from nb_oomhelper.remedies.places import Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.in_parts import model_in_parts, pairs_in_parts

_PARTS = 32


def find_in_one_go(written: Written, event: OomEvent, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find what can be done in parts, where nothing of it is trained.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        shortage: What the cell needs.
        places: Where it may be written.
    """
    if event.backend == "host" or event.phase == "train" or written.autograd:
        return
    for place in places:
        if place.line is None:
            continue
        needs = shortage.needs
        if found := pairs_in_parts(place.text, place.body, place.line):
            left = None if needs is None else needs - needs // _PARTS
            yield Mistake(
                kind="pairs_in_parts", subject=found[0], place=place, edits=found[1], explains=left, in_cell=True
            )
        elif written.autograd is False and (
            found := model_in_parts(place.text, place.body, place.line, models_in(written))
        ):
            half = None if needs is None else needs // 2  # how much of it comes out, nobody has seen
            yield Mistake(
                kind="model_in_parts", subject=found[0], place=place, edits=found[1], explains=half, in_cell=True
            )
