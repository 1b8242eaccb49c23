"""The causes that the figures and the holders tell, each with its bytes."""

from __future__ import annotations

from nb_oomhelper.diagnosis.request import STARTS_WITH, capacity_for, limit_for, most_for, own_cache, printed_by
from nb_oomhelper.memory.room import own_pool, tightest
from nb_oomhelper.memory.segments import segments, with_self
from nb_oomhelper.records.diagnosis import Cause, CauseKind
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import MemorySnapshot, ProcessMemory

_WORTH_SAYING = 1 << 20  # a holder of less than a mebibyte explains nothing
_CONTEXT = 1 << 30  # bytes: a CUDA context takes some 200 to 600 MiB, by the GPU and the libraries
_RANK = {"too_large": 0, "not_short": 0, "context": 0, "handle": 0, "pinned_refused": 0, "limit": 2, "rest": 3}
_WITH_FRACTION = ("pytorch", "jax", "cupy")  # whose limit is a share of the device
_NAMED = 4  # variables that are named one by one


def too_large(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """More was asked for than the device has, or than this process may ever have of it.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    most = most_for(event, snapshot)
    if event.requested is None or most is None or event.requested <= most:
        return []
    limited = event.backend != "host" and limit_for(event, snapshot) is not None
    return [Cause(kind="too_large", size=event.requested, limit=_limit_of(event) if limited else None, largest=most)]


def _limit_of(event: OomEvent) -> str:
    """What the limit is called that a message, or an allocator, has told."""
    if event.backend in ("mps", "metal"):
        return "high watermark" if event.backend == "mps" else "largest buffer"
    return "memory fraction" if event.framework in _WITH_FRACTION else "own limit"


def limits(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """A limit that is set and bounds this process more than the device or the machine does.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    if event.backend == "host" and event.limit is not None:
        return [Cause(kind="limit", size=event.limit, limit="own limit")]
    if event.backend == "host":
        name, _, bound = tightest(snapshot.host)
        return [] if name == "machine" or bound is None else [Cause(kind="limit", size=bound, limit=name)]
    limit = limit_for(event, snapshot)
    return (
        [] if limit is None or event.backend == "metal" else [Cause(kind="limit", size=limit, limit=_limit_of(event))]
    )


def failed_cells(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """What the failed cell keeps, and what those before it still keep: a release lets go of both.

    Where names of a library's keep it, the user's own line that led there is told, too.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    holdings = snapshot.holdings
    now, both = holdings.freed_by(holdings.of_kind("failed_cell")), holdings.freed_by(holdings.of_failures())
    sizes: tuple[tuple[CauseKind, int], ...] = (("failed_cell", now), ("earlier_cell", both - now))
    return [
        Cause(
            kind=kind,
            size=size,
            names=tuple(row.name.split(", ")),
            function=row.function,
            line=row.line,
            user_line=event.line if kind == "failed_cell" and "." in (row.function or "") else None,
        )
        for kind, size in sizes
        if size >= _WORTH_SAYING
        for row in [one for one in holdings.rows if one.kind == kind][:1]
    ]


def results(snapshot: MemorySnapshot) -> list[Cause]:
    """What `Out` keeps, once the failed cell's frames are released."""
    holdings = snapshot.holdings
    results = holdings.of_kind("output_history")
    size = holdings.freed_after_release(results)
    if size < _WORTH_SAYING:
        return []
    names = tuple(holdings.rows[index].name for index in sorted(results)[:_NAMED])
    return [Cause(kind="output_history", size=size, names=names)]


def variables(snapshot: MemorySnapshot) -> list[Cause]:
    """What each variable would give back, once the failed cell's frames are released."""
    holdings = snapshot.holdings
    failed = holdings.of_failures()
    base = holdings.freed_by(failed)
    causes = []
    for index in holdings.of_kind("variable"):
        row = holdings.rows[index]
        size = holdings.freed_by(failed | {index}) - base
        if size >= _WORTH_SAYING:
            causes.append(Cause(kind="variable", size=size, names=(row.name,), role=row.role, path=row.path))
    causes.extend(_together(snapshot, failed))
    causes.sort(key=weight)
    return causes[:_NAMED]


def _together(snapshot: MemorySnapshot, failed: frozenset[int]) -> list[Cause]:
    """What a variable keeps with other holders: a model and the optimizer of its parameters, `x` and `Out[3]`."""
    holdings = snapshot.holdings
    variables = holdings.of_kind("variable")
    sizes: dict[frozenset[int], int] = {}
    for holders, size in holdings.shares:
        group = frozenset(holders) - failed
        if len(group) > 1 and group & variables:
            sizes[group] = sizes.get(group, 0) + size
    return [
        Cause(kind="variable", size=size, names=tuple(holdings.rows[index].name for index in sorted(group)))
        for group, size in sizes.items()
        if size >= _WORTH_SAYING
    ]


def unnamed(snapshot: MemorySnapshot) -> list[Cause]:
    """What the allocator has given out and no name was found for, such as the graph that autograd keeps.

    Known of it: what the allocator adds by rounding requests up, and the workspace that cuBLAS has been given.
    """
    allocated, own = snapshot.allocated, snapshot.allocator
    if allocated is None or not snapshot.holdings.total or not snapshot.holdings.complete:
        return []
    named = snapshot.holdings.of_kind("unreachable")
    rounding = sum(one.rounding or 0 for one in (own, *snapshot.others) if one is not None)
    size = allocated - sum(size for holders, size in snapshot.holdings.shares if not named.issuperset(holders))
    workspace = min(max(0, size - rounding), own.workspace if own else 0)
    found = (
        Cause(kind="unnamed", size=size - rounding - workspace),
        Cause(kind="workspace", size=workspace),
        Cause(kind="rounding", size=min(size, rounding)),
    )
    return [cause for cause in found if (cause.size or 0) >= _WORTH_SAYING]


def processes(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """What other processes keep on the device; those of one kind together, this process's own children apart.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    reserved = event.reserved if snapshot.reserved is None else snapshot.reserved
    seen = snapshot.device.processes if snapshot.device else None
    rows = with_self(seen, reserved) if seen else event.processes
    capacity = capacity_for(event, snapshot)
    kinds: dict[tuple[bool, str | None], list[ProcessMemory]] = {}
    for row in rows:
        if not row.is_self and (row.used is None or _WORTH_SAYING <= row.used <= (capacity or row.used)):
            name = " · ".join(part for part in (row.name, row.detail) if part) or None
            kinds.setdefault((row.is_child, name), []).append(row)
    return [_of_one_kind(same, is_child, name) for (is_child, name), same in kinds.items()]


def _of_one_kind(rows: list[ProcessMemory], is_child: bool, name: str | None) -> Cause:
    sizes = [row.used for row in rows if row.used is not None]
    return Cause(
        kind="child_process" if is_child else "other_process",
        size=sum(sizes) if len(sizes) == len(rows) else None,
        pid=rows[0].pid,
        pids=tuple(row.pid for row in rows) if len(rows) > 1 else (),
        process=name,
    )


def fragmentation(event: OomEvent, snapshot: MemorySnapshot, free: int | None) -> list[Cause]:
    """Enough is cached, yet no piece of it is large enough (PyTorch gives back what it can before it fails).

    Where as much is free beside it, pieces are not what was missing.

    Args:
        event: What failed.
        snapshot: Memory then.
        free: Bytes that could still be had.
    """
    cached = event.cached if event.cached is not None else own_cache(snapshot)
    if event.backend == "host" or event.requested is None or cached is None or cached < event.requested:
        return []
    if free is not None and free - own_pool(snapshot) >= event.requested:
        return []
    largest = snapshot.allocator.largest_free_block if snapshot.allocator else None
    if largest is not None and largest >= event.requested:  # given back since, by a program that took several pieces
        return []
    return [Cause(kind="fragmentation", size=cached, largest=largest)]


def not_short(event: OomEvent, snapshot: MemorySnapshot, free: int | None) -> list[Cause]:
    """More was free than was asked for, then as now: what was refused lacked something else.

    Args:
        event: What failed.
        snapshot: Memory then.
        free: Bytes that could still be had.
    """
    if event.backend == "host" or event.requested is None or free is None:
        return []
    told = free if event.free is None else min(free, event.free)
    if told < event.requested + 2 * printed_by(event):  # both figures are rounded
        return []
    return [] if fragmentation(event, snapshot, free) else [Cause(kind="not_short", size=None)]


def pinned(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """Host memory that is pinned for a GPU is the host's all the same, and stays cached when its tensors go.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    size = snapshot.host.pinned
    return [Cause(kind="pinned", size=size)] if event.backend == "host" and size and size >= _WORTH_SAYING else []


def private_pools(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """What CUDA graphs and the like keep for themselves: no tensor uses it, and no other request can have it.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    size = snapshot.allocator.pooled if snapshot.allocator and event.backend != "host" else 0
    return [Cause(kind="private_pool", size=size)] if size >= _WORTH_SAYING else []


def pools(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """What other frameworks hold of the device and do not use: this framework's requests cannot have it.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    if event.backend == "host":
        return []
    found = [
        Cause(kind="pool_kept", size=other.cached, names=(other.framework,))
        if other.never_releases
        else Cause(kind="pool", size=other.releasable_at_most, names=(other.framework,))
        for other in snapshot.others
    ]
    return [cause for cause in found if cause.size and cause.size >= _WORTH_SAYING]


def rest(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """What is kept on the device beside the allocator by this process, or by whom the driver does not tell.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    if event.backend == "host":
        return []
    sizes = {part.kind: part.size for part in segments(snapshot, "cuda")}
    elsewhere = (sizes.get("elsewhere") or 0) - sum(cause.size or 0 for cause in processes(event, snapshot))
    found = (Cause(kind="rest", size=sizes.get("rest")), Cause(kind="elsewhere", size=elsewhere))
    return [cause for cause in found if (cause.size or 0) >= _WORTH_SAYING]


def refusals(event: OomEvent, snapshot: MemorySnapshot) -> list[Cause]:
    """What found no room, where CUDA refused something other than a tensor and tells no size.

    Args:
        event: What failed.
        snapshot: Memory then.
    """
    if event.format == "pt.pinned":  # by the line that failed
        return [Cause(kind="pinned_refused", size=None)]
    free = snapshot.device.free if snapshot.device else None
    if event.framework != "pytorch" or event.requested is not None or free is None:
        return []
    if event.format == "pt.cublas_alloc" and free < STARTS_WITH:
        return [Cause(kind="handle", size=None)]
    if event.format != "pt.cuda.error":
        return []
    if snapshot.allocator is None and free < _CONTEXT:
        return [Cause(kind="context", size=None)]
    return [Cause(kind="pinned_refused", size=None)] if snapshot.allocator is not None and free >= STARTS_WITH else []


def weight(cause: Cause) -> tuple[int, int]:
    """What no fix can change comes first, what is only part of the picture last."""
    return _RANK.get(cause.kind, 1), -(cause.size or 0)
