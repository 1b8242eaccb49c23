"""What runs on a worker, by the engine that is there: our own functions, and what they tell as plain data.

The worker may have another version than the notebook. So no record travels, only numbers, texts, lists and dicts, and
the notebook takes of them what it knows (`engines/answers.py`). Importing this imports next to nothing: what a failed
task has left as a cycle must still be there when it is measured.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_CHAIN = 100  # errors behind the last one
_PARTS = (("process", "rest"), ("other", "others"), ("free", "free"))  # of a bar, and their names in a row
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

    with _no_thread_left(), open_driver(current_shell()) as driver:
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


def read_node(backend: str = "host", pid: int | None = None) -> dict[str, Any]:
    """Read the memory of this machine and of its GPUs, and that of one of Ray's processes: not this one's.

    Args:
        backend: What the bar is of: "host", or "cuda", the GPU that the process is on.
        pid: The process that is meant; None is none.

    Returns:
        As of `read`; without a PID where that process has ended.
    """
    from nb_oomhelper.memory.snapshot import open_driver
    from nb_oomhelper.memory.usage import read_usage
    from nb_oomhelper.session import current_shell

    with _no_thread_left(), open_driver(current_shell()) as driver:
        usages, _ = read_usage(driver)
    size = None if pid is None else _resident(pid, begins=b"ray::")
    rows = [_of_another(row, None if size is None else pid, size) for row in usages]
    on = [row for row in rows if (row["device"] == "host") == (backend == "host") and row["rest"] is not None]
    return {
        "form": FORM,
        "host": socket.gethostname(),
        "pid": None if size is None else pid,
        "rows": rows,
        "parts": [(kind, on[0][name]) for kind, name in _PARTS] if on else [],
    }


def _of_another(usage: Any, pid: int | None, resident: int | None) -> dict[str, Any]:
    """A device's figures with another process in this one's place; `usage` is a `MemoryUsage`."""
    used = None if None in (usage.capacity, usage.free) else usage.capacity - usage.free
    share = resident if usage.device == "host" else {one: size for one, _, size in usage.by_process}.get(pid)
    others = None if used is None else max(0, used - (share or 0))
    known = {name: getattr(usage, name) for name in ("device", "ordinal", "name", "free", "capacity")}
    return known | {"allocated": None, "cached": None, "rest": share, "others": others}


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
    collects, before = gc.isenabled(), _resident()
    gc.disable()  # importing would collect before anything is measured; the release does it itself
    try:
        told = _released(before)
    finally:
        if collects:
            gc.enable()
    return read(backend, device, framework) | told


_watching: tuple[Any, bool] | None = None  # what measures here, and whether its thread was there before


def watch() -> dict[str, Any]:
    """Begin to measure what is taken here, until `watched`.

    Returns:
        What `read` tells.
    """
    global _watching
    from nb_oomhelper.memory.peaks import Peaks
    from nb_oomhelper.poll import WORKER

    told = watched()  # what that imports is no cell's
    _watching = Peaks(), WORKER.running
    _watching[0].start()
    return told


def watched() -> dict[str, Any]:
    """End that; then read the memory.

    Returns:
        What `read` tells, and what was seen of each device: its ordinal or None, bytes before, peak and after, sampled.
    """
    global _watching
    watching, _watching = _watching, None
    if watching is None:
        return read()
    from nb_oomhelper.poll import WORKER

    peaks, had = watching
    names = ("backend", "device", "before", "peak", "after", "sampled")
    rows = [[getattr(peak, name) for name in names] for peak in peaks.stop()]
    if not had:
        WORKER.end()
    return read() | {"peaks": rows}


def _released(before: int | None) -> dict[str, Any]:
    """Release; where there is no room even to import what does that, first drop what the last error keeps."""
    with contextlib.suppress(MemoryError):
        return _give_back()
    _clear_last()
    told = _give_back()
    return told | {"before": told["before"] | {"resident": before}}


def _give_back() -> dict[str, Any]:
    from nb_oomhelper.remedies.running import release as give_back

    with _no_thread_left():
        outcome = give_back()
    figures = ("resident", "allocated", "device_used")
    return {
        "backend": outcome.before.backend,
        "before": {name: getattr(outcome.before, name) for name in figures},
        "after": {name: getattr(outcome.after, name) for name in figures},
        "seconds": outcome.seconds,
        "held": list(outcome.held),
    }


@contextlib.contextmanager
def _no_thread_left() -> Iterator[None]:
    """End the thread that asks the driver, unless it was there before: a worker may fork."""
    from nb_oomhelper.poll import WORKER

    had = WORKER.running
    try:
        yield
    finally:
        if not had:
            WORKER.end()


def _resident(pid: int | str = "self", begins: bytes = b"") -> int | None:
    """A process's resident bytes where that takes next to no room; None too where its command begins otherwise."""
    try:
        folder = Path("/proc") / str(pid)
        if begins and not (folder / "cmdline").read_bytes().startswith(begins):
            return None
        return int((folder / "statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError, MemoryError):
        return None


def _clear_last() -> None:
    """Drop the locals of the last error's frames, but for those of generators, which may go on; then collect."""
    error, waits = (
        getattr(sys, "last_value", None),
        inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR,
    )
    seen = 0
    while isinstance(error, BaseException) and seen < _CHAIN:
        link = error.__traceback__
        while link is not None:
            if not link.tb_frame.f_code.co_flags & waits:
                with contextlib.suppress(RuntimeError):  # it runs
                    link.tb_frame.clear()
                link.tb_frame.f_locals  # noqa: B018  # before 3.13 only this drops the dict that a rendering has left
            link = link.tb_next
        error, seen = error.__cause__ or error.__context__, seen + 1
    gc.collect()
