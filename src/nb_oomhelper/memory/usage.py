"""How full each device is: the rows of `%gpumem`."""

from __future__ import annotations

from dataclasses import dataclass

from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.memory.room import tightest
from nb_oomhelper.memory.segments import segments, with_self
from nb_oomhelper.memory.snapshot import read_driver, snapshot_of, take_snapshot
from nb_oomhelper.records.memory import DeviceMemory, DriverReading, MemorySnapshot
from nb_oomhelper.records.note import Note, joined, note, size_note

_WORTH_SAYING = 1 << 20  # bytes: less is no holder's, but of two figures that were not read at one moment


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUsage:
    """One device's memory in bytes; None is unknown.

    Attributes:
        device: "GPU 0", or "host".
        ordinal: The framework's name for it, "cuda:0", or None where it is hidden from frameworks.
        name: As the driver prints it.
        allocated, cached: This process's tensors and its allocator's unused blocks.
        rest: This process beside that; where there is no allocator to ask, and on the host, all of it.
        others: All other processes together.
        by_process: pid, name and bytes of each of them.
        free, capacity: As the driver or the system says.
        notes: What could not be read, or which limit is in force.
    """

    device: str
    ordinal: str | None = None
    name: str | None = None
    allocated: int | None = None
    cached: int | None = None
    rest: int | None = None
    others: int | None = None
    by_process: tuple[tuple[int, str | None, int | None], ...] = ()
    free: int | None = None
    capacity: int | None = None
    notes: tuple[Note, ...] = ()


def read_usage(driver: Driver, index: int | None = None) -> tuple[list[MemoryUsage], Note | None]:
    """Read every GPU and the host.

    Args:
        driver: The door to NVML.
        index: The driver's index of the only GPU to read; None reads all.

    Returns:
        The rows, the host's last; and a note on why there is no GPU, or not that one, or None.
    """
    reading = read_driver(driver)
    devices = [device for device in reading.devices if index in (None, device.nvml_index)]
    usages = [_device_usage(reading, device) for device in devices]
    host = take_snapshot(driver, backend="host", device=None)
    absent = None if index is None or devices else note("gpumem.no_gpu", index=index)
    return [*usages, _host_usage(host)], joined(absent, reading.note)


def _device_usage(reading: DriverReading, device: DeviceMemory) -> MemoryUsage:
    snapshot = snapshot_of(reading, device)
    sizes = {part.kind: part.size for part in segments(snapshot, "cuda")}
    others = tuple(
        (row.pid, " · ".join(part for part in (row.name, row.detail) if part) or None, row.used)
        for row in with_self(device.processes or (), snapshot.reserved)
        if not row.is_self
    )
    return MemoryUsage(
        device=f"GPU {device.nvml_index}",
        ordinal=None if device.device is None else f"cuda:{device.device}",
        name=device.name,
        allocated=sizes.get("allocated"),
        cached=sizes.get("cached"),
        rest=sizes.get("rest", sizes.get("process")),
        others=sizes.get("other", sizes.get("elsewhere") if snapshot.allocator is None else None),
        by_process=others,
        free=device.free,
        capacity=device.capacity,
        notes=(*((device.note,) if device.note else ()), *_elsewhere(sizes.get("elsewhere"), others)),
    )


def _elsewhere(size: int | None, named: tuple[tuple[int, str | None, int | None], ...]) -> list[Note]:
    """What is used of a GPU and neither this process's allocator nor a process that is listed is known to hold."""
    size = (size or 0) - sum(used or 0 for _, _, used in named)
    if size < _WORTH_SAYING:
        return []
    return [note("gpumem.elsewhere", size=size_note(size))]


def _host_usage(snapshot: MemorySnapshot) -> MemoryUsage:
    host = snapshot.host
    name, room, bound = tightest(host)
    used = None if host.capacity is None or host.available is None else host.capacity - host.available
    notes = []
    if name != "machine":
        notes.append(note("gpumem.limit", limit=name, size=size_note(bound), left=size_note(room)))
    return MemoryUsage(
        device="host",
        rest=host.this_process,
        others=None if used is None or host.this_process is None else max(0, used - host.this_process),
        free=host.available,
        capacity=host.capacity,
        notes=tuple(notes),
    )
