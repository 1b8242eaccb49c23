"""Who keeps memory: user variables, displayed results, the failed cell's frames; how many bytes each alone.

The search follows references as the garbage collector does (`gc.get_referents`), so that no property,
`__getattr__` or `__repr__` of the user's ever runs, and looks only for tensors and arrays. It counts
storages, not views, and keeps nothing: what it returns is names and numbers.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Protocol

from nb_oomhelper.model import HolderKind, Holding, Holdings

_CHUNK = 4096  # objects between two looks at the clock
_NAMED = 3  # local names that the failed cell's row shows
_ATOMIC = (int, float, complex, bool, str, bytes, bytearray, type(None), range, slice)
_CLOSED = (type, ModuleType, CodeType, BuiltinFunctionType)  # they lead to whole libraries, not to holdings
_OURS = frozenset({"IPython", "ipykernel", "nb_oomhelper"})


class Tracer(Protocol):
    """What the search needs of a framework."""

    def storages(self, objects: Sequence[object]) -> Iterable[tuple[int, Hashable, str, int | None, int]]:
        """Index of the object, key, backend, device and bytes of each storage that these objects keep."""

    def role(self, obj: object) -> str | None:
        """What the object is to the framework, by its class alone."""


@dataclass(slots=True)
class Scope:
    """Where to look. It refers to the user's objects: make it, search, drop it.

    Attributes:
        variables: The user's names and their objects.
        results: Displayed results by number.
        frames: The failed cell's frames and the lines that failed in them, outermost first.
        barred: Objects that the search must not enter: the shell and its namespaces.
    """

    variables: Mapping[str, object] = field(default_factory=dict)
    results: Mapping[int, object] = field(default_factory=dict)
    frames: Sequence[tuple[FrameType, int]] = ()
    barred: Sequence[object] = ()


_Thing = tuple[str, str | None, int | None, object]


@dataclass(slots=True)
class _Root:
    """One holder to be: its kind, and its objects by name, function and line."""

    kind: HolderKind
    things: list[_Thing]


def find_holdings(
    scope: Scope, tracers: Sequence[Tracer], *, backend: str, device: int | None, seconds: float
) -> Holdings:
    """Search the scope for tensors and arrays on one device.

    Args:
        scope: Where to look.
        tracers: The loaded frameworks.
        backend: "cuda", "host", …
        device: The framework's ordinal; None counts all devices of the backend.
        seconds: When the search must end; how far it came is said in the result.
    """
    started = time.monotonic()
    search = _Search(tracers, backend, device, scope.barred, started + seconds)
    found: list[tuple[Holding, dict[Hashable, int]]] = []
    roots = [root for root in _roots(scope) if search.may_hold(root)]
    searched = 0
    for root in roots:
        row, storages = search.follow(root)
        if storages:
            found.append((row, storages))
        if search.expired:
            break
        searched += 1
    return _tabulate(found, searched, len(roots), time.monotonic() - started)


def _roots(scope: Scope) -> list[_Root]:
    """The failed cell first, since it is what people cannot see; then results and variables."""
    local: list[_Thing] = [item for frame, line in scope.frames for item in _locals(frame, line)]
    roots = [_Root("failed_cell", local)] if local else []
    for number, thing in scope.results.items():
        roots.append(_Root("output_history", [(f"Out[{number}]", None, None, thing)]))
    for name, thing in scope.variables.items():
        roots.append(_Root("variable", [(name, None, None, thing)]))
    return roots


def _locals(frame: FrameType, line: int) -> Iterator[tuple[str, str, int, object]]:
    """A frame's own names; none for a module's, whose locals are the user's variables."""
    owner = frame.f_globals.get("__name__")
    if frame.f_code.co_name == "<module>" or (isinstance(owner, str) and owner.partition(".")[0] in _OURS):
        return
    for name, thing in list(frame.f_locals.items()):
        yield name, frame.f_code.co_name, line, thing


