"""Training steps of all rows at once, which parts of them can add up to."""

from __future__ import annotations

from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.in_one_go import model_joins_rows
from nb_oomhelper.remedies.may_move import models_in
from nb_oomhelper.remedies.model_weights import still_to_come
from nb_oomhelper.remedies.places import Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.cures import words_in
from nb_oomhelper.source.step_parts import mean_losses, step_in_parts

_FEW = 64  # rows: fewer are no data


def find_whole_steps(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find steps that go forward and backward with all the data there is.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        held: Who keeps memory.
        shortage: What the cell needs.
        places: Where it may be written.
    """
    if event.phase == "infer" or event.stage == "optimizer" or model_joins_rows(written) or _draws(written):
        return
    texts = (written.read(source) for source in written.sources())
    losses = {name: kind for text in texts if text is not None for name, kind in mean_losses(text.tree).items()}
    models = models_in(written, apart=True) - losses.keys()  # a loss is a module, too
    for place in places:
        shapes = {path: kept.shape for path, kept in written.kept_in(place.definition).items() if kept.shape}
        for count in {shape[0] for shape in shapes.values() if shape is not None and shape[0] >= _FEW}:
            rows = {path: len(shape) for path, shape in shapes.items() if shape is not None and shape[0] == count}
            found = None
            if place.line is not None:
                found = step_in_parts(place.text, place.body, place.line, models, rows, losses)
            if found is not None:
                half = None if shortage.needs is None else shortage.needs // 2 - still_to_come(held)
                yield Mistake(
                    kind="step_in_parts", subject=found[0], place=place, edits=found[1], explains=half, in_cell=True
                )


def _draws(written: Written) -> bool:
    """Whether a model of the notebook's draws random numbers: in parts it would draw others."""
    forwards = (written.function(one) for one in written.definitions if one.name == "forward")
    return any("dropout" in words_in(one[1]) for one in forwards if one is not None)
