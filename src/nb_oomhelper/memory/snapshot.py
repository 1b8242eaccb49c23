"""Memory at one moment, in one record: driver, framework and host.

Reading never creates a CUDA context and never starts a framework.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from nb_oomhelper.frameworks import FRAMEWORKS
from nb_oomhelper.memory.allocators import allocators, with_blocks
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.memory.processes import children, describe_process, is_child, sees_driver_pids
from nb_oomhelper.memory.room import free_now
from nb_oomhelper.records.memory import (
    AllocatorMemory,
    DeviceMemory,
    DriverReading,
    HostMemory,
    Measure,
    MemorySnapshot,
)
from nb_oomhelper.session import extension_of


@contextmanager
def open_driver(shell: Any) -> Iterator[Driver]:
    """Give the driver that the shell's extension has; where none is loaded one of our own, closed at the end."""
    extension = extension_of(shell)
    if extension is not None:
        yield extension.services.driver
        return
    driver = Driver()
    try:
        yield driver
    finally:
        driver.close()


def read_driver(driver: Driver, *, named: bool = True) -> DriverReading:
    """All GPUs, with the names of the processes on them and the ordinals that frameworks use.

    Args:
        driver: The door to NVML.
        named: Whether the processes' names are wanted: they take longer than all else.
    """
    known = {
        ordinal: uuid
        for framework in FRAMEWORKS
        for ordinal, uuid in framework.device_uuids().items()
        if uuid is not None
    }
    reading = driver.read(known=known or None)
    if not named:
        return reading
    theirs, seen_as = sees_driver_pids(), functools.cache(_seen_as)  # one process may be on every GPU
    return replace(reading, devices=tuple(_with_names(one, seen_as, theirs=theirs) for one in reading.devices))


def take_snapshot(
    driver: Driver,
    *,
    backend: str,
    device: int | None,
    framework: str = "",
    blocks: bool = False,
    named: bool = True,
) -> MemorySnapshot:
    """Read the figures of one device of one backend; who holds what is left out.

    Args:
        driver: The door to NVML.
        backend: "cuda", "host", …
        device: The framework's ordinal, or None.
        framework: Whose allocator the snapshot is about; "" is the first that has started the device.
        blocks: Whether to read the caches block by block, and on the host the processes that were started from here,
            too, which may take long (the live readout does not).
        named: Whether the names of processes on the GPU are wanted.
    """
    reading = read_driver(driver, named=named) if backend == "cuda" else DriverReading()  # it knows no GPU but NVIDIA's
    found = allocators(backend, device, framework)
    if blocks:
        found = [with_blocks(one) for one in found]
    allocator, others = _parted(found, framework)
    return MemorySnapshot(
        taken_at=time.time(),
        driver=reading,
        host=_read_host(),
        children=children() if blocks and backend == "host" else (),
        device=_filled(_pick(reading, device, allocator), allocator),
        allocator=allocator,
        others=others,
    )


def take_again(
    driver: Driver, before: MemorySnapshot, *, backend: str, device: int | None, framework: str
) -> MemorySnapshot:
    """Read what is used and free of a device again: what cannot have changed and who is on it is not asked for.

    Args:
        driver: The door to NVML.
        before: The device as it was read before.
        backend, device, framework: As for `take_snapshot`.

    Returns:
        A snapshot of a GPU without processes and host; where the driver's figures cannot be had so, a whole one.
    """
    row = driver.read_memory(before.device) if backend == "cuda" and before.device is not None else None
    if row is None:
        return take_snapshot(driver, backend=backend, device=device, framework=framework, named=False)
    allocator, others = _parted(allocators(backend, device, framework), framework)
    return MemorySnapshot(
        taken_at=time.time(),
        driver=DriverReading(devices=(row,)),
        host=HostMemory(),
        device=row,
        allocator=allocator,
        others=others,
    )


def _parted(found: list[AllocatorMemory], framework: str) -> tuple[AllocatorMemory | None, tuple[AllocatorMemory, ...]]:
    """The allocator that a snapshot is about, and the others."""
    allocator = next((one for one in found if framework in ("", one.framework)), None)
    return allocator, tuple(one for one in found if one is not allocator)


def snapshot_of(reading: DriverReading, device: DeviceMemory) -> MemorySnapshot:
    """One GPU of a reading, with its allocators and without host and holders. The driver is not asked again.

    What no framework here can name has no allocator to ask.
    """
    allocator, others = _parted([] if device.device is None else allocators("cuda", device.device), "")
    return MemorySnapshot(
        taken_at=time.time(),
        driver=reading,
        host=HostMemory(),
        device=device,
        allocator=allocator,
        others=others,
    )


def measure(snapshot: MemorySnapshot, backend: str) -> Measure:
    """The figures of a snapshot that an outcome compares."""
    host, device = snapshot.host, snapshot.device
    return Measure(
        backend=backend,
        device_used=device.used if device else None,
        allocated=snapshot.allocated,
        reserved=snapshot.reserved,
        resident=host.this_process,
        virtual=host.virtual,
        free=free_now(snapshot, backend),
    )


def _read_host() -> HostMemory:
    pinned = [size for framework in FRAMEWORKS if (size := framework.pinned()) is not None]
    return replace(read_host(), pinned=sum(pinned) if pinned else None)


def _pick(reading: DriverReading, device: int | None, allocator: AllocatorMemory | None) -> DeviceMemory | None:
    """The GPU that an ordinal means: by uuid first, then by the ordinal; the only one if none was named."""
    if allocator is not None and allocator.uuid is not None:
        for row in reading.devices:
            if row.uuid is not None and row.uuid.lower() == allocator.uuid.lower():
                return row
    ordinal = allocator.device if device is None and allocator is not None else device
    if ordinal is not None:
        return next((row for row in reading.devices if row.device == ordinal), None)
    return reading.devices[0] if len(reading.devices) == 1 else None


def _filled(device: DeviceMemory | None, allocator: AllocatorMemory | None) -> DeviceMemory | None:
    """The GPU with what the CUDA runtime tells, where the driver's library is missing or tells nothing."""
    if allocator is None or allocator.device_free is None or allocator.device_capacity is None:
        return device
    if device is None:
        device = DeviceMemory(nvml_index=allocator.device or 0, device=allocator.device, uuid=allocator.uuid)
    if device.free is not None and device.capacity is not None:
        return device
    free, capacity = allocator.device_free, allocator.device_capacity
    return replace(device, free=free, capacity=capacity, used=max(0, capacity - free))


def _with_names(device: DeviceMemory, seen_as: Callable[[int], dict[str, Any]], *, theirs: bool) -> DeviceMemory:
    if device.processes is None:
        return device
    # In a container the number of another one is somebody else.
    rows = (replace(row, **seen_as(row.pid)) if row.is_self or theirs else row for row in device.processes)
    return replace(device, processes=tuple(rows))


def _seen_as(pid: int) -> dict[str, Any]:
    """What is told of a process as this machine numbers it, as fields of `ProcessMemory`."""
    name, detail = describe_process(pid)
    return {"name": name, "detail": detail, "is_child": pid != os.getpid() and name is not None and is_child(pid)}


def read_measure(
    driver: Driver, backend: str, device: int | None, framework: str = "", *, blocks: bool = False
) -> Measure:
    """The figures of one device now; what is free of it, for a request of this framework's.

    Args:
        driver: The door to NVML.
        backend, device, framework: As for `take_snapshot`.
        blocks: As for `take_snapshot`: without them what is free is less sure.
    """
    snapshot = take_snapshot(driver, backend=backend, device=device, framework=framework, blocks=blocks)
    return measure(snapshot, backend)
