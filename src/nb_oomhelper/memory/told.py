"""Memory as a message tells it, and memory of which nothing was read."""

from __future__ import annotations

import time

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import AllocatorMemory, DeviceMemory, DriverReading, HostMemory, MemorySnapshot


def unread() -> MemorySnapshot:
    """Memory as it is where nothing could be read."""
    return MemorySnapshot(taken_at=time.time(), driver=DriverReading(), host=HostMemory())


def told_snapshot(event: OomEvent) -> MemorySnapshot:
    """Memory of the process and the device that a message speaks of, as far as it does; nothing here is asked."""
    if event.backend == "host":
        return unread()
    device = None
    if event.capacity is not None and event.free is not None:
        device = DeviceMemory(
            nvml_index=event.device or 0,
            device=event.device,
            capacity=event.capacity,
            free=event.free,
            used=max(0, event.capacity - event.free),
            processes=event.processes or None,
        )
    allocator = AllocatorMemory(
        framework=event.framework,
        backend=event.backend,
        device=event.device,
        allocated=event.allocated,
        reserved=event.reserved,
        limit=event.limit,
    )
    return MemorySnapshot(
        taken_at=time.time(), driver=DriverReading(), host=HostMemory(), device=device, allocator=allocator
    )
