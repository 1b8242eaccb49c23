"""Memory at one moment, in one record: driver, framework, host and who holds what.

Reading never creates a CUDA context and never starts a framework.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

from nb_oomhelper.diagnose import host_free
from nb_oomhelper.failure import retained
from nb_oomhelper.failure.exception_graph import raised_with
from nb_oomhelper.frameworks import FRAMEWORKS
from nb_oomhelper.holders import find_holdings
from nb_oomhelper.host import describe_process, read_host, sees_driver_pids
from nb_oomhelper.nvml import Driver
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.memory import (
    AllocatorMemory,
    DeviceMemory,
    DriverReading,
    HostMemory,
    Measure,
    MemorySnapshot,
    ProcessMemory,
)
from nb_oomhelper.records.remedy import Placement
from nb_oomhelper.roots import Scope

_RESULT = re.compile(r"_+|_i{1,3}|_i?[0-9]+|In|Out|_oh|_ih|_dh")
_WORTH_SAYING = 1 << 20  # bytes
THOROUGH = 5.0  # seconds for holdings that were asked for
DEADLINE = 0.3  # seconds for holdings in the panel: it must be there at once


def read_driver(driver: Driver) -> DriverReading:
    """All GPUs, with the names of the processes on them and the ordinals that frameworks use."""
    known = {
        ordinal: uuid
        for framework in FRAMEWORKS
        for ordinal, uuid in framework.device_uuids().items()
        if uuid is not None
    }
    reading = driver.read(known=known or None)
    names: dict[int, tuple[str | None, str | None]] = {}  # one process may be on every GPU
    return replace(reading, devices=tuple(_with_names(device, names) for device in reading.devices))


def take_snapshot(
    driver: Driver,
    *,
    backend: str,
    device: int | None,
    framework: str = "",
    scope: Scope | None = None,
    seconds: float = DEADLINE,
) -> MemorySnapshot:
    """Read everything about one device of one backend.

    Args:
        driver: The door to NVML.
        backend: "cuda", "host", …
        device: The framework's ordinal, or None.
        framework: Whose allocator the snapshot is about; "" is the first that has started the device.
        scope: Where to look for holders; None leaves them out (the live readout does).
        seconds: Deadline of the search for holders.
    """
    reading = DriverReading() if backend == "host" else read_driver(driver)
    found = allocators(backend, device, framework)
    allocator = next((one for one in found if framework in ("", one.framework)), None)
    others = tuple(one for one in found if one is not allocator)
    if scope is not None and allocator is not None:
        allocator = replace(allocator, largest_free_block=_largest(backend, device, allocator.framework))
    held = Holdings() if scope is None else search(scope, backend, device, seconds, everywhere=True)
    return MemorySnapshot(
        taken_at=time.time(),
        driver=reading,
        host=_read_host(),
        device=_pick(reading, device, allocator),
        allocator=allocator,
        others=others,
        holdings=held,
    )


def holdings(device: int | None = None, *, seconds: float = THOROUGH) -> list[Holding]:
    """Who keeps memory, largest share of its own first; the rows account for all that is allocated.

    Nothing is changed, nothing is kept, and no code of the user's runs.

    Args:
        device: The framework's ordinal of a GPU. None takes all GPUs of this process, or the host where no
            framework has started one.
        seconds: When the search must end. If it had to, a last row says so by its name.

    Returns:
        One row a holder: your variables, `Out[n]`, the failed cell, other libraries' modules, tensors that
        no name leads to, and what no Python object explains.
    """
    import IPython

    shell = IPython.get_ipython()
    backend = "cuda" if device is not None else busiest()[0]
    scope = scope_of(shell) if shell is not None else Scope()
    found = search(scope, backend, device, seconds, everywhere=True)
    rows = [row for row in found.rows if row.own + row.shared]
    if found.complete and found.everywhere:
        rows.extend(
            Holding(name=name, kind="unexplained", backend=backend, device=device, own=size)
            for name, size in _unexplained(found, backend, device)
        )
    if not found.complete:
        name = f"not searched: {found.total - found.searched} of {found.total} names, time was up"
        rows.append(Holding(name=name, kind="unexplained", backend=backend, device=device))
    return rows


def search(scope: Scope, backend: str, device: int | None, seconds: float, *, everywhere: bool = False) -> Holdings:
    """Search a scope with all loaded frameworks."""
    loaded = [framework for framework in FRAMEWORKS if framework.loaded()]
    try:
        return find_holdings(scope, loaded, backend=backend, device=device, seconds=seconds, everywhere=everywhere)
    except MemoryError:  # the search itself found no room: what else is known must still be told
        return Holdings(complete=False)


def still_held(
    scope: Scope, backend: str, device: int | None, seconds: float = DEADLINE
) -> tuple[tuple[str, int], ...]:
    """The three holders that would give back most, by name, with bytes."""
    found = search(scope, backend, device, seconds)
    rows = [(row.name, row.own) for row in found.rows if row.own >= _WORTH_SAYING]
    together = [
        (", ".join(found.rows[index].name for index in holders), size)
        for holders, size in found.shares
        if len(holders) > 1 and size >= _WORTH_SAYING
    ]
    return tuple(sorted([*rows, *together], key=lambda pair: -pair[1])[:3])


def loaded(scope: Scope, name: str, seconds: float = DEADLINE) -> tuple[tuple[str, int], ...]:
    """Bytes by dtype of what one of the user's variables keeps, on all devices; empty where it cannot be told."""
    if name not in scope.variables:
        return ()
    alone = Scope(variables={name: scope.variables[name]}, barred=scope.barred)
    sizes: dict[str, int] = {}
    for backend in ("cuda", "host"):
        found = search(alone, backend, None, seconds)
        if not found.complete:
            return ()
        for row in found.rows:
            for dtype, size in row.dtypes:
                sizes[dtype] = sizes.get(dtype, 0) + size
    return tuple(sizes.items())


