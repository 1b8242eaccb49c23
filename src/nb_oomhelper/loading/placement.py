"""Where each way of loading a model would put its bytes: on the GPU, in host memory, on disk; and whether it fits.

Arithmetic on a checkpoint's size and the room that there is. Nothing is loaded, and nothing is asked of a framework.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nb_oomhelper.loading.checkpoint import FLOATING, Checkpoint, Config, TensorSize
from nb_oomhelper.loading.generation import SPARE, Generation, beside, cache_size, needed_for
from nb_oomhelper.records.remedy import LoadOption, Placement

_MIB = 1 << 20
SLACK = 512 * _MIB  # bytes that a load takes beside the weights: threads, libraries, buffers of a copy
_LAYER = re.compile(r"(.*?\.\d+)\.")  # "model.layers.3" is kept together


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Bytes that a load may take, once the failed cell is released; None is unknown.

    Attributes:
        backend, device: Where the model is to go: "cuda" and an ordinal, or "host" and None.
        free: Bytes free there.
        others: Other GPUs: ordinal and free bytes, most free first.
        host: Bytes of host memory.
        maps: Address space is what bounds the host: files that are mapped count as well.
        disk: Bytes of room in `folder`.
        folder: Where weights can be put on disk, or None where there is no such place.
        wanted: What is to be generated, where that was said; else room is left for a text of `TOKENS`.
        whole: False where more may come back than was found.
    """

    backend: str
    device: int | None = None
    free: int | None = None
    others: tuple[tuple[int, int], ...] = ()
    host: int | None = None
    maps: bool = False
    disk: int | None = None
    folder: str | None = None
    wanted: Generation | None = None
    whole: bool = True


def margin(config: Config | None, dtype: str | None, room: MemoryBudget) -> int:
    """Tell the bytes to leave free on a device beside the weights.

    Args:
        config: The model's.
        dtype: What it is loaded in.
        room: Says for what.
    """
    made = config.dtype if dtype == "auto" and config else dtype
    told = None if room.wanted is None else needed_for(config, room.wanted, made)
    least = SLACK if room.backend == "host" else SPARE
    if told is not None:
        return least + told
    if room.wanted is not None:
        return least + (cache_size(config, room.wanted, room.wanted.in_form(made), prompt=True) or 0)
    return least if room.backend == "host" else beside(config).margin


def half_of(checkpoint: Checkpoint, backend: str) -> str:
    """Choose the 16-bit dtype for a model: the one it was made in, else the faster one on its device.

    Args:
        checkpoint: The model's size.
        backend: Where it is to go: "cuda", …, or "host".
    """
    made = [checkpoint.config.dtype if checkpoint.config else None, *(name for name, _ in checkpoint.dtypes)]
    known = next((name for name in made if name in ("float16", "bfloat16")), None)
    return known or ("bfloat16" if backend == "host" else "float16")


def estimate_placement(
    options: Sequence[LoadOption], checkpoint: Checkpoint, dtype: str | None, room: MemoryBudget
) -> Placement | None:
    """Say where these options together would put a checkpoint.

    Args:
        options: Such as ("half", "offload").
        checkpoint: The model's size.
        dtype: What the call asks for: a dtype's name, "auto" for the file's own, or None for unknown.
        room: What there is.

    Returns:
        None where they make no sense here: no other GPU to go to, or 16 bits already.
    """
    made = half_of(checkpoint, room.backend) if "half" in options else dtype
    before = _size(checkpoint, dtype)
    if "half" in options and dtype is not None and _bits(checkpoint, dtype) <= 16:
        return None
    if "context" in options:
        return _placed(room, made, gpu=None if room.backend == "host" else before)
    for bits in (8, 4):
        if f"{bits}bit" in options:
            return None if room.backend == "host" else _one(checkpoint.quantized(bits), checkpoint, None, room)
    if "device" in options:
        return _elsewhere(_size(checkpoint, made), made, room, checkpoint.config)
    if "host" in options:
        fits = _works(before, room.host, checkpoint.config, dtype, replace(room, backend="host"))
        return None if room.backend == "host" else _placed(room, made, host=before, fits=fits)
    if "spread" in options or "offload" in options:
        return _spread(checkpoint, made, room, asked=dtype, disk="offload" in options)
    return _one(_size(checkpoint, made), checkpoint, made, room)


def _size(checkpoint: Checkpoint, dtype: str | None) -> int | None:
    if dtype is None:
        return None
    return checkpoint.size if dtype == "auto" else checkpoint.size_as(dtype)


