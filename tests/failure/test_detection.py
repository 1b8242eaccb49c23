"""What an exception or its text says about a lack of memory."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nb_oomhelper.failure.detection import detect, detect_text
from nb_oomhelper.failure.exception_graph import raised_with
from nb_oomhelper.failure.phase import read_phase
from nb_oomhelper.failure.places import Place, user_location
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import ProcessMemory

pytestmark = pytest.mark.plain

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
TORCH, OLD_TORCH = "torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError"
HINT = (
    " If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
    " to avoid fragmentation.  See documentation for Memory Management"
)
NEW = (
    "CUDA out of memory. Tried to allocate 3.00 GiB. GPU 1 has a total capacity of 40.00 GiB of which 1.50 GiB is free."
    " Including non-PyTorch memory, this process has 38.00 GiB memory in use. Of the allocated memory 36.00 GiB is"
    " allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but unallocated." + HINT
)
OLD = (
    "CUDA out of memory. Tried to allocate 64.00 MiB (GPU 2; 10.00 GiB total capacity; 8.00 GiB already allocated;"
    " 32.00 MiB free; 9.00 GiB reserved in total by PyTorch)"
)

# Format, class as printed, text, and the fields that it must give.
EXAMPLES: list[tuple[str, str, str, dict[str, Any]]] = [
    (
        "pt.cuda.capacity",
        TORCH,
        NEW,
        {
            "device": 1,
            "requested": 3 * GIB,
            "capacity": 40 * GIB,
            "free": 3 * GIB // 2,
            "allocated": 36 * GIB,
            "cached": GIB,
            "reserved": 37 * GIB,
        },
    ),
    (
        "pt.cuda.capacity_private",
        TORCH,
        "CUDA out of memory. Tried to allocate 6.00 MiB. GPU 0 has a total capacity of 24.00 GiB of which 512.00 KiB is"
        " free. 12.00 GiB allowed; Of the allocated memory 10.00 GiB is allocated by PyTorch, with 2.00 GiB allocated"
        " in private pools (e.g., CUDA Graphs), and 1.00 GiB is reserved by PyTorch but unallocated." + HINT,
        {
            "device": 0,
            "requested": 6 * MIB,
            "capacity": 24 * GIB,
            "free": 512 * KIB,
            "limit": 12 * GIB,
            "allocated": 10 * GIB,
            "cached": GIB,
            "reserved": 11 * GIB,
        },
    ),
    (
        "pt.cuda.capacty",
        OLD_TORCH,
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 3 has a total capacty of 16.00 GiB of which 0 bytes is"
        " free. Process 71 has 16.00 GiB memory in use. Of the allocated memory 15.00 GiB is allocated by PyTorch, and"
        " 0 bytes is reserved by PyTorch but unallocated.",
        {
            "device": 3,
            "requested": 20 * MIB,
            "capacity": 16 * GIB,
            "free": 0,
            "allocated": 15 * GIB,
            "cached": 0,
            "reserved": 15 * GIB,
            "processes": (ProcessMemory(pid=71, used=16 * GIB, is_self=True),),
        },
    ),
    (
        "pt.cuda.reserved",
        "RuntimeError",
        OLD,
        {
            "device": 2,
            "requested": 64 * MIB,
            "capacity": 10 * GIB,
            "allocated": 8 * GIB,
            "free": 32 * MIB,
            "reserved": 9 * GIB,
            "cached": GIB,
        },
    ),
    (
        "pt.cuda.reserved_hint",
        OLD_TORCH,
        OLD.replace("free; ", "free; 5.00 GiB allowed; ") + " If reserved memory is >> allocated memory try setting",
        {
            "device": 2,
            "requested": 64 * MIB,
            "capacity": 10 * GIB,
            "allocated": 8 * GIB,
            "free": 32 * MIB,
            "limit": 5 * GIB,
            "reserved": 9 * GIB,
            "cached": GIB,
        },
    ),
    (
        "pt.cuda.cached",
        "RuntimeError",
        "CUDA out of memory. Tried to allocate 2.00 KiB (GPU 0; 8.00 GiB total capacity; 7.00 GiB already allocated;"
        " 1.00 MiB free; 4.00 MiB cached)",
        {
            "device": 0,
            "requested": 2 * KIB,
            "capacity": 8 * GIB,
            "allocated": 7 * GIB,
            "free": MIB,
            "cached": 4 * MIB,
            "reserved": 7 * GIB + 4 * MIB,
        },
    ),
    ("pt.cuda.1eb", TORCH, "CUDA out of memory. Tried to allocate more than 1EB memory.", {}),
    (
        "pt.cuda.fraction",
        TORCH,
        "CUDA out of memory. Allocation was preemptively rejected because it would exceed per_process_memory_fraction"
        " limit. Requested size: 5.00 GiB",
        {"requested": 5 * GIB},
    ),
    (
        "pt.cuda.fraction",
        TORCH,
        "CUDA out of memory. Allocation was preemptively rejected because it would exceed per_process_memory_fraction"
        " limit. Requested size: 5368709120",
        {"requested": 5 * GIB},
    ),
    (
        "pt.cuda.async",
        TORCH,
        "Allocation on device 4 would exceed allowed memory. (out of memory)\nCurrently allocated     : 9.00 GiB\n"
        "Requested               : 256.00 MiB\nDevice limit            : 12.00 GiB\n"
        "Free (according to CUDA): 3.00 MiB\nPyTorch limit (set by user-supplied memory fraction)\n"
        "                        : 17179869184.00 GiB",
        {"device": 4, "allocated": 9 * GIB, "requested": 256 * MIB, "capacity": 12 * GIB, "free": 3 * MIB},
    ),
    ("pt.cuda.error", "torch.AcceleratorError", "CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`", {}),
    ("pt.cuda.driver", "RuntimeError", "CUDA driver error: out of memory", {}),
    ("pt.nccl", "torch.distributed.DistBackendError", "ncclUnhandledCudaError: … Cuda failure 2 'out of memory'", {}),
    ("pt.thc", "RuntimeError", "cuda runtime error (2) : out of memory at /tmp/THC/generic/THCStorage.cu:58", {}),
    (
        "pt.cuda.short",
        "RuntimeError",
        "worker 3: CUDA out of memory. Tried to allocate 8.00 MiB",
        {"requested": 8 * MIB},
    ),
    ("pt.cuda.word", TORCH, "CUDA out of memory", {}),
    (
        "pt.hip.capacity",
        TORCH,
        "HIP out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total capacity of 16.00 GiB of which 4.00 GiB is"
        " free. Of the allocated memory 2.00 GiB is allocated by PyTorch, and 0 bytes is reserved by PyTorch but"
        " unallocated.",
        {
            "backend": "hip",
            "device": 0,
            "requested": GIB,
            "capacity": 16 * GIB,
            "free": 4 * GIB,
            "allocated": 2 * GIB,
            "cached": 0,
            "reserved": 2 * GIB,
        },
    ),
    (
        "pt.xpu",
        TORCH,
        "XPU out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total capacity of 12.00 GiB of which 6.00 GiB is"
        " free. Of the allocated memory 5.00 GiB is allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but"
        " unallocated. Please use `empty_cache` to release all unoccupied cached memory.",
        {
            "backend": "xpu",
            "device": 0,
            "requested": GIB,
            "capacity": 12 * GIB,
            "free": 6 * GIB,
            "allocated": 5 * GIB,
            "cached": GIB,
            "reserved": 6 * GIB,
        },
    ),
    (
        "pt.npu",
        "RuntimeError",
        "NPU out of memory. Tried to allocate 2.00 MiB (NPU 5; 32.00 GiB total capacity; 30.00 GiB already allocated;"
        " 30.00 GiB current active; 1.00 GiB free; 31.00 GiB reserved in total by PyTorch)If reserved memory is",
        {
            "backend": "npu",
            "device": 5,
            "requested": 2 * MIB,
            "capacity": 32 * GIB,
            "allocated": 30 * GIB,
            "free": GIB,
            "reserved": 31 * GIB,
            "cached": GIB,
        },
    ),
    (
        "pt.mps",
        "RuntimeError",
        "MPS backend out of memory (MPS allocated: 5.00 GB, other allocations: 2.00 GB, max allowed: 7.00 GB). Tried to"
        " allocate 1.50 MB on private pool.",
        {"backend": "mps", "allocated": 5 * GIB, "limit": 7 * GIB, "requested": 3 * MIB // 2},
    ),
    (
        "pt.cpu",
        "RuntimeError",
        "[enforce fail at alloc_cpu.cpp:99] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
        " 4096000000 bytes. Error code 12 (Cannot allocate memory)",
        {"backend": "host", "requested": 4_096_000_000},
    ),
    (
        "pt.cpu_win",
        "RuntimeError",
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate"
        " 5120000 bytes.",
        {"backend": "host", "requested": 5_120_000},
    ),
    (
        "pt.cpu",
        "RuntimeError",
        "$ Torch: DefaultCPUAllocator: can't allocate memory: you tried to allocate 3GB. Buy new RAM!",
        {"backend": "host", "requested": 3 * GIB},
    ),
    (
        "pt.mmap",
        "RuntimeError",
        "unable to mmap 900000000 bytes from file </data/GPU 3/model.safetensors>: Cannot allocate memory (12)",
        {"backend": "host", "requested": 900_000_000},
    ),
    (
        "numpy.array",
        "numpy._core._exceptions._ArrayMemoryError",
        "Unable to allocate 9.54 GiB for an array with shape (40000, 32000) and data type float64",
        {"framework": "numpy", "backend": "host", "requested": 40000 * 32000 * 8},
    ),
    (
        "numpy.array",
        "MemoryError",
        "Unable to allocate 3.73 TiB for an array with shape (1000000000,) and data type <U1024",
        {"framework": "numpy", "backend": "host", "requested": round(3.73 * (1 << 40))},
    ),
    (
        "numpy.array",
        "MemoryError",
        "Unable to allocate array with shape (50000, 50000) and data type int16",
        {"framework": "numpy", "backend": "host", "requested": 50000 * 50000 * 2},
    ),
    (
        "cupy.new",
        "cupy.cuda.memory.OutOfMemoryError",
        "Out of memory allocating 2,147,483,648 bytes (allocated so far: 512 bytes, limit set to: 1,073,741,824 bytes)",
        {"framework": "cupy", "requested": 2 * GIB, "reserved": 512, "limit": GIB},
    ),
    (
        "cupy.old",
        "cupy.cuda.memory.OutOfMemoryError",
        "out of memory to allocate 3000 bytes (total 5000 bytes)",
        {"framework": "cupy", "requested": 3000, "reserved": 2000},
    ),
    (
        "jax.host",
        "jax.errors.JaxRuntimeError",
        "RESOURCE_EXHAUSTED: Out of memory allocating 4294967296 bytes.",
        {"framework": "jax", "backend": "host", "requested": 4 * GIB},
    ),
    (
        "jax.exhausted",
        "jax.errors.JaxRuntimeError",
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1.50GiB.\n[executable_name='jit_step']",
        {"framework": "jax", "requested": 3 * GIB // 2},
    ),
    (
        "jax.exhausted",
        "jaxlib.xla_extension.XlaRuntimeError",
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1073741824 bytes.\nBufferAssignment OOM Debugging.",
        {"framework": "jax", "requested": GIB},
    ),
    (
        "jax.failed_request",
        "jaxlib.xla_extension.XlaRuntimeError",
        "RESOURCE_EXHAUSTED: Failed to allocate request for 2.00GiB (2147483648B) on device ordinal 3",
        {"framework": "jax", "requested": 2 * GIB, "device": 3},
    ),
    (
        "jax.internal_constant",
        "jaxlib.xla_extension.XlaRuntimeError",
        "INTERNAL: Failed to allocate 1048576 bytes for new constant",
        {"framework": "jax", "requested": MIB},
    ),
    ("python.memory", "MemoryError", "", {"framework": "python", "backend": "host"}),
    (
        "arrow.malloc",
        "pyarrow.lib.ArrowMemoryError",
        "malloc of size 8000000 failed",
        {"framework": "pyarrow", "backend": "host", "requested": 8_000_000},
    ),
]
PROBABLE = [
    ("pt.cuda.error", "AssertionError", "assert 'CUDA error: out of memory' in text"),
    ("pt.cuda.word", "shop.OutOfMemoryError", "CUDA out of memory"),
    ("pt.cuda.word", "ValueError", "See our help on: CUDA out of memory. Tried to allocate"),
    ("python.memory", "shop.MemoryError", ""),
    ("pt.cublas_alloc", "RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ("pt.cudnn_alloc", "RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ("pt.cufft_alloc", "RuntimeError", "cuFFT error: CUFFT_ALLOC_FAILED"),
    (
        "pt.nvml_masked",
        "RuntimeError",
        'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":77, please report a bug',
    ),
    ("pt.mps.buffer", "RuntimeError", "Invalid buffer size: 31.25 GiB"),
    ("pt.cuda.word", "ValueError", "Batch size 64 is not possible (CUDA out of memory)"),
    ("python.memory", "MemoryError", "could not grow the table"),
    (
        "cupy.cudaerror",
        "cupy_backends.cuda.api.runtime.CUDARuntimeError",
        "cudaErrorMemoryAllocation: out of memory",  # of the device, or pinned memory of the host
    ),
    ("python.enomem", "OSError", "[Errno 12] Cannot allocate memory"),
]
LOOKALIKES = [
    ("KeyError", "'CUDA out of memory'"),
    ("IndexError", "std::bad_alloc"),
    ("AttributeError", "module 'torch.cuda' has no attribute 'CUDA error: out of memory'"),
    ("OutOfMemoryError", "the warehouse is full"),
    ("shop.OutOfMemoryError", "Allocation on device failed"),
    ("java.lang.OutOfMemoryError", "unable to create new native thread"),
    ("redis.exceptions.OutOfMemoryError", "command not allowed when used memory > 'maxmemory'."),
    (
        "RuntimeError",
        "DataLoader worker (pid 12) is killed by signal: Bus error. Its workers are out of shared memory.",
    ),
    ("torch.AcceleratorError", "CUDA error: an illegal memory access was encountered"),
    ("torch.AcceleratorError", "CUDA error: device-side assert triggered"),
    ("RuntimeError", "CUDA error: too many resources requested for launch"),
    ("triton.runtime.errors.OutOfResources", "out of resource: shared memory, Required: 9000, Hardware limit: 8000."),
    ("java.lang.OutOfMemoryError", "Java heap space"),
    ("OSError", "[Errno 28] No space left on device"),
    ("RecursionError", "maximum recursion depth exceeded"),
    (
        "",
        "Allocator (GPU_0_bfc) ran out of memory trying to allocate 2.0GiB. The caller says it is no failure",
    ),
    ("", "memory allocation failed with OOM on device 0 while trying to allocate 4096 bytes (free: 1, total: 2)"),
    ("", "memory mapping failed with OOM on device 1 while trying to allocate 4096 bytes (free: 1, total: 2)"),
    ("RuntimeError", "unable to mmap 400 bytes from file </a/b>: Permission denied (13)"),
    (
        "RuntimeError",
        'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/PeerToPeerAccess.cpp":83, please report',
    ),
    ("", "Failed to reserve 9 bytes: this is virtual-address-space (VSZ) exhaustion, not physical GPU OOM."),
    ("", "nvmlInit_v2 failed; omitting per-process memory info from CUDA out-of-memory messages."),
    ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied"),
    ("", "RESOURCE_EXHAUSTED: Quota exceeded for metric 'requests' of service 'compute'"),
    ("", "Allocator (GPU_0_bfc) ran out of memory trying to allocate 1.50GiB. This is not a failure."),
    ("KeyError", "'memory'"),
    ("", ""),
]
FIELDS = ("device", "requested", "capacity", "free", "allocated", "reserved", "cached", "limit")


@pytest.mark.parametrize(("form", "kind", "text", "fields"), EXAMPLES)
def test_each_format_gives_its_fields_and_no_others(form: str, kind: str, text: str, fields: dict[str, Any]) -> None:
    event = detect_text(text, kind)
    assert event is not None
    assert (event.format, event.certainty, event.exception_type, event.message) == (form, "sure", kind, text)
    expected = {"framework": "pytorch", "backend": "cuda", "processes": ()} | dict.fromkeys(FIELDS) | fields
    assert {name: getattr(event, name) for name in expected} == expected


@pytest.mark.parametrize(("form", "kind", "text", "fields"), EXAMPLES)
def test_a_text_wrapped_by_a_console_reads_the_same(form: str, kind: str, text: str, fields: dict[str, Any]) -> None:
    wrapped = "\n" + text.replace(" ", "\n    ").replace("memory", "\x1b[0;31mmemory\x1b[0m")
    event, plain = detect_text(wrapped, kind), detect_text(text, kind)
    assert event is not None
    assert plain is not None
    assert [getattr(event, name) for name in FIELDS] == [getattr(plain, name) for name in FIELDS]
    assert event.format == plain.format


@pytest.mark.parametrize(("form", "kind", "text"), PROBABLE)
def test_texts_with_other_causes_are_probable(form: str, kind: str, text: str) -> None:
    event = detect_text(text, kind)
    assert event is not None
    assert (event.format, event.certainty) == (form, "probable")


@pytest.mark.parametrize(("kind", "text"), LOOKALIKES)
def test_lookalikes_are_nothing(kind: str, text: str) -> None:
    assert detect_text(text, kind) is None


@pytest.mark.parametrize("length", range(0, len(NEW), 7))
def test_a_text_cut_anywhere_gives_what_it_still_has(length: int) -> None:
    event = detect_text(NEW[:length], TORCH)
    assert event is not None  # the class is believed, whatever is left of the text
    assert event.certainty == "sure"
    assert event.requested == (3 * GIB if length > NEW.index("GiB") + 2 else None)
    assert event.device == (1 if length >= NEW.index(" has a total") else None)
    assert event.capacity == (40 * GIB if length >= NEW.index(" of which") else None)


def test_cut_after_the_word_gpu() -> None:
    event = detect_text("CUDA out of memory. Tried to allocate 20.00 MiB. GPU ", TORCH)
    assert event is not None
    assert (event.format, event.requested, event.device) == ("pt.cuda.capacity", 20 * MIB, None)


def test_other_processes_are_named_and_this_one_is_not() -> None:
    text = NEW.replace(
        "Including",
        "Process 5 has 600.00 MiB memory in use. Process 6 has 17179869184.00 GiB memory in use. Including",
    )
    event = detect_text(text, TORCH)
    assert event is not None
    assert event.processes == (ProcessMemory(pid=5, used=600 * MIB),)  # no device has the bytes of the other


def test_in_a_container_this_process_is_the_row_that_is_large_enough() -> None:
    text = NEW.replace(
        "Including non-PyTorch memory, this process has 38.00 GiB",
        "Process 5 has 600.00 MiB memory in use. Process 6 has 38.00 GiB",
    )
    event = detect_text(text, TORCH)
    assert event is not None
    assert [row.is_self for row in event.processes] == [False, True]
    twins = detect_text(text.replace("600.00 MiB", "39.00 GiB"), TORCH)
    assert twins is not None
    assert not any(row.is_self for row in twins.processes)


def test_a_process_whose_bytes_cannot_be_is_none() -> None:
    """WSL's containers print so; who believes the pid is told to stop process 1."""
    text = NEW.replace("this process has 38.00 GiB", "Process 1 has 17179869184.00 GiB")
    event = detect_text(text.replace(" memory in use. Of", " memory in use. Process 7 has 1.00 GiB memory in use. Of"))
    assert event is not None
    assert [row.pid for row in event.processes] == [7]


