"""Copies on the host of tensors on a GPU, which share their memory as those do."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from nb_oomhelper.errors import UsageError
from nb_oomhelper.remedies.host_training import HostTraining, tensors_in


class HostCopies:
    """Copies, each made when it is first asked for and kept until the end.

    Args:
        torch: The module.
        training: Where what has gradients lies meanwhile; None where none are computed.
    """

    def __init__(self, torch: Any, training: HostTraining | None = None) -> None:
        self._torch, self._training = torch, training
        self._made: dict[int, tuple[Any, Any]] = {}  # by the tensor's id: it, and its copy
        self._tensors: dict[int, Any] = {}  # by the copy's id
        self._storages = _Storages(torch)
        self._versions: dict[int, int] = {}  # of a copy, as it was made
        self._data: list[tuple[Any, Any]] = []  # tensors that were given other memory, and where they were
        self._left: dict[int, Any] = {}  # what came out where something was moved to the CPU, referred to weakly

    def of(self, tensor: Any) -> Any:
        """Give the copy of a tensor; one that is on the CPU is its own."""
        self.take(tensor)
        if not self._is_away(tensor):
            return tensor
        if id(tensor) not in self._made:
            copy = self._copy(tensor)
            self._made[id(tensor)], self._tensors[id(copy)] = (tensor, copy), tensor
            self._versions[id(copy)] = copy._version
        return self._made[id(tensor)][1]

    def take(self, tensor: Any) -> None:
        """Let a tensor on a GPU to which gradients go lie in host memory, where any are computed."""
        if self._training is None or not self._is_away(tensor) or not (tensor.requires_grad and tensor.is_leaf):
            return
        self._lay(tensor)

    def take_state(self, optimizer: Any, *_of_step: Any) -> None:
        """Let what an optimizer keeps lie in host memory before it makes a step.

        Args:
            optimizer: The optimizer.
            _of_step: What else PyTorch tells a hook.
        """
        with self._torch._C.DisableTorchFunction():
            for one in tensors_in(self._torch, map(dict.values, optimizer.state.values())):
                if self._is_away(one):
                    self._lay(one)

    def _lay(self, tensor: Any) -> None:
        copy = self._drop(tensor)  # what was used without gradients before has one
        with self._torch.inference_mode(False):
            self._training.take(tensor, copy if copy is not None else self._copy(tensor))  # type: ignore[union-attr]

    def ask(self, tensor: Any, result: Any, device: Any) -> None:
        """Note that a tensor was to be moved, or made elsewhere.

        Args:
            tensor: The tensor; None where it is made.
            result: What came out.
            device: Where to; None where none was told.
        """
        kind = "" if device is None or not isinstance(result, self._torch.Tensor) else device.type
        if kind == "cpu":
            self._left[id(result)] = weakref.ref(result)
        for one in (tensor, result) if self._training is not None and kind == "cuda" else ():
            if one is not None and not self._is_away(one):
                self._training.ask(one, device)  # type: ignore[union-attr]

    def ask_beside(self, tensor: Any, result: Any) -> None:
        """Note that a copy was made: it is to lie where what it is of does.

        Args:
            tensor: What it is of.
            result: The copy.
        """
        if self._training is not None and not self._is_away(result):
            self._training.ask_beside(tensor, result)

    def here(self, given: Any) -> Any:
        """Give some arguments with copies for tensors, and the CPU for devices."""
        if isinstance(given, self._torch.Tensor):
            return self.of(given)
        if isinstance(given, self._torch.device):
            return self._torch.device("cpu") if given.type == "cuda" else given
        if isinstance(given, str):
            return "cpu" if given == "cuda" or given.startswith("cuda:") else given
        return _within(given, self.here)

    def back(self, result: Any) -> Any:
        """Give a result with the tensors for their copies: `x.add_(1)` gives `x`."""
        if isinstance(result, self._torch.Tensor):
            return self._tensors.get(id(result), result)
        return _within(result, self.back)

    def note_changes(self, tensors: Any) -> None:
        """Take it that tensors were changed in place, where their copies do not tell."""
        for one in tensors:
            if id(one) in self._made:
                self._storages.note(one)

    def forget(self, tensor: Any, memory: Any) -> None:
        """Drop the copy of a tensor that is given other memory: in the end that lies where the tensor did.

        Args:
            tensor: The tensor.
            memory: What it is given; what was moved to the CPU, as by `model.cpu()`, stays there.
        """
        stays = self._left.get(id(memory), lambda: None)() is memory
        if stays and self._training is not None:
            self._training.leave(tensor)
        if self._is_away(tensor):
            self._data += [] if stays else [(tensor, self.device_of(tensor))]
            self._drop(tensor)

    def put_back(self) -> None:
        """Change the tensors as their copies were changed."""
        try:
            for tensor, copy in self._made.values():
                if copy._version != self._versions[id(copy)] and not self._storages.note(tensor):
                    self._torch.Tensor.detach(tensor).copy_(copy)
            self._storages.put_back()
            for kept in (self._made, self._tensors, self._left):  # an error may keep this for long
                kept.clear()
            for tensor, device in self._data:
                tensor.data = tensor.data.to(device)
        finally:
            self._data.clear()
            if self._training is not None:
                self._training.put_back()

    def _drop(self, tensor: Any) -> Any:
        """Give the copy of a tensor that has one, and know it no more: another may come to its place in memory."""
        _, copy = self._made.pop(id(tensor), (None, None))
        self._tensors.pop(id(copy), None)
        self._versions.pop(id(copy), None)
        return copy

    def _copy(self, tensor: Any) -> Any:
        with self._torch.inference_mode(False):  # else nobody could tell whether it is changed
            copy = self._storages.copy(tensor)
            if self._training is not None and tensor.requires_grad and not tensor.is_leaf:
                copy.requires_grad_().register_hook(_refuse)
            return copy

    def device_of(self, tensor: Any) -> Any:
        """Give the device on which a tensor really is."""
        return _device_of(self._torch, tensor)

    def _is_away(self, tensor: Any) -> bool:
        return bool(self.device_of(tensor).type == "cuda")


class _Storages:
    """Copies on the host of tensors' whole memory, so that views share theirs."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._made: dict[tuple[str, int], tuple[Any, Any]] = {}  # on the GPU and on the host
        self._changed: set[tuple[str, int]] = set()

    def copy(self, tensor: Any) -> Any:
        plain = tensor.detach()
        if plain.layout is not self._torch.strided or plain.is_conj() or plain.is_neg() or plain.is_quantized:
            return plain.cpu()
        key = self._key(tensor)
        if key not in self._made:
            storage = plain.untyped_storage()
            self._made[key] = (storage, storage.cpu())
        copy = self._torch.empty(0, dtype=plain.dtype, device="cpu")
        return copy.set_(self._made[key][1], plain.storage_offset(), plain.size(), plain.stride())

    def note(self, tensor: Any) -> bool:
        """Take it that a tensor's copy was changed; False where its memory has none."""
        known = tensor.layout is self._torch.strided and self._key(tensor) in self._made
        self._changed |= {self._key(tensor)} if known else set()
        return known

    def put_back(self) -> None:
        for key in self._changed:
            there, host = self._made[key]
            there.copy_(host)
        self._made.clear()
        self._changed.clear()

    def _key(self, tensor: Any) -> tuple[str, int]:
        return str(_device_of(self._torch, tensor)), tensor.untyped_storage().data_ptr()


def _device_of(torch: Any, tensor: Any) -> Any:
    return torch._C.TensorBase.device.__get__(tensor)


def _within(given: Any, change: Callable[[Any], Any]) -> Any:
    """Lists, tuples and dictionaries with what is in them changed."""
    kind = type(given)
    if kind is list or kind is tuple:
        return kind(change(one) for one in given)
    return {key: change(one) for key, one in given.items()} if kind is dict else given


def _refuse(_gradient: Any) -> None:
    raise UsageError("on_host: this goes back through a graph of an earlier cell, which is on the GPU")
