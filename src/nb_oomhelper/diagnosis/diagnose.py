"""Why the request did not fit: pure, from the event and the snapshot to causes with their bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from nb_oomhelper.diagnosis import dead_ends, mistakes
from nb_oomhelper.diagnosis.causes import (
    failed_cells,
    fragmentation,
    limits,
    not_short,
    pinned,
    pools,
    private_pools,
    processes,
    refusals,
    rest,
    results,
    too_large,
    unnamed,
    variables,
    weight,
)
from nb_oomhelper.diagnosis.needs import cell_needs, gaps_of, hidden_by, made_by
from nb_oomhelper.diagnosis.request import capacity_for, free_for, printed_by
from nb_oomhelper.records.diagnosis import Cause, DeadEnd, Diagnosis
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import MemorySnapshot, Span

_ENDS = 5  # dead ends that are told
_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Failed = Callable[[Exception], None]


def diagnose(
    event: OomEvent,
    snapshot: MemorySnapshot,
    span: Span = (None, None),
    *,
    torch: bool = True,
    failed: Failed | None = None,
) -> Diagnosis:
    """Read an event against the memory at that moment.

    Of another process's error only what its text tells: this process's memory does not explain it.

    Args:
        event: What failed.
        snapshot: Memory then.
        span: What the process held before the cell, and when it had failed.
        torch: Whether PyTorch is loaded: who does not use it does not try its functions.
        failed: Is told the error of each part that failed. It costs itself alone: a cause fewer, or an unknown figure.
    """
    if event.remote is not None:
        return _elsewhere(event)
    free = _tried(failed, None, free_for, event, snapshot)
    capacity = _tried(failed, None, capacity_for, event, snapshot)
    short = None if event.requested is None or free is None else max(0, event.requested - free)
    no_causes: list[Callable[[], list[Cause]]] = []
    no_ends: list[Callable[[], list[DeadEnd]]] = []
    found: list[Callable[[], list[Cause]]] = [
        partial(too_large, event, snapshot),
        partial(limits, event, snapshot),
        partial(failed_cells, event, snapshot),
        partial(results, snapshot),
        partial(variables, snapshot),
        *_tried(failed, no_causes, mistakes.finders, snapshot.holdings, event.phase),
        partial(unnamed, snapshot),
        partial(pinned, event, snapshot),
        partial(pools, event, snapshot),
        partial(private_pools, event, snapshot),
        partial(refusals, event, snapshot),
        partial(processes, event, snapshot),
        partial(fragmentation, event, snapshot, free),
        partial(not_short, event, snapshot, free),
        partial(rest, event, snapshot),
    ]
    made = _tried(failed, None, made_by, event, span, snapshot)
    needs = _tried(failed, None, cell_needs, event, snapshot, made)
    hidden = _tried(failed, 0, hidden_by, event, span, snapshot, made)
    if event.requested is None and needs is not None:
        hidden = max(hidden, needs)  # the request may have been of any size
    causes = sorted(_each(failed, found), key=weight)
    ends = _tried(failed, no_ends, dead_ends.finders, event, snapshot, free, causes, torch)
    return Diagnosis(
        requested=event.requested,
        free=free,
        capacity=capacity,
        short=short,
        rerun=needs,
        made=made,
        hidden=hidden,
        gaps=_tried(failed, 0, gaps_of, event, snapshot),
        printed=printed_by(event),
        certain=event.certainty == "sure",
        causes=tuple(causes),
        dead_ends=tuple(_each(failed, ends)[:_ENDS]),
    )


def _elsewhere(event: OomEvent) -> Diagnosis:
    short = None if event.requested is None or event.free is None else max(0, event.requested - event.free)
    return Diagnosis(requested=event.requested, free=event.free, capacity=event.capacity, short=short)


def _each(failed: Failed | None, parts: Iterable[Callable[[], list[_T]]]) -> list[_T]:
    nothing: list[_T] = []
    return [one for part in parts for one in _tried(failed, nothing, part)]


def _tried(failed: Failed | None, otherwise: _T, function: Callable[..., _T], *args: object) -> _T:
    """What a part of the diagnosis gives; where it fails, the rest must come all the same."""
    try:
        return function(*args)
    except Exception as problem:
        _log.debug("a part of the diagnosis failed", exc_info=True)
        if failed is not None:
            failed(problem)
        return otherwise
