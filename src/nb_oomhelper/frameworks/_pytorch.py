"""PyTorch: its allocator's figures, the memory behind its tensors, its caches. Messages: `_pytorch_messages`.

PyTorch is found in `sys.modules` and never imported; `torch.cuda` is asked only once the user's own code
has started CUDA, so that no reading here creates a CUDA context. Checked with PyTorch 2.13; what came
after 2.1 is used only where it exists.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from nb_oomhelper.frameworks import _pytorch_graph
from nb_oomhelper.frameworks._pytorch_messages import recognize as recognize
from nb_oomhelper.introspection import class_dict, class_mro, instances
from nb_oomhelper.records.memory import AllocatorMemory
from nb_oomhelper.records.remedy import StepKind

name = "pytorch"
module = "torch"

_MARK = "gradient_checkpointing_enable"  # transformers' and diffusers' model classes have it


def loaded() -> bool:
    """Whether PyTorch has been imported by someone."""
    return _torch() is not None


def allocator(backend: str, device: int | None) -> AllocatorMemory | None:
    """Read the caching allocator's figures for one device.

    Args:
        backend: "cuda", or "hip" where PyTorch was built for ROCm.
        device: PyTorch's ordinal; None is its current device.

    Returns:
        None where PyTorch is not loaded, CUDA was not started in this process, or the device has no
        context yet; also where CUDA is broken by an earlier error. Never raises.
    """
    torch = _started_cuda()
    if torch is None or backend != _backend(torch, "cuda"):
        return None
    try:
        ordinal = torch.cuda.current_device() if device is None else device
        if not _has_context(torch, ordinal):
            return None
        stats = torch.cuda.memory_stats(ordinal)
        return AllocatorMemory(
            framework=name,
            backend=backend,
            device=ordinal,
            allocated=stats.get("allocated_bytes.all.current"),
            reserved=stats.get("reserved_bytes.all.current"),
            inactive_split=stats.get("inactive_split_bytes.all.current"),
            peak_allocated=stats.get("allocated_bytes.all.peak"),
            limit=_limit(torch, ordinal),
            uuid=_uuid(torch, ordinal),
        )
    except Exception:  # after a sticky CUDA error every call raises; there is nothing to tell then
        return None


def largest_free_block(backend: str, device: int | None) -> int | None:
    """The largest cached block: whether fragmentation is why a request failed. Too slow for every second.

    Returns:
        Bytes; None as for `allocator`, and where nothing is cached.
    """
    blocks = (block for segment in _segments(backend, device) for block in segment["blocks"])
    return max((block["size"] for block in blocks if block["state"] == "inactive"), default=None)


def _segments(backend: str, device: int | None) -> list[dict[str, Any]]:
    """The allocator's segments on one device, each with its blocks."""
    torch = _started_cuda()
    if torch is None or backend != _backend(torch, "cuda"):
        return []
    try:
        ordinal = torch.cuda.current_device() if device is None else device
        return [one for one in torch.cuda.memory_snapshot() if one["device"] == ordinal]
    except Exception:  # as in `allocator`
        return []


def private_pools(backend: str, device: int | None) -> int:
    """Bytes in use in private pools: CUDA graphs keep what they need to run again there, and no tensor shows it."""
    shared = (0, 0)
    found = _segments(backend, device)
    return sum(one["allocated_size"] for one in found if one.get("segment_pool_id", shared) != shared)


def pinned() -> int | None:
    """Bytes that PyTorch keeps pinned, in use and cached; None before PyTorch 2.7, which cannot tell."""
    torch = _started_cuda()
    ask = getattr(getattr(torch, "cuda", None), "host_memory_stats", None)
    if ask is None:
        return None
    try:
        size: int | None = ask().get("allocated_bytes.current")
    except Exception:  # as in `allocator`
        return None
    return size


def device_uuids() -> dict[int, str | None]:
    """Ordinals and uuids ("GPU-…") of the devices that PyTorch sees; empty until CUDA is started."""
    torch = _started_cuda()
    if torch is None:
        return {}
    try:
        found = {ordinal: _uuid(torch, ordinal) for ordinal in range(torch.cuda.device_count())}
    except Exception:  # as in `allocator`
        return {}
    return {ordinal: uuid for ordinal, uuid in found.items() if uuid is not None}


def storages(objects: Iterable[object]) -> Iterator[tuple[int, Hashable, str, int | None, int]]:
    """The memory that each tensor among these objects keeps, its gradient's included.

    No code of the user's runs: PyTorch's own C functions are called on the object, with the overrides
    of subclasses switched off. Nothing is copied and no device is waited for. Tensors without memory of
    their own (meta, fake, functional, wrappers of other tensors) give nothing.

    Yields:
        Index of the object, key (equal for views of one storage), backend, device, bytes.
    """
    torch = _torch()
    if torch is None:
        return
    for index, thing in instances(objects, torch.Tensor):
        for row in _storages_of(torch, thing):
            yield index, *row


def _storages_of(torch: Any, tensor: Any) -> list[tuple[Hashable, str, int | None, int]]:
    """Rows for one tensor. The guards end here: a generator would leave them on in its caller's code."""
    rows = []
    base = torch.Tensor.__base__  # the class in C, whose name has changed
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch(), torch.no_grad():
        for choose in (_itself, _gradient):
            try:
                parts = _parts(torch, base, choose(base, tensor))
                rows.extend([row for part in parts if (row := _row(torch, base, part)) is not None])
            except Exception:  # fake, functional, batched, opaque: no storage, or an invalid one
                continue
    return rows


def _itself(_base: Any, tensor: Any) -> Any:
    return tensor


