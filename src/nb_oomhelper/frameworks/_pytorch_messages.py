"""PyTorch's out-of-memory messages, from 0.4 to 2.15.

Where a format was seen is in the table's comments. The hint at a message's end names an environment
variable that was renamed to and fro between releases: no rule looks at it.
"""

from __future__ import annotations

import re
from dataclasses import replace

from nb_oomhelper.frameworks._messages import ORDINALS, SIZE, Match, Rule, read_message
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import ProcessMemory
from nb_oomhelper.units import parse_bytes


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
    return (*rules, *_word(f"{prefix}.word", backend, trigger))


def _word(form: str, backend: str, trigger: str) -> tuple[Rule, Rule]:
    """The sentence alone: sure where PyTorch's own class says so."""
    return Rule(form, backend, trigger, kind=_CLASS, known=True), Rule(form, backend, trigger, probable=True)


def _accelerator(word: str) -> tuple[Rule, ...]:
    """What the allocators of other devices say, who have copied CUDA's: c10/xpu, torch_npu, …"""
    trigger = f"{word} out of memory"
    form, backend = f"pt.{word.lower()}", word.lower()
    return Rule(form, backend, trigger, "[Tt]ried to allocate"), *_word(f"{form}.word", backend, trigger)


# torch.OutOfMemoryError, before 2.4 torch.cuda.OutOfMemoryError; without its module it is anybody's
_CLASS = r"^torch\.(?:\w{1,20}\.){0,3}OutOfMemoryError$"
_CUT = r"Allocation on device.{0,3}$"
_ASSERT = "device-side assert"
RULES: tuple[Rule, ...] = (
    *_caching_allocator("CUDA", "cuda", "pt.cuda"),
    *_caching_allocator("HIP", "hip", "pt.hip"),
    *_accelerator("XPU"),  # c10/xpu/XPUCachingAllocator.cpp
    *_accelerator("NPU"),  # torch_npu
    Rule("pt.npu.cann", "npu", r"\bEL0004\b|Memory_Allocation_Failure"),  # Ascend's own error, below torch_npu
    Rule(
        "pt.device", "other", rf"\b(?!CUDA|HIP)[A-Z][A-Za-z]{{1,14}} out of memory\. Tried to allocate {SIZE}"
    ),  # MLU, MUSA, …
    Rule("pt.cuda.cut", "cuda", rf"[Tt]ried to allocate {SIZE}(?: ?\(GPU \d|\. GPU \d{{1,3}} has a total capac)"),
    # backends of Intel's Level Zero: 39 and 2, 40, 38
    Rule("pt.xpu.error", "xpu", "_ERROR_OUT_OF_DEVICE_MEMORY|UR_RESULT_ERROR_MEM_OBJECT_ALLOCATION_FAILURE"),
    Rule("pt.xpu.block", "xpu", "can NOT allocate memory block with size larger than"),  # IPEX
    Rule("pt.xpu.resources", "xpu", "(?:UR_RESULT|PI)_ERROR_OUT_OF_RESOURCES", probable=True),
    Rule("pt.xpu.host", "host", "(?:UR_RESULT|PI)_ERROR_OUT_OF_HOST_MEMORY", probable=True),
    Rule("pt.directml", "directml", "allocate tensor with .{1,30} There is not enough GPU video memory"),
    Rule("pt.directml", "directml", r"Unknown error -2147024882\b", probable=True),  # E_OUTOFMEMORY
    Rule("pt.webui", "cuda", r"Not enough memory, use lower resolution \(max"),  # attention that is cut to fit
    Rule("pt.mps", "mps", "MPS backend out of memory"),  # aten/src/ATen/mps/MPSAllocator.mm
    Rule("pt.mps.buffer", "mps", f"Invalid buffer size: {SIZE}", probable=True),
    Rule("pt.mps.command", "mps", "kIOGPUCommandBufferCallbackErrorOutOfMemory"),
    Rule("pt.hpu", "hpu", "PT_DEVMEM Allocation failed|SYNHELPER workspace Allocation of size"),  # Habana
    # The back end cudaMallocAsync prints the device's number as a character: that of device 0 ends the text there.
    Rule("pt.cuda.async", "cuda", "Allocation on device", "would exceed allowed memory"),
    Rule("pt.cuda.async_cut", "cuda", f"^{_CUT}", kind="OutOfMemoryError$", known=True),
    Rule("pt.cuda.async_cut", "cuda", r"\btorch\.(?:cuda\.)?OutOfMemoryError: Allocation on device\b"),
    Rule("pt.cuda.async_cut", "cuda", f"OutOfMemoryError: {_CUT}"),
    Rule("pt.cuda.async_cut", "cuda", f"^{_CUT}", probable=True),
    Rule("pt.cuda.async_cut", "cuda", "!!! Allocation on device", probable=True),  # ComfyUI's log
    Rule("pt.comfyui", "cuda", "Got an OOM, unloading all", probable=True),
    Rule("pt.pinned", "host", r"cuda runtime error \(2\) ?: out of memory", "CachingHostAllocator"),
    Rule("pt.cuda.error", "cuda", "CUDA error: out of memory"),  # any CUDA call, c10/cuda/CUDAException.cpp
    Rule("pt.hip.error", "hip", "HIP error: out of memory"),
    Rule("pt.device.error", "other", r"\b[A-Z]{2,8} error: out of memory"),
    Rule("pt.cuda.driver", "cuda", "CUDA driver error: out of memory"),  # expandable segments, 2.1 on
    Rule(
        "pt.thc",
        "cuda",
        r"cuda runtime error \(2\) ?: out of memory|THCudaCheck FAIL .{1,200} error=2 ?: out of memory",
    ),
    Rule("pt.triton", "cuda", r"Triton Error \[CUDA\]: out of memory"),  # a kernel that Triton loads
    Rule("pt.nccl", "cuda", "Cuda failure (?:2 )?'out of memory'"),  # NCCL's last error, in torch/csrc/distributed
    Rule("pt.cpu_win", "host", r"(?:DefaultCPUAllocator|\$ Torch): not enough memory"),
    Rule("pt.cpu", "host", "DefaultCPUAllocator: [Cc]an't allocate memory"),  # c10/core/impl/alloc_cpu.cpp
    Rule("pt.cpu", "host", r"enforce fail at \w{1,20}\.cpp", r"posix_memalign\(.{1,80}\) == 0\. 12 vs 0"),  # Caffe2
    Rule("pt.mmap", "host", r"unable to mmap \d+ bytes from file", r"Cannot allocate memory \(12\)"),
    Rule("pt.shm", "host", r"(?i:unable to (?:allocate|open)) shared memory", r"Cannot allocate memory \(12\)"),
    Rule("pt.class", "cuda", "^", kind=_CLASS, known=True),  # any text
    Rule("pt.class", "cuda", r"(?<!except )\btorch\.(?:cuda\.)?OutOfMemoryError: ", probable=True),  # in a log
    # a report's field, as ComfyUI and others write one
    Rule("pt.class", "cuda", r"[:：]\W{1,4}torch\.(?:cuda\.)?OutOfMemoryError\b", probable=True),
    # An index out of range makes the same sentences: pytorch/pytorch issues tell to run synchronously.
    Rule("pt.cublas_alloc", "cuda", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED", probable=True, without=_ASSERT),
    Rule("pt.cublas_alloc", "cuda", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED", probable=True, without=_ASSERT),
    Rule("pt.cublas_alloc", "cuda", "cublas runtime error : resource allocation failed", probable=True),  # to 1.4
    Rule("pt.hipblas_alloc", "hip", "HIPBLAS_STATUS_ALLOC_FAILED|miopenStatusAllocFailed", probable=True),
    Rule("pt.cudnn_alloc", "cuda", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", probable=True),
    Rule("pt.cudnn_no_algorithm", "cuda", "Unable to find a valid cuDNN algorithm", probable=True),
    Rule("pt.cudnn_no_algorithm", "cuda", "(?:FIND|GET) was unable to find an engine to execute", probable=True),
    Rule("pt.onednn", "host", "could not create a memory object", probable=True),
    Rule("pt.cufft_alloc", "cuda", "cuFFT error: CUFFT_ALLOC_FAILED", probable=True),  # ATen/native/cuda/CuFFTUtils.h
    Rule("pt.nccl_host", "host", "Failed to CUDA host alloc", probable=True),  # NCCL, src/include/alloc.h
    Rule("pt.nccl_calloc", "cuda", r"Failed to CUDA (?:calloc|malloc)", probable=True),
    # NVML failed while the allocator wrote its message: what it wanted to say is lost (2.1; no more in 2.15).
    Rule(
        "pt.nvml_masked", "cuda", r'NVML_SUCCESS == [^"]{1,200} ASSERT FAILED at "[^"]{1,200}CachingAllo', probable=True
    ),
)

# Fields by name; every format has some of them, and no two give one name different meanings.
FIELDS: dict[str, str] = {
    "requested": (
        rf"[Tt]ried to allocate ({SIZE})|Requested(?: size)? ?: ({SIZE}|\d{{1,20}})"
        rf"|unable to mmap (\d{{1,20}} bytes)|Invalid buffer size: ({SIZE})"
        r"|rtMalloc fail, .{1,80} size:(\d{1,20})|Allocation (?:failed for|of) size ?::(\d{1,20})"
        r"|(?:alloc|calloc async|malloc|calloc) (\d{1,20} bytes)|allocate tensor with (\d{1,20} bytes)"
        rf"|Need: ({SIZE}) free"
    ),
    "device": r"\b[A-Z]PU (\d{1,9})\b|\b[A-Z]{3,8} (\d{1,9});|Allocation on device (\d{1,9})\b",
    "capacity": rf"total capaci?ty of ({SIZE})|({SIZE}) total capacity|Device limit ?: ({SIZE})",
    "free": rf"of which ({SIZE}) is free|({SIZE}) free[;)]|Free \(according to CUDA\) ?: ({SIZE})|Have: ?({SIZE}) free",
    "allocated": (
        rf"allocated memory ({SIZE}) is allocated|({SIZE}) already allocated"
        rf"|Currently allocated ?: ({SIZE})|MPS allocated: ({SIZE})"
    ),
    "reserved": rf"({SIZE}) reserved in total by",
    "cached": rf"({SIZE}) is reserved by PyTorch but unallocated|({SIZE}) cached\)",
    "limit": rf"({SIZE}) allowed;|max allowed: ({SIZE})|user-supplied memory fraction\) ?: ({SIZE})",
    "other_allocations": rf"other allocations: ({SIZE})",  # of MPS: not tensors, or other programs'
    "this_process": rf"this process has ({SIZE}) memory in use",
    "private_pools": rf"with ({SIZE}) allocated in private pools",
    "active": rf"({SIZE}) current active",
}
_PROCESS = rf"Process (\d{{1,10}}) has ({SIZE}) memory in use"
_THIS_PROCESS = "this process has"
_REPLICA = r"Caught \w{1,80} in replica \d{1,4} on device (\d{1,9})"  # torch/_utils.py, DataParallel
_PINNING = re.compile(r"in pin memory thread|\bin _?pin_memory(?:_loop)?\b|\.pin_memory\(")
TELLS_NO_MEMORY = ("pt.cuda.error", "pt.hip.error", "pt.thc")  # a call of the runtime's
_CHARACTER = re.compile(r"Allocation on device ([\x00-\x1f]) would exceed")
_WORD = re.compile(r"[A-Za-z]+")


def recognize(text: str, exception_type: str) -> OomEvent | None:
    """Read a message of PyTorch's; None where it is not about a lack of memory.

    Args:
        text: The error's own.
        exception_type: Its class, as a traceback prints it.
    """
    found = read_message("pytorch", RULES, FIELDS, text, exception_type)
    if found is None:
        return None
    match, event = found
    backend = _backend(match)
    if backend == "host":
        return replace(
            event, backend=backend, device=None, format="pt.pinned" if match.rule.backend != "host" else event.format
        )
    event = replace(_whole(event), backend=backend, device=_device(event, match, text))
    return replace(event, processes=_processes(match.window, event.reserved))


def _backend(match: Match) -> str:
    """The rule's; host memory where it was to be pinned; of a device that only the text names, its name."""
    if match.rule.format in TELLS_NO_MEMORY and _PINNING.search(match.before):
        return "host"
    word = _WORD.match(match.window)
    return word[0].lower() if match.rule.backend == "other" and word else match.rule.backend


def _whole(event: OomEvent) -> OomEvent:
    """Complete allocated, reserved and cached, of which each format gives two; drop what cannot be."""
    reserved, cached = event.reserved, event.cached
    if event.allocated is not None and cached is not None:
        reserved = event.allocated + cached
    elif event.allocated is not None and reserved is not None:
        cached = max(0, reserved - event.allocated)
    free, capacity = event.free, event.capacity
    figures = tuple(
        row for row in event.figures if row[0] != "this_process" or capacity is None or row[1] <= 2 * capacity
    )
    broken = free is not None and capacity is not None and free > capacity
    return replace(event, reserved=reserved, cached=cached, free=None if broken else free, figures=figures)


def _device(event: OomEvent, match: Match, text: str) -> int | None:
    """The ordinal in the message, or that of the replica whose message has none."""
    if event.device is not None:
        return event.device
    if match.rule.format == "pt.cuda.async_cut":
        return 0
    if (character := _CHARACTER.search(match.window) or _CHARACTER.search(text)) is not None:
        return ord(character[1])
    replica = re.findall(_REPLICA, match.before)
    return int(replica[-1]) if replica and int(replica[-1]) < ORDINALS else None


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
