"""Follow references from one holder to the tensors and arrays that it keeps, until a deadline.

References are followed as the garbage collector does (`gc.get_referents`), so that no property, `__getattr__` or
`__repr__` of the user's ever runs. Storages are counted, not views, and no object is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nb_oomhelper.holders.counting import HolderCount
from nb_oomhelper.holders.referents import referents
from nb_oomhelper.holders.roots import Roles, Root
from nb_oomhelper.holders.sorts import ATOM, KNOWN, Sorts
from nb_oomhelper.introspection import class_name, living, with_subclasses
from nb_oomhelper.records.holdings import Holding

LARGE = 1 << 20  # bytes of a storage whose type and shape are worth telling
_log = logging.getLogger(__name__)
_CHUNK = 4096  # objects between two looks at the clock
_ALL_LIVING = 2 / 3  # of the time that is left: what it finds is still to be followed


class Tracer(Roles, Protocol):
    """What the search needs of a framework."""

    def storages(self, objects: Sequence[object]) -> Iterable[tuple[int, Hashable, str, int | None, int]]:
        """Give index of the object, key, backend, device and bytes of each storage that these objects keep."""

    def beyond(self, objects: Sequence[object], nodes: dict[int, object]) -> Iterable[tuple[object, str]]:
        """Give objects that these lead to unseen by the garbage collector, or whose part is known.

        Args:
            objects: Objects of the framework's.
            nodes: Nodes of graphs that were met, by id; what is met now is added.

        Returns:
            Each object with its part: "parameters", "gradients", "graph", …
        """

    def label(self, obj: object) -> str | None:
        """Give type and shape of a tensor or array of the framework's, "float32 (3, 4)"; None for anything else."""

    def array_classes(self) -> tuple[type, ...]:
        """Give the classes of its tensors and arrays, without those derived from them."""


@dataclass(slots=True)
class _Trail:
    """One holder's search while it goes on.

    Attributes:
        seen: Ids of the objects that were met.
        nodes: Graph nodes that were met, by id, kept so that ids stay unique.
        marks: Parts of objects that are still to be counted, by id.
        storages, parts, shapes: As in `HolderCount`.
    """

    seen: set[int]
    nodes: dict[int, object] = field(default_factory=dict)
    marks: dict[int, str] = field(default_factory=dict)
    storages: dict[Hashable, int] = field(default_factory=dict)
    parts: dict[Hashable, str] = field(default_factory=dict)
    shapes: dict[Hashable, str] = field(default_factory=dict)

    def add(self, thing: object, key: Hashable, size: int, tracer: Tracer) -> None:
        """Count a storage that an object keeps; what it is for, and its shape, are those of the first that tells."""
        part = self.marks.get(id(thing))
        if part is None and self.parts.get(key) == "graph":
            del self.parts[key]
        elif part is not None and (key not in self.storages or part != "graph"):
            self.parts[key] = part
        self.storages[key] = max(self.storages.get(key, 0), size)  # a part of it may have been met first
        if size >= LARGE and key not in self.shapes:
            self.shapes[key] = tracer.label(thing) or ""


class Clock:
    """Tells when a search must end.

    Attributes:
        expired: Time was up when it was last looked at.
    """

    def __init__(self, seconds: float) -> None:
        self._started = time.monotonic()
        self._deadline = self._started + seconds
        self.expired = False

    def elapsed(self) -> float:
        """Give the seconds since the search began."""
        return time.monotonic() - self._started

    def left(self) -> float:
        """Give the seconds until it must end."""
        return 0.0 if self.expired else self._deadline - time.monotonic()

    def late(self) -> bool:
        """Look whether time is up."""
        self.expired = time.monotonic() > self._deadline
        return self.expired

    def halve(self) -> None:
        """Leave half of the time that is left unused: what follows is long, and seldom what the user looks for."""
        now = time.monotonic()
        self._deadline = min(self._deadline, now + max(0.0, self._deadline - now) / 2)

    def stop(self) -> None:
        """End the search."""
        self._deadline, self.expired = 0.0, True


