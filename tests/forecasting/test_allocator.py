"""The caching allocator, replayed: its rules one by one, and beside the real one on the played device."""

from __future__ import annotations

import subprocess

import pytest

from nb_oomhelper.forecasting.allocator import CachingAllocator, NoRoomError, Settings, read_settings
from nb_oomhelper.forecasting.judging import by_age
from nb_oomhelper.forecasting.trace import Block, Trace
from tests.conftest import PlayDevice
from tests.played_cuda import PYTHON

MIB = 1 << 20


@pytest.mark.plain
@pytest.mark.parametrize(
    ("size", "block", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
        (21 * MIB + 1, 22 * MIB, 22 * MIB),
    ],
)
def test_blocks_and_segments(size: int, block: int, reserved: int) -> None:
    pool = CachingAllocator(Settings())
    pool.allocate(size)
    assert (pool.allocated, pool.reserved) == (block, reserved)


@pytest.mark.plain
def test_what_is_freed_is_used_again_and_put_together() -> None:
    pool = CachingAllocator(Settings())
    first, second = pool.allocate(6 * MIB), pool.allocate(8 * MIB)
    pool.free(first)
    pool.free(second)
    pool.allocate(19 * MIB)
    assert (pool.reserved, pool.peak_reserved, pool.peak_allocated) == (20 * MIB, 20 * MIB, 20 * MIB)


@pytest.mark.plain
def test_whole_free_segments_go_back_when_there_is_no_room() -> None:
    pool = CachingAllocator(Settings(), room=40 * MIB)
    pool.free(pool.allocate(30 * MIB))
    pool.allocate(34 * MIB)
    assert pool.reserved == 34 * MIB
    with pytest.raises(NoRoomError):
        pool.allocate(12 * MIB)


def held(address: int, size: int) -> dict[str, object]:
    block = {"size": size, "state": "inactive"}
    return {"address": address, "segment_type": "large", "total_size": size, "blocks": [block]}


@pytest.mark.plain
@pytest.mark.parametrize("first", [1 << 40, 3 << 40])
def test_of_one_size_the_oldest_is_taken(first: int) -> None:
    pool = CachingAllocator(Settings())
    pool.begin([held(first, 30 * MIB), held(2 << 40, 30 * MIB)])
    assert pool.allocate(30 * MIB) == first


@pytest.mark.plain
@pytest.mark.parametrize(("parameters", "state", "oldest"), [(1, 3, 1), (3, 1, 3)])
def test_where_the_optimizer_lies_tells_which_way_addresses_go(parameters: int, state: int, oldest: int) -> None:
    trace = Trace([Block(4, "parameters", parameters * 10), Block(8, "optimizer", state * 10)])
    found = by_age([held(2, 1), held(1, 1), held(3, 1)], trace)
    assert [one["address"] for one in found] == ([1, 2, 3] if oldest == 1 else [3, 2, 1])
    assert [one["address"] for one in by_age([held(2, 1), held(1, 1)], Trace())] == [1, 2]


@pytest.mark.plain
def test_growing_segments_take_pages() -> None:
    pool = CachingAllocator(Settings(expandable=True))
    pool.allocate(30 * MIB)
    pool.allocate(9 * MIB)
    pool.allocate(2 * MIB)
    assert pool.reserved == 60 * MIB


@pytest.mark.plain
def test_settings_are_read_as_pytorch_does() -> None:
    text = "expandable_segments:True, max_split_size_mb:128,garbage_collection_threshold:0.8"
    found = read_settings({"PYTORCH_CUDA_ALLOC_CONF": text})
    assert found == Settings(expandable=True, largest_split=128 * MIB, others=("garbage_collection_threshold",))
    assert read_settings({"PYTORCH_ALLOC_CONF": "roundup_power2_divisions:8"}).divisions == 8
    assert read_settings({"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}).others == ("backend",)
    assert read_settings({"PYTORCH_CUDA_ALLOC_CONF": "roundup_power2_divisions:[256:1,512:2,>:4]"}).others == (
        "roundup_power2_divisions",
    )
    both = {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    assert read_settings(both) == Settings(expandable=True)  # the older name goes first
    assert read_settings({}) == Settings()


BESIDE = """
import os, random, torch
from nb_oomhelper.forecasting.allocator import CachingAllocator, NoRoomError, read_settings
for seed in range(4):
    chance, live = random.Random(seed), []
    torch.cuda.empty_cache()
    pool = CachingAllocator(read_settings(os.environ))
    pool.begin(torch.cuda.memory_snapshot())
    for _ in range(500):
        if live and chance.random() < 0.45:
            pool.free(live.pop(chance.randrange(len(live)))[1])
        else:
            size = int(2 ** chance.uniform(5, 26))
            live.append((torch.empty(size, dtype=torch.uint8, device="cuda"), pool.allocate(size)))
        assert (pool.allocated, pool.reserved) == (torch.cuda.memory_allocated(), torch.cuda.memory_reserved())
    taken = CachingAllocator(read_settings(os.environ))  # in the middle of things
    taken.begin(torch.cuda.memory_snapshot())
    assert (taken.allocated, taken.reserved) == (pool.allocated, pool.reserved)
"""


@pytest.mark.played
@pytest.mark.parametrize(
    "options", ["", "expandable_segments:True", "max_split_size_mb:21", "roundup_power2_divisions:4"]
)
def test_it_does_as_the_real_one_does(played: PlayDevice, options: str) -> None:
    env = played("16GiB") | {"PYTORCH_CUDA_ALLOC_CONF": options}
    done = subprocess.run([PYTHON, "-c", BESIDE], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
