"""What the failed cell needs: what it had made by the time it failed, and the request that was refused."""

from __future__ import annotations

from nb_oomhelper.diagnosis.request import allocated_then
from nb_oomhelper.memory.coming_back import gaps_without_cell
from nb_oomhelper.memory.room import tightest
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import Footprint, HostMemory, MemorySnapshot, Span

# What glibc's malloc maps, and mostly gives back, when it looks for another place for a request that it then refuses
# (HEAP_MAX_SIZE, twice): the peak of the address space has it, though the cell made nothing.
_ARENA = 128 << 20
# What stays of it: an arena, all of which is mapped, but no more of it may be written to than what it hands out.
_HEAP = 64 << 20
_HANDED_OUT = 1 << 20


def made_by(event: OomEvent, span: Span, snapshot: MemorySnapshot) -> int | None:
    """Find how much the cell had made when it failed.

    What the call that failed had made itself is gone when anybody can look: on a GPU the message has the figure of that
    moment, on the host a peak tells it that was reached since the cell began.

    Args:
        event: What failed.
        span: What the process held before the cell, and as soon as it had failed.
        snapshot: Memory then, for the bound that counts and the allocator's exact figures.

    Returns:
        Bytes, at least 0; None where they cannot be told.
    """
    start, end = span
    if start is None or end is None:
        return None
    if event.backend == "host":
        return _made_on_host(start, end, snapshot.host)
    before = _on_device(start, event)
    then = allocated_then(event, snapshot)
    then = _on_device(end, event) if then is None else then
    return None if before is None or then is None else max(0, then - before)


def hidden_by(event: OomEvent, span: Span, snapshot: MemorySnapshot, made: int | None) -> int:
    """Find how much more the cell may have made, of which nothing tells.

    On the host that is what lies below a peak that was reached before this cell, so that its own never showed; but
    no more than was free.

    Args:
        event, span, snapshot: As of `made_by`.
        made: What that gives.

    Returns:
        Bytes.
    """
    start, end = span
    if event.backend != "host" or made is None or start is None or end is None:
        return 0
    bound, left, _ = tightest(snapshot.host)
    limited = bound in ("RLIMIT_AS", "RLIMIT_DATA")
    before, peak = (start.virtual, end.peak_virtual) if limited else (start.resident, end.peak_resident)
    unseen = 0 if before is None or peak is None else peak - before - made
    unseen = unseen if left is None else min(unseen, left)
    return unseen if unseen > _ARENA else 0  # as much is malloc's


def cell_needs(event: OomEvent, snapshot: MemorySnapshot, made: int | None) -> int | None:
    """Find what the same cell needs again, at least.

    Args:
        event: What failed.
        snapshot: Memory then; what the failed cell still keeps was made by it.
        made: As `made_by` gives it.

    Returns:
        Bytes, the failed request among them; None where that is unknown. Where only the request is, more than there
        was room for, under a limit.
    """
    kept = snapshot.holdings.freed_by(snapshot.holdings.of_kind("failed_cell"))
    if event.requested is None:
        return _more_than_there_was(event, snapshot, made, kept)
    # XLA tells what a whole program takes; its arguments are there before it
    program = (event.figure("program") or 0) - (event.figure("arguments") or 0)
    return max(program, event.requested + max(made or 0, kept))


def _more_than_there_was(event: OomEvent, snapshot: MemorySnapshot, made: int | None, kept: int) -> int | None:
    """What a cell needs at least that ran into a limit of address space with a request of unknown size."""
    bound, left, _ = tightest(snapshot.host)
    if event.backend != "host" or made is None or left is None or bound not in ("RLIMIT_AS", "RLIMIT_DATA"):
        return None
    return max(made, left + kept) + 1


def gaps_of(event: OomEvent, snapshot: MemorySnapshot) -> int:
    """Find the bytes between the cell's tensors when it failed: reserved, and yet of no use to it.

    PyTorch has given back whole blocks before it fails, so what is cached then lies in gaps. Those that stay where the
    failed cell is released were there before it.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    own = snapshot.allocator
    if event.cached is None or own is None or own.segments is None or own.never_releases:
        return 0
    return max(0, event.cached - gaps_without_cell(own.segments, snapshot.holdings) - own.pooled)


def _made_on_host(start: Footprint, end: Footprint, host: HostMemory) -> int | None:
    touched = _grown(start.resident, end.resident, start.peak_resident, end.peak_resident)
    if tightest(host)[0] not in ("RLIMIT_AS", "RLIMIT_DATA"):
        return touched
    # it is there when the cell runs again
    after = None if end.virtual is None else end.virtual - _new_arena(start, end)
    mapped = _grown(start.virtual, after, start.peak_virtual, end.peak_virtual, aside=_ARENA)
    return mapped if mapped is None else max(mapped, touched or 0)


def _new_arena(start: Footprint, end: Footprint) -> int:
    """The bytes of an arena that malloc has begun since the cell did; 0 where none or something else was mapped."""
    figures = (start.virtual, end.virtual, start.data, end.data)
    old, new, old_data, data = (figure or 0 for figure in figures)
    reserved = (new - data) - (old - old_data)
    return _HEAP if None not in figures and _HEAP - _HANDED_OUT <= reserved < _HEAP else 0


def _grown(before: int | None, after: int | None, old_peak: int | None, peak: int | None, aside: int = 0) -> int | None:
    """By how much a figure had grown at its highest; `aside` of the peak were somebody else's."""
    if before is None or after is None:
        return None
    moved = peak is not None and old_peak is not None and peak > old_peak  # else it was reached before this cell
    return max(0, after - before, (peak - aside if moved and peak is not None else after) - before)


def _on_device(footprint: Footprint, event: OomEvent) -> int | None:
    """What the framework held on the event's device; 0 where it had not started any."""
    rows = [size for name, device, size in footprint.allocated if name == event.framework and device == event.device]
    if rows:
        return rows[0]
    return 0 if not footprint.allocated or event.device is not None else None
