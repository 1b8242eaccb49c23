"""The table of `%gpumem`: one row a GPU and one for the host, as text, HTML or JSON."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict

from nb_oomhelper.memory.usage import MemoryUsage
from nb_oomhelper.records.holdings import Holding
from nb_oomhelper.showing import grid
from nb_oomhelper.units import format_bytes
from nb_oomhelper.untrusted import one_line

_COLUMNS = ("device", "allocated", "cached", "rest of process", "other processes", "free", "capacity")


def to_json(usages: Sequence[MemoryUsage], note: str | None) -> str:
    """All rows as JSON: sizes in bytes, unknown is null."""
    rows = [asdict(usage) for usage in usages]
    for row in rows:
        row["by_process"] = [{"pid": pid, "name": name, "bytes": used} for pid, name, used in row["by_process"]]
    return json.dumps({"devices": rows, "note": note}, indent=2, ensure_ascii=False)


def to_text(usages: Sequence[MemoryUsage], note: str | None) -> str:
    """An aligned table, and below it the other processes by name."""
    table = grid.to_text(_COLUMNS, [_cells(usage) for usage in usages])
    return "\n".join([table, *_below(usages, note)])


def to_html(usages: Sequence[MemoryUsage], note: str | None) -> str:
    """The same as a table element."""
    below = "<br>".join(html.escape(line) for line in _below(usages, note))
    return f"{grid.to_html(_COLUMNS, [_cells(usage) for usage in usages])}<div>{below}</div>"


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


def _cells(usage: MemoryUsage) -> list[str]:
    name = " · ".join(part for part in (usage.device, usage.ordinal, usage.name) if part)
    host = usage.device == "host"
    sizes = (usage.allocated, usage.cached, usage.rest, usage.others, usage.free, usage.capacity)
    # the host has no allocator of its own to ask: nothing to show is not the same as unknown
    return [name, *("–" if host and at < 2 else format_bytes(size) for at, size in enumerate(sizes))]


def _below(usages: Sequence[MemoryUsage], note: str | None) -> list[str]:
    lines = [] if note is None else [note]
    for usage in usages:
        lines.extend(f"{usage.device}: {line}" for line in usage.notes)
        lines.extend(
            f"{usage.device}: process {pid} {name or '(name not visible from here)'}: {format_bytes(used)}"
            for pid, name, used in usage.by_process
        )
    return lines
