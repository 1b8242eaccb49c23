"""Models on a GPU that are trained on the CPU for a while: where their weights lie then, and in the end."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, cast

from nb_oomhelper.introspection import living, with_subclasses

_STAYS = (
    "nb_oomhelper.on_host: the GPU has no room for {}, which stay in host memory; `.to()` moves a model, "
    "`optimizer.load_state_dict(optimizer.state_dict())` an optimizer's state"
)
_MODELS, _STATES = "the models that were made here", "the gradients and the optimizers' states"


class HostTraining:
    """What has gradients lies in host memory from when it is first used to the end.

    Args:
        torch: The module.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._there: dict[int, tuple[Any, Any]] = {}  # by the tensor's id: it, and its memory on the GPU
        self._asked: dict[int, tuple[Any, Any]] = {}  # what is on the CPU and was to be moved: a weak reference, where
        self._optimizers: dict[int, Any] = {}

    def take(self, tensor: Any, copy: Any) -> None:
        """Let a tensor that has gradients lie in host memory; it stays the same object, which its optimizer knows.

        Args:
            tensor: What is on a GPU.
            copy: A copy of it that there is on the host; None for another one.
        """
        memory = tensor.data
        self._there[id(tensor)] = (tensor, memory)
        tensor.data = memory.cpu() if copy is None else copy
        if tensor.grad is not None:
            tensor.grad.data = tensor.grad.data.cpu()

    def ask(self, tensor: Any, device: Any) -> None:
        """Note that a tensor was to be moved to a GPU: where it is a model's, it is in the end.

        Args:
            tensor: What is on the CPU.
            device: The GPU.
        """
        self._asked[id(tensor)] = (weakref.ref(tensor), device)

    def note(self, optimizer: Any, *_of_step: Any) -> None:
        """Note an optimizer that has made a step: its state is to lie where the weights do.

        Args:
            optimizer: The optimizer.
            _of_step: What else PyTorch tells a hook.
        """
        self._optimizers[id(optimizer)] = optimizer

    def put_back(self) -> None:
        """Give all of it to the GPU, as far as that has room."""
        for tensor, memory in self._there.values():
            memory.copy_(tensor.data)
            tensor.data = memory
        asked = list(self._of_modules())
        left = [] if self._move(asked) else [_MODELS]
        left += [] if self._move(self._behind([*(one for one, _ in self._there.values()), *dict(asked)])) else [_STATES]
        if left:
            warnings.warn(_STAYS.format(", and ".join(left)), stacklevel=5)
        for kept in (self._there, self._asked, self._optimizers):  # an error may keep this for long
            kept.clear()

    def _of_modules(self) -> Iterator[tuple[Any, Any]]:
        """Weights and buffers that were to be moved, with where."""
        modules = living(with_subclasses([self._torch.nn.Module])) if self._asked else ()
        for one in cast("Iterable[Any]", modules or ()):
            for tensor in [*one._parameters.values(), *one._buffers.values()]:
                known, device = self._asked.pop(id(tensor), (None, None))
                if known is not None and known() is tensor:
                    yield tensor, device

    def _behind(self, weights: list[Any]) -> Iterator[tuple[Any, Any]]:
        """What belongs to weights on a GPU and lies on the CPU: their gradients, and what optimizers keep of them."""
        for one in weights:
            if one.is_cuda and one.grad is not None and not one.grad.is_cuda:
                yield one.grad, one.device
        for optimizer in self._optimizers.values():
            counts = {id(one) for group in optimizer.param_groups if group.get("fused") for one in group["params"]}
            for weight, state in optimizer.state.items():
                for kept in state.values() if isinstance(weight, self._torch.Tensor) and weight.is_cuda else ():
                    for one in kept if isinstance(kept, (list, tuple)) else [kept]:
                        told = isinstance(one, self._torch.Tensor) and not one.is_cuda
                        if told and (one.ndim or id(weight) in counts):  # else its counter of steps, which stays
                            yield one, weight.device

    def _move(self, pairs: Any) -> bool:
        """Move tensors to where they are to be, all or none."""
        moved = list[tuple[Any, Any]]()
        try:
            for tensor, device in pairs:
                moved.append((tensor, tensor.data))
                tensor.data = tensor.data.to(device)
        except self._torch.OutOfMemoryError:
            for tensor, memory in moved:
                tensor.data = memory
            return False
        return True
