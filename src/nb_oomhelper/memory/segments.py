"""The parts of the memory bar."""

from __future__ import annotations

from dataclasses import replace

from nb_oomhelper.memory.room import left_of, own_pool, tightest
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import HostMemory, MemorySnapshot, ProcessMemory, Segment


def segments(snapshot: MemorySnapshot, backend: str, requested: int | None = None) -> tuple[Segment, ...]:
    """The parts of the memory bar, in drawing order; unknown parts have size None.

    Where `requested` bytes are more than is free, what is missing is a part of its own, beyond the rest.

    On a GPU: allocated, cached, rest of this process, other processes, free, and what is free past this process's
    limit. On the host under
    RLIMIT_AS or RLIMIT_DATA the bar is what this process has mapped; else the machine's memory.
    """
    parts = _host_segments(snapshot.host) if backend == "host" else _device_segments(snapshot)
    return _with_short(parts, requested, own_pool(snapshot))


def segments_of(event: OomEvent, snapshot: MemorySnapshot, requested: int | None = None) -> tuple[Segment, ...]:
    """The parts of an event's memory bar: as read, or of a device that nobody can read as the message has them.

    Args:
        event: What failed.
        snapshot: Memory then, or later.
        requested: As for `segments`.
    """
    if not is_told(event, snapshot):
        return segments(snapshot, event.backend, requested)
    beside = event.figure("other_allocations")
    whole = event.capacity if event.capacity is not None else event.limit
    free = event.free
    if free is None and beside is not None:  # the limit is on these two
        free = left_of(whole, (event.allocated or 0) + beside)
    elif beside is None and free is not None:
        beside = left_of(whole, free + (event.reserved or event.allocated or 0))
    parts = (
        Segment(kind="allocated", size=event.allocated),
        Segment(kind="cached", size=event.cached),
        Segment(kind="elsewhere", size=beside),
        Segment(kind="free", size=free),
    )
    return _with_short(parts, requested, 0)


def is_told(event: OomEvent, snapshot: MemorySnapshot) -> bool:
    """Whether the message alone tells what was used and free: neither driver nor allocator can be asked.

    Args:
        event: What failed.
        snapshot: Memory then, or later.
    """
    return event.backend != "host" and snapshot.device is None and snapshot.allocator is None


def _with_short(parts: tuple[Segment, ...], requested: int | None, pool: int) -> tuple[Segment, ...]:
    free = next((part.size for part in parts if part.kind == "free"), None)
    if requested is None or free is None or requested <= free + pool:
        return parts
    return (*parts, Segment(kind="short", size=requested - free - pool))


def _device_segments(snapshot: MemorySnapshot) -> tuple[Segment, ...]:
    device, reserved = snapshot.device, snapshot.reserved
    used = device.used if device else None
    rows = with_self((device.processes or ()) if device else (), reserved)
    mine = next((row.used for row in rows if row.is_self), None)
    beside: tuple[Segment, ...]
    if reserved is None and mine is not None:  # no allocator to ask: what it holds of the share is unknown
        beside = (Segment(kind="process", size=mine), Segment(kind="other", size=left_of(used, mine)))
    elif mine is None:  # the driver does not say which share is ours: one part for all that is not the allocator's
        beside = (Segment(kind="elsewhere", size=left_of(used, reserved or 0)),)
    else:
        beside = (
            Segment(kind="rest", size=left_of(mine, reserved or 0)),
            Segment(kind="other", size=left_of(used, mine)),
        )
    return (
        Segment(kind="allocated", size=snapshot.allocated),
        Segment(kind="cached", size=snapshot.cached),
        *beside,
        *_free_segments(snapshot),
    )


def _free_segments(snapshot: MemorySnapshot) -> tuple[Segment, ...]:
    """What is free, and apart from it what lies past the limit of this process."""
    free, allocator = snapshot.device.free if snapshot.device else None, snapshot.allocator
    below = left_of(allocator.limit, allocator.reserved) if allocator else None
    if free is None or below is None or below >= free:
        return (Segment(kind="free", size=free),)
    return (Segment(kind="free", size=below), Segment(kind="barred", size=free - below))


def with_self(rows: tuple[ProcessMemory, ...], reserved: int | None) -> tuple[ProcessMemory, ...]:
    """Find this process among the driver's rows where its pid is not ours.

    In a container the driver counts pids as the host does. If only one process cannot be seen from here
    and it holds at least what our allocator has reserved, it is this one. If there are more of the kind,
    none of them can be called another process: they are left out.
    """
    if not reserved or any(row.is_self for row in rows):
        return rows
    unseen = [row for row in rows if row.name is None and (row.used is None or row.used >= reserved)]
    seen = tuple(row for row in rows if row not in unseen)
    if len(unseen) == 1:
        return (*seen, replace(unseen[0], is_self=True))
    return seen


def _host_segments(host: HostMemory) -> tuple[Segment, ...]:
    name, room, _ = tightest(host)
    if name in ("RLIMIT_AS", "RLIMIT_DATA"):
        mapped = host.virtual if name == "RLIMIT_AS" else host.data
        return (Segment(kind="mapped", size=mapped), Segment(kind="free", size=room))
    used = host.cgroup_used if name == "cgroup" else left_of(host.capacity, host.available)
    return (
        Segment(kind="process", size=host.this_process),
        Segment(kind="other", size=left_of(used, host.this_process)),
        Segment(kind="free", size=room),
    )