def _gradient(base: Any, tensor: Any) -> Any:
    """The gradient, or None. Asking a tensor that cannot have one would print a warning."""
    if base.is_leaf.__get__(tensor) or base.retains_grad.__get__(tensor):
        return base.grad.__get__(tensor)
    return None


def _parts(torch: Any, base: Any, tensor: Any) -> list[Any]:
    """The dense tensors that a tensor is made of: itself, or indices and values of a sparse one."""
    if tensor is None:
        return []
    layout = base.layout.__get__(tensor)
    if layout is torch.strided:
        return [tensor]
    if layout is torch.sparse_coo:
        return [base._indices(tensor), base._values(tensor)]
    if layout in (torch.sparse_csr, torch.sparse_bsr):
        return [base.crow_indices(tensor), base.col_indices(tensor), base.values(tensor)]
    if layout in (torch.sparse_csc, torch.sparse_bsc):
        return [base.ccol_indices(tensor), base.row_indices(tensor), base.values(tensor)]
    return []


def _row(torch: Any, base: Any, tensor: Any) -> tuple[Hashable, str, int | None, int] | None:
    """Key, backend, device and bytes of a dense tensor's storage; None where there is no memory.

    On the device "meta" there is none either, but it says how many bytes it stands for: weights on disk.
    """
    storage = base.untyped_storage(tensor)
    place = torch._C.StorageBase.device.__get__(storage)
    size = torch._C.StorageBase.nbytes(storage)
    if place.type == "meta":
        return ("meta", None, torch._C.StorageBase._cdata.__get__(storage)), "meta", None, size
    address = _address(torch, tensor, storage) if size else 0
    if not address:
        return None
    backend = _backend(torch, place.type)
    return (backend, place.index, address), backend, place.index, size


def _address(torch: Any, tensor: Any, storage: Any) -> int:
    """Where the storage begins. `data_ptr` would make the copy of a copy-on-write storage."""
    if hasattr(torch._C, "_data_address"):
        return int(torch._C._data_address(tensor))
    return int(torch._C.StorageBase.data_ptr(storage))


def beyond(objects: Sequence[object], nodes: dict[int, object]) -> Iterable[tuple[object, str]]:
    """Gradients, autograd graphs, and what parameters, buffers and optimizer state are; see `_pytorch_graph`."""
    torch = _torch()
    return () if torch is None else _pytorch_graph.beyond(torch, objects, nodes)


def label(obj: object) -> str | None:
    """Type and shape, "float32 (3, 4)"; None for what is no tensor or does not tell."""
    torch = _torch()
    if torch is None or not type.__subclasscheck__(torch.Tensor, type(obj)):
        return None
    base = torch.Tensor.__base__
    with torch._C.DisableTorchFunction():
        try:
            dtype, shape = base.dtype.__get__(obj), base.shape.__get__(obj)
        except Exception:  # a nested tensor has no shape, say
            return None
    return f"{str(dtype).removeprefix('torch.')} {tuple(shape)}"


def role(obj: object) -> str | None:
    """What an object is to PyTorch, by its class alone: a model, an optimizer, a tensor, or None."""
    torch = _torch()
    if torch is None:
        return None
    kinds = class_mro(type(obj))
    if any(kind is torch.Tensor for kind in kinds):
        return "tensor"
    if any(kind is torch.nn.Module for kind in kinds):
        return "pretrained model" if any(_MARK in class_dict(kind) for kind in kinds) else "model"
    return "optimizer" if any(kind is torch.optim.Optimizer for kind in kinds) else None


def array_classes() -> tuple[type, ...]:
    """The class of PyTorch's tensors."""
    torch = _torch()
    return () if torch is None else (torch.Tensor,)


def caches(*, deep: bool) -> list[tuple[StepKind, Callable[[], object]]]:  # noqa: ARG001
    """PyTorch's caches: the CUDA cache, memory that other processes sent, pinned host memory.

    Returns:
        Each with what empties it; none where CUDA was not started.
    """
    torch = _started_cuda()
    if torch is None:
        return []
    found: list[tuple[StepKind, Callable[[], object]]] = [
        ("cuda_cache", torch.cuda.empty_cache),
        ("cuda_shared", torch.cuda.ipc_collect),
    ]
    pinned = _host_cache(torch)
    return found if pinned is None else [*found, ("pinned_cache", pinned)]


def _host_cache(torch: Any) -> Callable[[], object] | None:
    """What empties the pinned host cache: public since 2.12, private since 2.5, before that not at all."""
    public = getattr(getattr(torch, "accelerator", None), "empty_host_cache", None)
    found: Callable[[], object] | None = public or getattr(torch._C, "_host_emptyCache", None)
    return found


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


def _uuid(torch: Any, ordinal: int) -> str | None:
    """As the driver writes it, "GPU-…": PyTorch leaves the prefix out. It tells uuids since 2.5."""
    uuid = getattr(torch.cuda.get_device_properties(ordinal), "uuid", None)
    if uuid is None:
        return None
    text = str(uuid)
    return text if text.startswith(("GPU-", "MIG-")) else f"GPU-{text}"


def _backend(torch: Any, device_type: str) -> str:
    """Our word for PyTorch's device type: a build for ROCm says "cuda" for its devices."""
    if device_type == "cpu":
        return "host"
    return "hip" if device_type == "cuda" and torch.version.hip else device_type


def _started_cuda() -> Any:
    """PyTorch if CUDA was started in this process; a forked child has not started it."""
    torch = _torch()
    try:
        return torch if torch is not None and torch.cuda.is_initialized() else None
    except Exception:  # a torch whose import was cut off half-way
        return None


def _torch() -> Any:
    """The module if it has been imported, and far enough."""
    found = sys.modules.get(module)
    return found if isinstance(getattr(found, "Tensor", None), type) and hasattr(found, "_C") else None
