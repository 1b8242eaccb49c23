"""What runs on a worker, by the engine that is there: our own functions, and what they tell as plain data.

The worker may have another version than the notebook. So no record travels, only numbers, texts, lists and dicts, and
the notebook takes of them what it knows (`engines/answers.py`). Importing this imports next to nothing: what a failed
task has left as a cycle must still be there when it is measured.
"""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Sequence
from typing import Any

FORM = 1  # of what is told; a later one may have other keys


def read(
    backend: str = "host", device: int | None = None, framework: str = "", *, pids: Sequence[int] = ()
) -> dict[str, Any]:
    """Read the memory of this process, of its machine and of the GPUs.

    Args:
        backend, device, framework: What the bar is of: "host", or "cuda" and which of its devices, as a framework there
            counts them.
        pids: The processes that are meant; where this is none of them nothing is read. Empty is any.

    Returns:
        Sizes in bytes; None is unknown.
    """
    if pids and os.getpid() not in pids:
        return {"form": FORM, "other": os.getpid()}
    from nb_oomhelper.memory.segments import segments
    from nb_oomhelper.memory.snapshot import open_driver, take_snapshot
    from nb_oomhelper.memory.usage import read_usage
    from nb_oomhelper.session import current_shell

    with open_driver(current_shell()) as driver:
        rows, _ = read_usage(driver)
        snapshot = take_snapshot(driver, backend=backend, device=device, framework=framework)
    sizes = ("device", "ordinal", "name", "allocated", "cached", "rest", "others", "free", "capacity")
    return {
        "form": FORM,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "rows": [{size: getattr(row, size) for size in sizes} for row in rows],
        "parts": [(part.kind, part.size) for part in segments(snapshot, backend)],
    }


def release(
    backend: str = "host", device: int | None = None, framework: str = "", *, pids: Sequence[int] = ()
) -> dict[str, Any]:
    """Give back what failed tasks keep here, as `nb_oomhelper.release()` does; then read the memory.

    Args:
        backend, device, framework, pids: As for `read`; where another process is meant nothing is released.

    Returns:
        What `read` tells, and the figures before and after.
    """
    if pids and os.getpid() not in pids:
        return {"form": FORM, "other": os.getpid()}
    collects = gc.isenabled()
    gc.disable()  # importing would collect before anything is measured; the release does it itself
    try:
        from nb_oomhelper.remedies.running import release as give_back

        outcome = give_back()
    finally:
        if collects:
            gc.enable()
    figures = ("resident", "allocated", "device_used")
    return read(backend, device, framework) | {
        "backend": outcome.before.backend,
        "before": {name: getattr(outcome.before, name) for name in figures},
        "after": {name: getattr(outcome.after, name) for name in figures},
        "seconds": outcome.seconds,
        "held": list(outcome.held),
    }
