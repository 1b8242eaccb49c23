"""What a reduction takes inside: sums over long rows are made in parts, which lie in a buffer of their own.

The arithmetic is that of `setReduceConfig` in aten/src/ATen/native/cuda/Reduce.cuh (PyTorch 2.13 and 2.14): threads
split the input, and where that is long and the results are few, blocks of threads do, too. Then each result has as many
partial results as there are blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

_MOST_THREADS, _WARP = 512, 32
_FEW, _MANY = 16, 256  # values for one thread
_PARTIAL = 4  # bytes of a partial result: sums of 16 bits are kept in 32
_VECTOR = 4


class Processors(Protocol):
    """What of a device the arithmetic goes by."""

    @property
    def processors(self) -> int:
        """How many multiprocessors there are."""

    @property
    def threads(self) -> int:
        """How many threads each runs at once."""


@dataclass(slots=True)
class _Split:
    """How a reduction is split: steps over inputs and outputs."""

    inputs: int
    outputs: int
    vector: int = 1
    step_input: int = 1
    step_output: int = 1
    across_warps: bool = False

    @property
    def values(self) -> int:
        return -(-self.inputs // self.step_input)

    @property
    def grid(self) -> int:
        return -(-(self.outputs // self.vector) // self.step_output)


def buffers(
    shape: tuple[int, ...], strides: tuple[int, ...], kept: tuple[int, ...], device: Processors
) -> tuple[int, ...]:
    """Give the bytes of the buffers of a reduction, in the order in which they are taken.

    Args:
        shape, strides: Of what is reduced.
        kept: Its dimensions that stay.
        device: How many processors it has, and threads on each.

    Returns:
        Partial results and counters; none where one block of threads does it all.
    """
    outputs = math.prod(shape[dim] for dim in kept)
    split = _Split(math.prod(shape) // max(outputs, 1), outputs)
    wide = [dim for dim in range(len(shape)) if shape[dim] > 1]
    inner = min((strides[dim] for dim in wide if dim not in kept), default=1)
    outer = min((strides[dim] for dim in wide if dim in kept), default=None)
    along = outer is None or inner < outer
    first, second = (split.inputs, outputs) if along else (outputs, split.inputs)
    if 1 in ((inner,) if along else (outer,)):
        if along and first > 128 and outer is None:
            first //= _VECTOR
        elif not along:
            split.vector = _vector(shape, strides, kept)
            first //= split.vector
    width, height = _block(first, second, _MOST_THREADS // split.vector)
    blocks = _blocks(split, width, height, along, device)
    if blocks <= 1:
        return ()
    partial = _PARTIAL * outputs * blocks * (1 if along else width * split.vector)
    return partial, 4 * split.grid


def _vector(shape: tuple[int, ...], strides: tuple[int, ...], kept: tuple[int, ...]) -> int:
    row = _coalesced(shape, strides, kept)
    size = _VECTOR
    while row % size:
        size //= 2
    return size


def _coalesced(shape: tuple[int, ...], strides: tuple[int, ...], kept: tuple[int, ...]) -> int:
    """Elements of the innermost dimension that stays, with those that it is one row with."""
    found = 1
    for dim in sorted(kept, key=lambda one: strides[one]):
        if shape[dim] > 1 and strides[dim] == found:
            found *= shape[dim]
    return found


def _block(first: int, second: int, most: int) -> tuple[int, int]:
    """Threads of a block: how wide and how high."""
    wide, high = min(_power(first), most), min(_power(second), most)
    height = min(high, most // min(wide, _WARP))
    return min(wide, most // height), height


def _power(number: int) -> int:
    return 1 << (max(number, 1).bit_length() - 1)


def _blocks(split: _Split, width: int, height: int, along: bool, device: Processors) -> int:
    """How many blocks of threads work on one result."""
    if along:
        split.step_input *= width
    else:
        split.step_output *= width
    split.across_warps = split.values >= min(height * 16, _MANY)
    if split.across_warps:
        split.step_input *= height
    else:
        split.step_output *= height
    target = device.processors * (device.threads // (width * height))
    if not split.across_warps or split.values < _MANY or split.grid > target:
        return 1
    few = min(-(-target // split.grid), -(-split.values // _FEW))
    return max(few, -(-split.values // _MANY))