def placed(thing: object, device: int | None, seconds: float = THOROUGH) -> Placement:
    """Where a loaded object's tensors are.

    Args:
        thing: A model, a pipeline, a dict of tensors.
        device: The framework's ordinal of the GPU that is meant, or None.
        seconds: When the search must end.

    Returns:
        Bytes on that GPU, in host memory (files that are mapped into it count), and on disk: what accelerate
        keeps there stands on PyTorch's device "meta", as does what it keeps in host memory for a GPU.
    """
    scope = Scope(variables={"it": thing})
    sizes = {}
    for backend, ordinal in (("cuda", device), ("host", None), ("meta", None)):
        found = search(scope, backend, ordinal, seconds)
        sizes[backend] = sum(size for _, size in found.shares) if found.complete else None
    gpu, host, away = sizes["cuda"], sizes["host"], sizes["meta"]
    disk = None if away is None or host is None else away
    if gpu and disk and host is not None:  # layers for the GPU that host memory keeps stand there, too
        disk = max(0, disk - host)
    return Placement(gpu=gpu, host=host, disk=disk, device=device)


def busiest() -> tuple[str, int | None]:
    """Where memory matters in this process: the GPU with most in live tensors, or the host.

    Returns:
        Backend and the framework's ordinal; ("host", None) where no framework has started a GPU.
    """
    rows = busiest_allocators()
    return (rows[0].backend, rows[0].device) if rows else ("host", None)


def busiest_allocators() -> list[AllocatorMemory]:
    """The frameworks' allocators on the GPU with most in live tensors; none where no framework has started one."""
    found = allocators_by_gpu().values()
    return max(found, key=lambda rows: sum(one.allocated or 0 for one in rows), default=[])


def allocators_by_gpu() -> dict[int | None, list[AllocatorMemory]]:
    """The frameworks' allocators on each GPU that one of them has started, by ordinal."""
    found = (
        allocators("cuda", ordinal) for ordinal in [*_ordinals("cuda"), None]
    )  # the last is one that tells no uuid
    return {rows[0].device: rows for rows in found if rows}


def _unexplained(found: Holdings, backend: str, device: int | None) -> list[tuple[str, int]]:
    """What the allocator has given out and no Python object holds: CUDA graphs' pools, libraries in C++."""
    devices = [device] if device is not None else _ordinals(backend)
    allocated = [one.allocated or 0 for ordinal in devices for one in allocators(backend, ordinal)]
    rest = max(0, sum(allocated) - sum(size for _, size in found.shares))
    pools = sum(framework.private_pools(backend, ordinal) for framework in FRAMEWORKS for ordinal in devices)
    graphs = min(rest, pools)
    named = [("private pools, such as those of CUDA graphs", graphs), ("no Python object", rest - graphs)]
    return [(name, size) for name, size in named if size]


