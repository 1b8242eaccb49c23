"""The machine's own memory and its limits.

Nothing here raises: what cannot be read is None.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nb_oomhelper import address_space
from nb_oomhelper.records.memory import HostMemory
from nb_oomhelper.records.note import Note, note

CGROUP_OF_SELF = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # cgroup v1 writes "no limit" as the largest number of whole pages, near 1 << 63
# Of each cgroup version: its limit, its use, and the line of memory.stat with the file cache that the
# kernel drops before it kills anything.
_V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2_FILES = ("memory.max", "memory.current", "inactive_file")


def read_host() -> HostMemory:
    """Read the machine's memory and what bounds this process. Never raises.

    Returns:
        Bytes throughout. `cgroup_used` is without the file cache that the kernel gives up on its own, so
        that limit - used is what can still be had.
    """
    limit, used = read_cgroup(CGROUP_OF_SELF, CGROUPS)
    mapped_limit, data_limit = address_space.limits()
    return HostMemory(
        **_machine(),
        address_space_limit=mapped_limit,
        puts_by=not address_space.can_widen(),
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


def gap() -> Note | None:
    """Find why the machine's memory cannot be told; None where it can."""
    try:
        import psutil  # noqa: F401
    except Exception as error:
        return note("status.no_psutil", error=f"{type(error).__name__}: {error}")
    if len(_machine()) < 4:
        return note("status.host_in_part")
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
    for folder, (limit_file, used_file, cache_line) in cgroup_folders(own, root):
        limit = read_number(folder / limit_file)
        if limit is None or limit >= _NO_LIMIT:
            continue
        used = read_number(folder / used_file)
        if used is not None:
            used = max(0, used - (read_stat_line(folder / "memory.stat", cache_line) or 0))
        left = limit - (used or 0)
        if left < least:
            tightest, least = (limit, used), left
    return tightest


def cgroup_folders(own: Path, root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
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


def read_number(path: Path) -> int | None:
    """Read the number in a file; None where there is none: no such file, or the word "max"."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() and len(text) < 32 else None


def read_stat_line(path: Path, name: str) -> int | None:
    """Read the number behind a name in a file of "name number" lines; None where it is not there."""
    for line in _text(path).splitlines():
        key, _, figure = line.partition(" ")
        if key == name and figure.isdecimal():
            return int(figure)
    return None
