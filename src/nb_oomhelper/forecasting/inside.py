"""What operations take on a CUDA device beside their results: workspaces, and buffers that are gone when they end.

No operation's result shows these. They are written down here from ATen's CUDA sources (PyTorch 2.13 and 2.14).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nb_oomhelper.forecasting.reductions import buffers
from nb_oomhelper.forecasting.stand_ins import Devices
from nb_oomhelper.forecasting.tracker import Tracker

_MATMULS = frozenset({"mm", "addmm", "bmm", "baddbmm", "addmv", "addbmm", "_addmm_activation"})
_SUMS = frozenset({"sum", "mean", "nansum", "prod", "amax", "amin", "all", "any", "linalg_vector_norm"})


class Inside:
    """Adds to a trace what each operation takes inside."""

    def __init__(self, torch: Any, tracker: Tracker, devices: Devices, say: Callable[[str], None]) -> None:
        self._torch, self._tracker, self._devices, self._say = torch, tracker, devices, say
        self._handles = set(devices.workspaces)
        self._ways: dict[str, Callable[..., None]] = {
            **dict.fromkeys(_SUMS, self._reduce),
            "convolution": self._convolve,
            "_scaled_dot_product_flash_attention_backward": self._flash_backward,
        }

    def after(self, name: str, args: Any, kwargs: Any, given_back: Any) -> None:
        """Add what it takes beside its results, and gives back.

        Args:
            name: Such as "sum".
            args, kwargs: What it was given.
            given_back: Its results.
        """
        if name in _MATMULS and self._tracker.device == "cuda":
            self._matmul()
        way = self._ways.get(name)
        if way is not None and self._tracker.device == "cuda":
            way(args, kwargs, given_back)

    def _matmul(self) -> None:
        """Each thread has a handle of cuBLAS's of its own: one for the forward pass, one for the backward pass."""
        handle = self._tracker.modules.backward() and self._devices.handles > 1
        if self._devices.workspace and handle not in self._handles:
            self._handles.add(handle)
            self._tracker.trace.allocate(self._devices.workspace, "workspace")

    def _reduce(self, args: Any, kwargs: Any, given_back: Any) -> None:  # noqa: ARG002
        given, result = args[0], given_back
        if not isinstance(result, self._torch.Tensor) or not given.numel() or not result.numel():
            return
        kept = _kept_dims(given, args, result)
        sizes = buffers(tuple(given.shape), tuple(given.stride()), kept, self._devices)
        self._together(sizes)

    def _together(self, sizes: tuple[int, ...]) -> None:
        numbers = [self._tracker.trace.allocate(size) for size in sizes]
        for number in reversed(numbers):
            self._tracker.trace.free(number)

    def _convolve(self, args: Any, kwargs: Any, given_back: Any) -> None:  # noqa: ARG002
        """Without cuDNN: one image's patches as columns, a group at a time; what cuDNN takes is its own choice."""
        given, weight, result = args[0], args[1], given_back
        if self._torch.backends.cudnn.enabled:
            self._say("convolution")
        elif given.dim() == 4 and args[8] == 1:
            columns = math.prod(weight.shape[1:]) * math.prod(result.shape[2:])
            self._tracker.passing(columns * given.element_size())

    def _flash_backward(self, args: Any, kwargs: Any, given_back: Any) -> None:  # noqa: ARG002
        query, key = args[1], args[2]
        batch, heads, length, width = query.shape
        rows = -(-length // 128) * 128
        wide = -(-width // 32) * 32
        sizes = [batch * heads * rows * 4, batch * heads * rows * wide * 4]
        if key.shape[1] != heads:  # keys and values of a group are added up once they are there for each head
            sizes += [math.prod((batch, heads, key.shape[2], width)) * key.element_size()] * 2
        self._together(tuple(sizes))


def _kept_dims(given: Any, args: Any, result: Any) -> tuple[int, ...]:
    """The dimensions that a reduction leaves."""
    if result.numel() == 1:
        return ()
    dims = next((one for one in args[1:] if isinstance(one, list | tuple | int) and not isinstance(one, bool)), ())
    gone = {dim % given.dim() for dim in ((dims,) if isinstance(dims, int) else dims)}
    return tuple(dim for dim in range(given.dim()) if dim not in gone)
