"""CuPy: its messages, its memory pools, and the memory behind its arrays.

CuPy is found in `sys.modules` and never imported. Its pools belong to the device that a thread uses just
now, and asking them makes that device's CUDA context: so they are asked only where the driver says that there
is one. Written for CuPy 14 and its documentation; its pools have not been read on a GPU yet.
"""

from __future__ import annotations

import ctypes
import os
import sys
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from nb_oomhelper.frameworks._messages import Rule, event_of, find, read_fields, squeeze
from nb_oomhelper.frameworks._nothing import beyond as beyond
from nb_oomhelper.frameworks._nothing import cached_blocks as cached_blocks
from nb_oomhelper.frameworks._nothing import pinned as pinned
from nb_oomhelper.frameworks._nothing import private_pools as private_pools
from nb_oomhelper.introspection import class_dict, class_mro, instances
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import AllocatorMemory
from nb_oomhelper.records.remedy import StepKind

name = "cupy"
module = "cupy"

_CLASS = r"^cupy"
RULES = (
    # cupy/cuda/memory.pyx
    Rule("cupy.new", "cuda", r"Out of memory allocating [\d,]{1,30} bytes"),
    Rule("cupy.old", "cuda", r"out of memory to allocate \d{1,20} bytes"),
    # Any call of the CUDA runtime's, which Thrust's allocator and others quote, too: memory of the device, and pinned
    # memory of the host as well.
    Rule("cupy.cudaerror", "cuda", r"cudaErrorMemoryAllocation", probable=True, kind=_CLASS, known=True),
    Rule("cupy.cudaerror", "hip", r"hipError(?:OutOfMemory|MemoryAllocation)", probable=True, kind=_CLASS, known=True),
    Rule("cupy.driver", "cuda", r"CUDA_ERROR_OUT_OF_MEMORY", kind=_CLASS, known=True),
    # cuSPARSE and others have been refused their workspace
    Rule(
        "cupy.library", "cuda", r"CU\w{2,8}_(?:STATUS_)?ALLOC(?:ATION)?_FAILED", probable=True, kind=_CLASS, known=True
    ),
    Rule("cupy.class", "cuda", "^", kind=r"^cupy\..{0,60}\bOutOfMemoryError$", known=True),
)
FIELDS = {
    "requested": r"allocat(?:ing|e) ([\d,]{1,30} bytes)",
    "reserved": r"allocated so far: ([\d,]{1,30} bytes)",  # by the pool: what arrays use and what it has cached
    "total": r"\(total (\d{1,20} bytes)",
    "limit": r"limit set to:? ([\d,]{1,30} bytes)",
}
_DRIVER = "libcuda.so.1"


def loaded() -> bool:
    """Whether CuPy has been imported by someone."""
    return _cupy() is not None


def recognize(text: str, exception_type: str) -> OomEvent | None:
    """Read a message of CuPy's; None where it is another text.

    Args:
        text: The error's own.
        exception_type: Its class, as a traceback prints it.
    """
    match = find(RULES, squeeze(text), exception_type)
    if match is None:
        return None
    event = event_of(name, match, text, exception_type, read_fields(FIELDS, match.window))
    total = event.figure("total")
    if event.reserved is None and total is not None and event.requested is not None:  # the request is in the total
        event = replace(event, reserved=max(0, total - event.requested))
    return event


def allocator(backend: str, device: int | None) -> AllocatorMemory | None:
    """The default pool of one GPU, in bytes.

    Args:
        backend: "cuda".
        device: The GPU's ordinal; None is this thread's current one.

    Returns:
        None where CuPy is not loaded, or that GPU has no CUDA context yet. Never raises.
    """
    cupy = _cupy()
    started = _started(cupy) if backend == "cuda" else []
    try:
        ordinal = cupy.cuda.runtime.getDevice() if started and device is None else device
        if ordinal not in started:
            return None
        with cupy.cuda.Device(ordinal):
            pool = cupy.get_default_memory_pool()
            return AllocatorMemory(
                framework=name,
                backend=backend,
                device=ordinal,
                allocated=pool.used_bytes(),
                reserved=pool.total_bytes(),
                limit=pool.get_limit() or None,
                uuid=_uuid(cupy, ordinal),
            )
    except Exception:  # after a sticky CUDA error every call raises; there is nothing to tell then
        return None


def device_uuids() -> dict[int, str | None]:
    """Ordinals and uuids ("GPU-…") of all devices that CuPy sees; empty until there is a CUDA context."""
    cupy = _cupy()
    if not _started(cupy):
        return {}
    try:
        return {ordinal: _uuid(cupy, ordinal) for ordinal in range(cupy.cuda.runtime.getDeviceCount())}
    except Exception:  # as in `allocator`
        return {}


