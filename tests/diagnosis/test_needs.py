"""What the failed cell needs, from what the process held before and after it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from nb_oomhelper.diagnosis.needs import cell_needs, hidden_by, made_by
from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.memory.footprint import read_footprint
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.memory import AllocatorMemory, DriverReading, Footprint, HostMemory, MemorySnapshot

MIB = 1 << 20
LIMITED = HostMemory(virtual=900 * MIB, address_space_limit=1000 * MIB, available=9000 * MIB)


def event(backend: str = "host", allocated: int | None = None) -> OomEvent:
    device = 0 if backend == "cuda" else None
    return OomEvent(
        framework="pytorch",
        backend=backend,
        device=device,
        exception_type="RuntimeError",
        message="",
        format="",
        requested=100 * MIB,
        allocated=allocated,
    )


def memory(host: HostMemory) -> MemorySnapshot:
    return MemorySnapshot(taken_at=0.0, driver=DriverReading(), host=host)


def on_host(virtual: int, peak: int, resident: int = 0, peak_resident: int = 0, data: int | None = None) -> Footprint:
    return Footprint(virtual=virtual, peak_virtual=peak, data=data, resident=resident, peak_resident=peak_resident)


@pytest.mark.parametrize(
    ("start", "end", "made"),
    [
        (
            on_host(400 * MIB, 500 * MIB),
            on_host(700 * MIB, 950 * MIB),
            422 * MIB,
        ),  # the peak was this cell's, and malloc's
        (on_host(400 * MIB, 400 * MIB), on_host(400 * MIB, 528 * MIB), 0),  # malloc looked for another place
        (
            on_host(400 * MIB, 400 * MIB, 9, 9),
            on_host(400 * MIB, 700 * MIB, 9, 9 + 250 * MIB),
            250 * MIB,
        ),  # it was used
        (on_host(400 * MIB, 980 * MIB), on_host(700 * MIB, 980 * MIB), 300 * MIB),  # an earlier cell's
        (on_host(400 * MIB, 980 * MIB), on_host(300 * MIB, 980 * MIB), 0),
        (
            on_host(400 * MIB, 900 * MIB, data=300 * MIB),
            on_host(564 * MIB, 900 * MIB, data=400 * MIB + (132 << 10)),
            100 * MIB,
        ),  # malloc has begun an arena, which stays
        (
            on_host(400 * MIB, 900 * MIB, data=300 * MIB),
            on_host(500 * MIB, 900 * MIB, data=300 * MIB),
            100 * MIB,
        ),  # a file was mapped
        (None, on_host(1, 1), None),
        (Footprint(), Footprint(), None),
    ],
)
def test_on_the_host(start: Footprint | None, end: Footprint | None, made: int | None) -> None:
    assert made_by(event(), (start, end), memory(LIMITED)) == made


@pytest.mark.parametrize(
    ("start", "end", "hidden"),
    [
        (on_host(400 * MIB, 980 * MIB), on_host(700 * MIB, 980 * MIB), 280 * MIB),  # the peak was an earlier cell's
        (on_host(400 * MIB, 500 * MIB), on_host(700 * MIB, 950 * MIB), 0),  # what is taken to be malloc's
        (on_host(400 * MIB, 400 * MIB), on_host(700 * MIB, 700 * MIB), 0),
        (None, on_host(1, 1), 0),
    ],
)
def test_below_an_older_peak_nothing_tells_what_a_cell_has_made(
    start: Footprint | None, end: Footprint | None, hidden: int
) -> None:
    made = made_by(event(), (start, end), memory(LIMITED))
    roomy = memory(replace(LIMITED, virtual=700 * MIB))
    assert hidden_by(event(), (start, end), roomy, made) == hidden
    assert hidden_by(event(), (start, end), memory(LIMITED), made) == 0  # so much was not even free
    assert hidden_by(event("cuda"), (start, end), memory(LIMITED), made) == 0


def test_the_machine_counts_resident_memory() -> None:
    start, end = on_host(0, 0, 100 * MIB, 200 * MIB), on_host(10**12, 10**12, 150 * MIB, 700 * MIB)
    assert made_by(event(), (start, end), memory(HostMemory(available=MIB, capacity=1000 * MIB))) == 600 * MIB


def test_on_a_gpu_the_message_has_the_figure_of_that_moment() -> None:
    start = Footprint(allocated=(("pytorch", 1, 7 * MIB), ("pytorch", 0, 300 * MIB), ("jax", 0, MIB)))
    end = Footprint(allocated=(("pytorch", 0, 350 * MIB),))
    assert made_by(event("cuda", 900 * MIB), (start, end), memory(LIMITED)) == 600 * MIB
    assert made_by(event("cuda"), (start, end), memory(LIMITED)) == 50 * MIB
    assert (
        made_by(event("cuda", 900 * MIB), (Footprint(), end), memory(LIMITED)) == 900 * MIB
    )  # CUDA began in this cell


def test_on_a_gpu_the_exact_figure_counts_where_the_message_has_rounded_it() -> None:
    """3.63 GiB in the message stand for what the allocator's peak has to the byte."""
    allocator = AllocatorMemory(framework="pytorch", backend="cuda", device=0, peak_allocated=3_900_604_928)
    snapshot = replace(memory(LIMITED), allocator=allocator)
    start, end = Footprint(), Footprint(allocated=(("pytorch", 0, MIB),))
    assert made_by(event("cuda", round(3.63 * (1 << 30))), (start, end), snapshot) == 3_900_604_928
    assert made_by(event("cuda", 900 * MIB), (start, end), snapshot) == 900 * MIB


