"""Arrays that are collected and then joined: all is there twice then, and the result can be there from the start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake, Place, refused_shape
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.counting import Counts
from nb_oomhelper.source.joined_parts import Joined, find_joined, find_moved
from nb_oomhelper.source.tree import is_at

_LEFT = 2  # parts that are there beside the result: one, and what it is made of
_NEARLY = 0.8  # of the result must be there already, or it is not the join that was refused
_FREED = 2 << 20  # bytes of a part from which on what it took is surely given back, and can be had in one piece
_MUCH = 2.2  # times the result: then the parts may be something else than its numbers
_NO_PARTS = frozenset({"parts", "graph", "number", "leaf", "error", "model"})


@dataclass(frozen=True, slots=True)
class _Found:
    """A join, with the bytes that its parts take beside the result, less those that stay, and whether that is sure."""

    joined: Joined
    saves: int
    sure: bool


def find_joins(written: Written, event: OomEvent, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find parts that are collected, where what joins them had no room for the result.

    Args:
        written: What the notebook's code says.
        event: What failed.
        shortage: What the cell needs, and what room there is.
        places: Where it may be written.
    """
    requested = event.requested
    for place in places:
        if requested is None or requested < WORTH_MENDING or not _is_innermost(written, place):
            continue
        counts = _counts_in(written, place)
        all_joins = [one for one in find_joined(place.text, place.body, counts) if not _is_read(written, place, one)]
        here = [one for one in all_joins if is_at(one.call, place.line or 0)]
        sized = [found for one in here if (found := _measure(written, event, shortage, place, counts, one)) is not None]
        if not sized:
            continue
        first = min(sized, key=lambda one: abs(one.saves - requested))
        rest = [one for one in all_joins if one.name and one.name != first.joined.name]
        others = [one for one in rest if _size(written, event, place, one.name) >= WORTH_MENDING]
        if not _is_enough(written, event, shortage, place, first):
            continue
        edits = [edit for one in (first.joined, *others) for edit in one.edits]
        yield Mistake(
            kind="joined",
            subject=first.joined.name or "list",
            place=place,
            edits=edits,
            explains=first.saves,
            in_cell=True,
            partly=not first.sure,
        )
        return


def find_moves(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find a list that was joined where there was no room for it twice: its parts can become views of the result.

    Args:
        written: What the notebook's code says.
        event: What failed.
        held: Who keeps what.
        shortage: What the cell needs, and what room there is.
        places: Where it may be written.
    """
    requested, needs, room = event.requested or 0, shortage.needs, shortage.room
    if needs is None or room is None or event.backend != "host" or requested < WORTH_MENDING:
        return
    for place in places:
        if not _is_innermost(written, place):
            continue
        for one in find_moved(place.text, place.body, place.line or 0, written.function_named):
            size, older = _size(written, event, place, one.name), one.name in written.names - written.made_names()
            own = place.definition is None and not (one.changed and (older or one.read))
            freed = min(size, held.freed_after_release(held.named(one.name))) if own else 0
            if freed < requested * _NEARLY or needs - freed > room:
                continue
            yield Mistake(
                kind="moved",
                subject=one.name,
                place=place,
                edits=one.edits,
                explains=freed,
                in_cell=True,
                partly=not one.small or not written.kept[one.name].mapped,
            )
            return


def _is_innermost(written: Written, place: Place) -> bool:
    """Whether the user's own code failed there, and not in a function that is called there."""
    last = written.steps[-1] if written.steps else None
    if last is None or place.line is None:
        return False
    return written.step_of(place.definition) is last if place.definition is not None else not last.function


def _is_read(written: Written, place: Place, one: Joined) -> bool:
    """Whether a function of the notebook reads the cell's list, which would be none."""
    return place.definition is None and bool(one.name) and not one.rebinds and written.is_read_by_functions(one.name)


def _is_enough(written: Written, event: OomEvent, shortage: Shortage, place: Place, found: _Found) -> bool:
    """Whether there is room for the result; the cell's own list is let go of before it runs again."""
    forgets = 0 if place.definition is not None else _size(written, event, place, found.joined.name)
    known = shortage.needs is not None and shortage.room is not None
    return known and (shortage.needs or 0) - found.saves <= (shortage.room or 0) + forgets


def _counts_in(written: Written, place: Place) -> Counts:
    known = written.known_in(place.definition)
    lengths = {path: _length(kept) for path, kept in known.items() if _is_sized(kept)}
    rows = {} if place.definition is not None else {path: rows for path, (rows, _) in written.rows.items()}
    tables = written.frames if place.definition is None else ()
    return Counts(
        lengths={path: size for path, size in {**rows, **lengths}.items() if path not in written.frames},
        tables=tables,
        numbers=written.numbers if place.definition is None else {},
        body=place.body,
    )


def _is_sized(kept: Kept) -> bool:
    """Whether it is a container, or an array with an axis; a generator is none."""
    return bool(kept.shape) if kept.shape is not None else kept.call in ("clear", "")


def _length(kept: Kept) -> int | None:
    return kept.shape[0] if kept.shape else kept.items


def _measure(
    written: Written, event: OomEvent, shortage: Shortage, place: Place, counts: Counts, one: Joined
) -> _Found | None:
    """What a join that failed saves; None where something else was refused, or the parts take nothing themselves."""
    size, requested = _size(written, event, place, one.name), event.requested or 0
    number, shape = counts.number(one.count), refused_shape(event)
    if one.name:
        kept = written.known_in(place.definition)[one.name] if size else None
        made, count = (size, kept.items) if kept is not None else (0, None)
        fits = made >= requested * _NEARLY
    else:
        told = (
            None if one.axis is None or shape is None or not -len(shape) <= one.axis < len(shape) else shape[one.axis]
        )
        fits = told is None or number is None or told == number
        made, count = requested, number or told
        before = (shortage.needs or 0) - requested
        fits = fits and before >= requested * _NEARLY
        if fits and (event.framework == "pytorch" and written.autograd):
            return None
    if not fits or not count or count <= _LEFT:
        return None
    told_twice = number is not None and one.axis is not None and shape is not None
    sure = bool(one.name) or (told_twice and (shortage.needs or 0) - requested <= requested * _MUCH)
    return _Found(one, made - made // count * _LEFT, sure and made // count >= _FREED)


def _size(written: Written, event: OomEvent, place: Place, name: str) -> int:
    """Bytes of the arrays in a list; 0 where it has anything else."""
    kept = written.known_in(place.definition).get(name) if name else None
    if kept is None or kept.element is None or kept.element.kind in _NO_PARTS or not kept.items:
        return 0
    return (kept.size or {}).get(event.backend, 0)
