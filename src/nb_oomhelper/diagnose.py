"""Why the request did not fit: pure, from the event and the snapshot to causes with their bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from nb_oomhelper import deadends, mistakes
from nb_oomhelper.memory.room import host_free, tightest
from nb_oomhelper.memory.segments import segments, with_self
from nb_oomhelper.records.diagnosis import Cause, CauseKind, DeadEnd, Diagnosis
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import MemorySnapshot

_WORTH_SAYING = 1 << 20  # a holder of less than a mebibyte explains nothing
_NAMED = 4  # variables that are named one by one
_ENDS = 5  # dead ends that are told
_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Failed = Callable[[Exception], None]


def diagnose(
    event: OomEvent, snapshot: MemorySnapshot, *, torch: bool = True, failed: Failed | None = None
) -> Diagnosis:
    """Read an event against the memory at that moment.

    Of another process's error only what its text tells: this process's memory does not explain it.

    Args:
        event: What failed.
        snapshot: Memory then.
        torch: Whether PyTorch is loaded: who does not use it does not try its functions.
        failed: Is told the error of each part that failed. It costs itself alone: a cause fewer, or an unknown figure.
    """
    if event.remote is not None:
        return _elsewhere(event)
    free = _tried(failed, None, free_for, event, snapshot)
    capacity = _tried(failed, None, _capacity, event, snapshot)
    short = None if event.requested is None or free is None else max(0, event.requested - free)
    no_causes: list[Callable[[], list[Cause]]] = []
    no_ends: list[Callable[[], list[DeadEnd]]] = []
    found: list[Callable[[], list[Cause]]] = [
        partial(_too_large, event, capacity),
        partial(_limits, event, snapshot),
        partial(_failed_cells, snapshot),
        partial(_results, snapshot),
        partial(_variables, snapshot),
        *_tried(failed, no_causes, mistakes.finders, snapshot.holdings, event.phase),
        partial(_unnamed, snapshot),
        partial(_pinned, event, snapshot),
        partial(_pools, event, snapshot),
        partial(_processes, event, snapshot),
        partial(_fragmentation, event, snapshot, free),
        partial(_rest, event, snapshot),
    ]
    causes = sorted(_each(failed, found), key=_weight)
    ends = _tried(failed, no_ends, deadends.finders, event, snapshot, free, causes, torch)
    return Diagnosis(
        requested=event.requested,
        free=free,
        capacity=capacity,
        short=short,
        rerun=_tried(failed, None, _rerun, event, causes),
        causes=tuple(causes),
        dead_ends=tuple(_each(failed, ends)[:_ENDS]),
    )


def _elsewhere(event: OomEvent) -> Diagnosis:
    short = None if event.requested is None or event.free is None else max(0, event.requested - event.free)
    return Diagnosis(requested=event.requested, free=event.free, capacity=event.capacity, short=short)


def _each(failed: Failed | None, parts: Iterable[Callable[[], list[_T]]]) -> list[_T]:
    nothing: list[_T] = []
    return [one for part in parts for one in _tried(failed, nothing, part)]


def _tried(failed: Failed | None, otherwise: _T, function: Callable[..., _T], *args: object) -> _T:
    """What a part of the diagnosis gives; where it fails, the rest must come all the same."""
    try:
        return function(*args)
    except Exception as problem:
        _log.debug("a part of the diagnosis failed", exc_info=True)
        if failed is not None:
            failed(problem)
        return otherwise


def free_for(event: OomEvent, snapshot: MemorySnapshot) -> int | None:
    """Bytes that an allocation like the failed one could still get, or None.

    The event's own figure counts first: it was read when the allocation failed.
    """
    if event.free is not None:
        free: int | None = event.free
    elif event.backend == "host":
        free = host_free(snapshot.host)
    else:
        free = snapshot.device.free if snapshot.device else None
        free = None if free is None else free + _own_pool(snapshot)
    limit = event.limit or (snapshot.allocator.limit if snapshot.allocator else None)
    reserved = event.reserved if event.reserved is not None else getattr(snapshot.allocator, "reserved", None)
    if limit is not None and reserved is not None:
        below = max(0, limit - reserved + _own_pool(snapshot))
        free = below if free is None else min(free, below)
    return free


def _own_pool(snapshot: MemorySnapshot) -> int:
    """What the framework can have of the pool that it never gives back; PyTorch has emptied its cache when it fails."""
    return (snapshot.allocator.cached or 0) if snapshot.allocator and snapshot.allocator.keeps else 0


def _capacity(event: OomEvent, snapshot: MemorySnapshot) -> int | None:
    if event.backend == "host":
        return tightest(snapshot.host)[2]
    return event.capacity or (snapshot.device.capacity if snapshot.device else None)


def _too_large(event: OomEvent, capacity: int | None) -> list[Cause]:
    if event.requested is None or capacity is None or event.requested <= capacity:
        return []
    return [Cause(kind="too_large", size=event.requested)]


def _limits(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    if event.backend == "host":
        name, _, bound = tightest(snapshot.host)
        return [] if name == "machine" or bound is None else [Cause(kind="limit", size=bound, limit=name)]
    limit = event.limit or (snapshot.allocator.limit if snapshot.allocator else None)
    if limit is None or (event.capacity is not None and limit >= event.capacity):
        return []
    return [Cause(kind="limit", size=limit, limit="memory fraction")]


def _failed_cells(snapshot: MemorySnapshot) -> list[Cause]:
    """What the failed cell keeps, and what those before it still keep: a release lets go of both."""
    holdings = snapshot.holdings
    now, both = holdings.freed_by(holdings.of_kind("failed_cell")), holdings.freed_by(holdings.of_failures())
    sizes: tuple[tuple[CauseKind, int], ...] = (("failed_cell", now), ("earlier_cell", both - now))
    return [
        Cause(kind=kind, size=size, names=tuple(row.name.split(", ")), function=row.function, line=row.line)
        for kind, size in sizes
        if size >= _WORTH_SAYING
        for row in [one for one in holdings.rows if one.kind == kind][:1]
    ]


def _results(snapshot: MemorySnapshot) -> list[Cause]:
    holdings = snapshot.holdings
    failed, results = holdings.of_failures(), holdings.of_kind("output_history")
    size = holdings.freed_by(failed | results) - holdings.freed_by(failed)
    if size < _WORTH_SAYING:
        return []
    names = tuple(holdings.rows[index].name for index in sorted(results)[:_NAMED])
    return [Cause(kind="output_history", size=size, names=names)]


def _variables(snapshot: MemorySnapshot) -> list[Cause]:
    """What each variable would give back, once the failed cell's frames are released."""
    holdings = snapshot.holdings
    failed = holdings.of_failures()
    base = holdings.freed_by(failed)
    causes = []
    for index in holdings.of_kind("variable"):
        row = holdings.rows[index]
        size = holdings.freed_by(failed | {index}) - base
        if size >= _WORTH_SAYING:
            causes.append(Cause(kind="variable", size=size, names=(row.name,), role=row.role, path=row.path))
    causes.extend(_together(snapshot, failed))
    causes.sort(key=_weight)
    return causes[:_NAMED]


