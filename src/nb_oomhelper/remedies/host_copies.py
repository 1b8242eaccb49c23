"""Copies on the host of tensors on a GPU, which share their memory as those do."""

from __future__ import annotations

from typing import Any

from nb_oomhelper.remedies.host_training import HostTraining


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
        self._storages: dict[tuple[str, int], tuple[Any, Any]] = {}  # on the GPU and on the host
        self._versions: dict[int, int] = {}  # of a copy, as it was made
        self._changed: set[tuple[str, int]] = set()
        self._data: list[tuple[Any, Any]] = []  # tensors that were given other memory, and where they were

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
        self._training.take(tensor, self._drop(tensor))  # of what was used without gradients before

    def ask(self, tensors: tuple[Any, ...], device: Any) -> None:
        """Note that tensors were to be moved to a GPU, where any gradients are computed.

        Args:
            tensors: The tensors; what is on a GPU is there.
            device: The GPU; None for no one.
        """
        for one in tensors if self._training is not None and device is not None else ():
            if not self._is_away(one):
                self._training.ask(one, device)  # type: ignore[union-attr]

    def here(self, given: Any) -> Any:
        """Give some arguments with copies for tensors, and the CPU for devices."""
        if isinstance(given, self._torch.Tensor):
            return self.of(given)
        if isinstance(given, self._torch.device):
            return self._torch.device("cpu") if given.type == "cuda" else given
        if isinstance(given, str):
            return "cpu" if given == "cuda" or given.startswith("cuda:") else given
        return self._within(given, self.here)

    def back(self, result: Any) -> Any:
        """Give a result with the tensors for their copies: `x.add_(1)` gives `x`."""
        if isinstance(result, self._torch.Tensor):
            return self._tensors.get(id(result), result)
        return self._within(result, self.back)

    def note_changes(self, tensors: Any) -> None:
        """Take it that tensors were changed in place, where their copies do not tell."""
        self._changed |= {self._key(one) for one in tensors if id(one) in self._made}

    def forget(self, tensor: Any) -> None:
        """Drop the copy of a tensor that is given other memory, which is to lie on its device in the end."""
        if self._is_away(tensor):
            self._data.append((tensor, self.device_of(tensor)))
            self._drop(tensor)

    def put_back(self) -> None:
        """Change the tensors as their copies were changed."""
        for tensor, copy in self._made.values():
            if copy._version == self._versions[id(copy)]:
                continue
            if self._key(tensor) in self._storages:
                self._changed.add(self._key(tensor))
            else:
                self._torch.Tensor.detach(tensor).copy_(copy)
        for key in self._changed:
            there, host = self._storages[key]
            there.copy_(host)
        for tensor, device in self._data:
            tensor.data = tensor.data.to(device)
        for kept in (self._made, self._tensors, self._storages, self._data):  # an error may keep this for long
            kept.clear()
        if self._training is not None:
            self._training.put_back()

    def _drop(self, tensor: Any) -> Any:
        """Give the copy of a tensor that has one, and know it no more: another may come to its place in memory."""
        _, copy = self._made.pop(id(tensor), (None, None))
        self._tensors.pop(id(copy), None)
        self._versions.pop(id(copy), None)
        return copy

    def _copy(self, tensor: Any) -> Any:
        plain = tensor.detach()
        if plain.layout is not self._torch.strided or plain.is_conj() or plain.is_neg() or plain.is_quantized:
            return plain.cpu()
        key = self._key(tensor)
        if key not in self._storages:
            storage = plain.untyped_storage()
            self._storages[key] = (storage, storage.cpu())
        copy = self._torch.empty(0, dtype=plain.dtype, device="cpu")
        return copy.set_(self._storages[key][1], plain.storage_offset(), plain.size(), plain.stride())

    def _key(self, tensor: Any) -> tuple[str, int]:
        return str(self.device_of(tensor)), tensor.untyped_storage().data_ptr()

    def device_of(self, tensor: Any) -> Any:
        """Give the device on which a tensor really is."""
        return self._torch._C.TensorBase.device.__get__(tensor)

    def _is_away(self, tensor: Any) -> bool:
        return bool(self.device_of(tensor).type == "cuda")

    def _within(self, given: Any, change: Any) -> Any:
        kind = type(given)
        if kind is list or kind is tuple:
            return kind(change(one) for one in given)
        if kind is dict:
            return {key: change(one) for key, one in given.items()}
        return given
