"""PyTorch's CUDA allocator: its figures, and its cache block by block.

What emptying the cache gives back and what the next request may have, the figures do not tell: a free block lies in a
segment beside others, an expandable segment is given back page by page, and what a private pool has cached is the
pool's while that lives.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from nb_oomhelper.introspection import living, with_subclasses
from nb_oomhelper.records.cache import CacheSegment
from nb_oomhelper.records.memory import AllocatorMemory, CachedBlocks

_SHARED = (0, 0)  # the pool of all requests that name none
_WORTH_KEEPING = 50_000  # blocks in use: with more, what comes free of them is not worked out
_PAGES = {"large": 20 << 20, "small": 2 << 20}  # bytes of a page of an expandable segment, CUDACachingAllocator.cpp


def read_figures(torch: Any, ordinal: int, framework: str, backend: str) -> AllocatorMemory | None:
    """Read the allocator's statistics for one device; None where this process has no context on it.

    Args:
        torch: The module.
        ordinal: PyTorch's number of the device.
        framework: The framework's name in our records.
        backend: "cuda", "host", …

    Raises:
        RuntimeError: CUDA is broken by an earlier error.
    """
    if not _has_context(torch, ordinal):
        return None
    stats = torch.cuda.memory_stats(ordinal)
    free, capacity = _device_memory(torch, ordinal)
    return AllocatorMemory(
        framework=framework,
        backend=backend,
        device=ordinal,
        allocated=stats.get("allocated_bytes.all.current"),
        reserved=stats.get("reserved_bytes.all.current"),
        inactive_split=stats.get("inactive_split_bytes.all.current"),
        peak_allocated=stats.get("allocated_bytes.all.peak"),
        limit=_limit(torch, ordinal),
        pooled=_pooled(stats),
        rounding=_rounding(stats),
        device_free=free,
        device_capacity=capacity,
        uuid=uuid_of(torch, ordinal),
        ooms=stats.get("num_ooms"),
        retries=stats.get("num_alloc_retries"),
    )


def _device_memory(torch: Any, ordinal: int) -> tuple[int | None, int | None]:
    """Bytes free and in all as the CUDA runtime tells them: what the next cudaMalloc goes by."""
    try:
        free, capacity = torch.cuda.mem_get_info(ordinal)
    except Exception:  # the allocator's own figures are to be had all the same
        return None, None
    return free, capacity


def _has_context(torch: Any, ordinal: int) -> bool:
    """Whether this process already has a CUDA context on that device."""
    ask = getattr(torch._C, "_cuda_hasPrimaryContext", None)
    return True if ask is None else bool(ask(ordinal))


def _limit(torch: Any, ordinal: int) -> int | None:
    """Bytes that a memory fraction allows; None without one, or before PyTorch 2.6, which cannot tell."""
    ask = getattr(torch.cuda, "get_per_process_memory_fraction", None)
    if ask is None:
        return None
    fraction = float(ask(ordinal))
    if not 0 <= fraction < 1:
        return None
    return int(fraction * torch.cuda.get_device_properties(ordinal).total_memory)


def _pooled(stats: dict[str, int]) -> int:
    """Bytes that private pools have reserved, what tensors use of them included; 0 where PyTorch does not tell."""
    return sum(
        size
        for key, size in stats.items()
        if key.startswith("reserved_bytes_by_private_pools.") and key.endswith(".all.current")
    )


def _rounding(stats: dict[str, int]) -> int | None:
    """Allocated bytes beyond what was asked for; the back end cudaMallocAsync counts no requests."""
    asked = stats.get("requested_bytes.all.current")
    return stats["allocated_bytes.all.current"] - asked if asked else None


def uuid_of(torch: Any, ordinal: int) -> str | None:
    """As the driver writes it, "GPU-…": PyTorch leaves the prefix out. It tells uuids since 2.5.

    Args:
        torch: The module.
        ordinal: PyTorch's number of the device.
    """
    uuid = getattr(torch.cuda.get_device_properties(ordinal), "uuid", None)
    if uuid is None:
        return None
    text = str(uuid)
    return text if text.startswith(("GPU-", "MIG-")) else f"GPU-{text}"


def read_segments(torch: Any, ordinal: int) -> list[dict[str, Any]]:
    """The allocator's segments on one device, each with its blocks.

    Without the traces of a recorded history, which take seconds; PyTorch before 2.10 cannot leave them out.

    Args:
        torch: The module.
        ordinal: PyTorch's number of the device.

    Raises:
        RuntimeError: The back end has no blocks (cudaMallocAsync), or CUDA is broken.
    """
    ask = torch.cuda.memory_snapshot
    options = {"include_traces": False} if "include_traces" in inspect.signature(ask).parameters else {}
    return [one for one in ask(**options) if one["device"] == ordinal]


def count_blocks(torch: Any, segments: Iterable[dict[str, Any]]) -> CachedBlocks:
    """Add up the free blocks of some segments.

    Args:
        torch: The module.
        segments: As `read_segments` gives them.
    """
    found = list(segments)
    live = _live_pools(torch) if any(_pool(one) != _SHARED for one in found) else frozenset()
    held = tuple(_segment(one, live) for one in found)
    blocks = sum(len(one.used) for one in held)
    runs = [(one, begin, size) for one in held for begin, size in one.free_runs()]
    return CachedBlocks(
        largest=max((size for one, _, size in runs if one.shared), default=None),
        releasable=sum(one.given_back(begin, size) for one, begin, size in runs),
        pooled=sum(size for one, _, size in runs if one.kept),
        workspace=_workspace(torch, found),
        segments=held if blocks <= _WORTH_KEEPING else None,
    )


def _segment(told: dict[str, Any], live: frozenset[tuple[int, int]] | None) -> CacheSegment:
    """A segment as PyTorch tells it.

    A block that another stream may still read counts as free: emptying the cache waits for that. Pools that nobody
    refers to are emptied, too.
    """
    pool, start = _pool(told), told["address"]
    used, place = [], start
    for block in told["blocks"]:
        if block["state"] == "active_allocated":
            used.append((place, block["size"]))
        place += block["size"]
    return CacheSegment(
        start=start,
        size=told["total_size"],
        page=_PAGES[told["segment_type"]] if told.get("is_expandable") else 0,
        small=told["segment_type"] == "small",
        shared=pool == _SHARED,
        kept=pool != _SHARED and (live is None or pool in live),
        used=tuple(used),
    )


def _workspace(torch: Any, segments: Iterable[dict[str, Any]]) -> int:
    """Bytes in blocks of the size that PyTorch gives cuBLAS to work in, one a stream; 0 where it tells no size."""
    return sum(block["size"] for block in workspaces(segments, workspace_size(torch)))


def workspace_size(torch: Any) -> int | None:
    """Bytes that PyTorch gives cuBLAS to work in, one such block a stream; None where it tells no size.

    Args:
        torch: The module.
    """
    ask = getattr(torch._C, "_cuda_getCublasWorkspaceSize", None)
    return ask() if ask is not None else None


def workspaces(segments: Iterable[dict[str, Any]], size: int | None) -> list[dict[str, Any]]:
    """Give the blocks in which cuBLAS works.

    Args:
        segments: As `read_segments` gives them.
        size: As `workspace_size` gives it.
    """
    blocks = (block for one in segments for block in one["blocks"] if block["state"] == "active_allocated")
    return [block for block in blocks if block.get("requested_size") == size]


def private_bytes(segments: Iterable[dict[str, Any]]) -> int:
    """Bytes in use in private pools."""
    return sum(one["allocated_size"] for one in segments if _pool(one) != _SHARED)


def _pool(segment: dict[str, Any]) -> tuple[int, int]:
    """Id of a segment's pool; PyTorch before 2.2 does not tell it."""
    return tuple(segment.get("segment_pool_id", _SHARED))


def _live_pools(torch: Any) -> frozenset[tuple[int, int]] | None:
    """Ids of the pools that graphs and users' own pools keep alive; None where that cannot be told."""
    kinds = [kind for kind in (torch.cuda.CUDAGraph, getattr(torch.cuda, "MemPool", None)) if kind is not None]
    found = living(with_subclasses(kinds))
    return None if found is None else frozenset(pool for one in found if (pool := _pool_of(torch, one)) is not None)


def _pool_of(torch: Any, keeper: Any) -> tuple[int, int] | None:
    """The pool that a graph or a `MemPool` refers to, past any code of a subclass; None for a graph without one."""
    try:
        if isinstance(keeper, torch.cuda.CUDAGraph):
            return tuple(torch._C._CUDAGraph.pool(keeper))
        return tuple(torch._C._MemPool.id.__get__(keeper))
    except RuntimeError:  # not captured yet, or reset
        return None