def _bits(checkpoint: Checkpoint, dtype: str) -> int:
    """Bits of a value when it is loaded so; of the most frequent dtype where it stays as stored."""
    name = dtype if dtype != "auto" else next((one for one, _ in checkpoint.dtypes if one in FLOATING), "float32")
    return FLOATING.get(name, 32)


def _one(size: int | None, checkpoint: Checkpoint, dtype: str | None, room: MemoryBudget) -> Placement:
    """All of it on the device."""
    on_host = room.backend == "host"
    whole, free = (needed(checkpoint, dtype, room), room.host) if on_host else (size, room.free)
    fits = _works(whole, free, checkpoint.config, dtype, room)
    return _placed(room, dtype, host=size, fits=fits) if on_host else _placed(room, dtype, gpu=size, fits=fits)


def _works(
    size: int | None, free: int | None, config: Config | None, dtype: str | None, room: MemoryBudget
) -> bool | None:
    """Whether one device has room for weights and for what is to be done with them."""
    kept, spare = _kept(config, dtype, room), margin(config, dtype, room)
    fits = _fits(None if size is None else size + kept, free, spare - kept)
    return fits and _told(config, room)


def _kept(config: Config | None, dtype: str | None, room: MemoryBudget) -> int:
    """Bytes of keys and values of what is to be generated: these are there for sure."""
    made = config.dtype if dtype == "auto" and config else dtype
    return 0 if room.wanted is None else cache_size(config, room.wanted, room.wanted.in_form(made)) or 0


def _told(config: Config | None, room: MemoryBudget) -> bool | None:
    """None where a text is to be generated and nobody knows what that takes."""
    return True if room.wanted is None or needed_for(config, room.wanted, None) is not None else None


def needed(checkpoint: Checkpoint, dtype: str | None, room: MemoryBudget) -> int | None:
    """Estimate the bytes of the device that a load as it is asked for takes, mapped files included.

    Args:
        checkpoint: The model's size.
        dtype: What the call asks for: a dtype's name, "auto" for the file's own, or None for unknown.
        room: Where it is to go.

    Returns:
        None for unknown.
    """
    size = _size(checkpoint, dtype)
    if size is None or room.backend != "host":
        return size
    return size + _mapped(checkpoint, dtype, room)


def _mapped(checkpoint: Checkpoint, dtype: str | None, room: MemoryBudget) -> int:
    """Address space that the files take while they are read; as they are stored they are what was asked for."""
    return (checkpoint.size or 0) if room.maps and converts(checkpoint, dtype) else 0


def converts(checkpoint: Checkpoint, dtype: str | None) -> bool:
    """Say whether a load makes new tensors of those that are stored.

    Args:
        checkpoint: What is stored.
        dtype: What the call asks for, as in `needed`.
    """
    return dtype not in ("auto", None) and checkpoint.dtypes[:1] != ((dtype, checkpoint.size),)


def _elsewhere(size: int | None, dtype: str | None, room: MemoryBudget, config: Config | None) -> Placement | None:
    if not room.others:
        return None
    device, free = room.others[0]
    fits = _fits(size, free, SPARE) if room.wanted is None else _works(size, free, config, dtype, room)
    return Placement(gpu=size, host=0, disk=0, fits=fits, device=device, dtype=dtype)


def _spread(
    checkpoint: Checkpoint, dtype: str | None, room: MemoryBudget, *, asked: str | None, disk: bool
) -> Placement | None:
    """Over the GPU and host memory, and the disk where that is allowed, as accelerate fills them."""
    if (room.backend == "host" and not disk) or (disk and room.folder is None):
        return None
    layers = _layers(checkpoint, dtype)
    gpu, host = _budgets(checkpoint, dtype, room, max(layers, default=0))
    if not layers or host is None or (room.backend != "host" and gpu is None):
        return _placed(room, dtype, budget=_budget_text(room, gpu, host))
    rooms = [host] if room.backend == "host" else [gpu or 0, host]
    filled = _fill(layers, rooms)
    on_gpu, on_host = (0, filled[0]) if room.backend == "host" else (filled[0], filled[1])
    on_disk = filled[-1]
    alone = room.backend == "host" or on_host == 0
    if disk and on_disk == 0 and (dtype == asked or alone):  # it would be the same as without
        return None
    if on_gpu + on_host == 0:  # accelerate refuses to put a whole model on disk
        return _placed(room, dtype, disk=on_disk, fits=False)
    written = 0 if _mapped_as_stored(checkpoint, dtype) else on_disk
    fits: bool | None = on_disk == 0 if not disk else None
    if disk and room.disk is not None:
        fits = written <= room.disk
    fits = fits and _told(checkpoint.config, room)
    if room.wanted is not None and on_gpu == 0:  # the text is written where the weights are
        fits = fits and _works(on_host, room.host, checkpoint.config, dtype, replace(room, backend="host"))
    budget = _budget_text(room, gpu, host)
    return _placed(room, dtype, gpu=on_gpu, host=on_host, disk=on_disk, fits=fits, budget=budget)


