"""PyTorch's out-of-memory messages, from 0.4 to 2.15.

Where a format was seen is in the table's comments. The hint at a message's end names an environment
variable that was renamed to and fro between releases: no rule looks at it.
"""

from __future__ import annotations

import re

from nb_oomhelper.frameworks._messages import SIZE, Match, Rule, excerpt, find, read_fields, squeeze
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import ProcessMemory
from nb_oomhelper.units import parse_bytes

_ORDINALS = 1_024  # a device number above this is a broken one


def _caching_allocator(word: str, backend: str, prefix: str) -> tuple[Rule, ...]:
    """The formats of c10/cuda/CUDACachingAllocator.cpp, whose file for ROCm only says HIP for CUDA."""
    trigger = f"{word} out of memory"
    shapes = (
        ("fraction", "exceed per_process_memory_fraction limit"),  # 2.13 on
        ("1eb", "Tried to allocate more than 1EB"),  # 1.9 on: a negative or overflowed size
        ("cached", f"free; {SIZE} cached"),  # 1.1 to 1.3
        ("reserved_hint", r"reserved in total by PyTorch\) ?If reserved"),  # 1.10 to 2.0
        ("reserved", rf"reserved in total by|Tried to allocate {SIZE} ?\("),  # 1.4 to 1.9, or cut short
        ("capacty", "total capacty"),  # 2.1, misspelt there
        ("capacity_private", "in private pools"),  # 2.4 on, with CUDA graphs
        ("capacity", rf"total capacity|Tried to allocate {SIZE}\. ?GPU\b"),  # 2.2 on, or cut short
        ("short", f"Tried to allocate {SIZE}"),  # cut before the device, or made by another library
    )
    rules = tuple(Rule(f"{prefix}.{shape}", backend, trigger, marker) for shape, marker in shapes)
    return (*rules, Rule(f"{prefix}.word", backend, trigger, probable=True))  # a sentence that only speaks of it


