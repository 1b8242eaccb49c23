"""What a fix that frees memory is about: variables, processes, or what the failed cell keeps; and what each frees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nb_oomhelper.knowledge.fix import Fix
from nb_oomhelper.records.diagnosis import Cause, Diagnosis
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.remedies.notebook import Notebook

_TOGETHER = 6  # variables that one fix deletes, at most


@dataclass(frozen=True, slots=True)
class Subject:
    """What a fix is about: its name, the fields of its code, what it frees."""

    name: str
    fields: dict[str, str]
    released_holders: frozenset[int] = frozenset()
    frees: int | None = None


def find_subjects(fix: Fix, snapshot: MemorySnapshot, diagnosis: Diagnosis, notebook: Notebook) -> Iterator[Subject]:
    """Find the variables or processes that a fix is about; one without a name for fixes that are about none.

    Args:
        fix: The fix.
        snapshot: Memory, with its holders.
        diagnosis: The causes.
        notebook: What the failed cell uses.
    """
    held = snapshot.holdings
    failed = held.of_failures()  # every release lets go of it, whatever else it is about
    if fix.subject == "process":
        for cause in _of(diagnosis, "other_process"):
            if _can_be_stopped(cause, snapshot, diagnosis):
                pids = " ".join(map(str, cause.pids or (cause.pid,)))
                yield Subject(pids, {"pid": pids}, frees=cause.size)
    elif fix.subject == "none":
        if "output_history" in fix.causes and notebook.reads_results:
            return
        released = failed | (held.of_kind("output_history") if "output_history" in fix.causes else frozenset())
        known = held.complete and held.everywhere and held.total and not released and not _of(diagnosis, "unnamed")
        known = known and diagnosis.free is not None  # of a device that nobody reads, objects tell nothing either
        yield Subject("", {}, released, frees=0 if known else None)
    else:
        yield from _variables(fix, snapshot.releasable or 0, held, diagnosis, notebook)


def _can_be_stopped(cause: Cause, snapshot: MemorySnapshot, diagnosis: Diagnosis) -> bool:
    """Whether processes can be seen from here, and what is told of them can be.

    A driver may not know processes one by one: in WSL it calls all of them 1, with more bytes than there are.
    """
    capacity = snapshot.device.capacity if snapshot.device else diagnosis.capacity
    possible = cause.size is None or capacity is None or cause.size <= capacity
    pids = cause.pids or ((cause.pid,) if cause.pid is not None else ())
    return possible and cause.process is not None and min(pids, default=0) > 1


def _variables(fix: Fix, cached: int, held: Holdings, diagnosis: Diagnosis, notebook: Notebook) -> Iterator[Subject]:
    """The user's variables that a fix is about."""
    failed = held.of_failures()
    if fix.subject == "variable":
        for cause in _of(diagnosis, "variable"):
            names = ", ".join(cause.names)
            # What several keep together goes with all of them; without what it reads the cell would fail.
            if not any(name in notebook.needed for name in cause.names):
                released = failed.union(*(held.named(name) for name in cause.names))
                yield Subject(names, {"name": names}, released)
        yield from find_together(cached, held, diagnosis, notebook)
    elif fix.causes:  # a fix of a cause takes away what the cause keeps
        for cause in diagnosis.causes:
            if cause.kind in fix.causes and cause.role == fix.subject:
                frees = (cause.size or 0) + (held.freed_by(failed) if fix.does.releases else 0)
                yield Subject(cause.names[0], {"name": cause.names[0]}, frees=frees)
    else:  # by what it is, not by what it keeps alone: an optimizer keeps a model's parameters, too
        for row in held.rows:
            if row.kind == "variable" and row.role == fix.subject:
                yield Subject(row.name, {"name": row.name})


def find_together(cached: int, held: Holdings, diagnosis: Diagnosis, notebook: Notebook) -> Iterator[Subject]:
    """Find the fewest variables that make room for the cell together, the largest first, where none does alone.

    Room also for what the cell may need beyond what was seen of it, if they have it.

    Args:
        cached: Bytes that come back from the cache.
        held: Who keeps what.
        diagnosis: What the cell needs, what was free, and the variables that explain bytes.
        notebook: What the cell reads and makes.
    """
    made = notebook.written.made_names() if notebook.written is not None else frozenset()
    groups = [cause.names for cause in _of(diagnosis, "variable")]
    spare = [group for group in groups if not any(name in notebook.needed or name in made for name in group)]
    if diagnosis.rerun is None or diagnosis.free is None:
        return
    missing = diagnosis.rerun + diagnosis.gaps - diagnosis.free - cached
    for target in dict.fromkeys((missing + diagnosis.hidden, missing)):
        chosen = next((n for n in range(_TOGETHER + 1) if _frees(held, spare[:n]) >= target), None)
        if chosen is None:
            continue
        names = tuple(dict.fromkeys(name for group in spare[:chosen] for name in group))
        if len(names) > 1 and names not in groups and not any(_frees(held, [one]) >= target for one in spare):
            released = held.of_failures().union(*(held.named(name) for name in names))
            yield Subject(", ".join(names), {"name": ", ".join(names)}, released)
        return


def _frees(held: Holdings, groups: Iterable[tuple[str, ...]]) -> int:
    """Bytes that come back with the failed cells and these variables."""
    return held.freed_by(held.of_failures().union(*(held.named(name) for group in groups for name in group)))


def _of(diagnosis: Diagnosis, kind: str) -> list[Cause]:
    return [cause for cause in diagnosis.causes if cause.kind == kind]
