"""Memory at one moment: driver, allocator, host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nb_oomhelper.records.cache import CacheSegment
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.note import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """What one process holds on a device.

    Attributes:
        pid: As the driver counts it: in a container this is the pid on the host.
        used: Bytes on the device; None where the driver does not tell.
        name: The process's name, or None where it cannot be seen from here.
        is_self: True for the process that we run in.
        detail: What tells it from others of that name (a notebook's path, a script), or None.
        is_child: Whether it is one that this process started, or that one of those did: a worker.
    """

    pid: int
    used: int | None = None
    name: str | None = None
    is_self: bool = False
    detail: str | None = None
    is_child: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """One GPU as the driver sees it.

    Attributes:
        nvml_index: The driver's number.
        uuid: "GPU-…" or "MIG-…".
        device: The ordinal that frameworks in this process use for it; None where it is hidden from
            them or cannot be told.
        name: As the driver prints it.
        capacity, used, free: Bytes, all processes counted.
        system_reserved: Bytes that the driver keeps for itself.
        processes: One row a process; None where the driver does not tell.
        note: What could not be read, or None.
    """

    nvml_index: int
    uuid: str | None = None
    device: int | None = None
    name: str | None = None
    capacity: int | None = None
    used: int | None = None
    free: int | None = None
    system_reserved: int | None = None
    processes: tuple[ProcessMemory, ...] | None = None
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverReading:
    """All GPUs at one moment.

    Attributes:
        devices: In the driver's order; empty where there is no driver.
        note: Why there is nothing to show, or None.
    """

    devices: tuple[DeviceMemory, ...] = ()
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """The machine's own memory.

    Attributes:
        capacity, available: Bytes of the machine.
        this_process: Resident bytes of this process.
        virtual: Bytes of address space that this process has mapped.
        address_space_limit: RLIMIT_AS in bytes; None where it is not set.
        puts_by: Whether some of that is put by for an error, since the limit cannot be raised for one.
        data: Bytes that count against RLIMIT_DATA: private memory that can be written to.
        data_limit: RLIMIT_DATA in bytes; None where it is not set.
        cgroup_limit, cgroup_used: The container's limit and use in bytes; None where there is none.
        pinned: Bytes that a framework keeps pinned for copies to a GPU; None where there is none.
    """

    capacity: int | None = None
    available: int | None = None
    this_process: int | None = None
    virtual: int | None = None
    address_space_limit: int | None = None
    puts_by: bool = True
    data: int | None = None
    data_limit: int | None = None
    cgroup_limit: int | None = None
    cgroup_used: int | None = None
    pinned: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedBlocks:
    """What of an allocator's cache can be had, added up block by block.

    Attributes:
        largest: Bytes of the largest block that a request outside private pools may have, or None.
        releasable: Bytes that emptying the cache gives back to the driver; None where that is not told.
        pooled: Bytes that private pools keep for themselves while they live.
        workspace: Bytes in use in blocks of just the size that cuBLAS is given to work in.
        segments: All that the allocator holds, block by block; None where that is not told, or more than is worth it.
    """

    largest: int | None = None
    releasable: int | None = None
    pooled: int = 0
    workspace: int = 0
    segments: tuple[CacheSegment, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorMemory:
    """A framework's allocator on one device, in this process.

    Attributes:
        framework, backend, device: Whose allocator, and on which of its devices.
        allocated: Bytes in live tensors.
        reserved: Bytes held from the driver.
        inactive_split: Cached bytes in pieces of a larger block that is still in use: not releasable.
        peak_allocated: The most that was allocated since the process began or the peak was reset.
        limit: Bytes that this process may reserve, where there is such a limit; else None.
        largest_free_block: The largest cached block in bytes that its next request may have; None where not read.
        pooled: Cached bytes that private pools, such as those of CUDA graphs, keep for themselves while they live.
        whole: Cached bytes that emptying the cache gives back, added up block by block; None where not read.
        rounding: Allocated bytes beyond what tensors asked for: the allocator rounds up; None where it does not tell.
        workspace: Allocated bytes in blocks of just the size that cuBLAS is given to work in.
        segments: All that it holds, block by block; None where that was not read.
        device_free, device_capacity: Bytes of the device as the framework's own runtime tells them, or None.
        uuid: The device's uuid as the framework knows it, "GPU-…", or None.
        ooms, retries: How often it has refused a request, and how often it got one only after it had given back its
            cache, since the process began; None where it does not count.
        never_releases: Whether it never gives memory back to the driver while the process lives, as JAX's does.
    """

    framework: str
    backend: str
    device: int | None = None
    allocated: int | None = None
    reserved: int | None = None
    inactive_split: int | None = None
    peak_allocated: int | None = None
    limit: int | None = None
    largest_free_block: int | None = None
    pooled: int = 0
    whole: int | None = None
    rounding: int | None = None
    workspace: int = 0
    segments: tuple[CacheSegment, ...] | None = None
    device_free: int | None = None
    device_capacity: int | None = None
    uuid: str | None = None
    ooms: int | None = None
    retries: int | None = None
    never_releases: bool = False

    @property
    def cached(self) -> int | None:
        """Reserved bytes that no live tensor uses."""
        if self.reserved is None or self.allocated is None:
            return None
        return max(0, self.reserved - self.allocated)

    @property
    def releasable(self) -> int | None:
        """Cached bytes that emptying the cache gives back to the driver; None where pieces in use are not told."""
        if not self.cached:
            return self.cached
        if self.never_releases:
            return 0
        if self.whole is not None:
            return self.whole
        if self.allocated == 0:
            return max(0, self.cached - self.pooled)
        return None if self.inactive_split is None else max(0, self.cached - self.inactive_split - self.pooled)

    @property
    def releasable_at_most(self) -> int | None:
        """The bytes of `releasable` where they are known, and else all that is cached."""
        return self.cached if self.releasable is None else self.releasable

    @property
    def reusable(self) -> int | None:
        """Cached bytes that the framework's own next request can have."""
        return self.cached if self.never_releases else self.releasable


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySnapshot:
    """Memory at one moment: the driver's, the framework's and the host's view of it.

    Attributes:
        taken_at: Seconds since the epoch.
        driver: All GPUs.
        device: The GPU that the event is about, or None.
        allocator: The framework's view of that device, or None.
        others: The views of the other frameworks that have started it.
        host: The machine's own memory.
        children: The processes that this one has started, with what they have of it; empty where they were not read.
        holdings: Who keeps what.
    """

    taken_at: float
    driver: DriverReading
    host: HostMemory
    device: DeviceMemory | None = None
    allocator: AllocatorMemory | None = None
    others: tuple[AllocatorMemory, ...] = ()
    children: tuple[ProcessMemory, ...] = ()
    holdings: Holdings = field(default_factory=Holdings)

    @property
    def allocated(self) -> int | None:
        """Bytes in live tensors and arrays of all frameworks on that device; None where one of them does not tell."""
        return self._sum("allocated")

    @property
    def reserved(self) -> int | None:
        """Bytes that all frameworks hold from the driver."""
        return self._sum("reserved")

    @property
    def cached(self) -> int | None:
        """Reserved bytes that no live tensor or array uses."""
        return self._sum("cached")

    @property
    def releasable(self) -> int | None:
        """Cached bytes that emptying all caches gives back to the driver."""
        return self._sum("releasable")

    @property
    def releasable_at_most(self) -> int | None:
        """The bytes of `releasable` of those that tell them, and of the others all that they have cached."""
        return self._sum("releasable_at_most")

    @property
    def mixed(self) -> bool:
        """Whether bytes that come back to one framework need not be there for another: kept, or past a limit."""
        others = [row for row in self.others if row.reserved != 0]
        own = self.allocator
        one_never = any(row.never_releases for row in (own, *others) if row is not None)
        return bool(others) and (one_never or (own is not None and own.limit is not None))

    def _sum(self, figure: str) -> int | None:
        rows = [row for row in (self.allocator, *self.others) if row is not None]
        sizes: list[int | None] = [getattr(row, figure) for row in rows]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part of the memory bar: a kind, and its bytes (None: unknown, and not drawn).

    "rest" is this process beside its allocator, "other" all other processes; where the driver does not
    tell them apart, "elsewhere" is both. "barred" is free and past this process's limit. "process" is this
    process on the host, "mapped" its address space.
    """

    kind: Literal["allocated", "cached", "rest", "process", "mapped", "other", "elsewhere", "free", "barred", "short"]
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """The figures that an outcome compares, read at one moment.

    Attributes:
        backend: "cuda" or "host".
        device_used: Driver's figure for the device, all processes; None on the host.
        allocated, reserved: The framework's figures in bytes; None on the host.
        resident, virtual: This process's host memory in bytes.
        free: Bytes that an allocation could still get.
    """

    backend: str
    device_used: int | None = None
    allocated: int | None = None
    reserved: int | None = None
    resident: int | None = None
    virtual: int | None = None
    free: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What this process holds at one moment, read cheaply enough for every cell; None is unknown.

    Attributes:
        resident, peak_resident: Bytes of host memory now, and the most since the process began.
        virtual, peak_virtual: The same of its address space.
        data: Bytes of it that may be written to, and are nobody else's.
        allocated: Bytes in live tensors and arrays of a GPU: framework, ordinal, bytes.
    """

    resident: int | None = None
    peak_resident: int | None = None
    virtual: int | None = None
    peak_virtual: int | None = None
    data: int | None = None
    allocated: tuple[tuple[str, int | None, int], ...] = ()


Span = tuple[Footprint | None, Footprint | None]  # what the process held before a cell, and when it had failed
