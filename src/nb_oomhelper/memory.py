"""Memory at one moment, in one record: driver, framework, host and who holds what.

Reading never creates a CUDA context and never starts a framework.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from nb_oomhelper import retained
from nb_oomhelper.diagnose import host_free
from nb_oomhelper.frames import raised_with
from nb_oomhelper.frameworks import FRAMEWORKS
from nb_oomhelper.holders import Scope, find_holdings
from nb_oomhelper.host import describe_process, read_host, sees_driver_pids
from nb_oomhelper.model import (
    AllocatorMemory,
    DeviceMemory,
    DriverReading,
    Holdings,
    HostMemory,
    Measure,
    MemorySnapshot,
    ProcessMemory,
)
from nb_oomhelper.nvml import Driver

DEADLINE = 0.3  # seconds for holdings in the panel: it must be there at once


def read_driver(driver: Driver) -> DriverReading:
    """All GPUs, with the names of the processes on them and the ordinals that frameworks use."""
    known: dict[int, str] = {}
    for framework in FRAMEWORKS:
        known |= framework.device_uuids()
    reading = driver.read(known=known or None)
    return replace(reading, devices=tuple(_with_names(device) for device in reading.devices))


def take_snapshot(
    driver: Driver, *, backend: str, device: int | None, scope: Scope | None = None, seconds: float = DEADLINE
) -> MemorySnapshot:
    """Read everything about one device of one backend.

    Args:
        driver: The door to NVML.
        backend: "cuda", "host", …
        device: The framework's ordinal, or None.
        scope: Where to look for holders; None leaves them out (the live readout does).
        seconds: Deadline of the search for holders.
    """
    reading = DriverReading() if backend == "host" else read_driver(driver)
    allocator = _allocator(backend, device)
    held = Holdings()
    if scope is not None:
        loaded = [framework for framework in FRAMEWORKS if framework.loaded()]
        held = find_holdings(scope, loaded, backend=backend, device=device, seconds=seconds)
    return MemorySnapshot(
        taken_at=time.time(),
        driver=reading,
        host=read_host(),
        device=_pick(reading, device, allocator),
        allocator=allocator,
        holdings=held,
    )


def measure(snapshot: MemorySnapshot, backend: str) -> Measure:
    """The figures of a snapshot that an outcome compares."""
    host, device, allocator = snapshot.host, snapshot.device, snapshot.allocator
    return Measure(
        backend=backend,
        device_used=device.used if device else None,
        allocated=allocator.allocated if allocator else None,
        reserved=allocator.reserved if allocator else None,
        resident=host.this_process,
        virtual=host.virtual,
        free=_free(host, device, allocator, backend),
    )


def scope_of(shell: Any, error: BaseException | None = None) -> Scope:
    """Where a shell's user keeps things.

    Args:
        shell: The InteractiveShell.
        error: The failed cell's exception; None takes the one that Python and IPython still keep.
    """
    hidden = shell.user_ns_hidden
    variables = {
        name: thing
        for name, thing in list(shell.user_ns.items())
        if isinstance(name, str) and not (name in hidden and hidden[name] is thing) and not _is_result(name)
    }
    if error is None:
        frames = retained.frames_of(retained.kept_exceptions(shell), retained.kept_tracebacks(shell))
    else:
        frames = retained.frames_of(one for one, _ in raised_with(error))
    results = dict(shell.user_ns.get("_oh", {}))
    barred = [shell, shell.user_ns, hidden, shell.user_ns.get("_oh"), shell.history_manager, variables, results]
    return Scope(variables=variables, results=results, frames=frames, barred=barred)


def _is_result(name: str) -> bool:
    """Names under which IPython keeps inputs and results: `_`, `_12`, `_i3`, `_oh`."""
    return name.strip("_") == "" or name in {"In", "Out", "_oh", "_ih", "_dh"} or name[1:].lstrip("i").isdigit()


def _allocator(backend: str, device: int | None) -> AllocatorMemory | None:
    found = (framework.allocator(backend, device) for framework in FRAMEWORKS)
    return next((allocator for allocator in found if allocator is not None), None)


def _pick(reading: DriverReading, device: int | None, allocator: AllocatorMemory | None) -> DeviceMemory | None:
    """The GPU that an ordinal means: by uuid first, then by the ordinal; the only one if none was named."""
    if allocator is not None and allocator.uuid is not None:
        for row in reading.devices:
            if row.uuid is not None and row.uuid.lower() == allocator.uuid.lower():
                return row
    if device is not None:
        return next((row for row in reading.devices if row.device == device), None)
    return reading.devices[0] if len(reading.devices) == 1 else None


def _with_names(device: DeviceMemory) -> DeviceMemory:
    if device.processes is None:
        return device
    return replace(device, processes=tuple(_named(row) for row in device.processes))


def _named(row: ProcessMemory) -> ProcessMemory:
    if not (row.is_self or sees_driver_pids()):  # in a container the same number is somebody else
        return row
    name, detail = describe_process(row.pid)
    return replace(row, name=name, detail=detail)


def _free(host: HostMemory, device: DeviceMemory | None, allocator: AllocatorMemory | None, backend: str) -> int | None:
    """Bytes that an allocation could get now: the driver's free and the cache, below the set limit."""
    if backend == "host":
        return host_free(host)
    if device is None or device.free is None:
        return None
    cached = (allocator.releasable if allocator else None) or 0
    room = device.free + cached
    if allocator and allocator.limit is not None and allocator.allocated is not None:
        room = min(room, max(0, allocator.limit - allocator.allocated))
    return room
