"""How many layers of a GGUF file there is room for on the GPU, as llama.cpp puts them there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nb_oomhelper.loading.checkpoint import Checkpoint
from nb_oomhelper.loading.generation import SPARE, Generation
from nb_oomhelper.loading.placement import MemoryBudget

_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersOnGpu:
    """What llama.cpp would have on the GPU.

    Attributes:
        count: The most layers that fit, by `n_gpu_layers`.
        of: How many there are.
        size: Bytes of these layers.
        cache: Bytes of their keys and values.
        tokens: Of so many tokens.
    """

    count: int
    of: int
    size: int
    cache: int
    tokens: int


def layers_on_gpu(checkpoint: Checkpoint, wanted: Generation, room: MemoryBudget) -> LayersOnGpu | None:
    """Find how many of the last layers there is room for, each with its keys and values.

    Args:
        checkpoint: The model.
        wanted: Length, batch and form of the text.
        room: What there is.

    Returns:
        None on the host, where all fit, and where sizes are not known.
    """
    sizes: dict[int, int] = {}
    for one in checkpoint.tensors:
        if match := _LAYER.match(one.name):
            sizes[int(match[1])] = sizes.get(int(match[1]), 0) + one.size
    config = checkpoint.config
    form = wanted.in_form(None)
    cache = config.kv_cache(wanted.tokens, wanted.batch, form) if config else None
    if room.backend == "host" or room.free is None or not sizes or cache is None or checkpoint.size is None:
        return None
    left, each = room.free - SPARE, -(-cache // len(sizes))
    if checkpoint.size + cache <= left:
        return None
    count = taken = 0
    for number in sorted(sizes, reverse=True):
        if taken + sizes[number] + (count + 1) * each > left:
            break
        count, taken = count + 1, taken + sizes[number]
    return LayersOnGpu(count=count, of=len(sizes), size=taken, cache=count * each, tokens=wanted.tokens)
