"""What people try and what would not help here, each with the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nb_oomhelper.diagnosis.request import own_cache
from nb_oomhelper.records.diagnosis import Cause, DeadEnd
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import MemorySnapshot

_ENOUGH = 1 << 20  # bytes: cuBLAS, cuFFT or NCCL may find what it needs there
_WITHOUT_TORCH = ("cupy", "jax")  # who works with these does not try PyTorch's functions


def finders(
    event: OomEvent, snapshot: MemorySnapshot, free: int | None, causes: list[Cause], torch: bool
) -> list[Callable[[], list[DeadEnd]]]:
    """What finds each kind of dead end, apart, so that one that fails costs the others nothing.

    Args:
        event, snapshot: What failed, and memory then.
        free: Bytes that could still be had.
        causes: Why it failed.
        torch: Whether PyTorch is loaded.
    """
    pinned = next((cause.size for cause in causes if cause.kind == "failed_cell"), None)
    return [
        partial(_empty_cache, event, snapshot, free, torch),
        partial(_gc_collect, snapshot, free, event.requested, pinned),
        partial(_smaller_batch, event, free, pinned),
        partial(_restart, causes, pinned),
        partial(_expandable_segments, event, snapshot, causes),
        *([partial(_of_other_phases, event, snapshot)] if torch else []),
    ]


def _empty_cache(event: OomEvent, snapshot: MemorySnapshot, free: int | None, torch: bool) -> list[DeadEnd]:
    allocator = snapshot.allocator
    if event.backend == "host":
        tried = torch and event.framework not in _WITHOUT_TORCH
        return [DeadEnd(kind="empty_cache", frees=None, reason="empty_cache_host")] if tried else []
    if event.framework != "pytorch" or not allocator or allocator.releasable is None:
        return []
    if event.requested is None and allocator.releasable >= _ENOUGH:  # another library than PyTorch's allocator asked
        return []
    short = None if event.requested is None or free is None else max(0, event.requested - free)
    if short is not None and allocator.releasable >= max(1, short):
        return []
    return [DeadEnd(kind="empty_cache", frees=allocator.releasable, reason="empty_cache_short")]


def _gc_collect(snapshot: MemorySnapshot, free: int | None, requested: int | None, pinned: int | None) -> list[DeadEnd]:
    """The failed cell's frames are no garbage; what only cycles keep is, and where that would do it is the cure."""
    cycles = snapshot.holdings.freed_by(snapshot.holdings.of_kind("unreachable"))
    short = max(1, requested - free) if requested is not None and free is not None else 1
    return [] if not pinned or cycles >= short else [DeadEnd(kind="gc_collect", frees=None, reason="gc_collect_pinned")]


def _smaller_batch(event: OomEvent, free: int | None, pinned: int | None) -> list[DeadEnd]:
    """Where nobody knows what was going on, nobody knows of a batch either."""
    if event.phase == "load":
        return [DeadEnd(kind="smaller_batch", frees=None, reason="smaller_batch_loading")]
    if event.phase == "unknown" or not pinned or not event.requested or free is None or event.requested // 2 <= free:
        return []
    return [DeadEnd(kind="smaller_batch", frees=None, reason="smaller_batch_pinned")]


def _restart(causes: list[Cause], pinned: int | None) -> list[DeadEnd]:
    if any(cause.kind == "too_large" for cause in causes):
        return [DeadEnd(kind="restart_unchanged", frees=None, reason="restart_too_large")]
    return [DeadEnd(kind="restart_unchanged", frees=None, reason="restart_not_needed")] if pinned else []


def _expandable_segments(event: OomEvent, snapshot: MemorySnapshot, causes: list[Cause]) -> list[DeadEnd]:
    """PyTorch's own text advises it, whatever the cause. What came free on the way to the panel counts, too."""
    known = [size for size in (event.cached, own_cache(snapshot)) if size is not None]
    if "expandable_segments" not in event.message or not event.requested or not known:
        return []
    cached = max(known)
    if cached >= event.requested or any(cause.kind == "fragmentation" for cause in causes):
        return []
    return [DeadEnd(kind="expandable_segments", frees=cached, reason="expandable_segments_unfragmented")]


def _of_other_phases(event: OomEvent, snapshot: MemorySnapshot) -> list[DeadEnd]:
    """What helps in another phase, and people try it here, too."""
    if event.phase == "infer" and any(row.role == "pretrained model" for row in snapshot.holdings.rows):
        return [DeadEnd(kind="checkpointing", frees=None, reason="checkpointing_infer")]
    if event.phase == "train" and event.framework not in _WITHOUT_TORCH:
        return [DeadEnd(kind="no_grad", frees=None, reason="no_grad_train")]
    return []