class _Search:
    """Follows references until a deadline, and adds up storages of one backend and device."""

    def __init__(
        self, tracers: Sequence[Tracer], backend: str, device: int | None, barred: Sequence[object], deadline: float
    ) -> None:
        self._tracers = tracers
        self._backend = backend
        self._device = device
        self._barred = frozenset(id(thing) for thing in barred)
        self._deadline = deadline
        self._skipped: dict[type, bool] = {}
        self.expired = False

    def may_hold(self, root: _Root) -> bool:
        """Whether there is anything to search: numbers, texts, modules and the shell are left out."""
        return any(not self._skip(thing) and id(thing) not in self._barred for *_, thing in root.things)

    def follow(self, root: _Root) -> tuple[Holding, dict[Hashable, int]]:
        """All storages that a root reaches, and the row that names it."""
        seen = set(self._barred)
        storages: dict[Hashable, int] = {}
        gains: list[tuple[int, int]] = []  # bytes that a thing was the first to reach; its index
        for index, (*_, thing) in enumerate(root.things):
            gains.append((self._walk(thing, seen, storages), index))
            if self.expired:
                break
        return self._row(root, gains), storages

    def _row(self, root: _Root, gains: list[tuple[int, int]]) -> Holding:
        """Name the holder after what brought the most bytes; names elsewhere in the stack are left out."""
        best = [index for gain, index in sorted(gains, key=lambda pair: -pair[0]) if gain > 0] or [0]
        name, function, line, thing = root.things[best[0]]
        named = [root.things[index][0] for index in best if root.things[index][1:3] == (function, line)]
        row = Holding(
            name=", ".join(dict.fromkeys(named[:_NAMED])) if root.kind == "failed_cell" else name,
            kind=root.kind,
            backend=self._backend,
            device=self._device,
            function=function,
            line=line,
        )
        if root.kind == "failed_cell":
            return row
        role = next((role for role in (tracer.role(thing) for tracer in self._tracers) if role), "other")
        return replace(row, type_name=type(thing).__name__, role=role)

    def _walk(self, start: object, seen: set[int], storages: dict[Hashable, int]) -> int:
        """Add what this object leads to; the bytes of the storages that are new."""
        gained = 0
        level = [] if self._skip(start) or id(start) in seen else [start]
        seen.add(id(start))
        while level:
            following: list[object] = []
            for at in range(0, len(level), _CHUNK):
                if time.monotonic() > self._deadline:
                    self.expired = True
                    return gained
                chunk = level[at : at + _CHUNK]
                gained += self._count(chunk, storages)
                for thing in _referents(chunk):
                    key = id(thing)
                    if key not in seen and not self._skip(thing):
                        seen.add(key)
                        following.append(thing)
            level = following
        return gained

    def _count(self, things: list[object], storages: dict[Hashable, int]) -> int:
        gained = 0
        for tracer in self._tracers:
            for _, key, backend, device, size in tracer.storages(things):
                if backend == self._backend and self._device in (None, device):
                    known = storages.get(key, 0)  # a part of it may have been met first
                    storages[key] = max(known, size)
                    gained += storages[key] - known
        return gained

    def _skip(self, thing: object) -> bool:
        kind = type(thing)
        skip = self._skipped.get(kind)
        if skip is None:
            skip = self._skipped[kind] = kind in _ATOMIC or issubclass(kind, _CLOSED)
        return skip


def _referents(things: list[object]) -> Iterator[object]:
    """What these objects refer to; of functions and frames only what is their own."""
    special = [thing for thing in things if type(thing) in (FunctionType, FrameType)]
    if special:
        things = [thing for thing in things if type(thing) not in (FunctionType, FrameType)]
    yield from gc.get_referents(*things)
    for thing in special:
        if isinstance(thing, FunctionType):  # not its globals, which belong to a whole module
            yield from (thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__)
        elif isinstance(thing, FrameType) and thing.f_code.co_name != "<module>":
            yield from thing.f_locals.values()


def _tabulate(found: list[tuple[Holding, dict[Hashable, int]]], searched: int, total: int, seconds: float) -> Holdings:
    """Count each storage once under the set of holders that keep it."""
    keepers: dict[Hashable, list[int]] = {}
    sizes: dict[Hashable, int] = {}
    for index, (_, storages) in enumerate(found):
        for key, size in storages.items():
            keepers.setdefault(key, []).append(index)
            sizes[key] = size
    rows = []
    for index, (row, storages) in enumerate(found):
        own = sum(size for key, size in storages.items() if keepers[key] == [index])
        rows.append(replace(row, own=own, shared=sum(storages.values()) - own, count=len(storages)))
    order = sorted(range(len(rows)), key=lambda index: (-rows[index].own, -rows[index].shared))
    place = {old: new for new, old in enumerate(order)}
    shares: dict[tuple[int, ...], int] = {}
    for key, indexes in keepers.items():
        holders = tuple(sorted(place[index] for index in indexes))
        shares[holders] = shares.get(holders, 0) + sizes[key]
    return Holdings(
        rows=tuple(rows[index] for index in order),
        shares=tuple(sorted(shares.items())),
        complete=searched == total,
        searched=searched,
        total=total,
        seconds=seconds,
    )
