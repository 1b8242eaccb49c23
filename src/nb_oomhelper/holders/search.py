"""Who keeps memory: user variables, displayed results, the failed cell's frames; how many bytes each alone.

The search follows references as the garbage collector does (`gc.get_referents`), so that no property,
`__getattr__` or `__repr__` of the user's ever runs, and looks only for tensors and arrays. It counts
storages, not views, and keeps nothing: what it returns is names and numbers.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Protocol

from nb_oomhelper.failure.places import at_top
from nb_oomhelper.failure.retained import of_earlier_cells
from nb_oomhelper.holders.counting import HolderCount, to_holdings
from nb_oomhelper.holders.roots import Roles, Root, module_roots, named, role_of, scope_roots
from nb_oomhelper.holders.scope import Scope
from nb_oomhelper.introspection import class_name, instances, living, with_subclasses
from nb_oomhelper.records.holdings import Holding, Holdings

_log = logging.getLogger(__name__)
_CHUNK = 4096  # objects between two looks at the clock
_ALL_LIVING = 2 / 3  # of the time that is left: what it finds is still to be followed
_LARGE = 1 << 20  # bytes of a storage whose type and shape are worth telling
# Classes are told apart by identity: a metaclass may define `__eq__` and `__hash__`, which would be called.
_ATOMIC = frozenset(map(id, (int, float, complex, bool, str, bytes, bytearray, type(None), range, slice)))
_CLOSED = (type, ModuleType, CodeType)  # they lead to whole libraries, not to holdings
_SKIPPED, _FOLLOWED, _KNOWN = range(3)


class Tracer(Roles, Protocol):
    """What the search needs of a framework."""

    def storages(self, objects: Sequence[object]) -> Iterable[tuple[int, Hashable, str, int | None, int]]:
        """Index of the object, key, backend, device and bytes of each storage that these objects keep."""

    def beyond(self, objects: Sequence[object], nodes: dict[int, object]) -> Iterable[tuple[object, str]]:
        """Objects that these lead to unseen by the garbage collector, or whose part is known, each with its part."""

    def label(self, obj: object) -> str | None:
        """Type and shape of a tensor or array of the framework's, "float32 (3, 4)"; None for anything else."""

    def array_classes(self) -> tuple[type, ...]:
        """The classes of its tensors and arrays, without those derived from them."""


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


def find_holdings(
    scope: Scope,
    tracers: Sequence[Tracer],
    *,
    backend: str,
    device: int | None,
    seconds: float,
    everywhere: bool = False,
) -> Holdings:
    """Search the scope for tensors and arrays on one device.

    Args:
        scope: Where to look.
        tracers: The loaded frameworks.
        backend: "cuda", "host", …
        device: The framework's ordinal; None counts all devices of the backend.
        seconds: When the search must end; how far it came is said in the result.
        everywhere: Go on to what no name of the user's leads to: cells that failed before, modules of other
            libraries, and tensors that no name leads to at all.
    """
    started = time.monotonic()
    search = _Search(tracers, backend, device, scope.barred, started + seconds)
    found: list[HolderCount] = []
    roots = [root for root in scope_roots(scope, tracers) if search.may_hold(root)]
    searched, total = _follow(search, roots, found), len(roots)
    if everywhere and not search.expired:  # what names lead to comes first: to look at all objects may take long
        cells, of_cells = _follow_nameless(search, scope, found)
        searched, total = searched + cells, total + of_cells
    held = to_holdings(found, searched, total, time.monotonic() - started)
    return replace(held, everywhere=search.everywhere and not search.expired)


def _follow(search: _Search, roots: Iterable[Root], found: list[HolderCount], seen: set[int] | None = None) -> int:
    """Search roots until time is up; how many were searched through.

    With `seen`, roots share what they have met: modules import from each other, and each would lead through
    all the others again; the first to lead somewhere is enough.
    """
    searched = 0
    for root in roots:
        search.failed = False
        try:
            holder = search.follow(root, seen)
        except Exception as error:  # no room, say; what others keep is still to be told
            _log.debug("a search failed: %s", class_name(type(error)))  # no traceback, which would keep objects
            continue
        if seen is not None:
            holder = _without(holder, found)
        if holder.storages:
            found.append(holder)
        if search.expired:
            break
        searched += not search.failed
    return searched