def _ordinals(backend: str) -> list[int]:
    if backend == "host":
        return []
    return sorted({ordinal for framework in FRAMEWORKS for ordinal in framework.device_uuids()})


def snapshot_of(reading: DriverReading, device: DeviceMemory) -> MemorySnapshot:
    """One GPU of a reading, with its allocators and without host and holders. The driver is not asked again.

    What no framework here can name has no allocator to ask.
    """
    found = [] if device.device is None else allocators("cuda", device.device)
    return MemorySnapshot(
        taken_at=time.time(),
        driver=reading,
        host=HostMemory(),
        device=device,
        allocator=next(iter(found), None),
        others=tuple(found[1:]),
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
        free=_free(snapshot, backend),
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
        if isinstance(name, str)
        and not (name in hidden and hidden[name] is thing)
        and not _is_result(shell, name, thing)
    }
    if error is None:
        frames = retained.frames_of(retained.kept_exceptions(shell), retained.kept_tracebacks(shell))
    else:
        frames = retained.frames_of(one for one, _ in raised_with(error))
    kept = shell.user_ns.get("_oh")
    results = dict(kept) if isinstance(kept, dict) else {}  # it is only a name, and may be the user's
    own = [shell, shell.history_manager, *shell.configurables]  # the frames of a magic have its object
    barred = [*own, shell.user_ns, hidden, shell.user_ns.get("_oh"), variables, results]
    return Scope(variables=variables, results=results, frames=frames, barred=barred)


def _is_result(shell: Any, name: str, thing: object) -> bool:
    """Names under which IPython keeps inputs and results, `_`, `_12`, `_i3`, `_oh`; a user's own `_` is none."""
    if name in ("_", "__", "___"):
        return thing is getattr(shell.displayhook, name, None)
    return _RESULT.fullmatch(name) is not None


def allocators(backend: str, device: int | None, first: str = "") -> list[AllocatorMemory]:
    """Those of all frameworks that have started a device, that of the framework `first` before the others.

    Where no device is named, the first of them says which one is meant: each has its own idea of a current one.
    """
    found: list[AllocatorMemory] = []
    for framework in sorted(FRAMEWORKS, key=lambda one: one.name != first):
        one = framework.allocator(backend, device)
        if one is not None:
            found.append(one)
            device = one.device if device is None else device
    return found


def _read_host() -> HostMemory:
    pinned = [size for framework in FRAMEWORKS if (size := framework.pinned()) is not None]
    return replace(read_host(), pinned=sum(pinned) if pinned else None)


def _largest(backend: str, device: int | None, name: str) -> int | None:
    found = (one.largest_free_block(backend, device) for one in FRAMEWORKS if one.name == name)
    return next(found, None)


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


def _with_names(device: DeviceMemory, names: dict[int, tuple[str | None, str | None]]) -> DeviceMemory:
    if device.processes is None:
        return device
    return replace(device, processes=tuple(_named(row, names) for row in device.processes))


def _named(row: ProcessMemory, names: dict[int, tuple[str | None, str | None]]) -> ProcessMemory:
    if not (row.is_self or sees_driver_pids()):  # in a container the same number is somebody else
        return row
    if row.pid not in names:
        names[row.pid] = describe_process(row.pid)
    name, detail = names[row.pid]
    return replace(row, name=name, detail=detail)


def _free(snapshot: MemorySnapshot, backend: str) -> int | None:
    """Bytes that an allocation could get now: the driver's free and the framework's own cache, below the set limit."""
    if backend == "host":
        return host_free(snapshot.host)
    if snapshot.device is None or snapshot.device.free is None:
        return None
    return device_free(replace(snapshot, others=()))


def device_free(snapshot: MemorySnapshot, back: int = 0) -> int | None:
    """Bytes free on a GPU once `back` bytes of tensors are gone and the caches are emptied, below the set limit."""
    room, allocator = snapshot.device.free if snapshot.device else None, snapshot.allocator
    if room is not None:
        own = (allocator.reusable if allocator else None) or 0
        room += back + own + sum(other.releasable or 0 for other in snapshot.others)
    if allocator is None or allocator.limit is None or allocator.allocated is None:
        return room
    below = max(0, allocator.limit - allocator.allocated + back)
    return below if room is None else min(room, below)
