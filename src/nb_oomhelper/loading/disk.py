"""Room for large files, and what is mapped of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

OFFLOAD_PREFIX = "oom-offload-"  # of the temporary folders in which a load puts weights


def mapped_files(folder: str) -> int:
    """Measure the address space, in bytes, that files in a folder take in this process; 0 where it cannot be told.

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