def _follow_nameless(search: _Search, scope: Scope, found: list[HolderCount]) -> tuple[int, int]:
    """Search what no name of the user's leads to: cells that failed before, modules of other libraries, what is left.

    Returns:
        How many of the cells' holders were searched through, of how many.
    """
    # taken once, and as late as can be: whoever has them keeps alive what other threads let go of meanwhile
    things = search.alive([BaseException, *(kind for tracer in search.tracers for kind in tracer.array_classes())])
    errors: dict[int, Any] = dict(instances(things, BaseException))
    tensors = [thing for index, thing in enumerate(things) if index not in errors]
    earlier = of_earlier_cells(errors.values(), scope.frames)
    cells = [root for root in scope_roots(Scope(), search.tracers, earlier) if search.may_hold(root)]
    del things, errors, earlier
    searched = _follow(search, cells, found)
    if search.expired:
        return searched, len(cells)
    lost: list[HolderCount] = []
    if not _follow(search, [Root("unreachable", [(("not reachable from any name", None, None), tensors)])], lost):
        search.everywhere = False
    del tensors
    for rest in lost:
        if sum(_without(rest, found).storages.values()) >= _LARGE:  # only then is it worth going through all modules
            search.halve_deadline()
            _follow(search, module_roots(scope), found, seen=set())
        if (left := _without(rest, found)).storages:
            found.append(left)
    return searched, len(cells)


def _without(lost: HolderCount, found: list[HolderCount]) -> HolderCount:
    """What nobody else was found to keep."""
    known = {key for holder in found for key in holder.storages}
    return replace(lost, storages={key: size for key, size in lost.storages.items() if key not in known})


