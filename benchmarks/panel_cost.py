"""What a panel costs beside its time: `python -m benchmarks.panel_cost [--json FILE]`.

Messages and widgets are a journey each to a browser that may be far away; address space is what there is none of under
RLIMIT_AS when memory has run out. Each row is a kernel of its own, with another room below that limit; in all but the
first one it has been idle for a while before it fails, as between the cells of a notebook, and has what an error needs.
The `src` folder of another version in PYTHONPATH gives that version's figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.kernel.driver import Kernel, Reply

_MEBI = 1 << 20
ROOMS: tuple[int | None, ...] = (None, 1024, 300, 120, 48)  # MiB below RLIMIT_AS; None: no limit
_IDLE = 4.0  # seconds
_SET_UP = """
import os, resource, threading, numpy
def mapped():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
def limit(room):
    size = mapped() + room
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
def named():
    return [one.name for one in threading.enumerate()].count("nb_oomhelper")
def step():
    batch = numpy.ones(8 << 20, numpy.uint8)
    return numpy.ones(1 << 50, numpy.uint8)
model = numpy.ones(8 << 20, numpy.uint8)
"""


def measure(room: int | None, idle: float = _IDLE) -> dict[str, Any]:
    """Run out of memory once.

    Args:
        room: MiB that are left below a hard limit; None for no limit.
        idle: Seconds between the load and the cell that fails.

    Returns:
        What the panel has cost: messages, widgets, bytes on the wire and in the notebook, MiB mapped, threads.
    """
    with TemporaryDirectory() as folder, Kernel(sys.executable, Path(folder)) as kernel:
        kernel.execute(_SET_UP)
        kernel.execute("try:\n    step()\nexcept MemoryError:\n    pass\n1 / 0")  # what any traceback needs is there
        kernel.execute("%load_ext nb_oomhelper")
        if room is not None:
            kernel.execute(f"limit({room * _MEBI})")
        kernel.poll(idle)
        before, threads = kernel.eval("[mapped(), named()]")
        reply = kernel.execute("step()")
        after, more = kernel.eval("[mapped(), named()]")
    shown = [row["data"] for row in reply.displays]
    return {
        "room": room,
        "idle": idle,
        "messages": len(reply.comms) + len(shown),
        "widgets": Counter(row["type"] for row in reply.comms)["comm_open"],
        "sent": _sent(reply),
        "saved": len(json.dumps(shown)),
        "mapped_mib": round((after - before) / _MEBI - 8, 1),  # but for the batch, which the traceback keeps
        "threads": more - threads,
        "types": [sorted(data) for data in shown],
    }


def _sent(reply: Reply) -> int:
    return sum(len(json.dumps(row["data"])) for row in (*reply.comms, *reply.displays))


def main() -> int:
    """Print a row a room."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.panel_cost", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args()
    rows = []
    for room, idle in [(None, 0.0), *((room, _IDLE) for room in ROOMS)]:
        row = measure(room, idle)
        print(", ".join(f"{name} {value}" for name, value in row.items() if name != "types"), row["types"], flush=True)
        rows.append(row)
    if options.json:
        record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
