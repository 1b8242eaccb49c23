"""Models on a GPU that are trained on the CPU for a while: where their weights lie then, and in the end."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, cast

from nb_oomhelper.introspection import living, with_subclasses

_STAYS = (
    "nb_oomhelper.on_host: the GPU has no room for {}, which stay in host memory. `.to()` moves a model there, "
    "`optimizer.load_state_dict(optimizer.state_dict())` what an optimizer keeps, and "
    "`optimizer.zero_grad()` drops gradients."
)
_MODELS, _STATES = "models that were made or changed here", "gradients and what optimizers keep"


class HostTraining:
    """What has gradients lies in host memory from when it is first used to the end.

    Args:
        torch: The module.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._there: dict[int, tuple[Any, Any]] = {}  # by the tensor's id: it, and its memory on the GPU
        # What is on the CPU and was to be elsewhere: by its storage, to which no reference is kept, and where.
        self._asked: dict[int, tuple[Any, Any]] = {}
        self._optimizers: dict[int, Any] = {}

    def take(self, tensor: Any, copy: Any) -> None:
        """Let a tensor lie in host memory; it stays the same object, which models and optimizers know.

        Args:
            tensor: What is on a GPU.
            copy: A copy of it on the host.
        """
        self._there[id(tensor)] = (tensor, tensor.data)
        tensor.data = copy.detach()
        self.ask(tensor, self._there[id(tensor)][1].device)
        if tensor.grad is not None:
            tensor.grad.data = tensor.grad.data.cpu()

    def leave(self, tensor: Any) -> None:
        """Let a tensor stay in host memory in the end: it was moved there.

        Args:
            tensor: The tensor.
        """
        self._there.pop(id(tensor), None)

    def ask(self, tensor: Any, device: Any) -> None:
        """Note that a tensor was to be on a GPU: where it is a model's, it is in the end.

        Args:
            tensor: What is on the CPU.
            device: The GPU.
        """
        if tensor.layout is self._torch.strided:
            storage = tensor.untyped_storage()
            reference = sys.modules["torch.multiprocessing.reductions"].StorageWeakRef(storage)
            self._asked[storage._cdata] = (reference, device)

    def ask_beside(self, tensor: Any, result: Any) -> None:
        """Note that a tensor is to be where another one is in the end.

        Args:
            tensor: The other one.
            result: What is on the CPU.
        """
        device = self._device_of(tensor)
        if device is not None:
            self.ask(result, device)

    def note(self, optimizer: Any, *_of_step: Any) -> None:
        """Note an optimizer that has made a step: what it keeps is to lie where the weights do.

        Args:
            optimizer: The optimizer.
            _of_step: What else PyTorch tells a hook.
        """
        self._optimizers[id(optimizer)] = optimizer

    def put_back(self) -> None:
        """Give all of it to the GPU, as far as that has room."""
        changed = list[tuple[Any, Any]]()
        for tensor, memory in self._there.values():
            if (tensor.shape, tensor.dtype) == (memory.shape, memory.dtype):
                tensor.data = memory.copy_(tensor.data)
            else:  # `model.half()`
                changed.append((tensor, memory.device))
        models = [*changed, *self._of_modules()]
        left = [] if self._move(models) else [_MODELS]
        weights = [one for one, _ in (*self._there.values(), *models)]
        left += [] if self._move(self._behind(weights)) else [_STATES]
        if left:
            warnings.warn(_STAYS.format(", and ".join(left)), stacklevel=6)
        for kept in (self._there, self._asked, self._optimizers):  # an error may keep this for long
            kept.clear()

    def _device_of(self, tensor: Any) -> Any:
        """The GPU on which a tensor is, or is to be in the end; None for the CPU."""
        if tensor.is_cuda:
            return tensor.device
        if tensor.layout is not self._torch.strided:
            return None
        reference, device = self._asked.get(tensor.untyped_storage()._cdata, (None, None))
        return None if reference is None or reference.expired() else device

    def _of_modules(self) -> Iterator[tuple[Any, Any]]:
        """Weights and buffers that were to be on a GPU, and those beside such in a module, with where."""
        used = self._asked or self._there
        modules = living(with_subclasses([self._torch.nn.Module])) if used else ()
        for one in cast("Iterable[Any]", modules or ()):
            kept = (*one._parameters.values(), *one._buffers.values(), *vars(one).values())
            tensors = list(tensors_in(self._torch, kept))
            devices = [self._device_of(tensor) for tensor in tensors]
            usual = next((device for device in devices if device is not None), None)
            for tensor, device in zip(tensors, devices, strict=True):
                if not tensor.is_cuda and (device or usual) is not None:
                    yield tensor, device or usual

    def _behind(self, weights: list[Any]) -> Iterator[tuple[Any, Any]]:
        """What belongs to weights on a GPU and lies on the CPU: their gradients, and what optimizers keep of them."""
        for one in weights:
            if one.is_cuda and one.grad is not None and not one.grad.is_cuda:
                yield one.grad, one.device
        for optimizer in self._optimizers.values():
            counts = {id(one) for group in optimizer.param_groups if group.get("fused") for one in group["params"]}
            for weight, state in optimizer.state.items():
                if not isinstance(weight, self._torch.Tensor) or not weight.is_cuda:
                    continue
                for one in tensors_in(self._torch, state.values()):
                    if not one.is_cuda and (one.ndim or id(weight) in counts):  # else its counter of steps, which stays
                        yield one, weight.device

    def _move(self, pairs: Iterable[tuple[Any, Any]]) -> bool:
        """Move tensors to where they are to be, all or none."""
        moved = list[tuple[Any, Any]]()
        try:
            for tensor, device in pairs:
                moved.append((tensor, tensor.data))
                tensor.data = tensor.data.to(device)
        except RuntimeError:  # out of memory, or anything else of CUDA's
            for tensor, memory in moved:
                tensor.data = memory
            return False
        return True


def tensors_in(torch: Any, kept: Iterable[Any]) -> Iterator[Any]:
    """Give the tensors among what is kept, those in lists too.

    Args:
        torch: The module.
        kept: What is kept.
    """
    for one in kept:
        if isinstance(one, torch.Tensor):
            yield one
        elif isinstance(one, (list, tuple, type({}.values()))):
            yield from tensors_in(torch, one)