class _Search:
    """Follows references until a deadline, and adds up storages of one backend and device.

    Attributes:
        tracers: The loaded frameworks.
        expired: Time is up.
        failed: A framework could not tell what some objects keep.
        everywhere: All living objects could be looked at.
    """

    def __init__(
        self, tracers: Sequence[Tracer], backend: str, device: int | None, barred: Sequence[object], deadline: float
    ) -> None:
        self.tracers = tracers
        self._backend = backend
        self._device = device
        self._barred = frozenset(id(thing) for thing in barred)
        self._deadline = deadline
        self._sorts: dict[int, tuple[type, int]] = {}  # by id of the class, which it keeps alive
        self.expired = False
        self.failed = False
        self.everywhere = True

    def may_hold(self, root: Root) -> bool:
        """Whether there is anything to search: numbers, texts, modules and the shell are left out."""
        return any(not self._skip(thing) and id(thing) not in self._barred for _, thing in root.things)

    def follow(self, root: Root, seen: set[int] | None = None) -> HolderCount:
        """All storages that a root reaches; `seen` has the ids of objects that were met before, and gets its own."""
        trail = _Trail(set() if seen is None else seen)
        trail.seen |= self._barred
        first: dict[Hashable, int] = {}
        for index, (_, thing) in enumerate(root.things):
            self._walk(thing, trail)
            for key in list(trail.storages)[len(first) :]:  # what is new stands at the end
                first[key] = index
            if self.expired:
                break
        labels = [label for label, _ in root.things]
        return HolderCount(self._row(root), trail.storages, trail.parts, trail.shapes, labels, first)

    def alive(self, kinds: Iterable[type]) -> list[Any]:
        """All objects of these classes, and of those derived from them, that the garbage collector knows."""
        try:
            found = living(with_subclasses(kinds), seconds=(self._deadline - time.monotonic()) * _ALL_LIVING)
        except MemoryError:
            found = None
        self.everywhere &= found is not None
        return found or []

    def _row(self, root: Root) -> Holding:
        row = Holding(name=root.name, kind=root.kind, backend=self._backend, device=self._device)
        if root.kind in ("failed_cell", "earlier_cell", "unreachable", "module"):
            return row
        return replace(row, type_name=class_name(type(root.thing)), role=root.role or "other")

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
        if self._late():
            return False
        known = [thing for thing in chunk if self._sort(thing)[1] == _KNOWN]
        if known:
            if not self._go_beyond(known, trail, following):
                return False
            self._count(known, trail)
        seen, sorts, sort = trail.seen, self._sorts, self._sort
        referents = _referents(chunk)
        for at in range(0, len(referents), _CHUNK):  # one list may refer to millions
            if self._late():
                return False
            for thing in referents[at : at + _CHUNK]:
                entry = sorts.get(id(type(thing))) or sort(thing)
                if entry[1] and id(thing) not in seen:
                    seen.add(id(thing))
                    following.append(thing)
        return True

    def _go_beyond(self, things: list[object], trail: _Trail, following: list[object]) -> bool:
        """Note what tensors are for, and follow what the collector does not see; False when time is up."""
        for tracer in self.tracers:
            with self._guarded(tracer):
                for number, (thing, part) in enumerate(tracer.beyond(things, trail.nodes)):
                    if number % _CHUNK == _CHUNK - 1 and self._late():
                        return False
                    known = id(thing) in trail.seen
                    if not (known and part == "graph"):  # what has a way of its own is not the graph's
                        trail.marks.setdefault(id(thing), part)
                    if not known and not self._skip(thing):
                        trail.seen.add(id(thing))
                        following.append(thing)
        return True

    def halve_deadline(self) -> None:
        """Leave half of the time that is left unused: what follows is long, and seldom what the user looks for."""
        now = time.monotonic()
        self._deadline = min(self._deadline, now + max(0.0, self._deadline - now) / 2)

    def _late(self) -> bool:
        self.expired = time.monotonic() > self._deadline
        return self.expired

    def _count(self, things: list[object], trail: _Trail) -> None:
        for tracer in self.tracers:
            with self._guarded(tracer):
                for index, key, backend, device, size in tracer.storages(things):
                    if backend == self._backend and self._device in (None, device):
                        self._add(things[index], key, size, tracer, trail)

    def _add(self, thing: object, key: Hashable, size: int, tracer: Tracer, trail: _Trail) -> None:
        storages = trail.storages
        part = trail.marks.get(id(thing))
        if part is None and trail.parts.get(key) == "graph":
            del trail.parts[key]
        elif part is not None and (key not in storages or part != "graph"):
            trail.parts[key] = part
        storages[key] = max(storages.get(key, 0), size)  # a part of it may have been met first
        if size >= _LARGE and key not in trail.shapes:
            trail.shapes[key] = tracer.label(thing) or ""

    @contextmanager
    def _guarded(self, tracer: Tracer) -> Iterator[None]:
        """A framework that fails costs its own rows; what the search says of this holder is not all then."""
        try:
            yield
        except Exception as error:  # no traceback is logged: it would keep the objects
            self.failed = True
            _log.debug("%r could not tell what some objects keep: %s", tracer, class_name(type(error)))

    def _skip(self, thing: object) -> bool:
        return self._sort(thing)[1] == _SKIPPED

    def _sort(self, thing: object) -> tuple[type, int]:
        """An object's class, and whether such objects are skipped, followed, or known to a framework."""
        kind = type(thing)
        entry = self._sorts.get(id(kind))
        if entry is None:
            sort = _FOLLOWED
            if id(kind) in _ATOMIC or issubclass(kind, _CLOSED):
                sort = _SKIPPED
            elif role_of(thing, self.tracers) is not None:  # by class alone
                sort = _KNOWN
            entry = self._sorts[id(kind)] = (kind, sort)
        return entry


def _referents(things: list[object]) -> list[object]:
    """What these objects refer to; of functions and frames only what is their own."""
    special = [thing for thing in things if type(thing) is FunctionType or type(thing) is FrameType]
    if not special:
        return gc.get_referents(*things)
    found = gc.get_referents(*[one for one in things if not (type(one) is FunctionType or type(one) is FrameType)])
    for thing in special:
        if isinstance(thing, FunctionType):  # not its globals, which belong to a whole module
            found += (thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__)
        elif isinstance(thing, FrameType) and not at_top(thing.f_code):
            found += _held_by(thing)
    return found


def _held_by(frame: FrameType) -> list[object]:
    """A frame's locals. Before Python 3.13, to ask for them by name would leave a copy of them on the frame.

    That copy would keep what a generator drops when it goes on (python/cpython#113939). A generator's frame
    is empty there: the collector finds its locals by the generator.
    """
    if sys.version_info >= (3, 13):
        return [local for _, local in named(frame)]
    return [thing for thing in gc.get_referents(frame) if type(thing) is not FrameType]