def _together(snapshot: MemorySnapshot, failed: frozenset[int]) -> list[Cause]:
    """What a variable keeps with other holders: a model and the optimizer of its parameters, `x` and `Out[3]`."""
    holdings = snapshot.holdings
    variables = holdings.of_kind("variable")
    sizes: dict[frozenset[int], int] = {}
    for holders, size in holdings.shares:
        group = frozenset(holders) - failed
        if len(group) > 1 and group & variables:
            sizes[group] = sizes.get(group, 0) + size
    return [
        Cause(kind="variable", size=size, names=tuple(holdings.rows[index].name for index in sorted(group)))
        for group, size in sizes.items()
        if size >= _WORTH_SAYING
    ]


def _unnamed(snapshot: MemorySnapshot) -> list[Cause]:
    """What the allocator has given out and no name was found for, such as the graph that autograd keeps."""
    allocated = snapshot.allocated
    if allocated is None or not snapshot.holdings.total or not snapshot.holdings.complete:
        return []
    named = snapshot.holdings.of_kind("unreachable")
    size = allocated - sum(size for holders, size in snapshot.holdings.shares if not named.issuperset(holders))
    return [Cause(kind="unnamed", size=size)] if size >= _WORTH_SAYING else []


def _processes(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    reserved = event.reserved if snapshot.reserved is None else snapshot.reserved
    seen = snapshot.device.processes if snapshot.device else None
    rows = with_self(seen, reserved) if seen else event.processes
    capacity = _capacity(event, snapshot)
    return [
        Cause(
            kind="other_process",
            size=row.used,
            pid=row.pid,
            process=" · ".join(part for part in (row.name, row.detail) if part) or None,
        )
        for row in rows
        if not row.is_self and (row.used is None or _WORTH_SAYING <= row.used <= (capacity or row.used))
    ]


def _fragmentation(event: OomEvent, snapshot: MemorySnapshot, free: int | None) -> list[Cause]:
    """Enough is cached, yet no piece of it is large enough (PyTorch gives back what it can before it fails).

    Where as much is free beside it, pieces are not what was missing.
    """
    cached = event.cached if event.cached is not None else getattr(snapshot.allocator, "cached", None)
    if event.backend == "host" or event.requested is None or cached is None or cached < event.requested:
        return []
    if free is not None and free - _own_pool(snapshot) >= event.requested:
        return []
    largest = snapshot.allocator.largest_free_block if snapshot.allocator else None
    if largest is not None and largest >= event.requested:  # given back since, by a program that took several pieces
        return []
    return [Cause(kind="fragmentation", size=cached, largest=largest)]


def _pinned(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """Host memory that is pinned for a GPU is the host's all the same, and stays cached when its tensors go."""
    size = snapshot.host.pinned
    return [Cause(kind="pinned", size=size)] if event.backend == "host" and size and size >= _WORTH_SAYING else []


def _pools(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """What other frameworks hold of the device and do not use: this framework's requests cannot have it."""
    if event.backend == "host":
        return []
    found = [
        Cause(kind="pool_kept", size=other.cached, names=(other.framework,))
        if other.keeps
        else Cause(kind="pool", size=other.releasable_at_most, names=(other.framework,))
        for other in snapshot.others
    ]
    return [cause for cause in found if cause.size and cause.size >= _WORTH_SAYING]


def _rest(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """What this process keeps on the device beside the allocator: context, libraries' own buffers."""
    if event.backend == "host":
        return []
    size = next((part.size for part in segments(snapshot, "cuda") if part.kind == "rest"), None)
    return [Cause(kind="rest", size=size)] if size and size >= _WORTH_SAYING else []


def _rerun(event: OomEvent, causes: list[Cause]) -> int | None:
    """What the failed cell keeps was its own: run again, it takes that again before it asks for the rest."""
    if event.requested is None:
        return None
    return event.requested + sum(cause.size or 0 for cause in causes if cause.kind == "failed_cell")


def _weight(cause: Cause) -> tuple[int, int]:
    """What no fix can change comes first, what is only part of the picture last."""
    rank = {"too_large": 0, "limit": 2, "rest": 3}.get(cause.kind, 1)
    return rank, -(cause.size or 0)
