"""The machine's own memory and its limits, and processes by name. The only door to `psutil`.

Nothing here raises: what cannot be read is None.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from nb_oomhelper import address_space
from nb_oomhelper.records.memory import HostMemory
from nb_oomhelper.untrusted import one_line

_CGROUP_OF_SELF = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # cgroup v1 writes "no limit" as the largest number of whole pages, near 1 << 63
# Of each cgroup version: its limit, its use, and the line of memory.stat with the file cache that the
# kernel drops before it kills anything.
_V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2_FILES = ("memory.max", "memory.current", "inactive_file")

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


def read_host() -> HostMemory:
    """Read the machine's memory and what bounds this process. Never raises.

    Returns:
        Bytes throughout. `cgroup_used` is without the file cache that the kernel gives up on its own, so
        that limit - used is what can still be had.
    """
    limit, used = read_cgroup(_CGROUP_OF_SELF, _CGROUPS)
    mapped_limit, data_limit = address_space.limits()
    return HostMemory(
        **_machine(),
        address_space_limit=mapped_limit,
        data_limit=data_limit,
        data=address_space.used()[1],
        cgroup_limit=limit,
        cgroup_used=used,
    )


def _machine() -> dict[str, int | None]:
    """Ask psutil for the keys capacity, available, this_process and virtual; those it can tell."""
    try:
        import psutil
    except Exception:  # it is not there, or broken: then it may raise anything
        return {}
    figures: dict[str, int | None] = {}
    try:
        memory = psutil.virtual_memory()
        figures |= {"capacity": memory.total, "available": memory.available}
    except Exception:  # psutil raises RuntimeError, OSError or ValueError where /proc is hidden or odd
        pass
    try:
        own = psutil.Process().memory_info()
        figures |= {"this_process": own.rss, "virtual": own.vms}
    except Exception:
        pass
    return figures


def gap() -> str | None:
    """Why the machine's memory cannot be told, in one plain line; None where it can."""
    try:
        import psutil  # noqa: F401
    except Exception as error:
        return f"unknown: psutil cannot be imported ({type(error).__name__}: {error})"
    if len(_machine()) < 4:
        return "unknown in part: this system does not tell it to psutil (may /proc be read?)"
    return None


def read_cgroup(own: Path, root: Path) -> tuple[int | None, int | None]:
    """Read the memory limit that leaves this process the least, of the control groups that it is in.

    Each group above counts as well: others in it may have used up what our own group still may have.

    Args:
        own: The file that tells the groups, /proc/self/cgroup.
        root: Where control groups are mounted, /sys/fs/cgroup.

    Returns:
        Limit and use in bytes of the group with the least left; None and None where nothing limits.
    """
    tightest: tuple[int | None, int | None] = None, None
    least = _NO_LIMIT
    for folder, (limit_file, used_file, cache_line) in _cgroup_folders(own, root):
        limit = _number(folder / limit_file)
        if limit is None or limit >= _NO_LIMIT:
            continue
        used = _number(folder / used_file)
        if used is not None:
            used = max(0, used - _stat_line(folder / "memory.stat", cache_line))
        left = limit - (used or 0)
        if left < least:
            tightest, least = (limit, used), left
    return tightest


def _cgroup_folders(own: Path, root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """List this process's group and all above it, for version 1 and 2, with the names of their files.

    A path that does not exist below `root` is no error: a container may see the host's path in `own` and
    its own group mounted at `root`.
    """
    for line in _text(own).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            tops, files = [root, root / "unified"], _V2_FILES
        elif "memory" in controllers.split(","):
            tops, files = [root / "memory"], _V1_FILES
        else:
            continue
        below = PurePosixPath(path.lstrip("/"))
        if ".." in below.parts:  # the group is outside of what this namespace shows
            below = PurePosixPath()
        for top in tops:
            for part in (below, *below.parents):
                yield top / part, files


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, MemoryError):
        return ""


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none: no such file, or the word "max"."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() and len(text) < 32 else None


def _stat_line(path: Path, name: str) -> int:
    """The number behind a name in a file of "name number" lines; 0 where it is not there."""
    for line in _text(path).splitlines():
        key, _, figure = line.partition(" ")
        if key == name and figure.isdecimal():
            return int(figure)
    return 0


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


def trim() -> None:
    """Give freed heap pages back to the system where the C library can (glibc). Never raises."""
    try:
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, OSError, AttributeError, TypeError):  # another C library, or Windows, which has none by None
        return


def mapped_files(folder: str) -> int:
    """Bytes of address space that this process has mapped of files in a folder; 0 where it cannot be told.

    Source: proc(5), /proc/pid/maps: "start-end perms offset dev inode path", addresses in hexadecimal.
    """
    try:
        lines = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    except (OSError, MemoryError):
        return 0
    above = os.path.realpath(folder).rstrip("/") + "/"
    spans = (line.split(maxsplit=5) for line in lines)
    ends = (span[0].split("-") for span in spans if len(span) == 6 and span[5].startswith(above))
    return sum(int(end, 16) - int(start, 16) for start, end in ends)


def scratch() -> tuple[str | None, int | None]:
    """Look for room for large temporary files on a real disk: a folder in memory would take what they are to spare.

    Returns:
        A folder that can be written to, None where there is none, and its free bytes. The temporary folder
        goes before the working folder.
    """
    for find in (tempfile.gettempdir, os.getcwd):
        try:
            folder = str(Path(find()).absolute())
            if os.access(folder, os.W_OK) and not _is_in_memory(os.path.realpath(folder)):
                return folder, shutil.disk_usage(folder).free
        except OSError:
            continue
    return None, None


def _is_in_memory(folder: str) -> bool:
    try:
        import psutil

        mounts = [(one.mountpoint, one.fstype) for one in psutil.disk_partitions(all=True)]
    except Exception:  # no psutil, or /proc is hidden
        return False
    above = [(place, kind) for place, kind in mounts if folder == place or folder.startswith(place.rstrip("/") + "/")]
    return max(above, key=lambda pair: len(pair[0]), default=("", ""))[1] in ("tmpfs", "ramfs")
