"""What a panel costs beside its time: `python -m benchmarks.panel_cost [--json FILE]`.

Messages and widgets are a journey each to a browser that may be far away; address space is what there is none of under
RLIMIT_AS when memory has run out. Each row is a kernel of its own, with another room below that limit; in all but the
first one it has been idle for a while before it fails, as between the cells of a notebook, and has what an error needs.
The last row is a panel with five fixes.
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

import nbformat
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
_FIVE = """
import torch
torch.set_num_threads(1)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(2048, 2048) for _ in range(8))
    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x
model, old_model, losses, batch_size = Net(), Net(), [], 16384
data = torch.utils.data.TensorDataset(torch.ones(60000, 2048))
"""
_STEPS = """loader = torch.utils.data.DataLoader(data, batch_size=batch_size)
for (x,) in loader:
    loss = model(x).pow(2).mean()
    loss.backward()
    losses.append(loss)
"""


def measure(room: int | None, idle: float = _IDLE, more: str = "", cell: str = "step()") -> dict[str, Any]:
    """Run out of memory once.

    Args:
        room: MiB that are left below a hard limit; None for no limit.
        idle: Seconds between the load and the cell that fails.
        more: What is run before the load.
        cell: What fails.

    Returns:
        What the panel has cost: messages, widgets, bytes on the wire and in the notebook, MiB mapped, threads.
    """
    with TemporaryDirectory() as folder, Kernel(sys.executable, Path(folder)) as kernel:
        kernel.execute(_SET_UP + more)
        kernel.execute("try:\n    step()\nexcept MemoryError:\n    pass\n1 / 0")  # what any traceback needs is there
        kernel.execute("%load_ext nb_oomhelper")
        if room is not None:
            kernel.execute(f"limit({room * _MEBI})")
        kernel.poll(idle)
        before, threads = kernel.eval("[mapped(), named()]")
        reply = kernel.execute(cell)
        after, then = kernel.eval("[mapped(), named()]")
    shown = [row["data"] for row in reply.displays]
    return {
        "room": room,
        "idle": idle,
        "messages": len(reply.comms) + len(shown),
        "widgets": Counter(row["type"] for row in reply.comms)["comm_open"],
        "sent": _sent(reply),
        "saved": _written(shown) - _written([]),
        "mapped_mib": round((after - before) / _MEBI - 8, 1),  # but for the batch, which the traceback keeps
        "threads": then - threads,
        "types": [sorted(data) for data in shown],
    }


def _sent(reply: Reply) -> int:
    return sum(len(json.dumps(row["data"])) for row in (*reply.comms, *reply.displays))


def _written(shown: list[dict[str, Any]]) -> int:
    """Bytes of a notebook's file with a cell that shows this."""
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data=one) for one in shown])
    return len(nbformat.writes(nbformat.v4.new_notebook(cells=[cell])).encode())


def main() -> int:
    """Print a row a room."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.panel_cost", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args()
    rows = []
    failures: list[tuple[Any, ...]] = [(None, 0.0), *((room, _IDLE) for room in ROOMS), (900, _IDLE, _FIVE, _STEPS)]
    for failure in failures:
        row = measure(*failure)
        print(", ".join(f"{name} {value}" for name, value in row.items() if name != "types"), row["types"], flush=True)
        rows.append(row)
    if options.json:
        record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