def test_nonsense_numbers_are_unknown() -> None:
    text = NEW.replace("3.00 GiB", "4611686018427387904 bytes").replace("1.50 GiB is free", "90.00 GiB is free")
    event = detect_text(text.replace("GPU 1", "GPU 99999"), TORCH)
    assert event is not None
    assert (event.requested, event.free, event.device) == (None, None, None)
    assert event.capacity == 40 * GIB


def test_a_replica_gives_the_last_message_and_its_own_device() -> None:
    wrapper = (
        "Caught OutOfMemoryError in replica 3 on device 3.\nOriginal Traceback (most recent call last):\n  File x\n"
    )
    event = detect_text(wrapper + "torch.OutOfMemoryError: CUDA error: out of memory\n", TORCH)
    assert event is not None
    assert (event.format, event.device) == ("pt.cuda.error", 3)
    event = detect_text(wrapper + f"{OLD}\nDuring handling another occurred\n{NEW}", TORCH)
    assert event is not None
    assert (event.format, event.device, event.requested) == ("pt.cuda.capacity", 1, 3 * GIB)


def test_advice_after_the_message_does_not_hide_it() -> None:
    event = detect_text(NEW + "\nTip: to avoid CUDA out of memory, use a smaller batch.", "RuntimeError")
    assert event is not None
    assert (event.format, event.certainty) == ("pt.cuda.capacity", "sure")


