"""What PyTorch's objects lead to beyond what the garbage collector sees, and what each tensor is for.

An autograd graph is a chain of C++ nodes: `loss.grad_fn` leads to the next nodes and to the tensors that
each has saved for the backward pass. They are read as raw saved tensors, whose unpack hooks (code of the
user's) do not run. Nothing is copied, and no graph is changed.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any

from nb_oomhelper.introspection import class_mro

Mark = tuple[object, str]  # an object, and what it is for

_kinds: dict[str, tuple[tuple[str, ...], bool, bool]] = {}  # what `_kind` has found, by the name of the node's class


def beyond(torch: Any, things: Sequence[object], nodes: dict[int, object]) -> Iterator[Mark]:
    """Objects behind these, each with its part: parameters, gradients, buffers, optimizer state, graph.

    Args:
        torch: The module.
        things: Any objects.
        nodes: Graph nodes that were met, by id: those are not entered again. It keeps them alive, which
            keeps their ids unique; drop it with the search.
    """
    for thing in things:
        kinds = class_mro(type(thing))
        if any(kind is torch.Tensor for kind in kinds):
            yield from _of_tensor(torch, thing, any(kind is torch.nn.Parameter for kind in kinds), nodes)
        elif any(kind is torch.nn.Module for kind in kinds):
            yield from _members(torch.nn.Module, thing, {"_parameters": "parameters", "_buffers": "buffers"})
        elif any(kind is torch.optim.Optimizer for kind in kinds):
            yield from _state(torch.optim.Optimizer, thing)


def _members(owner: type, thing: object, parts: dict[str, str]) -> Iterator[Mark]:
    """The values of these dicts of an object, past any code of its class."""
    attributes = _attributes(owner, thing)
    for name, part in parts.items():
        values = attributes.get(name)
        if isinstance(values, dict):
            yield from ((value, part) for value in list(dict.values(values)) if value is not None)


def _state(owner: type, thing: object) -> Iterator[Mark]:
    states = _attributes(owner, thing).get("state")
    if not isinstance(states, dict):
        return
    for state in list(dict.values(states)):
        if type(state) is dict:
            yield from ((value, "optimizer state") for value in list(state.values()))


def _attributes(owner: type, thing: object) -> dict[str, Any]:
    found: dict[str, Any] = owner.__dict__["__dict__"].__get__(thing)
    return found


def _of_tensor(torch: Any, tensor: Any, is_parameter: bool, nodes: dict[int, object]) -> Iterator[Mark]:
    if is_parameter:
        yield tensor, "parameters"
    gradient, start = _edges(torch, tensor)
    if gradient is not None:
        yield gradient, "gradients"
    waiting = [start]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in nodes:
            continue
        nodes[id(node)] = node
        saved, following = _read_node(torch, node)
        yield from ((thing, "graph") for thing in saved)
        waiting.extend(following)


def _edges(torch: Any, tensor: Any) -> tuple[Any, Any]:
    """A tensor's gradient and the node that made it, or None for each. The guard ends here."""
    base = torch.Tensor.__base__
    with torch._C.DisableTorchFunction():
        try:
            if base.is_leaf.__get__(tensor):
                return base.grad.__get__(tensor), None
            return (base.grad.__get__(tensor) if base.retains_grad.__get__(tensor) else None), base.grad_fn.__get__(
                tensor
            )
        except Exception:  # a kind of tensor without autograd
            return None, None


def _read_node(torch: Any, node: Any) -> tuple[list[object], list[Any]]:
    """What a node has saved, and the nodes it leads to."""
    saved: list[object] = []
    names, is_end, is_python = _kind(type(node))
    for name in names:
        try:
            saved.extend(_data(torch, getattr(node, name)))
        except Exception:  # freed by backward(), or of a kind that cannot be read
            continue
    if is_end:  # of the graph: the leaf that its gradient goes to
        saved.append(node.variable)
    if is_python:  # a Function of the user's keeps what it likes in its context
        saved.extend(thing for thing in gc.get_referents(node) if type(thing) is dict)
    return saved, [following for following, _ in node.next_functions]


def _data(torch: Any, raw: object) -> list[object]:
    """Saved tensors without unpacking them: `data` is what was put away, before any hook of the user's."""
    found = raw if isinstance(raw, (tuple, list)) else (raw,)
    kept = (one.data for one in found if isinstance(one, torch._C._autograd.SavedTensor))
    return [thing for thing in kept if thing is not None]


def _kind(kind: type) -> tuple[tuple[str, ...], bool, bool]:
    """Attributes of a node's saved tensors, whether the graph ends there, and whether it is written in Python."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name not in _kinds:
        saved = tuple(one for one in dir(kind) if one.startswith("_raw_saved"))
        _kinds[name] = saved, kind.__name__ == "AccumulateGrad", kind.__dictoffset__ != 0
    return _kinds[name]
