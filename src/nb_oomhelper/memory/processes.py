"""Processes by name, as far as they can be seen from here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from nb_oomhelper.records.memory import ProcessMemory
from nb_oomhelper.untrusted import one_line

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h (Linux 6.12)
_OPTIONS_WITH_VALUE = {"-W", "-X"}  # options of python that take the next word
_KERNELS = {
    "ipykernel",
    "ipykernel_launcher",
    "ipykernel_launcher.py",
    "colab_kernel_launcher",
    "spyder_kernels.console",
}
_LONGEST = 80  # characters of a name: it is shown in one line
_MOST, _READING = 64, 0.1  # children that are looked at, and seconds


def sees_driver_pids() -> bool:
    """Whether a pid that the GPU driver gives means the same process here.

    The driver counts processes as the host does. In a container with pids of its own the same number is
    another process, or none: its name would be wrong.
    """
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == _INITIAL_PID_NAMESPACE
    except OSError:  # no such namespaces: nothing is renumbered
        return True


def describe_process(pid: int) -> tuple[str | None, str | None]:
    """Name a process, as this machine numbers it (see `sees_driver_pids`). Never raises.

    Args:
        pid: Its number.

    Returns:
        Its name ("python"), and what tells it from others: the notebook's file name for a Jupyter kernel
        ("train.ipynb", or "Jupyter kernel" where that cannot be told), the script or module for another
        Python process; None for what cannot be seen: it has ended, or belongs to another user.
    """
    try:
        import psutil

        process = psutil.Process(pid)
    except Exception:  # ImportError, psutil.Error, OverflowError for a pid that cannot be: not seen from here
        return None, None
    name = _seen(process.name)
    command = _seen(process.cmdline) or ()
    return _one_line(name), _one_line(_detail(process, str(name or ""), command))


def started_at(pid: int) -> float | None:
    """Tell when a process began: two readings are equal for the same process alone. Never raises.

    Returns:
        Ticks of the kernel's own clock on Linux, which nobody can set; elsewhere seconds since the epoch. None where
        there is no such process, or nothing but its exit status.
    """
    try:
        state, *rest = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        return None if state in "ZX" else float(rest[18])
    except (OSError, ValueError, IndexError):
        pass
    try:
        import psutil

        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except Exception:  # as in `describe_process`
        return None


def is_child(pid: int) -> bool:
    """Whether a process, as this machine numbers it, is a child of this one, or a child's child. Never raises."""
    try:
        import psutil

        return os.getpid() in {parent.pid for parent in psutil.Process(pid).parents()}
    except Exception:  # as in `describe_process`
        return False


def children() -> tuple[ProcessMemory, ...]:
    """List the processes that this one has started, and that those have, with the host memory of their own.

    What a forked one still shares with its parent is not its own. Never raises, and takes no longer than about 0.1 s.

    Returns:
        Those that could be read, the first 64 at most.
    """
    found, end = [], time.monotonic() + _READING
    try:
        import psutil

        started = psutil.Process().children(recursive=True)
    except Exception:  # as in `describe_process`
        return ()
    for process in started[:_MOST]:
        if time.monotonic() > end:
            break
        memory = _seen(process.memory_full_info)
        used = getattr(memory, "uss", None)
        if used is not None:
            name, detail = describe_process(process.pid)
            found.append(ProcessMemory(pid=process.pid, used=used, name=name, detail=detail, is_child=True))
    return tuple(found)


def _seen(read: Callable[[], Any]) -> Any:
    """Read one fact of a process; None where it may not be seen or has ended meanwhile."""
    try:
        return read()
    except Exception:  # psutil.Error, OSError, and UnicodeError for an odd environment
        return None


def _detail(process: Any, name: str, command: Sequence[str]) -> str | None:
    """What tells this process from others of its name."""
    if "python" not in name.lower() and "pypy" not in name.lower():
        return None
    program = _script(command[1:])
    if program not in _KERNELS:
        return program
    # jupyter_server tells its kernels the notebook's path so (2.17); "RTC:" is put before it where it is shared
    notebook = (_seen(process.environ) or {}).get("JPY_SESSION_NAME", "")
    return _file_name(notebook.removeprefix("RTC:")) or "Jupyter kernel"


def _script(words: Sequence[str]) -> str | None:
    """The script or module in the words after `python`; None for code given as text, or a prompt."""
    rest = iter(words)
    for word in rest:
        if word in _OPTIONS_WITH_VALUE:
            next(rest, None)
        elif word == "-m":
            return next(rest, None)
        elif word == "-c":
            return None
        elif not word.startswith("-"):
            return _file_name(word)
    return None


def _file_name(path: str) -> str:
    """The last part of a path of either kind of system."""
    kind = PureWindowsPath if "\\" in path else PurePosixPath
    return kind(path).name


def _one_line(text: str | None) -> str | None:
    """Cut what other programs call themselves to one short line; None if nothing is left."""
    if not text:
        return None
    plain = one_line(text)
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…"
