"""Which module is running, and which way: forward, or backward through what it did."""

from __future__ import annotations

import sys
from bisect import bisect_right
from typing import Any

from nb_oomhelper.forecasting.trace import Trace


class Modules:
    """The stack of modules, by PyTorch's hooks for all of them."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._stack: list[tuple[Any, str]] = []
        self._numbers: list[int] = []  # of autograd's, where a module began or ended; ever larger
        self._paths: list[str] = []
        self._last = ""
        self._names: dict[int, str] = {}

    def enter(self, module: Any) -> None:
        """A module's forward begins."""
        self._stack.append((module, self._path(module)))
        self._forward()

    def leave(self, module: Any) -> None:
        """It ends, with an error too; what it has called has ended then."""
        while self._stack:
            if self._stack.pop()[0] is module:
                break
        self._forward()

    def forward(self) -> bool:
        """Whether a forward pass is at work, also one that checkpointing repeats."""
        return bool(self._stack) or not self.backward()

    def backward(self) -> bool:
        """Whether autograd's engine is at work."""
        return bool(_graph()._current_graph_task_id() != -1)

    def look(self) -> None:
        """Before an operation: note the module whose backward pass runs, if it is another than before."""
        if not self.backward():
            return
        self._trace.trains = True
        node = _graph()._current_autograd_node()
        number = node._sequence_nr() if node is not None else None
        if number is None or number >= 1 << 63:  # what adds up gradients has no number
            return
        at = bisect_right(self._numbers, number)
        self._set(self._paths[at - 1] if at else "")

    def _forward(self) -> None:
        path = self._stack[-1][1] if self._stack else ""
        if not self.backward():  # checkpointing runs forward in the backward pass
            self._numbers.append(_graph()._autograd._get_sequence_nr())
            self._paths.append(path)
        self._set(path)

    def _set(self, path: str) -> None:
        if path != self._last:
            self._trace.places.append((len(self._trace.events), path))
            self._last = path

    def _path(self, module: Any) -> str:
        """As `named_modules()` of the outermost one has it: "GPT2Model.h.3.attn"."""
        if not self._stack:
            name = type(module).__name__
            self._names = {id(one): f"{name}.{below}".rstrip(".") for below, one in module.named_modules()}
        return self._names.get(id(module), type(module).__name__)


def _graph() -> Any:
    return sys.modules["torch"]._C
