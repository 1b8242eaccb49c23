"""Why the request did not fit, and what would not help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CauseKind = Literal[
    "failed_cell",
    "earlier_cell",
    "variable",
    "output_history",
    "graph",
    "copies",
    "gradients",
    "stale_optimizer",
    "module",
    "unnamed",
    "pinned",
    "pool",
    "pool_kept",
    "private_pool",
    "workspace",
    "rounding",
    "context",
    "handle",
    "pinned_refused",
    "elsewhere",
    "other_process",
    "child_process",
    "too_large",
    "fragmentation",
    "not_short",
    "limit",
    "rest",
]
DeadEndKind = Literal[
    "empty_cache",
    "gc_collect",
    "smaller_batch",
    "restart_unchanged",
    "expandable_segments",
    "checkpointing",
    "no_grad",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One reason why the request did not fit, with its evidence.

    Attributes:
        kind: Which reason.
        size: Bytes of evidence; None where the reason is sure but its size is not known.
        names: Names of the user's behind it, largest first.
        function, line: Where those names live, for a failed cell.
        user_line: For a failed cell whose names are a library's: the line of the user's own that led there.
        role: For a variable: what it is ("model", "tensor", …).
        path: For a variable: where below it most of that lies, or "".
        pid, process: For another process, or a child of this one.
        pids: For several of one kind, all of them, `pid` being the first's and `size` that of all together; else empty.
        limit: For a limit, and for more than it allows: its name, e.g. "RLIMIT_AS".
        largest: For fragmentation: bytes of the largest piece, None where it was not read. For what is too large:
            the most that there can ever be.
    """

    kind: CauseKind
    size: int | None
    names: tuple[str, ...] = ()
    function: str | None = None
    line: int | None = None
    user_line: int | None = None
    role: str | None = None
    path: str = ""
    pid: int | None = None
    process: str | None = None
    pids: tuple[int, ...] = ()
    limit: str | None = None
    largest: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadEnd:
    """Something that people try and that would not help here.

    Attributes:
        kind: What they try.
        frees: Bytes it would free here; None where that is not the point.
        reason: Key of the sentence that says why not.
    """

    kind: DeadEndKind
    frees: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Our reading of one event.

    Attributes:
        requested: Bytes of the allocation that failed, or None.
        certain: Whether it surely was a lack of memory: of nothing else can be said that a fix cures it.
        printed: Bytes by which `requested` may be more or less: a message that speaks of GiB has two digits of them.
        free: Bytes that could still be had at that moment, or None.
        capacity: Bytes of the device, or of the limit that stands for it.
        short: Bytes missing; None where either side is unknown; 0 where enough was free in sum.
        rerun: Bytes that the same cell needs again, at least: what it had taken, and the request; of a load that
            does not fit, all of it; or None.
        made: Bytes that the cell had made when it failed; None where that was not measured.
        hidden: Bytes that it may have made beside these and given back, so that nothing tells of them.
        gaps: Bytes between tensors that the cell had made when it failed, of no use to it: it makes them again.
        replaced: Bytes of variables that the cell makes anew: part of what it needs, and free once it has done so.
        load: Bytes that the load that failed takes in all, as it was asked for; or None.
        room: Bytes that there are for it once the failed cell is released; or None.
        causes: Largest evidence first.
        dead_ends: What would not help.
    """

    requested: int | None
    free: int | None
    capacity: int | None
    short: int | None
    rerun: int | None = None
    made: int | None = None
    hidden: int = 0
    gaps: int = 0
    replaced: int = 0
    printed: int = 0
    certain: bool = True
    load: int | None = None
    room: int | None = None
    causes: tuple[Cause, ...] = ()
    dead_ends: tuple[DeadEnd, ...] = ()
