"""Large results of which only a small part is used, where that part can be had alone."""

from __future__ import annotations

from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.remedies.places import Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.only_used import diagonal_alone, first_words, thin_svd


def find_unused_results(written: Written, event: OomEvent, places: list[Place]) -> Iterator[Mistake]:
    """Find what is computed as a whole for its diagonal, or for its first columns or words.

    Args:
        written: What the notebook's code says.
        event: What failed.
        places: Where it may be written.
    """
    for place in places:
        if place.line is None:
            continue
        kept = written.kept_in(place.definition)
        shapes = {name: one.shape for name, one in kept.items() if one.shape is not None}
        tensors = [name for name, one in kept.items() if one.dtype.startswith("torch.")]
        edits = (
            thin_svd(place.text, place.body, place.line)
            or diagonal_alone(place.text, place.body, place.line, shapes, tensors)
            or first_words(place.text, place.body, place.line)
        )
        if edits:
            yield Mistake(
                kind="only_used",
                subject=event.function or "svd",
                place=place,
                edits=edits,
                explains=event.requested,
                in_cell=True,
            )
