"""The table of `%gpumem`: one row a GPU and one for the host, as text, HTML or JSON."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nb_oomhelper.diagnose import segments, tightest, with_self
from nb_oomhelper.memory import read_driver, take_snapshot
from nb_oomhelper.model import DeviceMemory, DriverReading, HostMemory, MemorySnapshot
from nb_oomhelper.nvml import Driver
from nb_oomhelper.units import format_bytes

_COLUMNS = ("device", "allocated", "cached", "rest of process", "other processes", "free", "capacity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
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
    notes: tuple[str, ...] = ()


def read_gauges(driver: Driver, index: int | None = None) -> tuple[list[Gauge], str | None]:
    """Read every GPU and the host.

    Args:
        driver: The door to NVML.
        index: The driver's index of the only GPU to read; None reads all.

    Returns:
        The rows, the host's last; and one line on why there is no GPU, or None.
    """
    reading = read_driver(driver)
    devices = [device for device in reading.devices if index in (None, device.nvml_index)]
    gauges = [_device_gauge(driver, device) for device in devices]
    host = take_snapshot(driver, backend="host", device=None)
    return [*gauges, _host_gauge(host)], reading.note


def _device_gauge(driver: Driver, device: DeviceMemory) -> Gauge:
    if device.device is None:  # hidden from frameworks in this process: there is no allocator to ask
        snapshot = MemorySnapshot(taken_at=time.time(), driver=DriverReading(), host=HostMemory(), device=device)
    else:
        snapshot = take_snapshot(driver, backend="cuda", device=device.device)
    sizes = {part.kind: part.size for part in segments(snapshot, "cuda")}
    others = tuple(
        (row.pid, " · ".join(part for part in (row.name, row.detail) if part) or None, row.used)
        for row in with_self(device.processes or (), snapshot.allocator.reserved if snapshot.allocator else None)
        if not row.is_self
    )
    return Gauge(
        device=f"GPU {device.nvml_index}",
        ordinal=None if device.device is None else f"cuda:{device.device}",
        name=device.name,
        allocated=sizes.get("allocated"),
        cached=sizes.get("cached"),
        rest=sizes.get("rest", sizes.get("process")),
        others=sizes.get("other", sizes.get("elsewhere")),
        by_process=others,
        free=device.free,
        capacity=device.capacity,
        notes=(device.note,) if device.note else (),
    )


def _host_gauge(snapshot: MemorySnapshot) -> Gauge:
    host = snapshot.host
    name, room, bound = tightest(host)
    used = None if host.capacity is None or host.available is None else host.capacity - host.available
    notes = []
    if name != "machine":
        notes.append(f"limited by {name} to {format_bytes(bound)}: {format_bytes(room)} left")
    return Gauge(
        device="host",
        rest=host.this_process,
        others=None if used is None or host.this_process is None else max(0, used - host.this_process),
        free=host.available,
        capacity=host.capacity,
        notes=tuple(notes),
    )


def to_json(gauges: Sequence[Gauge], note: str | None) -> str:
    """All rows as JSON: sizes in bytes, unknown is null."""
    rows = [asdict(gauge) for gauge in gauges]
    for row in rows:
        row["by_process"] = [{"pid": pid, "name": name, "bytes": used} for pid, name, used in row["by_process"]]
    return json.dumps({"devices": rows, "note": note}, indent=2, ensure_ascii=False)


def to_text(gauges: Sequence[Gauge], note: str | None) -> str:
    """An aligned table, and below it the other processes by name."""
    table = [list(_COLUMNS), *(_cells(gauge) for gauge in gauges)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return "\n".join([*lines, *_below(gauges, note)])


def to_html(gauges: Sequence[Gauge], note: str | None) -> str:
    """The same as a table element."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in _COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(gauge)) + "</tr>" for gauge in gauges
    )
    below = "<br>".join(html.escape(line) for line in _below(gauges, note))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><div>{below}</div>"


def _cells(gauge: Gauge) -> list[str]:
    name = " · ".join(part for part in (gauge.device, gauge.ordinal, gauge.name) if part)
    host = gauge.device == "host"
    sizes = (gauge.allocated, gauge.cached, gauge.rest, gauge.others, gauge.free, gauge.capacity)
    # the host has no allocator of its own to ask: nothing to show is not the same as unknown
    return [name, *("–" if host and at < 2 else format_bytes(size) for at, size in enumerate(sizes))]


def _below(gauges: Sequence[Gauge], note: str | None) -> list[str]:
    lines = [] if note is None else [note]
    for gauge in gauges:
        lines.extend(f"{gauge.device}: {line}" for line in gauge.notes)
        lines.extend(
            f"{gauge.device}: process {pid} {name or '(name not visible from here)'}: {format_bytes(used)}"
            for pid, name, used in gauge.by_process
        )
    return lines
