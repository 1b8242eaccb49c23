"""What stays of many panels: `python -m benchmarks.many_panels [--errors N] [--json FILE]`.

One kernel runs out of memory again and again, as in a long day of trying. What a panel takes must come back once a few
newer ones have come: its widgets and their comms, threads, descriptors, memory.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.kernel.driver import Kernel

_SET_UP = """
import gc, os, threading, numpy, psutil
def step():
    batch = numpy.ones(8 << 20, numpy.uint8)
    return numpy.ones(1 << 50, numpy.uint8)
def held():
    from comm import get_comm_manager
    from ipywidgets.widgets.widget import _instances
    gc.collect()
    process = psutil.Process()
    return {
        "resident": process.memory_info().rss, "threads": threading.active_count(), "descriptors": process.num_fds(),
        "widgets": len(_instances), "comms": len(get_comm_manager().comms), "objects": len(gc.get_objects()),
    }
"""


def measure(errors: int, every: int) -> list[dict[str, int]]:
    """Run out of memory many times in one kernel.

    Args:
        errors: How often.
        every: After how many errors what is held is read.

    Returns:
        One row a reading: errors so far, bytes resident, threads, descriptors, widgets, comms,
        objects that the collector sees.
    """
    rows = []
    with TemporaryDirectory() as folder, Kernel(sys.executable, Path(folder)) as kernel:
        kernel.execute(_SET_UP)
        kernel.execute("%load_ext nb_oomhelper")
        for number in range(1, errors + 1):
            kernel.execute(f"step()  # {number}")
            if number % every == 0:
                rows.append({"errors": number} | _held(kernel))
    return rows


def _held(kernel: Kernel) -> dict[str, Any]:
    found: dict[str, Any] = kernel.eval("held()")
    return found


def main() -> int:
    """Print a row a reading."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_panels", description=__doc__)
    parser.add_argument("--errors", type=int, default=1000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args()
    rows = measure(options.errors, max(1, options.errors // 10))
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    if options.json:
        record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
