"""Windows of one array that are joined into a copy several times as large as the array: a view has the same values."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.remedies.arrays import bytes_of
from nb_oomhelper.remedies.definitions import Definition
from nb_oomhelper.remedies.on_the_way import MAKING
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.tree import arguments, is_at, last_name, parameters_of, walk
from nb_oomhelper.source.view_forms import named_alike, root_shared
from nb_oomhelper.source.viewed import Code, Uses
from nb_oomhelper.source.windowed import Join, find_joins, sources_of_windows

_TIMES = 2  # so much larger than the array the copy of its windows must be


def find_windows(written: Written, event: OomEvent, places: list[Place]) -> Iterator[Mistake]:
    """Find windows that are joined where the cell failed, and that nobody writes into later.

    Args:
        written: What the notebook's code says.
        event: What failed.
        places: Where it may be written.
    """
    for place in places:
        found = [(one, _size(written, event, place, one)) for one in _joins(written, place)]
        some = [(one, size) for one, size in found if size is not None and size >= WORTH_MENDING]
        here = [(one, size) for one, size in some if is_at(one.call, place.line or 0)]
        if not here:
            continue
        ends = [_end_of(written, places, place, one) for one, _ in some]
        if any(end.written for end in ends):
            continue
        first, _ = here[0]
        yield Mistake(
            kind="windows",
            subject=first.path,
            place=place,
            edits=[edit for one, _ in some for edit in one.edits],
            explains=max(size for _, size in here),
            in_cell=True,
            partly=any(end.copied for end in ends),
        )
        return


def _joins(written: Written, place: Place) -> list[Join]:
    if place.line is None:
        return []
    even = {name for name, kept in written.known_in(place.definition).items() if kept.even}
    return list(find_joins(place.text, place.body, even))


def _size(written: Written, event: OomEvent, place: Place, join: Join) -> int | None:
    """Bytes of the copy; None where nothing tells that it is one of windows that overlap."""
    kept = written.known_in(place.definition).get(join.path)
    if kept is None:
        return None
    if join.listed:
        fits = kept.windows is not None and join.keeps(kept.windows[1]) and event.backend in (kept.size or {})
        return kept.windows[0] if kept.windows is not None and fits else None
    whole, copied = None if kept.shape is None else bytes_of(kept.shape, kept.dtype), event.requested
    here = kept.element is not None and kept.element.on_device == (event.backend != "host")
    if not here or whole is None or copied is None or not join.keeps(kept.dtype):
        return None
    return copied if copied >= _TIMES * whole else None


@dataclass(slots=True)
class _End:
    """What becomes of a view, and of the array that it is of, in all the code that can be seen."""

    written: bool = False
    copied: bool = False

    def note(self, uses: Uses) -> Uses:
        """Note what becomes of the view."""
        self.written |= uses.written
        self.copied |= uses.copied
        return uses


def _end_of(written: Written, places: Sequence[Place], place: Place, join: Join) -> _End:
    """Follow a view through the function in which it is made, and through those that have called it, up to the cell."""
    writes, end = functools.cache(functools.partial(_writes, written)), _End()
    code, sources = Code(place.body, writes), sources_of_windows(place.body, join)
    uses = end.note(code.uses_of(join.call))
    end.written |= code.uses_of(names=sources, line=code.line_behind(join.call)).written
    end.written |= code.is_refilled(join.call, sources - {join.path})
    parts, attributes, called = uses.returned, uses.attributes, place
    for outer in _callers(written, places, place):
        calls = [] if called.definition is None else _calls_of(outer, called.definition)
        end.copied |= not calls
        code = Code(outer.body, writes)
        found = [end.note(code.uses_of(call, part=part)) for call in calls for part in parts]
        for call in calls:
            behind = code.line_behind(call)
            found.append(end.note(code.uses_of(names={f".{one}" for one in attributes}, line=behind)))
            given = {root_shared(one) for one in arguments(call)} - {""}
            alike = named_alike(outer.body, given)
            end.written |= code.uses_of(names=alike, line=behind).written
            end.written |= code.is_refilled(call, alike)
        parts = set[int | None]().union(*(one.returned for one in found))
        attributes = attributes.union(*(one.attributes for one in found))
        called = outer
    end.written |= any(_writes_attribute(written, place, one) for one in attributes)
    return end


def _callers(written: Written, places: Sequence[Place], place: Place) -> Iterator[Place]:
    """The places from which one was called, the nearest first, up to the cell."""
    order = [written.definition_of(step) for step in written.steps]
    own = order.index(place.definition) if place.definition in order else 0
    for definition in reversed(order[:own]):
        yield from (one for one in places if one.definition is definition and one.line is not None)


def _calls_of(outer: Place, one: Definition) -> list[ast.Call]:
    name = one.owner if one.name in MAKING else one.name
    return [call for call in walk(outer.body) if isinstance(call, ast.Call) and last_name(call.func) == name]


def _writes(written: Written, name: str) -> bool:
    """Whether a function of the notebook may write into what it is given."""
    for one in written.definitions:
        function = written.function(one) if one.name == name else None
        if function is not None:
            given = parameters_of(function[1]) - {"self", "cls"}
            if Code(function[1].body).uses_of(names=given).written:
                return True
    return False


def _writes_attribute(written: Written, place: Place, name: str) -> bool:
    """Whether another method of the object writes into what is kept there."""
    owner = "" if place.definition is None else place.definition.owner
    methods = [written.function(one) for one in written.definitions if owner and one.owner == owner]
    return any(one is not None and Code(one[1].body).uses_of(names=[f".{name}"]).written for one in methods)
