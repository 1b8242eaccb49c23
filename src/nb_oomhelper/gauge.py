"""The table of `%gpumem`: one row a GPU and one for the host, as text, HTML or JSON."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nb_oomhelper import grid
from nb_oomhelper.diagnose import segments, tightest, with_self
from nb_oomhelper.memory import read_driver, snapshot_of, take_snapshot
from nb_oomhelper.nvml import Driver
from nb_oomhelper.records.holdings import Holding
from nb_oomhelper.records.memory import DeviceMemory, DriverReading, MemorySnapshot
from nb_oomhelper.units import format_bytes
from nb_oomhelper.untrusted import one_line

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
        The rows, the host's last; and one line on why there is no GPU, or not that one, or None.
    """
    reading = read_driver(driver)
    devices = [device for device in reading.devices if index in (None, device.nvml_index)]
    gauges = [_device_gauge(reading, device) for device in devices]
    host = take_snapshot(driver, backend="host", device=None)
    absent = None if index is None or devices else f"there is no GPU {index} that the driver shows"
    return [*gauges, _host_gauge(host)], "; ".join(filter(None, (absent, reading.note))) or None


def _device_gauge(reading: DriverReading, device: DeviceMemory) -> Gauge:
    snapshot = snapshot_of(reading, device)
    sizes = {part.kind: part.size for part in segments(snapshot, "cuda")}
    others = tuple(
        (row.pid, " · ".join(part for part in (row.name, row.detail) if part) or None, row.used)
        for row in with_self(device.processes or (), snapshot.reserved)
        if not row.is_self
    )
    return Gauge(
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
        notes=(*((device.note,) if device.note else ()), *_elsewhere(sizes.get("elsewhere"))),
    )


def _elsewhere(size: int | None) -> list[str]:
    if not size:
        return []
    return [f"{format_bytes(size)} outside this process's allocator; whose cannot be told here"]


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
    table = grid.to_text(_COLUMNS, [_cells(gauge) for gauge in gauges])
    return "\n".join([table, *_below(gauges, note)])


def to_html(gauges: Sequence[Gauge], note: str | None) -> str:
    """The same as a table element."""
    below = "<br>".join(html.escape(line) for line in _below(gauges, note))
    return f"{grid.to_html(_COLUMNS, [_cells(gauge) for gauge in gauges])}<div>{below}</div>"


def by_variable(rows: Sequence[Holding]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of a table of holders, for `grid`."""
    columns = ("who keeps it", "alone", "shared", "what it is", "largest")
    return columns, [
        (
            _holder(row),
            format_bytes(row.own),
            format_bytes(row.shared) if row.shared else "–",
            ", ".join(f"{_part(part, row.role)} {format_bytes(size)}" for part, size in row.parts) or "–",
            ", ".join(row.shapes[:1]) or "–",
        )
        for row in rows
    ]


def _part(part: str, role: str) -> str:
    """What a part is called: of what has no other part only the holder's class says which of the two it is."""
    words = {"tensor": "tensors", "array": "arrays"}
    return words.get(role, "tensors or arrays") if part == "tensors" else part


def _holder(row: Holding) -> str:
    cell = {"failed_cell": "failed cell", "earlier_cell": "earlier failed cell"}.get(row.kind)
    if cell is not None:
        return f"{cell}, {row.function} line {row.line}: {one_line(row.name)}"
    name = one_line(row.path or row.name)
    graph = dict(row.parts).get("graph", 0)
    return f"autograd graph of {name}" if 2 * graph > row.own + row.shared else name


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
