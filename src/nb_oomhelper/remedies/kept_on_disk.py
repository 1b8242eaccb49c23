"""Lists and dicts that the failing code fills and then goes through: what is in them can lie on disk."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nb_oomhelper.loading.disk import scratch
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.arrays import bytes_of
from nb_oomhelper.remedies.demandable import is_read_little
from nb_oomhelper.remedies.joined_parts import find_joins, find_moves
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.array_on_disk import ArrayOnDisk, arrays_on_disk
from nb_oomhelper.source.kept_on_disk import OnDisk, is_only_read, kept_on_disk
from nb_oomhelper.source.tree import is_at, last_name, names_bound, walk

_GOOD_PART = 4  # a fourth of what is missing is worth it
_DISK = 4  # times what is there in memory must be free on disk: more may come
_AT_ONCE, _MANY = 3, 1000  # copies of an item; items, where it is not known how many
_LEFT = 16  # of what it takes in memory, one part in so many stays: where each item lies


def find_collected(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find what is collected, and can be joined as it is made, joined in its place, or lie on disk.

    Args:
        written: What the notebook's code says.
        event: What failed.
        held: Who keeps what.
        shortage: What the cell needs, and what room there is.
        places: Where it may be written.
    """
    yield from find_joins(written, event, shortage, places)
    yield from find_moves(written, event, held, shortage, places)
    yield from find_kept_on_disk(written, event, held, shortage, places)
    yield from find_arrays_on_disk(written, event, shortage, places)


def find_kept_on_disk(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find lists and dicts whose items can lie on disk.

    Args:
        written: What the notebook's code says.
        event: What failed.
        held: Who keeps what.
        shortage: What the cell needs, and what room there is.
        places: Where they may be filled.
    """
    needs, room = shortage.needs, shortage.room
    if event.backend != "host" or written.autograd or event.phase == "train":
        return
    missing = 0 if needs is None or room is None else needs - room
    worth = max(WORTH_MENDING, missing // _GOOD_PART)
    for place in places:
        if place.line is None:
            continue
        all_found = [
            one
            for one in kept_on_disk(place.text, place.body, written.function_named)
            if _is_fitting(written, place, one)
        ]
        sizes = {one.name: _size(written, event, held, shortage, place, one) for one in all_found}
        found = [one for one in all_found if sizes[one.name] >= worth]
        size = sum(sizes[one.name] for one in found)
        size = size if needs is None else min(needs, size)
        whole = max((_in_the_end(written, place, one, sizes[one.name]) for one in found), default=0)
        if not found or not _has_disk(max(size, whole // _DISK * 2)):
            continue
        yield Mistake(
            kind="on_disk",
            subject=", ".join(one.name for one in found),
            place=place,
            edits=[edit for one in found for edit in one.edits],
            explains=size - max([size // _LEFT, *(_of_items(written, place, one, sizes[one.name]) for one in found)]),
            in_cell=True,
            partly=any(not one.small or one.returned for one in found),
        )
        return


def _has_disk(size: int) -> bool:
    folder, free = scratch()
    return folder is not None and free is not None and free >= _DISK * size


def _is_fitting(written: Written, place: Place, found: OnDisk) -> bool:
    """Whether it is being filled, or was, with what can be copied, and nobody else wants a list."""
    kept = written.known_in(place.definition).get(found.name)
    if kept is not None and not kept.values:
        return False
    if found.begun.lineno > (place.line or 0):
        return False
    if place.definition is None:
        return not found.returned and not written.is_read_by_functions(found.name)
    return not found.returned or _is_read_in_cell(written, place.definition.name)


def _is_read_in_cell(written: Written, function: str) -> bool:
    """Whether the cell only goes through what a function gives it."""
    cell = written.read(written.cell.source)
    calls = [one for one in walk(cell.tree.body if cell else ()) if isinstance(one, ast.Call)]
    calls = [one for one in calls if last_name(one.func) == function]
    bound = [one for one in (cell.tree.body if cell else ()) if isinstance(one, ast.Assign) and one.value in calls]
    if cell is None or len(calls) != 1 or len(bound) != 1:
        return False
    names = names_bound(bound)
    return not any(map(written.is_read_by_functions, names)) and is_only_read(
        cell, cell.tree.body, names, written.function_named
    )


def _size(written: Written, event: OomEvent, held: Holdings, shortage: Shortage, place: Place, found: OnDisk) -> int:
    """Bytes of what is in it by now; of a comprehension that was running of all that the cell had made."""
    if is_at(found.begun, place.line or 0):
        return _made_by_now(event, held, shortage)
    if place.definition is None:
        return held.freed_after_release(held.named(found.name))
    kept = written.kept_in(place.definition).get(found.name)
    arrays = (kept.size or {}).get("host", 0) if kept is not None else 0
    return arrays or (0 if kept is None else held.freed_by(held.of_failures()))


def _of_items(written: Written, place: Place, found: OnDisk, size: int) -> int:
    """Bytes of the items that are there at once, while one is written or read, as far as it is known how many are."""
    return min(size, _AT_ONCE * size // (_items(written, place, found) or _MANY))


def _items(written: Written, place: Place, found: OnDisk) -> int:
    """How many items there are by now; 0 where it is not known."""
    kept = written.known_in(place.definition).get(found.name)
    return 0 if kept is None else kept.items or 0


def _in_the_end(written: Written, place: Place, found: OnDisk, size: int) -> int:
    """Bytes of all items that are to come, as far as it stands there how many; 0 where it does not."""
    many = _items(written, place, found)
    return size * found.rounds // many if many and found.rounds and found.rounds > many else 0


def _made_by_now(event: OomEvent, held: Holdings, shortage: Shortage) -> int:
    """Bytes that a comprehension had made, at most: not what the functions that it called still keep."""
    return max(0, (shortage.needs or 0) - (event.requested or 0) - held.freed_by(held.of_failures()))


def find_arrays_on_disk(
    written: Written, event: OomEvent, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find arrays that are filled part by part, and can lie on disk.

    Args:
        written: What the notebook's code says.
        event: What failed.
        shortage: What the cell needs, and what room there is.
        places: Where they may be made.
    """
    if event.backend != "host" or shortage.needs is None or shortage.room is None or event.phase == "train":
        return
    worth = max(WORTH_MENDING, (shortage.needs - shortage.room) // _GOOD_PART)
    for place in places:
        line = place.line or 0
        found = [] if not line else [*arrays_on_disk(place.text, place.body, written.function_named)]
        found = [one for one in found if place.definition or not written.is_read_by_functions(one.name)]
        sizes = [_array_size(written, event, place, one) for one in found]
        size = min(shortage.needs, sum(one or 0 for one in sizes))
        if size < worth or not _has_disk(size):
            continue
        sure = None not in sizes and all(is_read_little(written, place, one) for one in found)
        yield Mistake(
            kind="on_disk",
            subject=", ".join(one.name for one in found),
            place=place,
            edits=[edit for one in found for edit in one.edits],
            explains=size - size // _LEFT,
            in_cell=True,
            partly=not sure,
        )
        return


def _array_size(written: Written, event: OomEvent, place: Place, one: ArrayOnDisk) -> int | None:
    """Bytes of an array that was made, or refused; None of one that was to come."""
    if is_at(one.made, place.line or 0):
        return event.requested
    kept = written.kept_in(place.definition).get(one.name)
    made = kept is not None and kept.shape is not None and one.made.lineno < (place.line or 0)
    return bytes_of(kept.shape, kept.dtype) if made and kept is not None and kept.shape is not None else None
