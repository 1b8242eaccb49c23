"""Small records made by hand: an event, memory at that moment, who holds it. Each test changes what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.memory import (
    AllocatorMemory,
    DeviceMemory,
    DriverReading,
    HostMemory,
    MemorySnapshot,
    ProcessMemory,
)

MIB, GIB = 1 << 20, 1 << 30

EVENT = OomEvent(
    framework="pytorch",
    backend="cuda",
    device=0,
    exception_type="torch.OutOfMemoryError",
    message="CUDA out of memory.",
    format="pt.cuda.capacity",
    requested=2 * GIB,
)
HOST_EVENT = replace(EVENT, framework="numpy", backend="host", device=None, exception_type="MemoryError")
US = ProcessMemory(pid=10, used=6 * GIB, is_self=True, name="python")
DEVICE = DeviceMemory(
    nvml_index=0, uuid="GPU-1", device=0, capacity=8 * GIB, used=7 * GIB, free=GIB, processes=(US,), name="NVIDIA H200"
)
ALLOCATOR = AllocatorMemory(
    framework="pytorch", backend="cuda", device=0, allocated=5 * GIB, reserved=5 * GIB + 512 * MIB, inactive_split=0
)
HOST = HostMemory(capacity=64 * GIB, available=32 * GIB, this_process=4 * GIB, virtual=20 * GIB)
SNAPSHOT = MemorySnapshot(
    taken_at=0.0, driver=DriverReading(devices=(DEVICE,)), host=HOST, device=DEVICE, allocator=ALLOCATOR
)
CUPY = AllocatorMemory(framework="cupy", backend="cuda", device=0, allocated=GIB // 4, reserved=GIB)
JAX = AllocatorMemory(
    framework="jax", backend="cuda", device=0, allocated=GIB, reserved=4 * GIB, limit=4 * GIB, never_releases=True
)
NOTHING = MemorySnapshot(taken_at=0.0, driver=DriverReading(), host=HostMemory())


def holding(kind: Any, name: str, own: int = 0, **facts: Any) -> Holding:
    return Holding(kind=kind, name=name, backend="cuda", own=own, **facts)


def held(*rows: Holding, shares: dict[tuple[int, ...], int] | None = None, complete: bool = True) -> Holdings:
    """Holdings of these rows; `shares` beside what each keeps alone."""
    alone = {(index,): row.own for index, row in enumerate(rows) if row.own}
    return Holdings(
        rows=rows,
        shares=tuple(sorted((alone | (shares or {})).items())),
        complete=complete,
        searched=len(rows),
        total=len(rows),
    )
