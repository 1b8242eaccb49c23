"""What a request like the failed one could get."""

from __future__ import annotations

from nb_oomhelper.memory.room import host_free, tightest
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import MemorySnapshot


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
        free = None if free is None else free + own_pool(snapshot)
    limit = event.limit or (snapshot.allocator.limit if snapshot.allocator else None)
    reserved = event.reserved if event.reserved is not None else getattr(snapshot.allocator, "reserved", None)
    if limit is not None and reserved is not None:
        below = max(0, limit - reserved + own_pool(snapshot))
        free = below if free is None else min(free, below)
    return free


def own_pool(snapshot: MemorySnapshot) -> int:
    """What the framework can have of the pool that it never gives back; PyTorch has emptied its cache when it fails."""
    return (snapshot.allocator.cached or 0) if snapshot.allocator and snapshot.allocator.never_releases else 0


def capacity_for(event: OomEvent, snapshot: MemorySnapshot) -> int | None:
    """Bytes of the device, or the tightest bound of the host; None where unknown."""
    if event.backend == "host":
        return tightest(snapshot.host)[2]
    return event.capacity or (snapshot.device.capacity if snapshot.device else None)