MILLION = 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        " " * MILLION,
        "9" * MILLION,
        "1." * (MILLION // 2),
        "1.00 GiB " * (MILLION // 9),
        "CUDA out of memory. " * (MILLION // 20),
        "CUDA out of memory. Tried to allocate " + "9" * MILLION,
        "CUDA out of memory. Tried to allocate 1 GiB. GPU 0 " + "Process 1 has 1 GiB memory in use. " * (MILLION // 35),
        "NVML_SUCCESS == " * (MILLION // 16),
        "Unable to allocate array with shape (" + "1, " * (MILLION // 3),
        "\x1b[" * (MILLION // 2),
        "\x1b[0;" * (MILLION // 4),
        "Caught Error in replica 1 on device " * (MILLION // 36),
        "cudaMalloc(" * (MILLION // 11),
        "cu" * (MILLION // 2),
        "CUDA error " * (MILLION // 11),
        "RESOURCE_EXHAUSTED: Attempting to allocate " * (MILLION // 43),
        "DataLoader worker (pid " + "1, " * (MILLION // 3),
        "OOM when allocating tensor with shape[" + "9," * (MILLION // 2),
        "OOM when allocating tensor with shape" + "dim { size: 9 } " * (MILLION // 16),
        "Error sending result: " * (MILLION // 22),
        "> " * (MILLION // 2),
        "[1;" * (MILLION // 3),
        "failed to allocate " * (MILLION // 19),
        "ERROR out of memory error " * (MILLION // 26),
    ],
)
def test_a_hostile_megabyte_takes_no_time(text: str) -> None:
    started = time.thread_time()
    detect_text(text, "MemoryError")
    assert time.thread_time() - started < 1.0  # 0.03 s where this was written


@pytest.mark.parametrize("text", [NEW + "x" * MILLION, "x" * MILLION + "\n" + NEW])
def test_both_ends_of_a_megabyte_are_read(text: str) -> None:
    event = detect(RuntimeError(text))
    assert event is not None
    assert (event.requested, event.cached) == (3 * GIB, GIB)
    assert len(event.message) <= 4000
    assert event.message.startswith("CUDA out of memory")


FRAGMENTS = st.sampled_from(
    [
        *(text for _, _, text, _ in EXAMPLES),
        *(text for _, _, text in PROBABLE),
        *(text for _, text in LOOKALIKES),
        *" \n\r\0>|│:([1e9",
        "\x1b[31m",
        "99999999999999999999 GiB",
        "-1 bytes",
        "RuntimeError: ",
    ]
)


@given(st.lists(st.one_of(FRAGMENTS, st.text(max_size=9)), max_size=8), st.floats(0, 1), st.sampled_from(["", TORCH]))
def test_pieces_of_messages_in_any_order_are_an_event_or_none(pieces: list[str], cut: float, kind: str) -> None:
    text = "".join(pieces)
    event = detect_text(text[int(cut * len(text)) :], kind)
    assert event is None or all(size is None or 0 <= size < 1 << 60 for size in map(event.__getattribute__, FIELDS[1:]))
    assert event is None or event.device is None or 0 <= event.device < 1024


def test_a_text_in_utf_16_and_mixed_encodings() -> None:
    wide = NEW.encode("utf-16-le").decode("latin-1")
    event = detect_text("caf\xe9 \udcff " + wide.replace("\n\0", "\r\0\n\0"), TORCH)
    assert event is not None
    assert (event.requested, event.free) == (3 * GIB, 3 * GIB // 2)


@given(st.text(), st.sampled_from(["", "RuntimeError", "MemoryError", TORCH]))
def test_any_text_is_an_event_or_none(text: str, kind: str) -> None:
    assert isinstance(detect_text(text, kind), OomEvent | None)


# -- exceptions ----------------------------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """As torch's: its module is what a traceback prints before the name."""


OutOfMemoryError.__module__ = "torch"


def fail(text: str = NEW) -> None:
    raise OutOfMemoryError(text)


def caught(function: Any) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def wrapped() -> None:
    try:
        fail()
    except RuntimeError as error:
        raise ValueError("the step failed") from error


def hidden() -> None:
    try:
        fail()
    except RuntimeError:
        raise ValueError("the step failed") from None


def in_handler() -> None:
    try:
        fail()
    except RuntimeError:
        cleanup: dict[str, int] = {}
        cleanup["model"] += 1


def grouped() -> None:
    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(fail))

    asyncio.run(both())


@pytest.mark.parametrize("function", [fail, wrapped, hidden, in_handler, grouped])
def test_the_error_is_found_behind_what_wraps_it(function: Any) -> None:
    event = detect(caught(function))
    assert event is not None
    assert (event.exception_type, event.requested) == (TORCH, 3 * GIB)
    assert event.function == "fail"
    assert event.line == fail.__code__.co_firstlineno + 1


def test_what_is_sure_goes_before_what_is_probable_and_the_root_before_the_wrapper() -> None:
    root = OutOfMemoryError(OLD)
    middle = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x")
    outer = RuntimeError(NEW)
    outer.__cause__, middle.__cause__ = middle, root
    event = detect(outer)
    assert event is not None
    assert event.format == "pt.cuda.reserved"
    middle.__cause__ = None
    event = detect(outer)
    assert event is not None
    assert event.format == "pt.cuda.capacity"
    outer.args = ()
    event = detect(outer)
    assert event is not None
    assert event.format == "pt.cublas_alloc"


def test_the_words_of_a_command_are_no_error() -> None:
    code = b"raise RuntimeError('Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB')\n"
    assert detect(subprocess.CalledProcessError(1, code)) is None
    assert detect(subprocess.CalledProcessError(1, ["grep", "CUDA out of memory. Tried to allocate 2.00 GiB"])) is None
    assert detect_text(str(subprocess.CalledProcessError(1, code)), "subprocess.CalledProcessError") is None
    event = detect(subprocess.CalledProcessError(-9, code))
    assert event is not None
    assert event.format == "subprocess.killed"


def test_of_several_frameworks_that_a_text_quotes_the_one_that_its_class_derives_from_counts() -> None:
    class EngineError(OutOfMemoryError):
        pass

    quoted = (
        "ResourceExhaustedError: OOM when allocating tensor with shape[4,4] and type float on /job:localhost/replica:0"
        "/task:0/device:GPU:0 by allocator GPU_0_bfc"
    )
    text = f"{NEW}\nbefore that: {quoted}"
    event, plain = detect(EngineError(text)), detect(RuntimeError(text))
    assert event is not None
    assert plain is not None
    assert (event.framework, event.requested, plain.framework) == ("pytorch", 3 * GIB, "tensorflow")
    assert event.exception_type.endswith("EngineError")


def test_a_cycle_of_contexts_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    assert detect(first) is None
    second.__cause__ = OutOfMemoryError(NEW)
    assert detect(first) is not None


def test_a_long_chain_is_bounded() -> None:
    first = error = ValueError("0")
    for number in range(10_000):
        error.__context__ = ValueError(str(number))
        error = error.__context__
    assert len(raised_with(first)) == 200
    assert detect(first) is None


def test_an_exception_that_cannot_be_printed_is_read_by_its_arguments() -> None:
    class MuteError(RuntimeError):
        def __str__(self) -> str:
            raise ZeroDivisionError

    event = detect(MuteError(7, "CUDA error: out of memory"))
    assert event is not None
    assert event.format == "pt.cuda.error"
    assert detect(MuteError()) is None


def test_a_bare_memory_error_is_the_machines_memory() -> None:
    event = detect(MemoryError())
    assert event is not None
    assert (event.framework, event.backend, event.requested, event.certainty) == ("python", "host", None, "sure")


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), SystemExit(1), RuntimeError(None)])
def test_other_exceptions_are_nothing(error: BaseException) -> None:
    assert detect(error) is None


def test_nothing_of_the_exception_is_kept() -> None:
    class Big:
        pass

    def step() -> None:
        tensor = Big()
        watched.append(weakref.ref(tensor))
        fail()

    watched: list[weakref.ref[Big]] = []
    error: BaseException | None = caught(step)
    event = detect(error) if error else None
    assert event is not None
    del error
    gc.collect()
    assert watched[0]() is None


def test_what_was_to_be_pinned_is_host_memory() -> None:
    """CUDA refuses both in the same words: the line that failed tells them apart."""

    class Tensor:
        def pin_memory(self) -> None:
            raise RuntimeError("CUDA error: out of memory")

        def cuda(self) -> None:
            raise RuntimeError("CUDA error: out of memory")

    def fill() -> None:
        raise RuntimeError("CUDA error: out of memory")

    def in_one_line() -> None:
        (lambda pin_memory: fill())(pin_memory=True)

    events = [detect(caught(one)) for one in (Tensor().pin_memory, Tensor().cuda, fill, in_one_line)]
    assert [(one.backend, one.format) for one in events if one] == [
        ("host", "pt.pinned"),
        ("cuda", "pt.cuda.error"),
        ("cuda", "pt.cuda.error"),
        ("cuda", "pt.cuda.error"),  # the innermost line counts
    ]


def test_a_worker_that_was_killed_is_another_process() -> None:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    with ProcessPoolExecutor(1) as pool:
        task = pool.submit(_end_at_once)
        with pytest.raises(BrokenProcessPool) as raised:
            task.result()
    event = detect(raised.value)
    assert event is not None
    assert (event.format, event.remote, event.certainty) == ("pool.broken", "process pool", "probable")


def _end_at_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_errors_that_were_caught_and_replaced_are_found() -> None:
    def search(fails: Any, keep: Any) -> None:
        kept: Any = [] if keep is list else {}
        for size in (8, 4, 2):
            try:
                fails()
            except RuntimeError as error:
                if keep is list:
                    kept.append(error)
                else:
                    kept[size] = error
        raise RuntimeError(f"No batch size fits: {[one for one in (8, 4, 2) if one]}")

    def last_alone() -> None:
        last = None
        try:
            fail()
        except RuntimeError as error:
            last = error
        if last is not None:
            raise ValueError("nothing fits")

    for function in (lambda: search(fail, list), lambda: search(fail, dict), last_alone):
        event = detect(caught(function))
        assert event is not None
        assert (event.exception_type, event.requested, event.function) == (TORCH, 3 * GIB, "fail")
    assert detect(caught(lambda: search(lambda: int("x"), list))) is None


@pytest.mark.parametrize(
    ("instead", "certainty"),
    [
        (ValueError("not even a batch of 4"), "sure"),
        (RuntimeError("all attempts failed"), "probable"),
        (None, None),  # an attribute that is missing takes no error's place
    ],
)
def test_how_sure_it_is_that_an_error_took_the_place_of_another(
    instead: Exception | None, certainty: str | None
) -> None:
    def attempts() -> None:
        kept: Any = []
        for size in (8, 4):
            try:
                fail()
            except RuntimeError as error:
                kept.append((size, error))
        if instead is not None:
            raise instead
        kept.missing  # noqa: B018

    event = detect(caught(attempts))
    assert (event and event.certainty) == certainty
    assert event is None or event.requested == 3 * GIB


def test_errors_of_an_earlier_run_are_not_this_ones() -> None:
    namespace: dict[str, Any] = {"fail": fail, "errors": []}
    cell = "try:\n    fail()\nexcept RuntimeError as error:\n    errors.append(error)\n"
    exec(compile(cell, CELL, "exec"), namespace)
    later = caught(lambda: exec(compile("raise ValueError(1)", CELL, "exec"), namespace))
    assert detect(later) is None
    again = caught(lambda: exec(compile(cell + "raise ValueError(1)", CELL, "exec"), namespace))
    event = detect(again)
    assert event is not None
    assert event.requested == 3 * GIB


# -- tracebacks ----------------------------------------------------------------------------------------------------


def places(*calls: str) -> list[Place]:
    """Calls written "file:function", outermost first; the line is the place in the list."""
    return [Place(call.rpartition(":")[2], call.rpartition(":")[0], line) for line, call in enumerate(calls, 1)]


CELL = "/tmp/ipykernel_99/123456.py"
SITE = "/usr/lib/python3/site-packages"


@pytest.mark.parametrize(
    ("calls", "phase"),
    [
        ([f"{CELL}:<module>", f"{SITE}/transformers/modeling_utils.py:from_pretrained"], "load"),
        ([f"{CELL}:<module>", f"{SITE}/torch/nn/modules/module.py:to"], "load"),
        ([f"{CELL}:<module>", f"{SITE}/torch/serialization.py:load"], "load"),
        ([f"{CELL}:<module>", f"{SITE}/json/__init__.py:load"], "unknown"),
        ([f"{CELL}:<module>", f"{SITE}/torch/_tensor.py:backward"], "train"),
        ([f"{CELL}:<module>", f"{SITE}/torch/optim/adam.py:step", f"{SITE}/torch/optim/adam.py:adam"], "train"),
        ([f"{CELL}:train_step", f"{CELL}:forward"], "train"),
        ([f"{CELL}:fit", f"{CELL}:validate", f"{CELL}:forward"], "infer"),
        ([f"{CELL}:fit", f"{CELL}:_validate", f"{CELL}:forward"], "infer"),
        ([f"{CELL}:train", f"{CELL}:val_epoch", f"{CELL}:forward"], "infer"),
        ([f"{CELL}:_fit", f"{CELL}:forward"], "train"),
        ([f"{CELL}:train", f"{SITE}/x.py:val_of", f"{CELL}:forward"], "train"),
        ([f"{CELL}:train", f"{SITE}/x.py:load_state_dict"], "load"),
        ([f"{CELL}:<module>", f"{SITE}/transformers/generation/utils.py:generate", "x.py:forward"], "infer"),
        ([f"{CELL}:<module>", f"{SITE}/diffusers/pipelines/flux/pipeline.py:__call__"], "infer"),
        ([f"{CELL}:train_bert", "x.py:generate_square_subsequent_mask"], "infer"),
        ([f"{CELL}:train", "x.py:generate_square_subsequent_mask"], "train"),
        ([f"{CELL}:main", f"{CELL}:forward"], "unknown"),
        ([], "unknown"),
    ],
)
def test_the_innermost_decisive_call_gives_the_phase(calls: list[str], phase: str) -> None:
    assert read_phase(places(*calls)) == phase


@pytest.mark.parametrize(
    ("calls", "location"),
    [
        ([f"{CELL}:<module>", f"{CELL}:step", f"{SITE}/torch/x.py:forward"], ("step", 2)),
        ([f"{CELL}:<module>", f"{SITE}/torch/x.py:forward"], (None, 1)),
        ([f"{CELL}:<module>", "/home/me/mine.py:run", f"{SITE}/torch/x.py:forward"], ("run", 2)),
        ([f"{CELL}:step", "/home/me/mine.py:run"], ("step", 1)),
        (["<ipython-input-3-0abc>:<module>", "<ipython-input-2-0def>:step"], ("step", 2)),
        (["C:/Temp/ipykernel_7/1.py:step"], ("step", 1)),
        ([f"{CELL}:<module>", "<timed exec>:<module>"], (None, 2)),
        ([f"{SITE}/IPython/core.py:run_code", "<frozen runpy>:run", f"{asyncio.__file__}:run"], (None, None)),
        ([], (None, None)),
    ],
)
def test_the_user_sees_the_own_code(calls: list[str], location: tuple[str | None, int | None]) -> None:
    assert user_location(places(*calls)) == location


# -- real ones -----------------------------------------------------------------------------------------------------

REAL = """
import resource, sys
{setup}
def limit(extra):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, resource.RLIM_INFINITY))
def train_step():
    limit(512 << 20)
    {line}
try:
    train_step()
except BaseException as error:
    from nb_oomhelper.failure.detection import detect
    print(detect(error))
"""


def run_out_of_memory(tmp_path: Path, setup: str, line: str) -> str:
    """Run out of a limited address space in a new process; how it prints the event."""
    script = tmp_path / "script.py"
    script.write_text(REAL.format(setup=setup, line=line))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on the address space is honored on Linux alone")
@pytest.mark.parametrize(
    ("library", "setup", "line", "form", "requested"),
    [
        ("torch", "import torch", "torch.zeros(1 << 30)", "pt.cpu", 4 << 30),
        ("numpy", "import numpy", "numpy.ones((3, 7 << 26))", "numpy.array", 3 * 7 * 8 << 26),
        ("torch", "import torch", "torch.UntypedStorage.from_file(MAPPED, False, 3 << 30)", "pt.mmap", 3 << 30),
        ("sys", "", "bytearray(2 << 30)", "python.memory", None),
    ],
)
def test_a_real_lack_of_memory(
    tmp_path: Path, library: str, setup: str, line: str, form: str, requested: int | None
) -> None:
    pytest.importorskip(library)
    mapped = tmp_path / "weights.bin"
    with mapped.open("wb") as file:
        file.truncate(3 << 30)  # a hole: it takes no space on the disk
    printed = run_out_of_memory(tmp_path, setup, line.replace("MAPPED", repr(str(mapped))))
    assert f"format='{form}'" in printed
    assert f"requested={requested}," in printed
    for part in ("backend='host'", "phase='train'", "certainty='sure'", "function='train_step'", "line=9"):
        assert part in printed