class Walk:
    """Follows references until a deadline, and adds up storages of one backend and device.

    Attributes:
        tracers: The loaded frameworks.
        barred: Ids of objects that are not entered.
        sorts: What is done with an object of which class.
        clock: When it must end.
        failed, no_room: A framework could not tell what some objects keep; and there was no room to follow some.
        everywhere: All living objects could be looked at.
    """

    def __init__(
        self, tracers: Sequence[Tracer], backend: str, device: int | None, barred: Sequence[object], seconds: float
    ) -> None:
        self.tracers = tracers
        self._backend = backend
        self._device = device
        self.barred = frozenset(id(thing) for thing in barred)
        self.clock = Clock(seconds)
        self.sorts = Sorts(tracers)
        self.failed = self.no_room = False
        self.everywhere = True

    def may_hold(self, root: Root) -> bool:
        """Tell whether there is anything to search: numbers, texts, modules and the shell are left out."""
        return any(not self._skip(thing) and id(thing) not in self.barred for _, thing in root.things)

    def follow(self, root: Root, seen: set[int] | None = None) -> HolderCount:
        """Find all storages that a root reaches.

        Args:
            root: The holder, with its objects.
            seen: Ids of the objects that were met before, which are not entered again; what this root meets is added.

        Returns:
            The root's storages with their bytes; not all of them where time was up (`clock.expired`).
        """
        trail = _Trail(set() if seen is None else seen)
        trail.seen |= self.barred
        first: dict[Hashable, int] = {}
        for index, (_, thing) in enumerate(root.things):
            self._walk(thing, trail)
            for key in list(trail.storages)[len(first) :]:  # what is new stands at the end
                first[key] = index
            if self.clock.expired:
                break
        labels = [label for label, _ in root.things]
        return HolderCount(self.row(root), trail.storages, trail.parts, trail.shapes, labels, first)

    def row(self, root: Root) -> Holding:
        """Give a holder's row, with no bytes yet."""
        return _row(root, self._backend, self._device)

    def alive(self, kinds: Iterable[type]) -> list[Any]:
        """Give all objects of these classes, and of those derived from them, that the garbage collector knows."""
        try:
            found = living(with_subclasses(kinds), seconds=self.clock.left() * _ALL_LIVING)
        except MemoryError:
            found = None
        self.everywhere &= found is not None
        return found or []

    def _walk(self, start: object, trail: _Trail) -> None:
        """Add the storages that this object leads to."""
        seen = trail.seen
        level = [] if self._skip(start) or id(start) in seen else [start]
        seen.add(id(start))
        while level:
            following: list[object] = []
            for at in range(0, len(level), _CHUNK):
                if not self._step(level[at : at + _CHUNK], trail, following):
                    return
            level = following

    def _step(self, chunk: list[object], trail: _Trail, following: list[object]) -> bool:
        """Count a few objects and gather what they lead to; False when time is up. Every object passes here."""
        if self.clock.late():
            return False
        known = [thing for thing in chunk if self.sorts.of(thing)[1] == KNOWN]
        if known:
            whole = self._go_beyond(known, trail, following)
            self._count(known, trail)
            if not whole:
                self._count_gathered(following, trail)
                return False
        seen, sorts, sort = trail.seen, self.sorts.by_class, self.sorts.of
        referred = referents(chunk)
        for at in range(0, len(referred), _CHUNK):  # one list may refer to millions
            if self.clock.late():
                return False
            for thing in referred[at : at + _CHUNK]:
                entry = sorts.get(id(type(thing))) or sort(thing)
                if entry[1] > ATOM and id(thing) not in seen:
                    seen.add(id(thing))
                    following.append(thing)
        return True

    def _go_beyond(self, things: list[object], trail: _Trail, following: list[object]) -> bool:
        """Note what tensors are for, and follow what the collector does not see; False when half of the time is up.

        A long graph is gathered at once: the other half is for the bytes of what was.
        """
        half = self.clock.left() / 2
        for tracer in self.tracers:
            with self._guarded(tracer):
                for number, (thing, part) in enumerate(tracer.beyond(things, trail.nodes)):
                    if number % _CHUNK == _CHUNK - 1 and self.clock.left() < half:
                        return False
                    known = id(thing) in trail.seen
                    if not (known and part == "graph"):  # what has a way of its own is not the graph's
                        trail.marks.setdefault(id(thing), part)
                    if not known and not self._skip(thing):
                        trail.seen.add(id(thing))
                        following.append(thing)
        return True

    def _count_gathered(self, gathered: list[object], trail: _Trail) -> None:
        """Count what there is still time for, and end the search."""
        for at in range(0, len(gathered), _CHUNK):
            if self.clock.late():
                return
            self._count(gathered[at : at + _CHUNK], trail)
        self.clock.stop()

    def _count(self, things: list[object], trail: _Trail) -> None:
        for tracer in self.tracers:
            with self._guarded(tracer):
                for index, key, backend, device, size in tracer.storages(things):
                    if backend == self._backend and self._device in (None, device):
                        trail.add(things[index], key, size, tracer)

    @contextmanager
    def _guarded(self, tracer: Tracer) -> Iterator[None]:
        """A framework that fails costs its own rows; what the search says of this holder is not all then."""
        try:
            yield
        except Exception as error:  # no traceback is logged: it would keep the objects
            self.failed = True
            _log.debug("%r could not tell what some objects keep: %s", tracer, class_name(type(error)))

    def _skip(self, thing: object) -> bool:
        return self.sorts.of(thing)[1] <= ATOM


def _row(root: Root, backend: str, device: int | None) -> Holding:
    row = Holding(name=root.name, kind=root.kind, backend=backend, device=device)
    if root.kind in ("failed_cell", "earlier_cell", "unreachable", "module"):
        return row
    return replace(row, type_name=class_name(type(root.thing)), role=root.role or "other")
