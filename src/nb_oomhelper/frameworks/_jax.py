"""JAX: its allocator's figures, the memory behind its arrays, and its compiled functions.

JAX is found in `sys.modules` and never imported, and its devices are looked at only once the user's own
code has started them: JAX takes three quarters of a GPU at its start. Checked with JAX 0.10 on the CPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from nb_oomhelper.frameworks._nothing import pinned as pinned
from nb_oomhelper.frameworks._nothing import private_pools as private_pools
from nb_oomhelper.frameworks._xla_messages import recognize as recognize
from nb_oomhelper.records.memory import AllocatorMemory, CachedBlocks
from nb_oomhelper.records.remedy import StepKind

name = "jax"
module = "jax"

_BACKENDS = {"cpu": "host", "gpu": "cuda", "cuda": "cuda", "rocm": "hip"}


def loaded() -> bool:
    """Whether JAX has been imported by someone."""
    return _array_class() is not None


def allocator(backend: str, device: int | None) -> AllocatorMemory | None:
    """JAX's allocator on one GPU, in bytes.

    It keeps what it once took from the driver: `keeps` is set.

    Args:
        backend: "cuda", or "hip".
        device: The GPU's ordinal among those that this process sees; None is the first.

    Returns:
        None where JAX has started no such GPU. Never raises.
    """
    try:
        found = next((one for one in _devices(backend) if device in (None, _ordinal(one))), None)
        stats = found.memory_stats() if found is not None else None
        if not stats:  # the CPU has none
            return None
        return AllocatorMemory(
            framework=name,
            backend=backend,
            device=_ordinal(found),
            allocated=stats.get("bytes_in_use"),
            reserved=stats.get("pool_bytes", stats.get("bytes_in_use")),
            peak_allocated=stats.get("peak_bytes_in_use"),
            limit=stats.get("bytes_limit"),
            largest_free_block=stats.get("largest_free_block_bytes") or None,
            never_releases=True,
        )
    except Exception:  # a device that was lost; there is nothing to tell then
        return None


def cached_blocks(backend: str, device: int | None) -> CachedBlocks | None:
    """The largest free piece of the pool; None where it does not tell. Nothing of the pool goes back to the driver.

    Args:
        backend: "cuda", "host", …
        device: The framework's ordinal; None is its current one.
    """
    found = allocator(backend, device)
    return CachedBlocks(largest=found.largest_free_block) if found else None


def device_uuids() -> dict[int, str | None]:
    """The GPUs that JAX has started, by ordinal; it does not tell their uuids."""
    try:
        return {_ordinal(one): None for backend in ("cuda", "hip") for one in _devices(backend)}
    except Exception:  # as in `allocator`
        return {}


def storages(objects: Iterable[object]) -> Iterator[tuple[int, Hashable, str, int | None, int]]:
    """The memory that each array among these objects keeps, its shards one by one.

    Only the shards of this process count. Deleted and donated arrays keep nothing; tracers have no memory.
    An array that is still being computed is not waited for: it counts by itself.

    Yields:
        Index of the object, key, backend, device, bytes.
    """
    kind = _array_class()
    for index, thing in enumerate(objects):
        if _is_array(kind, thing):
            try:
                parts = enumerate(kind._arrays.__get__(thing))
                rows = [row for number, part in parts if (row := _row(thing, number, part)) is not None]
            except Exception:  # deleted meanwhile, by another thread
                continue
            for row in rows:
                yield index, *row


def _row(array: Any, number: int, part: Any) -> tuple[Hashable, str, int | None, int] | None:
    """Key, backend, device and bytes of one shard."""
    if part.is_deleted() or not (size := part.on_device_size_in_bytes()):
        return None
    (device,) = part.devices()
    on_host = device.platform == "cpu" or str(getattr(array.sharding, "memory_kind", "")).endswith("host")
    backend, ordinal = ("host", None) if on_host else (_backend(device), _ordinal(device))
    address = part.unsafe_buffer_pointer() if part.is_ready() else ("pending", id(array), number)
    return (backend, ordinal, address), backend, ordinal, size


def beyond(objects: Sequence[object], nodes: dict[int, object]) -> Iterator[tuple[object, str]]:  # noqa: ARG001
    """The copy in host memory that an array keeps once somebody has looked at its values.

    Args:
        objects: Any objects.
        nodes: Graph nodes that were met, by id; what the search keeps alive.
    """
    kind = _array_class()
    for thing in objects:
        copy = _attribute(kind, "_npy_value", thing)
        if copy is not None:
            yield copy, "tensors"


def label(obj: object) -> str | None:
    """Type and shape, "float32 (3, 4)"; None for what is no array of JAX's."""
    aval = _attribute(_array_class(), "aval", obj)
    return None if aval is None else f"{aval.dtype} {aval.shape}"


def role(obj: object) -> str | None:
    """ "array" for JAX's arrays, by class alone."""
    return "array" if _is_array(_array_class(), obj) else None


def array_classes() -> tuple[type, ...]:
    """The class of JAX's arrays."""
    kind = _array_class()
    return () if kind is None else (kind,)


def caches(*, deep: bool) -> list[tuple[StepKind, Callable[[], object]]]:
    """Compiled functions, which keep the constants they were compiled with. They cost time to make again: deep only."""
    jax = sys.modules.get(module)
    return [("jax_compiled", jax.clear_caches)] if deep and jax is not None and _clients() else []


def _devices(backend: str) -> list[Any]:
    """The devices of a backend that JAX has started in this process."""
    return [one for client in _clients() for one in client.local_devices() if _backend(one) == backend]


def _clients() -> list[Any]:
    """What JAX has started; asking `jax.devices()` would start it."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    found = getattr(bridge, "_backends", None)
    return list(found.values()) if isinstance(found, dict) else []


def place_of(device: Any) -> tuple[str, int | None]:
    """Give our words for a device: "cuda" and its ordinal, or "host" and None.

    Args:
        device: As JAX has it.
    """
    backend = _backend(device)
    return backend, None if backend == "host" else _ordinal(device)


def _backend(device: Any) -> str:
    """Our word for a device's platform: JAX calls NVIDIA's and AMD's "gpu"."""
    if device.platform == "gpu" and "rocm" in device.client.platform_version.lower():
        return "hip"
    platform: str = device.platform
    return _BACKENDS.get(platform, platform)


def _ordinal(device: Any) -> int:
    """The number among the GPUs that this process sees; on a cluster, ids count all processes' devices."""
    local = getattr(device, "local_hardware_id", None)
    return int(device.id if local is None else local)


def _attribute(kind: Any, name: str, thing: object) -> Any:
    """One of an array's own attributes; None for what is no array, or not a whole one."""
    if not _is_array(kind, thing):
        return None
    try:
        return getattr(kind, name).__get__(thing)
    except Exception:  # made by `__new__` alone
        return None


def _is_array(kind: Any, thing: object) -> bool:
    return kind is not None and type(thing) is kind  # it takes no subclasses


def _array_class() -> Any:
    """The class of arrays, once JAX has been imported far enough."""
    found: Any = getattr(sys.modules.get("jax._src.array"), "ArrayImpl", None)
    return found if isinstance(found, type) and hasattr(found, "_arrays") else None
