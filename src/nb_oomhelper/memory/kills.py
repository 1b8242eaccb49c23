"""What control groups count of memory: the most that was used, and how many processes were killed for want of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nb_oomhelper.memory.host import CGROUP_OF_SELF, CGROUPS, cgroup_folders, read_number, read_stat_line

_NO_LIMIT = 1 << 60  # as in `host`
# Of each version: the file and the line that count the killed, and the file with the peak.
_V1 = ("memory.oom_control", "oom_kill", "memory.max_usage_in_bytes")
_V2 = ("memory.events", "oom_kill", "memory.peak")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The innermost control group of this process that counts.

    Attributes:
        path: The folder in which it was read.
        kills: Processes of it that the system has killed for want of memory, since it was made; None where not told.
        peak: The most that it has used, in bytes; None where not told.
        limit: The tightest limit of it and of those above it, in bytes; None where there is none.
    """

    path: str
    kills: int | None = None
    peak: int | None = None
    limit: int | None = None


def read_group(own: Path = CGROUP_OF_SELF, root: Path = CGROUPS) -> Group | None:
    """Read what this process's control group has counted. Never raises.

    Args:
        own: The file that tells the groups, /proc/self/cgroup.
        root: Where control groups are mounted, /sys/fs/cgroup.

    Returns:
        None where no group counts.
    """
    limits: list[int] = []
    found: Group | None = None
    for folder, files in cgroup_folders(own, root):
        limit = read_number(folder / files[0])
        limits += [limit] if limit is not None and limit < _NO_LIMIT else []
        events, line, peak = _V1 if files[0].endswith("in_bytes") else _V2
        kills = read_stat_line(folder / events, line)
        if found is None and kills is not None:
            found = Group(path=str(folder), kills=kills, peak=read_number(folder / peak))
    if found is None:
        return None
    return Group(path=found.path, kills=found.kills, peak=found.peak, limit=min(limits, default=None))
