"""The bar of memory that nobody here can read: the message's own figures."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from nb_oomhelper.diagnosis.causes import limits
from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.memory.segments import is_told, segments_of
from nb_oomhelper.memory.snapshot import take_snapshot
from nb_oomhelper.records.memory import DeviceMemory, DriverReading, HostMemory, MemorySnapshot
from tests.cases import catalog, rich_case

pytestmark = pytest.mark.plain

MIB, GIB = 1 << 20, 1 << 30
UNREAD = MemorySnapshot(taken_at=0.0, driver=DriverReading(), host=HostMemory())
TORCH = "torch.OutOfMemoryError"
XPU = (
    "XPU out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total capacity of 16.00 GiB of which 2.00 GiB is free."
    " Of the allocated memory 10.00 GiB is allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but unallocated."
)
MPS = (
    "MPS backend out of memory (MPS allocated: 6.00 GB, other allocations: 2.00 GB, max allowed: 9.00 GB)."
    " Tried to allocate 3.00 GB on private pool."
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (XPU, {"allocated": 10 * GIB, "cached": GIB, "elsewhere": 3 * GIB, "free": 2 * GIB, "short": 2 * GIB}),
        (XPU.replace("XPU", "HIP"), {"allocated": 10 * GIB, "elsewhere": 3 * GIB, "free": 2 * GIB, "short": 2 * GIB}),
        (MPS, {"allocated": 6 * GIB, "elsewhere": 2 * GIB, "free": GIB, "short": 2 * GIB}),
        ("[malloc_or_wait] Unable to allocate 4096 bytes.", {"free": None}),
    ],
)
def test_the_bar_has_the_messages_figures(text: str, parts: dict[str, int | None]) -> None:
    event = detect_text(text)
    assert event is not None
    assert is_told(event, UNREAD)
    found = {str(part.kind): part.size for part in segments_of(event, UNREAD, event.requested)}
    assert {kind: found[kind] for kind in parts} == parts
    assert ("short" in found) == ("short" in parts)


def test_what_can_be_read_is_read() -> None:
    event = detect_text(XPU.replace("XPU", "CUDA"), TORCH)
    assert event is not None
    seen = replace(UNREAD, device=DeviceMemory(nvml_index=0, capacity=16 * GIB, used=15 * GIB, free=GIB))
    assert not is_told(event, seen)
    assert {part.kind: part.size for part in segments_of(event, seen)}["free"] == GIB


class Nvidia:
    """A driver that has a GPU of NVIDIA's, which no other back end means."""

    def read(self, known: object) -> DriverReading:
        return DriverReading(devices=(DeviceMemory(nvml_index=0, device=0, capacity=8 * GIB, used=0, free=8 * GIB),))


def test_the_driver_is_not_asked_for_another_makers_memory() -> None:
    started = time.time()
    cuda, xpu = (take_snapshot(Nvidia(), backend=one, device=0) for one in ("cuda", "xpu"))  # type: ignore[arg-type]
    assert cuda.device is not None
    assert xpu.device is None
    assert xpu.taken_at >= started


@pytest.mark.parametrize(
    ("text", "kind", "limit"),
    [
        (MPS, "RuntimeError", ("high watermark", 9 * GIB)),
        (
            "Out of Memory Error: could not allocate block of size 1.0 MiB (2.0 GiB/2.0 GiB used)",
            "duckdb.duckdb.OutOfMemoryException",
            ("own limit", 2 * GIB),
        ),
    ],
)
def test_a_limit_has_its_own_name(text: str, kind: str, limit: tuple[str, int]) -> None:
    event = detect_text(text, kind)
    assert event is not None
    assert [(cause.limit, cause.size) for cause in limits(event, UNREAD)] == [limit]


@pytest.mark.parametrize(
    ("text", "synchronous"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("Unable to find a valid cuDNN algorithm to run convolution", True),
        ("No executable batch size found, reached zero.", False),
        ("Invalid buffer size: 31.25 GiB", False),
        ("failed to build the index: std::bad_alloc in worker 3", False),
    ],
)
def test_a_synchronous_run_is_advised_where_cuda_said_it(text: str, synchronous: bool) -> None:
    from nb_oomhelper.showing.report import write

    event = detect_text(text, "RuntimeError")
    assert event is not None
    notes = write(rich_case(event, UNREAD), catalog(), "en").notes
    assert any("CUDA_LAUNCH_BLOCKING" in note for note in notes) == synchronous
    assert any("does not prove" in note for note in notes) != synchronous


def test_the_panel_says_whose_figures_they_are() -> None:
    from nb_oomhelper.showing.report import write

    event = detect_text(MPS, "RuntimeError")
    assert event is not None
    report = write(rich_case(event, UNREAD), catalog(), "en")
    assert [part.kind for part in report.parts] == ["allocated", "elsewhere", "free", "short"]
    assert any("come from the error itself" in note for note in report.notes)
    buffer = detect_text(
        "[metal::malloc] Attempting to allocate 8589934592 bytes which is greater than the maximum allowed buffer size"
        " of 4294967296 bytes.",
        "RuntimeError",
    )
    assert buffer is not None
    headline = write(rich_case(buffer, UNREAD), catalog(), "en").headline
    assert "one buffer may have **4.00 GiB** at most" in headline
    assert limits(buffer, UNREAD) == []
    killed = detect_text("DataLoader worker (pid 7) is killed by signal: Killed. ", "RuntimeError")
    assert killed is not None
    report = write(rich_case(killed, UNREAD), catalog(), "en")
    assert report.title.startswith("Probably out of memory in another process")
    assert report.parts == ()