def storages(objects: Iterable[object]) -> Iterator[tuple[int, Hashable, str, int | None, int]]:
    """The memory that each array among these objects keeps: of a view, the whole block.

    No code of the user's runs: CuPy's own descriptors are called, and no device is asked for anything.

    Yields:
        Index of the object, key, backend, device, bytes.
    """
    cupy = _cupy()
    if cupy is None:
        return
    pointer, block = cupy.cuda.memory.MemoryPointer, cupy.cuda.memory.BaseMemory
    backend = "hip" if cupy.cuda.runtime.is_hip else "cuda"
    for index, thing in instances(objects, cupy.ndarray):
        try:
            memory = _read(pointer, "mem", _member(cupy, "data", thing))
            address, size, device = (_read(block, field, memory) for field in ("ptr", "size", "device_id"))
        except Exception:  # memory of another library's making: leave it out
            continue
        if size:
            yield index, (backend, device, address), backend, device, size


def label(obj: object) -> str | None:
    """Type and shape, "float32 (3, 4)"; None for what is no array of CuPy's."""
    cupy = _cupy()
    if cupy is None or not type.__subclasscheck__(cupy.ndarray, type(obj)):
        return None
    return f"{_member(cupy, 'dtype', obj)} {_member(cupy, 'shape', obj)}"


def role(obj: object) -> str | None:
    """ "array" for CuPy's arrays, by class alone."""
    cupy = _cupy()
    return "array" if cupy is not None and type.__subclasscheck__(cupy.ndarray, type(obj)) else None


def array_classes() -> tuple[type, ...]:
    """The class of CuPy's arrays."""
    cupy = _cupy()
    return () if cupy is None else (cupy.ndarray,)


def caches(*, deep: bool) -> list[tuple[StepKind, Callable[[], object]]]:  # noqa: ARG001
    """Both of CuPy's default pools: of device memory, and of pinned host memory; none where CUDA was not started."""
    cupy = _cupy()
    if not _started(cupy):
        return []

    def empty() -> None:
        for ordinal in _started(cupy):
            with cupy.cuda.Device(ordinal):
                cupy.get_default_memory_pool().free_all_blocks()

    return [("cupy_pool", empty), ("cupy_pinned", cupy.get_default_pinned_memory_pool().free_all_blocks)]


def _member(cupy: Any, field: str, array: Any) -> Any:
    """An attribute of an array, past any override of a subclass; up to CuPy 11 the class itself is the one in C."""
    return _read(next(kind for kind in class_mro(cupy.ndarray) if field in class_dict(kind)), field, array)


def _read(kind: type, field: str, thing: Any) -> Any:
    return class_dict(kind)[field].__get__(thing)  # type: ignore[attr-defined]  # a descriptor in C


def _started(cupy: Any) -> list[int]:
    """Ordinals of the GPUs whose pools can be asked here.

    To ask one, this thread goes to it and comes back to where it was: that must not make a context there, either.
    """
    found = _contexts() if cupy is not None else []
    try:
        return found if found and cupy.cuda.runtime.getDevice() in found else []
    except Exception:  # as in `allocator`
        return []


def _contexts() -> list[int]:
    """Ordinals of the GPUs on which this process has a CUDA context; asking makes none, and starts nothing."""
    try:
        driver = ctypes.CDLL(_DRIVER, mode=os.RTLD_NOLOAD)
    except (OSError, AttributeError):  # nobody has loaded it; or no such flag, as on Windows
        return []
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)):  # an error: nobody has started it
        return []
    return [ordinal for ordinal in range(count.value) if _has_context(driver, ordinal)]


def _has_context(driver: ctypes.CDLL, ordinal: int) -> bool:
    flags, active = ctypes.c_uint(), ctypes.c_int()
    failed = driver.cuDevicePrimaryCtxGetState(ordinal, ctypes.byref(flags), ctypes.byref(active))
    return not failed and active.value == 1


def _uuid(cupy: Any, ordinal: int) -> str | None:
    """As the driver writes it, "GPU-…"; None where CuPy does not tell."""
    try:
        return f"GPU-{uuid.UUID(bytes=bytes(cupy.cuda.runtime.getDeviceProperties(ordinal)['uuid'][:16]))}"
    except Exception:  # a build that leaves it out, or a sticky CUDA error
        return None


def _cupy() -> Any:
    """The module if it has been imported, and far enough."""
    found = sys.modules.get(module)
    ready = isinstance(getattr(found, "ndarray", None), type) and hasattr(getattr(found, "cuda", None), "memory")
    return found if ready else None
