"""Names and collections of the notebook's code that nothing reads any more, with the bytes that they keep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.arrays import bytes_of
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake, Place, find_keepers, kept_by
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import letting_go
from nb_oomhelper.source.growing_steps import may_grow

_GOOD_PART = 4  # a fourth of what is missing is worth a change


def find_let_go(written: Written, held: Holdings, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find what is kept though nothing reads it from where the cell failed on.

    Args:
        written: What the notebook's code says.
        held: Who keeps what.
        shortage: What the cell needs, and what room there is.
        places: Where to look.
    """
    if shortage.needs is None or shortage.room is None or shortage.impossible:
        return
    worth = max(WORTH_MENDING, (shortage.needs - shortage.room) // _GOOD_PART)
    growing = any(_may_grow(written, one) for one in places)
    for place in places:
        if place.line is not None:
            larger = growing and place.definition is not None
            for one in _dead_names(written, held, place, worth):
                # what a larger step needs, nobody has seen
                yield replace(one, partly=True, explains=None) if larger else one
    yield from _unread(written, held, places, worth)


def _may_grow(written: Written, place: Place) -> bool:
    """Whether steps that are to come may be larger than the one that failed."""
    numbers = [name for name, kept in written.known_in(place.definition).items() if kept.plain]
    return place.line is not None and may_grow(place.body, place.line, numbers, written.function_named)


def _dead_names(written: Written, held: Holdings, place: Place, worth: int) -> Iterator[Mistake]:
    names, node = letting_go.dead_names(place.body, place.line or 0)
    if place.definition is None:
        names = _on_the_way(written, place, names)
        names = [name for name in names if held.freed_after_release(held.named(name)) >= WORTH_MENDING]
        size: int | None = held.freed_after_release(frozenset[int]().union(*map(held.named, names)))
    else:
        kept = written.kept_in(place.definition)
        shapes = {name: (what.shape, what.dtype) for name, what in kept.items() if what.shape is not None}
        sizes = {name: bytes_of(*form) or math.prod(form[0]) for name, form in shapes.items()}  # a byte each, or more
        names = [name for name in names if sizes.get(name, worth) >= WORTH_MENDING]  # nobody knows what tables take
        size = None if names and not set(names) <= sizes.keys() else sum(sizes[name] for name in names)
        if size is None and held.freed_by(held.of_failures()) < worth:  # all that the functions keep is less
            return
    if names and node is not None and (size is None or size >= worth):
        later = letting_go.dead_later(place.body, place.line or 0, names)
        gone = [
            (names, node),
            *((_on_the_way(written, place, _worth(written, held, more)), one) for more, one in later),
        ]
        yield Mistake(
            kind="let_go",
            subject=", ".join(name for some, _ in gone for name in some),
            place=place,
            edits=[edit for some, one in gone for edit in letting_go.let_go(place.text, some, one)],
            explains=size,
            in_cell=True,
            partly=letting_go.more_to_come(place.body, place.line or 0) or bool(later),
        )


def _worth(written: Written, held: Holdings, names: list[str]) -> list[str]:
    """Those that are large, or that are still to be made."""
    there = written.made_names()
    return [one for one in names if one not in there or held.freed_after_release(held.named(one)) >= WORTH_MENDING]


def _on_the_way(written: Written, place: Place, names: list[str]) -> list[str]:
    """Those from which something else is computed; of a cell, that no function reads."""
    found = [name for name in names if letting_go.is_on_the_way(place.body, name)]
    return [name for name in found if place.definition is not None or not written.is_read_by_functions(name)]


def _unread(written: Written, held: Holdings, places: list[Place], worth: int) -> Iterator[Mistake]:
    """`self.snapshots[name] = frame.copy()`, and nobody looks at it."""
    sources = [text.tree.body for source in written.sources() if (text := written.read(source)) is not None]
    done: set[tuple[str, int]] = set()
    for path, kept, within, local in find_keepers(written, places):
        if (
            "." not in path
            or "[" in path
            or kept.call != "clear"
            or kept.plain
            or kept_by(held, path, local=local) < worth
        ):
            continue
        for place in within:
            edits = letting_go.unread(place.text, place.body, path, sources)
            if edits and (place.source, edits[0][0]) not in done:
                done.add((place.source, edits[0][0]))
                size = kept_by(held, path, local=local)
                yield Mistake(
                    kind="unread", subject=path, place=place, edits=edits, explains=size, in_cell=local, grows=True
                )
