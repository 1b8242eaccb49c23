"""What this process holds at one moment, read within microseconds: before each cell, and when one has failed."""

from __future__ import annotations

from pathlib import Path

from nb_oomhelper.frameworks import FRAMEWORKS
from nb_oomhelper.memory.allocators import known_ordinals
from nb_oomhelper.records.memory import Footprint

_STATUS = Path("/proc/self/status")  # proc(5); its figures are in kB
_FIGURES = {
    "VmPeak": "peak_virtual",
    "VmSize": "virtual",
    "VmData": "data",
    "VmHWM": "peak_resident",
    "VmRSS": "resident",
}


def read_footprint(put_by: int = 0) -> Footprint | None:
    """Read what this process holds; None where that fails. Never raises, starts no GPU.

    Args:
        put_by: Bytes of address space that are put by for an error, and do not count.

    Returns:
        Bytes. Peaks are those since the process began: one that moved between two readings was reached between them.
    """
    try:
        figures = _host_figures()
        for name in ("virtual", "peak_virtual", "data"):
            size = figures.get(name)
            figures[name] = None if size is None else size - put_by
        return Footprint(**figures, allocated=_allocated())
    except Exception:  # a figure fewer; the cell must run all the same
        return None


def _host_figures() -> dict[str, int | None]:
    figures: dict[str, int | None] = {}
    try:
        lines = _STATUS.read_text("ascii", "replace").splitlines()
    except (OSError, MemoryError):  # a system without /proc
        return figures
    for line in lines:
        name, _, rest = line.partition(":")
        if name in _FIGURES and (words := rest.split()) and words[0].isdecimal():
            figures[_FIGURES[name]] = int(words[0]) << 10
    return figures


def _allocated() -> tuple[tuple[str, int | None, int], ...]:
    rows = []
    for ordinal in known_ordinals("cuda"):
        for framework in FRAMEWORKS:
            one = framework.allocator("cuda", ordinal)
            if one is not None and one.allocated is not None:
                rows.append((framework.name, ordinal, one.allocated))
    return tuple(rows)
