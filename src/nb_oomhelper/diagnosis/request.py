"""What a request like the failed one could get."""

from __future__ import annotations

from dataclasses import replace

from nb_oomhelper.memory.room import host_free, own_pool, tightest
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import MemorySnapshot

STARTS_WITH = 64 << 20  # bytes: cuBLAS and cuDNN start with less than that
_STARTING = ("pt.cublas_alloc", "pt.cudnn_alloc", "pt.cufft_alloc")


def made_certain(event: OomEvent, snapshot: MemorySnapshot) -> OomEvent:
    """The event, sure where its text has several causes and the figures leave one of them.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    free = snapshot.device.free if snapshot.device else None
    full = event.format in _STARTING and free is not None and free < STARTS_WITH
    return replace(event, certainty="sure") if full else event


def free_for(event: OomEvent, snapshot: MemorySnapshot) -> int | None:
    """Bytes that an allocation like the failed one could still get, or None.

    Driver and allocator count first: what a message tells is rounded, to five MiB where it speaks of GiB.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    if event.backend == "host":
        return event.free if event.free is not None else host_free(snapshot.host)
    free = snapshot.device.free if snapshot.device else None
    free = event.free if free is None else free + own_pool(snapshot)
    below = below_limit(event, snapshot)
    if below is None:
        return free
    return below if free is None else min(free, below)


def below_limit(event: OomEvent, snapshot: MemorySnapshot) -> int | None:
    """Bytes that this process may still reserve below the limit that is set for it; None where there is none.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    limit = limit_for(event, snapshot)
    reserved = getattr(snapshot.allocator, "reserved", None)
    reserved = event.reserved if reserved is None else reserved
    return None if limit is None or reserved is None else max(0, limit - reserved + own_pool(snapshot))


def limit_for(event: OomEvent, snapshot: MemorySnapshot) -> int | None:
    """Bytes that this process may reserve on the device, where less than all of it is allowed.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    told = snapshot.allocator.limit if snapshot.allocator else None
    limit = event.limit if told is None else told
    capacity = _device_capacity(event, snapshot)
    return None if limit is None or (capacity is not None and limit >= capacity) else limit


def printed_by(event: OomEvent) -> int:
    """Bytes by which the request may be more or less than the message says: PyTorch prints two digits of a GiB."""
    rounded = event.framework == "pytorch" and (event.requested or 0) >= 1 << 30
    return (1 << 30) // 200 if rounded else 0  # below, PyTorch asks for whole MiB


def allocated_then(event: OomEvent, snapshot: MemorySnapshot) -> int | None:
    """Bytes that were allocated when the request failed, or None.

    What C++ had made on the way is free again by now. The message's figure is rounded; the allocator's peak is exact,
    and the same moment's if it is what that figure was rounded from.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    told = event.allocated
    allocator = snapshot.allocator
    if told is None or allocator is None:
        return told
    exact = (allocator.allocated, allocator.peak_allocated)
    near = (1 << 30 if told >= 1 << 30 else 1 << 20) // 200  # PyTorch prints two digits
    return next((size for size in exact if size is not None and abs(size - told) <= near), told)


def own_cache(snapshot: MemorySnapshot) -> int | None:
    """Cached bytes that a request of the framework's may come to have: not those of private pools."""
    cached = snapshot.allocator.cached if snapshot.allocator else None
    return None if cached is None or snapshot.allocator is None else max(0, cached - snapshot.allocator.pooled)


def capacity_for(event: OomEvent, snapshot: MemorySnapshot) -> int | None:
    """Bytes of the device, or the tightest bound of the host; None where unknown.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    return tightest(snapshot.host)[2] if event.backend == "host" else _device_capacity(event, snapshot)


def most_for(event: OomEvent, snapshot: MemorySnapshot) -> int | None:
    """The most that this process can ever have there: the capacity, or the limit below it.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    limit = None if event.backend == "host" else limit_for(event, snapshot)
    return capacity_for(event, snapshot) if limit is None else limit


def _device_capacity(event: OomEvent, snapshot: MemorySnapshot) -> int | None:
    own = snapshot.allocator.device_capacity if snapshot.allocator else None
    told = own or (snapshot.device.capacity if snapshot.device else None)
    return event.capacity if told is None else told
