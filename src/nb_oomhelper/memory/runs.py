"""Which cell a kernel runs, in a small file: whoever finds it later knows in the middle of what the kernel ended.

There is a file only while a cell runs. It is written whole, under another name first, and holds no code of the user's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from nb_oomhelper.memory.kills import Group
from nb_oomhelper.memory.processes import started_at

_LONGEST = 8 << 10  # bytes of a file; a real one has some 500
_MOST = 50  # files of one folder's kernels
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A cell that a kernel runs.

    Attributes:
        pid, started: The process, and when it began, as `started_at` has it.
        host, boot: The machine, and which of its starts it was; "" where not told.
        folder: The kernel's working folder.
        notebook: The notebook's file, without its folder; None where not told.
        cell: The number of the cell, In [n].
        begun, read: When the cell began, and when the figures were read last, in seconds since the epoch.
        resident: Bytes of host memory that the process held then; None where not told.
        allocated: Bytes that it had allocated on GPUs; None where it had started none.
        group: Its control group; None where none counts.
        kills: Processes of the group that had been killed for want of memory when the cell began.
    """

    pid: int
    started: float
    host: str
    boot: str
    folder: str
    notebook: str | None
    cell: int
    begun: float
    read: float
    resident: int | None = None
    allocated: int | None = None
    group: str | None = None
    kills: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A kernel that ended in the middle of a cell, and what can be told of why.

    Attributes:
        run: The cell.
        killed: Processes of the same control group that the system has killed for want of memory since the cell began;
            None where that cannot be told: another group, or another start of the machine.
        peak, limit: The most that the group has used, and may use, in bytes; None where not told, or another group's.
    """

    run: Run
    killed: int | None = None
    peak: int | None = None
    limit: int | None = None


def this_run(cell: int, group: Group | None) -> Run | None:
    """Take down that this process begins a cell now.

    Args:
        cell: Its number.
        group: The process's control group.

    Returns:
        None where nobody could tell later whether this process still lives.
    """
    started, notebook, now = started_at(os.getpid()), os.environ.get("JPY_SESSION_NAME"), time.time()
    if started is None:
        return None
    return Run(
        pid=os.getpid(),
        started=started,
        host=platform.node(),
        boot=_boot(),
        folder=str(Path.cwd()),
        notebook=Path(notebook).name if notebook else None,
        cell=cell,
        begun=now,
        read=now,
        group=group.path if group else None,
        kills=group.kills if group else None,
    )


def path_of(run: Run, runs: Path) -> Path:
    """Name the file of a run.

    Args:
        run: The run; each kernel has a name of its own.
        runs: The folder for all of them.
    """
    return runs / f"{_prefix(run.folder)}{run.pid}-{run.started:.0f}.json"


def write_run(run: Run, path: Path) -> None:
    """Write a run's file, whole or not at all.

    Args:
        run: What to write.
        path: Of the file.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    try:
        draft.write_text(json.dumps(asdict(run)), encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def take_ended(folder: Path, runs: Path, group: Group | None) -> list[Ended]:
    """Find the kernels of a folder that ended in the middle of a cell, and take their files away: each is told once.

    A kernel on another machine may still live, and is left alone.

    Args:
        folder: Their working folder.
        runs: Where the files are.
        group: This process's control group, to compare its counts with.

    Returns:
        The latest last; none where the files cannot be read.
    """
    found: list[Ended] = []
    for path in sorted(_files(folder, runs))[:_MOST]:
        run = _read(path)
        if run is not None and (run.folder != str(folder) or _may_live(run)):
            continue
        with contextlib.suppress(OSError):
            path.unlink()  # of two kernels that begin at once, one has it
            if run is not None:
                found.append(_ended(run, group))
    return sorted(found, key=lambda ended: ended.run.begun)


def _ended(run: Run, group: Group | None) -> Ended:
    if group is None or run.group != group.path or run.boot != _boot() or run.kills is None or group.kills is None:
        return Ended(run=run)
    killed = group.kills - run.kills
    if killed < 0:  # it was made anew since
        return Ended(run=run)
    return Ended(run=run, killed=killed, peak=group.peak, limit=group.limit)


def _may_live(run: Run) -> bool:
    if run.host != platform.node():
        return True
    if run.boot != _boot():
        return False
    return started_at(run.pid) == run.started


def _files(folder: Path, runs: Path) -> Iterator[Path]:
    try:
        yield from runs.glob(f"{_prefix(str(folder))}*.json")
    except OSError:  # no such folder, or none that may be read
        return


def _read(path: Path) -> Run | None:
    """The run in a file; None where the file is damaged."""
    try:
        with path.open("rb") as file:
            table = json.loads(file.read(_LONGEST))
        hints: dict[str, Any] = get_type_hints(Run)
        given = {one.name: table[one.name] for one in fields(Run)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = all(type(given[name]) in (get_args(hint) or (hint,)) for name, hint in hints.items())
    return Run(**given) if sound else None


def _prefix(folder: str) -> str:
    return hashlib.sha256(folder.encode("utf-8", "surrogatepass")).hexdigest()[:16] + "-"


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