def test_what_the_cell_needs_again() -> None:
    held = Holdings(
        rows=(Holding(name="x", kind="failed_cell", backend="host", own=200 * MIB),), shares=(((0,), 200 * MIB),)
    )
    snapshot = MemorySnapshot(taken_at=0.0, driver=DriverReading(), host=LIMITED, holdings=held)
    assert cell_needs(event(), snapshot, None) == 300 * MIB
    assert cell_needs(event(), snapshot, 50 * MIB) == 300 * MIB
    assert cell_needs(event(), snapshot, 700 * MIB) == 800 * MIB


def test_a_request_of_unknown_size_was_more_than_there_was_room_for() -> None:
    """So the same cell does not run in the same room: it takes more than the release of what it kept."""
    held = Holdings(
        rows=(Holding(name="x", kind="failed_cell", backend="host", own=200 * MIB),), shares=(((0,), 200 * MIB),)
    )
    snapshot = MemorySnapshot(taken_at=0.0, driver=DriverReading(), host=LIMITED, holdings=held)
    unknown = replace(event(), requested=None)
    assert cell_needs(unknown, snapshot, 50 * MIB) == 300 * MIB + 1  # 100 MiB are free, 200 are the cell's
    assert cell_needs(unknown, snapshot, 700 * MIB) == 700 * MIB + 1
    assert cell_needs(unknown, snapshot, None) is None
    unlimited = replace(snapshot, host=replace(LIMITED, address_space_limit=None))
    assert cell_needs(unknown, unlimited, 50 * MIB) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the figures are from /proc")
def test_an_arena_that_a_refused_request_leaves_was_not_made_by_the_cell() -> None:
    """The first request that glibc refuses leaves one: the cell does not need that much more when it runs again."""
    code = """
import resource, numpy
from nb_oomhelper.diagnosis.needs import made_by
from nb_oomhelper.memory.footprint import read_footprint
from tests.diagnosis.test_needs import event, memory, LIMITED
before = read_footprint()
resource.setrlimit(resource.RLIMIT_AS, (before.virtual + (250 << 20), resource.RLIM_INFINITY))
try:
    numpy.ones(400 << 20, numpy.uint8)
except MemoryError:
    after = read_footprint()
made = made_by(event(), (before, after), memory(LIMITED))
assert made < 8 << 20, (made, before, after)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the figures are from /proc")
def test_what_is_read() -> None:
    code = """
from nb_oomhelper.memory.footprint import read_footprint
before = read_footprint()
kept = bytearray(200 << 20)
del kept
after = read_footprint()
assert after.peak_resident - before.resident > 190 << 20, (before, after)
assert after.peak_virtual - before.virtual >= 200 << 20
assert after.resident - before.resident < 20 << 20
assert before.allocated == after.allocated == ()
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
    found = read_footprint()
    assert found is not None
    assert found.data is not None
    assert found.virtual is not None
    assert 0 < found.data < found.virtual
    assert found.resident is not None
    assert found.peak_resident is not None
    assert 0 < found.resident <= found.peak_resident


def test_what_a_compiled_program_takes_beyond_its_arguments() -> None:
    refused = detect_text(
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9663676416 bytes. BufferAssignment stats:"
        " parameter allocation: 2.00GiB total allocation: 14.00GiB",
        "jax.errors.JaxRuntimeError",
    )
    assert refused is not None
    unread = MemorySnapshot(taken_at=0.0, driver=DriverReading(), host=HostMemory())
    assert cell_needs(refused, unread, None) == 12 << 30