def _mapped_as_stored(checkpoint: Checkpoint, dtype: str | None) -> bool:
    """Whether what goes to disk is there already: safetensors files in the dtype that is asked for."""
    same = dtype == "auto" or [name for name, _ in checkpoint.dtypes] == [dtype]
    return checkpoint.how == "safetensors" and same


def _budgets(
    checkpoint: Checkpoint, dtype: str | None, room: MemoryBudget, largest: int
) -> tuple[int | None, int | None]:
    """Bytes that weights may take on the GPU and in host memory, with a margin on both: whole MiB, as the call says."""
    gpu = None
    if room.backend != "host" and room.free is not None:
        gpu = _whole(room.free - margin(checkpoint.config, dtype, room))
    host = room.host
    if host is not None:
        files = (checkpoint.size or 0) if room.maps else 0
        spare = margin(checkpoint.config, dtype, room) if room.backend == "host" else SLACK
        host = _whole(host - files - largest - spare)
    return gpu, host


def _whole(size: int) -> int:
    return max(0, size) // _MIB * _MIB


def _budget_text(room: MemoryBudget, gpu: int | None, host: int | None) -> str:
    """The max_memory argument: accelerate reads whole numbers of MiB."""
    given = [] if room.backend == "host" or gpu is None else [f'{room.device or 0}: "{gpu // _MIB}MiB"']
    given += [] if host is None else [f'"cpu": "{host // _MIB}MiB"']
    return "{" + ", ".join(given) + "}"


def _layers(checkpoint: Checkpoint, dtype: str | None) -> list[int]:
    """Bytes of what is kept together, in the order of a model: embeddings, the layers, the rest.

    None at all where the dtype is not known.
    """
    if dtype != "auto" and dtype not in FLOATING:
        return []
    sizes: dict[str, int] = {}
    for one in checkpoint.tensors:
        match = _LAYER.match(one.name)
        name = match[1] if match else one.name.rpartition(".")[0] or one.name
        sizes[name] = sizes.get(name, 0) + _as(one, dtype)
    return [sizes[name] for name in sorted(sizes, key=_place_in_model)]


def _place_in_model(name: str) -> tuple[int, tuple[int, ...], str]:
    numbers = tuple(int(number) for number in re.findall(r"\d+", name))
    early = any(word in name for word in ("embed", "wte", "wpe", "shared"))
    return (0 if early else 1 if numbers else 2), numbers, name


def _as(tensor: TensorSize, dtype: str | None) -> int:
    if dtype is None or dtype == "auto" or tensor.dtype not in FLOATING:
        return tensor.size
    return math.prod(tensor.shape) * FLOATING[dtype] // 8


def _fill(layers: Sequence[int], rooms: Sequence[int]) -> list[int]:
    """Put layers one after another where there is room, the last place having no end.

    accelerate 1.15 (`infer_auto_device_map`) leaves room for the largest layer still to come, which it
    brings back from further away when its turn comes, and never returns to a place that it has left.
    """
    filled, place = [0] * (len(rooms) + 1), 0
    for at, size in enumerate(layers):
        largest = max(layers[at + 1 :], default=0)
        while place < len(rooms) and filled[place] + size > rooms[place] - largest:
            place += 1
        filled[place] += size
    return filled


def _fits(needed: int | None, free: int | None, margin: int) -> bool | None:
    """Yes with the margin, no without room for the bytes themselves, and between the two nobody knows."""
    if needed is None or free is None:
        return None
    if needed > free:
        return False
    return True if needed + margin <= free else None


def _placed(
    room: MemoryBudget,
    dtype: str | None,
    *,
    gpu: int | None = None,
    host: int | None = None,
    disk: int | None = None,
    fits: bool | None = None,
    budget: str = "{}",
) -> Placement:
    if (gpu, host, disk) != (None, None, None):  # what is not said is none
        gpu, host, disk = gpu or 0, host or 0, disk or 0
    return Placement(gpu=gpu, host=host, disk=disk, fits=fits, device=room.device, dtype=dtype, budget=budget)
