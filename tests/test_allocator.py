"""What PyTorch's CUDA allocator tells, with figures that the real one gave; the real one itself is in `played_cuda`."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from nb_oomhelper.diagnosis.diagnose import diagnose
from nb_oomhelper.diagnosis.request import allocated_then, made_certain
from nb_oomhelper.frameworks._pytorch_allocator import count_blocks, read_segments
from nb_oomhelper.memory.room import device_free, free_now
from nb_oomhelper.memory.segments import segments
from nb_oomhelper.records.diagnosis import CauseKind
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.memory import (
    AllocatorMemory,
    DeviceMemory,
    DriverReading,
    HostMemory,
    MemorySnapshot,
    ProcessMemory,
)

pytestmark = pytest.mark.plain

MIB, GIB = 1 << 20, 1 << 30
EVENT = OomEvent(
    framework="pytorch",
    backend="cuda",
    device=0,
    exception_type="torch.OutOfMemoryError",
    message="CUDA out of memory. … expandable_segments:True",
    format="pt.cuda.capacity",
)
REFUSED = replace(EVENT, format="pt.cuda.error", exception_type="torch.AcceleratorError")


def block(size: int, state: str = "inactive", requested: int = 0) -> dict[str, Any]:
    return {"size": size, "state": state, "requested_size": requested}


def segment(*blocks: dict[str, Any], pool: tuple[int, int] | None = (0, 0), **facts: Any) -> dict[str, Any]:
    used = sum(one["size"] for one in blocks if one["state"] == "active_allocated")
    size = sum(one["size"] for one in blocks)
    found = {
        "address": 7 * GIB,
        "blocks": blocks,
        "allocated_size": used,
        "total_size": size,
        "segment_type": "large",
        "device": 0,
    }
    return found | ({} if pool is None else {"segment_pool_id": pool}) | facts


def torch(workspace: int | None = None, **functions: Any) -> Any:
    """A torch module as far as these functions ask it; no graph of it lives."""

    class CUDAGraph:
        pass

    ask = {} if workspace is None else {"_cuda_getCublasWorkspaceSize": lambda: workspace}
    return SimpleNamespace(cuda=SimpleNamespace(CUDAGraph=CUDAGraph, **functions), _C=SimpleNamespace(**ask))


def snapshot(
    *, free: int = 0, capacity: int = 4 * GIB, processes: tuple[ProcessMemory, ...] | None = (), **allocator: Any
) -> MemorySnapshot:
    device = DeviceMemory(
        nvml_index=0, device=0, capacity=capacity, free=free, used=capacity - free, processes=processes
    )
    own = AllocatorMemory(framework="pytorch", backend="cuda", device=0, **allocator) if allocator else None
    return MemorySnapshot(taken_at=0.0, driver=DriverReading(), host=HostMemory(), device=device, allocator=own)


def sizes(event: OomEvent, memory: MemorySnapshot, *kinds: CauseKind) -> dict[str, int | None]:
    return {one.kind: one.size for one in diagnose(event, memory).causes if one.kind in kinds}


class TestBlocks:
    def test_a_segment_goes_back_whole_or_not_at_all(self) -> None:
        free, used = block(30 * MIB), block(30 * MIB, "active_allocated")
        found = count_blocks(torch(), [segment(free), segment(used), segment(free, used)])
        assert (found.releasable, found.largest, found.pooled) == (30 * MIB, 30 * MIB, 0)

    def test_a_block_that_another_stream_may_still_read_is_waited_for(self) -> None:
        found = count_blocks(torch(), [segment(block(MIB), block(3 * MIB, "active_awaiting_free"))])
        assert (found.releasable, found.largest) == (4 * MIB, 4 * MIB)

    def test_an_expandable_segment_goes_back_page_by_page(self) -> None:
        """Twenty tensors of 30 MiB, every other one deleted: of 300 MiB that are free, 200 go back."""
        pieces = [block(30 * MIB), block(30 * MIB, "active_allocated")] * 10
        found = count_blocks(torch(), [segment(*pieces, is_expandable=True)])
        assert (found.releasable, found.largest) == (200 * MIB, 30 * MIB)
        small = segment(block(MIB, "active_allocated"), block(5 * MIB), is_expandable=True, segment_type="small")
        assert count_blocks(torch(), [small]).releasable == 4 * MIB

    def test_a_pool_that_nobody_refers_to_goes_back_and_serves_nobody(self) -> None:
        found = count_blocks(torch(), [segment(block(GIB), pool=(1, 0)), segment(block(MIB), pool=None)])
        assert (found.releasable, found.largest, found.pooled) == (GIB + MIB, MIB, 0)

    def test_what_cublas_works_in(self) -> None:
        size = 8_519_680
        blocks = (block(size, "active_allocated", size), block(size, requested=size), block(size, "active_allocated"))
        assert count_blocks(torch(size), [segment(*blocks)]).workspace == size
        assert count_blocks(torch(), [segment(*blocks)]).workspace == 0

    def test_no_traces_are_asked_for_where_that_can_be_said(self) -> None:
        def newer(mempool_id: Any = None, include_traces: bool = True) -> list[dict[str, Any]]:
            return [] if include_traces else [segment(block(MIB)), segment(block(MIB), device=1)]

        assert len(read_segments(torch(memory_snapshot=newer), 0)) == 1
        assert len(read_segments(torch(memory_snapshot=lambda: [segment(block(MIB))]), 0)) == 1


class TestRoom:
    def test_private_pools_serve_no_other_request(self) -> None:
        """2 GiB; a captured graph keeps 1.37 GiB, and no tensor uses any of it."""
        kept = 1_468_006_400
        told = snapshot(free=348 * MIB, capacity=2 * GIB, allocated=0, reserved=kept, inactive_split=0, pooled=kept)
        event = replace(EVENT, requested=900 * MIB, cached=0)
        for memory in (told, replace(told, allocator=replace(told.allocator, whole=0))):  # type: ignore[type-var]
            assert memory.releasable == 0
            assert device_free(memory) == free_now(memory, "cuda") == diagnose(event, memory).free == 348 * MIB
        assert sizes(event, told, "private_pool", "fragmentation") == {"private_pool": kept}

    def test_a_block_that_stays_serves_the_next_request(self) -> None:
        memory = snapshot(free=MIB, allocated=GIB, reserved=2 * GIB, whole=0, largest_free_block=GIB)
        assert (device_free(memory), free_now(memory, "cuda")) == (MIB, GIB)

    def test_below_a_limit_exact_figures_count(self) -> None:
        """4 GiB, half of them allowed, 2022 MiB held, 28 asked for: the text says 1.97 of 2.00 GiB."""
        memory = snapshot(free=1774 * MIB, allocated=2022 * MIB, reserved=2022 * MIB, inactive_split=0, limit=2 * GIB)
        event = replace(EVENT, limit=2 * GIB, reserved=round(1.97 * GIB), free=round(1.73 * GIB))
        found = diagnose(replace(event, requested=28 * MIB), memory)
        assert (found.free, found.short) == (26 * MIB, 2 * MIB)
        parts = {part.kind: part.size for part in segments(memory, "cuda", 28 * MIB)}
        assert (parts["free"], parts["barred"], parts["short"]) == (26 * MIB, 1748 * MIB, 2 * MIB)
        assert device_free(memory, MIB) == 27 * MIB

    def test_a_limit_beyond_what_is_free_bars_nothing(self) -> None:
        memory = snapshot(free=MIB, allocated=GIB, reserved=GIB, limit=2 * GIB)
        assert "barred" not in {part.kind for part in segments(memory, "cuda")}

    def test_what_was_allocated_when_it_failed(self) -> None:
        event = replace(EVENT, allocated=round(3.63 * GIB))
        memory = snapshot(allocated=2 * GIB, peak_allocated=3_900_604_928)
        assert allocated_then(event, memory) == 3_900_604_928
        earlier = snapshot(allocated=2 * GIB, peak_allocated=4 * GIB)  # the peak was another moment's
        assert allocated_then(event, earlier) == round(3.63 * GIB)
        assert allocated_then(EVENT, memory) is None


class TestCauses:
    def test_nobody_leads_to_it_and_yet_it_is_known(self) -> None:
        row = Holding(name="x", kind="variable", backend="cuda", own=90 * MIB)
        held = Holdings(rows=(row,), shares=(((0,), 90 * MIB),), searched=1, total=1)
        memory = replace(
            snapshot(allocated=110 * MIB, reserved=110 * MIB, rounding=3 * MIB, workspace=8 * MIB), holdings=held
        )
        assert sizes(EVENT, memory, "unnamed", "workspace", "rounding") == {
            "unnamed": 9 * MIB,
            "workspace": 8 * MIB,
            "rounding": 3 * MIB,
        }

    def test_a_driver_that_hides_processes(self) -> None:
        memory = snapshot(free=GIB, processes=None, allocated=GIB, reserved=GIB)
        assert sizes(EVENT, memory, "elsewhere", "rest") == {"elsewhere": 2 * GIB}
        named = replace(EVENT, processes=(ProcessMemory(pid=4711, used=GIB),))
        assert sizes(named, memory, "elsewhere", "other_process") == {"elsewhere": GIB, "other_process": GIB}

    def test_the_users_own_line_leads_to_a_librarys(self) -> None:
        for function, line in (("torch.nn.modules.linear.Linear.forward", 3), ("step", None)):
            row = Holding(name="x", kind="failed_cell", backend="cuda", own=GIB, function=function, line=134)
            memory = replace(snapshot(), holdings=Holdings(rows=(row,), shares=(((0,), GIB),), searched=1, total=1))
            (cause,) = [one for one in diagnose(replace(EVENT, line=3), memory).causes if one.kind == "failed_cell"]
            assert (cause.function, cause.user_line) == (function, line)

    @pytest.mark.parametrize(("cached", "told"), [(30 * MIB, True), (301 * MIB, False)])
    def test_what_came_free_on_the_way_is_cached_too(self, cached: int, told: bool) -> None:
        event = replace(EVENT, requested=300 * MIB, cached=MIB)
        ends = diagnose(event, snapshot(allocated=0, reserved=cached, whole=cached)).dead_ends
        assert [one.frees for one in ends if one.kind == "expandable_segments"] == ([cached] if told else [])


class TestRefusals:
    def test_a_context(self) -> None:
        assert sizes(REFUSED, snapshot(free=200 * MIB), "context", "pinned_refused") == {"context": None}
        assert sizes(REFUSED, snapshot(free=2 * GIB), "context", "pinned_refused") == {}

    def test_pinned_memory(self) -> None:
        kinds: tuple[CauseKind, ...] = ("context", "pinned_refused")
        assert sizes(REFUSED, snapshot(free=2 * GIB, allocated=GIB, reserved=GIB), *kinds) == {"pinned_refused": None}
        assert sizes(REFUSED, snapshot(free=2 * MIB, allocated=GIB, reserved=GIB), *kinds) == {}

    @pytest.mark.parametrize(("free", "certainty"), [(2 * MIB, "sure"), (2 * GIB, "probable")])
    def test_cublas(self, free: int, certainty: str) -> None:
        event = replace(EVENT, format="pt.cublas_alloc", certainty="probable")
        memory = snapshot(free=free, allocated=GIB, reserved=GIB)
        assert made_certain(event, memory).certainty == certainty
        assert sizes(event, memory, "handle") == ({"handle": None} if certainty == "sure" else {})
        assert made_certain(replace(event, format="pt.mps"), memory).certainty == "probable"
