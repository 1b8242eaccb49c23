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
from nb_oomhelper.frameworks._pytorch_allocator import count_blocks, private_bytes, read_figures, read_segments, uuid_of
from nb_oomhelper.frameworks._pytorch_messages import TELLS_NO_MEMORY as TELLS_NO_MEMORY
from nb_oomhelper.frameworks._pytorch_messages import recognize as recognize
from nb_oomhelper.introspection import class_dict, class_mro, instances
from nb_oomhelper.records.memory import AllocatorMemory, CachedBlocks
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
        return read_figures(torch, torch.cuda.current_device() if device is None else device, name, backend)
    except Exception:  # after a sticky CUDA error every call raises; there is nothing to tell then
        return None


def cached_blocks(backend: str, device: int | None) -> CachedBlocks | None:
    """What of the cache can be had, block by block. Too slow for every second.

    Args:
        backend: "cuda", "host", …
        device: The framework's ordinal; None is its current one.

    Returns:
        None as for `allocator`, and where the back end has no blocks.
    """
    torch, segments = _segments(backend, device)
    return None if segments is None else count_blocks(torch, segments)


def private_pools(backend: str, device: int | None) -> int:
    """Bytes in use in private pools: CUDA graphs keep what they need to run again there, and no tensor shows it.

    Args:
        backend: "cuda", "host", …
        device: The framework's ordinal; None is its current one.
    """
    return private_bytes(_segments(backend, device)[1] or ())


def _segments(backend: str, device: int | None) -> tuple[Any, list[dict[str, Any]] | None]:
    """The module, and the allocator's segments on one device."""
    torch = _started_cuda()
    if torch is None or backend != _backend(torch, "cuda"):
        return torch, None
    try:
        return torch, read_segments(torch, torch.cuda.current_device() if device is None else device)
    except Exception:  # as in `allocator`; or the back end has none
        return torch, None


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
        found = {ordinal: uuid_of(torch, ordinal) for ordinal in range(torch.cuda.device_count())}
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
    """Gradients, autograd graphs, and what parameters, buffers and optimizer state are; see `_pytorch_graph`.

    Args:
        objects: Any objects.
        nodes: Graph nodes that were met, by id; what the search keeps alive.
    """
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
