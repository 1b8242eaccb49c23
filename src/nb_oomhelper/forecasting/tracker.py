"""Follows the storages of a call that runs on tensors without bytes.

Every operation passes `Tracker.see` with what it was given and what it gives. A storage that is new there is a block of
the trace, until nothing refers to it any more. What a block is for shows later: a gradient when a parameter has it,
an activation when it is freed during the backward pass.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from nb_oomhelper.forecasting.modules import Modules
from nb_oomhelper.forecasting.trace import Kind, Trace

_FIRM: frozenset[Kind] = frozenset({"parameters", "gradients", "optimizer", "kv_cache", "workspace"})


class Tracker:
    """The storages on one device."""

    def __init__(self, torch: Any, device: str) -> None:
        """Begin a trace.

        Args:
            torch: The module.
            device: Type of the device that is meant: "cuda", "cpu", ….
        """
        self._torch, self.device = torch, device
        self.trace = Trace()
        self.modules = Modules(self.trace)
        self._live: dict[int, tuple[int, Any]] = {}  # by a storage's own number: block, weak reference
        self._forward: set[int] = set()  # blocks that a forward pass with gradients has made, and that are there

    def begin(self, tensors: Iterable[Any]) -> None:
        """Note the tensors that are there before the call; only those on the device count."""
        for tensor in tensors:
            if tensor.device.type == self.device and tensor.layout is self._torch.strided:
                storage = tensor.untyped_storage()
                kind: Kind = "parameters" if isinstance(tensor, self._torch.nn.Parameter) else "other"
                if storage._cdata not in self._live and storage.data_ptr():
                    number = self.trace.held(storage.nbytes(), storage.data_ptr(), kind)
                    self._watch(storage, number)

    def same(self, tensor: Any, fake: Any) -> None:
        """Note that a tensor without bytes stands for a real one: its storage is no new block.

        Args:
            tensor: The real one.
            fake: The one without bytes.
        """
        if fake.device.type != self.device or tensor.layout is not self._torch.strided:
            return
        real, storage = tensor.untyped_storage(), fake.untyped_storage()
        if real._cdata not in self._live:
            self.begin([tensor])
        found = self._live.get(real._cdata)
        if found is not None and storage._cdata not in self._live:
            self._live[storage._cdata] = (found[0], weakref.ref(storage, self._forget(storage._cdata)))

    def _forget(self, name: int) -> Callable[[Any], None]:
        return lambda _: self._live.pop(name, None) and None

    def gone(self, tensor: Any) -> None:
        """Note that the storage of a real tensor is another one's from now on, and its own is given back.

        Args:
            tensor: On any device.
        """
        found = self._live.pop(tensor.untyped_storage()._cdata, None)
        if found is not None:
            self.trace.free(found[0])

    def see(self, found: Iterable[Any]) -> None:
        """Note the tensors that an operation gives."""
        for tensor in found:
            if tensor.device.type != self.device or tensor.layout is not self._torch.strided:
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._live and storage.nbytes():
                number = self.trace.allocate(storage.nbytes())
                self._watch(storage, number)
                if self._torch.is_grad_enabled() and self.modules.forward():
                    self._forward.add(number)

    def passing(self, size: int) -> None:
        """Note what an operation takes inside and gives back before it ends.

        Args:
            size: Bytes.
        """
        self.trace.free(self.trace.allocate(size))

    def mark(self, tensors: Iterable[Any], kind: Kind) -> None:
        """Say what tensors are for.

        Args:
            tensors: What is no tensor is left out.
            kind: What they are for.
        """
        for tensor in tensors:
            if not isinstance(tensor, self._torch.Tensor) or tensor.layout is not self._torch.strided:
                continue
            found = self._live.get(tensor.untyped_storage()._cdata)
            if found is not None:
                self.trace.blocks[found[0]].kind = kind

    def end(self) -> Trace:
        """Give the trace; what is still there keeps no callback."""
        for number in self._forward:
            self._settle(number, "activations")
        self._live.clear()
        return self.trace

    def _watch(self, storage: Any, number: int) -> None:
        name = storage._cdata

        def gone(_: Any) -> None:
            if self._live.get(name, (None,))[0] == number:
                del self._live[name]
                self.trace.free(number)
                self._ends(number)

        self._live[name] = (number, weakref.ref(storage, gone))

    def _ends(self, number: int) -> None:
        if number in self._forward:
            self._forward.discard(number)
            if self.modules.backward():
                self._settle(number, "activations")

    def _settle(self, number: int, kind: Kind) -> None:
        block = self.trace.blocks[number]
        if block.kind not in _FIRM:
            block.kind = kind
