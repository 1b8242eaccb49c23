"""How much an allocation could still get."""

from __future__ import annotations

from dataclasses import replace

from nb_oomhelper.records.memory import HostMemory, MemorySnapshot


def free_now(snapshot: MemorySnapshot, backend: str) -> int | None:
    """Bytes that an allocation could get now: the driver's free and the framework's own cache, below the set limit."""
    if backend == "host":
        return host_free(snapshot.host)
    if snapshot.device is None or snapshot.device.free is None:
        return None
    room = device_free(replace(snapshot, others=()))
    whole = snapshot.allocator.largest_free_block if snapshot.allocator else None
    return room if room is None or whole is None else max(room, whole)


def device_free(snapshot: MemorySnapshot, back: int = 0) -> int | None:
    """Bytes free on a GPU once `back` bytes of tensors are gone and the caches are emptied, below the set limit."""
    room, allocator = snapshot.device.free if snapshot.device else None, snapshot.allocator
    own = (allocator.reusable if allocator else None) or 0
    if room is not None:
        room += back + own + sum(other.releasable or 0 for other in snapshot.others)
    if allocator is None or allocator.limit is None or allocator.reserved is None:
        return room
    below = max(0, allocator.limit - allocator.reserved + own + back)
    return below if room is None else min(room, below)


def own_pool(snapshot: MemorySnapshot) -> int:
    """What the framework can have of the pool that it never gives back; PyTorch has emptied its cache when it fails."""
    return (snapshot.allocator.cached or 0) if snapshot.allocator and snapshot.allocator.never_releases else 0


def host_free(host: HostMemory) -> int | None:
    """Bytes that this process can still get: the tightest of the machine's and the set limits."""
    rooms = [room for _, room, _ in host_rooms(host) if room is not None]
    return min(rooms, default=None)


def host_rooms(host: HostMemory) -> tuple[tuple[str, int | None, int | None], ...]:
    """What bounds this process on the host: name, bytes left, and the bound itself in bytes."""
    return (
        ("RLIMIT_AS", left_of(host.address_space_limit, host.virtual), host.address_space_limit),
        ("RLIMIT_DATA", left_of(host.data_limit, host.data), host.data_limit),
        ("cgroup", left_of(host.cgroup_limit, host.cgroup_used), host.cgroup_limit),
        ("machine", host.available, host.capacity),
    )


def tightest(host: HostMemory) -> tuple[str, int | None, int | None]:
    """The bound that leaves this process the least: name, bytes left, the bound in bytes."""
    known = [row for row in host_rooms(host) if row[1] is not None]
    return min(known, key=lambda row: row[1] or 0, default=("machine", None, host.capacity))


def left_of(whole: int | None, part: int | None) -> int | None:
    """The rest of a whole, at least 0; None where either is unknown."""
    return None if whole is None or part is None else max(0, whole - part)