RULES: tuple[Rule, ...] = (
    *_caching_allocator("CUDA", "cuda", "pt.cuda"),
    *_caching_allocator("HIP", "hip", "pt.hip"),
    Rule("pt.xpu", "xpu", r"XPU out of memory\. Tried to allocate"),  # c10/xpu/XPUCachingAllocator.cpp
    Rule("pt.npu", "npu", r"NPU out of memory\. Tried to allocate"),  # torch_npu
    Rule("pt.mps", "mps", "MPS backend out of memory"),  # aten/src/ATen/mps/MPSAllocator.mm
    Rule("pt.mps.buffer", "mps", f"Invalid buffer size: {SIZE}", probable=True),
    Rule("pt.cuda.async", "cuda", r"Allocation on device \d+ would exceed allowed memory\. ?\(out of memory\)"),
    Rule("pt.cuda.error", "cuda", "CUDA error: out of memory"),  # any CUDA call, c10/cuda/CUDAException.cpp
    Rule("pt.hip.error", "hip", "HIP error: out of memory"),
    Rule("pt.cuda.driver", "cuda", "CUDA driver error: out of memory"),  # expandable segments, 2.1 on
    Rule("pt.thc", "cuda", r"cuda runtime error \(2\) ?: out of memory"),  # up to 1.0
    # An index out of range makes the same sentence: pytorch/pytorch issues tell to run synchronously.
    Rule("pt.cublas_alloc", "cuda", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED", probable=True),
    Rule("pt.cudnn_alloc", "cuda", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", probable=True),
    Rule("pt.cufft_alloc", "cuda", "cuFFT error: CUFFT_ALLOC_FAILED", probable=True),  # ATen/native/cuda/CuFFTUtils.h
    Rule("pt.nccl", "cuda", "Cuda failure (?:2 )?'out of memory'"),  # NCCL's last error, in torch/csrc/distributed
    # NVML failed while the allocator wrote its message: what it wanted to say is lost (2.1; no more in 2.15).
    Rule(
        "pt.nvml_masked", "cuda", r'NVML_SUCCESS == [^"]{1,200} ASSERT FAILED at "[^"]{1,200}CachingAllo', probable=True
    ),
    Rule("pt.cpu_win", "host", "DefaultCPUAllocator: not enough memory: you tried to allocate"),
    Rule("pt.cpu", "host", "DefaultCPUAllocator: can't allocate memory"),  # c10/core/impl/alloc_cpu.cpp
    Rule("pt.mmap", "host", r"unable to mmap \d+ bytes from file", r"Cannot allocate memory \(12\)"),
)

# Fields by name; every format has some of them, and no two give one name different meanings.
FIELDS: dict[str, str] = {
    "requested": (
        rf"[Tt]ried to allocate ({SIZE})|Requested(?: size)? ?: ({SIZE}|\d{{1,20}})"
        rf"|unable to mmap (\d{{1,20}} bytes)|Invalid buffer size: ({SIZE})"
    ),
    "device": r"\b[GNX]PU (\d{1,9})\b|Allocation on device (\d{1,9})\b",
    "capacity": rf"total capaci?ty of ({SIZE})|({SIZE}) total capacity|Device limit ?: ({SIZE})",
    "free": rf"of which ({SIZE}) is free|({SIZE}) free;|Free \(according to CUDA\) ?: ({SIZE})",
    "allocated": (
        rf"allocated memory ({SIZE}) is allocated|({SIZE}) already allocated"
        rf"|Currently allocated ?: ({SIZE})|MPS allocated: ({SIZE})"
    ),
    "reserved": rf"({SIZE}) reserved in total by",
    "cached": rf"({SIZE}) is reserved by PyTorch but unallocated|({SIZE}) cached\)",
    "limit": rf"({SIZE}) allowed;|max allowed: ({SIZE})|user-supplied memory fraction\) ?: ({SIZE})",
}
_PROCESS = rf"Process (\d{{1,10}}) has ({SIZE}) memory in use"
_THIS_PROCESS = "this process has"
_REPLICA = r"Caught \w{1,80} in replica \d{1,4} on device (\d{1,9})"  # torch/_utils.py, DataParallel


def recognize(text: str, exception_type: str) -> OomEvent | None:
    """Read a message of PyTorch's; None where it is not about a lack of memory.

    Args:
        text: The error's own.
        exception_type: Its class, as a traceback prints it.
    """
    match = find(RULES, squeeze(text))
    if match is None:
        return None
    fields = read_fields(FIELDS, match.window)
    sizes = _sizes({name: parse_bytes(value) for name, value in fields.items() if name != "device"})
    named = match.rule.format.endswith(".word") and exception_type.endswith("OutOfMemoryError")
    return OomEvent(
        framework="pytorch",
        backend=match.rule.backend,
        exception_type=exception_type,
        message=excerpt(text, match),
        format=match.rule.format,
        device=_device(fields.get("device"), match),
        requested=sizes.get("requested"),
        capacity=sizes.get("capacity"),
        free=sizes.get("free"),
        allocated=sizes.get("allocated"),
        reserved=sizes.get("reserved"),
        cached=sizes.get("cached"),
        limit=sizes.get("limit"),
        processes=_processes(match.window, sizes.get("reserved")),
        certainty="probable" if match.rule.probable and not named else "sure",
    )


def _sizes(read: dict[str, int | None]) -> dict[str, int | None]:
    """Complete allocated, reserved and cached, of which each format gives two; drop what cannot be."""
    sizes = dict(read)
    allocated, reserved, cached = sizes.get("allocated"), sizes.get("reserved"), sizes.get("cached")
    if allocated is not None and cached is not None:
        sizes["reserved"] = allocated + cached
    elif allocated is not None and reserved is not None:
        sizes["cached"] = max(0, reserved - allocated)
    free, capacity = sizes.get("free"), sizes.get("capacity")
    if free is not None and capacity is not None and free > capacity:
        sizes["free"] = None
    return sizes


def _device(number: str | None, match: Match) -> int | None:
    """The ordinal in the message, or that of the replica whose message has none."""
    if match.rule.backend == "host":
        return None
    if number is None:
        replica = re.findall(_REPLICA, match.before)
        number = replica[-1] if replica else None
    return int(number) if number is not None and int(number) < _ORDINALS else None


def _processes(window: str, reserved: int | None) -> tuple[ProcessMemory, ...]:
    """The processes that the message names.

    PyTorch says "this process" where a pid is its own. In a container the driver counts pids
    otherwise, and this process is one of the rows: the only one large enough for what PyTorch reserved.
    Where several are, none of them can be called another process: they are left out. So is a row whose bytes
    cannot be ("Process 1 has 17179869184.00 GiB", in containers of WSL): its pid is as little to be trusted.
    """
    rows = [(int(pid), used) for pid, size in re.findall(_PROCESS, window) if (used := parse_bytes(size)) is not None]
    could_be_us = {place for place, (_, used) in enumerate(rows) if reserved is not None and used >= reserved}
    if _THIS_PROCESS in window:
        could_be_us = set()
    twins = could_be_us if len(could_be_us) > 1 else set()
    return tuple(
        ProcessMemory(pid=pid, used=used, is_self=place in could_be_us)
        for place, (pid, used) in enumerate(rows)
        if place not in twins
    )
