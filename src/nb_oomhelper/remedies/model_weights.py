"""Where models and optimizers lie, and how many bytes they take; no attribute of the user's is asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from nb_oomhelper.introspection import class_mro, class_name, instance_dict
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.source.element import Element

_PARTS = 16  # models within one, that are looked at
_MANY = 2_000  # layers of one, that are asked whether they go row by row
_OF_BATCH = frozenset(
    {"_BatchNorm", "_DropoutNd", "RReLU", "GaussianNoise", "DropPath", "_SpectralNorm"}
)  # in training
_ADAM = ("Adam", "AdamW", "NAdam", "RAdam")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OF_GRADIENTS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_OF_TIME = frozenset({"RNNBase", "MultiheadAttention"})


def is_model(thing: object) -> bool:
    """Tell whether something is a model of PyTorch's.

    Args:
        thing: Anything.
    """
    torch = sys.modules.get("torch")
    return torch is not None and any(kind is torch.nn.Module for kind in class_mro(type(thing)))


def measure_model(thing: object, sizes: dict[str, int], met: set[int], depth: int = 4) -> None:
    """Add up the weights of a model.

    Args:
        thing: The model.
        sizes: Bytes by backend; they are added here.
        met: Where the storages lie that are counted already.
        depth: How many models within models to go into.
    """
    names = instance_dict(thing)
    own, below = names.get("_parameters"), names.get("_modules")
    for weight in list(own.values()) if type(own) is dict else ():
        if weight is not None and issubclass(type(weight), sys.modules["torch"].Tensor):
            _add_storage(weight, sizes, met)
    for inner in list(below.values()) if depth and type(below) is dict else ():
        if inner is not None:
            measure_model(inner, sizes, met, depth - 1)


def is_optimizer(thing: object) -> bool:
    """Tell whether something is an optimizer of PyTorch's.

    Args:
        thing: Anything.
    """
    optim = sys.modules.get("torch.optim")
    return optim is not None and any(kind is optim.Optimizer for kind in class_mro(type(thing)))


def measure_weights(thing: object, sizes: dict[str, int], met: set[int]) -> None:
    """Add up the weights of a model, or what an optimizer keeps for each of them; nothing of anything else.

    Args:
        thing: Anything.
        sizes, met: As of `measure_model`.
    """
    if is_model(thing):
        measure_model(thing, sizes, met)
    elif is_optimizer(thing):
        state = instance_dict(thing).get("state")
        kept = [one for one in list(dict.values(state)) if type(one) is dict] if isinstance(state, dict) else []
        for tensor in _tensors_in([part for one in kept for part in list(one.values())]):
            _add_storage(tensor, sizes, met)


def _tensors_in(things: list[object]) -> list[object]:
    return [one for one in things if issubclass(type(one), sys.modules["torch"].Tensor)]


def _add_storage(tensor: Any, sizes: dict[str, int], met: set[int]) -> None:
    base = sys.modules["torch"]._C.TensorBase
    storage = base.untyped_storage(tensor)
    if storage.data_ptr() not in met:
        met.add(storage.data_ptr())
        where = base.device.__get__(tensor).type
        name = "host" if where == "cpu" else where
        sizes[name] = sizes.get(name, 0) + storage.nbytes()


def describe_model(thing: object) -> Element:
    """Say whether something is a model or an optimizer, and whether that is on a GPU.

    Args:
        thing: Anything.
    """
    if is_model(thing):
        return Element("model", on_device=is_model_on_device(thing))
    if is_optimizer(thing):
        base, groups = sys.modules["torch"]._C.TensorBase, instance_dict(thing).get("param_groups")
        group = groups[0] if type(groups) is list and groups else None
        some = group.get("params") if type(group) is dict else None
        weights = _tensors_in(some[:1]) if type(some) is list else []
        return Element("optimizer", on_device=any(base.device.__get__(one).type != "cpu" for one in weights))
    return Element("other")


def is_model_on_device(thing: object, depth: int = 3) -> bool:
    """Tell whether the first weights of a model that are found are on a GPU.

    Args:
        thing: The model.
        depth: As of `measure_model`.
    """
    names = instance_dict(thing)
    own, below = names.get("_parameters"), names.get("_modules")
    for weight in list(own.values()) if type(own) is dict else ():
        if weight is not None and issubclass(type(weight), sys.modules["torch"].Tensor):
            return bool(sys.modules["torch"]._C.TensorBase.device.__get__(weight).type != "cpu")
    inner = list(below.values())[:_PARTS] if depth and type(below) is dict else []
    return any(is_model_on_device(one, depth - 1) for one in inner if one is not None)


def goes_row_by_row(thing: object) -> bool:
    """Tell whether the rows of a batch go through a model each by itself, and nobody looks at all of them at once.

    Layers that train may take the mean of a batch, or draw random numbers; some have their batch along the second
    axis; and a hook sees one part after the other.

    Args:
        thing: The model.
    """
    todo, met = [thing], set[int]()
    while todo and len(met) < _MANY:
        one = todo.pop()
        if one is None or id(one) in met:
            continue
        met.add(id(one))
        names = instance_dict(one)
        kinds = {class_name(kind) for kind in class_mro(type(one))}
        if any(map(names.get, _HOOKS)) or any(map(_is_hooked, _weights(names))):
            return False
        if names.get("scale_grad_by_freq") or (names.get("training") and names.get("track_running_stats")):
            return False
        if one is thing and _is_weighted(names):
            return False
        if kinds & _OF_BATCH and (names.get("training") or names.get("track_running_stats") is False):
            return False
        if kinds & _OF_TIME and (not names.get("batch_first") or (names.get("dropout") and names.get("training"))):
            return False
        below = names.get("_modules")
        todo += list(below.values()) if type(below) is dict else []
    return not todo


def _weights(names: Mapping[Any, object]) -> list[object]:
    own = names.get("_parameters")
    return list(own.values()) if type(own) is dict else []


def _is_hooked(weight: object) -> bool:
    """Whether a hook sees the gradients of a weight: it may limit those of each part."""
    torch = sys.modules["torch"]
    if weight is None or not issubclass(type(weight), torch.Tensor):
        return False
    known = (getattr(torch._C.TensorBase, name, None) for name in _OF_GRADIENTS)
    return any(one is not None and one.__get__(weight) for one in known)


def _is_weighted(names: Mapping[Any, object]) -> bool:
    """Whether it is a loss that is not the mean of what each row has lost."""
    told = names.get("reduction", "mean") == "mean" and names.get("ignore_index", -100) == -100
    weights = names.get("_buffers") if "reduction" in names else None
    return not told or (type(weights) is dict and any(one is not None for one in weights.values()))


def still_to_come(held: Holdings) -> int:
    """Give the bytes of gradients, and of Adam's two numbers a parameter, that the first step of a training makes.

    Args:
        held: Who keeps memory.
    """
    rows = [(row, dict(row.parts)) for row in held.rows if row.kind == "variable"]
    models = [parts for row, parts in rows if row.role in ("model", "pretrained model")]
    optimizers = [(row, parts) for row, parts in rows if row.role == "optimizer"]
    more = sum(map(_left, models))
    if has_optimizer(held):
        more = min(more, max(_left(parts) for _, parts in optimizers))
    adams = [parts for row, parts in optimizers if row.type_name in _ADAM]
    return more + max((2 * one.get("parameters", 0) - one.get("optimizer state", 0) for one in adams), default=0)


def has_optimizer(held: Holdings) -> bool:
    """Tell whether it is known which weights are trained: an optimizer has them.

    Args:
        held: Who keeps memory.
    """
    rows = [row for row in held.rows if row.kind == "variable" and row.role == "optimizer"]
    return any(dict(row.parts).get("parameters") for row in rows)


def _left(parts: Mapping[str, int]) -> int:
    """Bytes of gradients that are not there yet."""
    return max(0, parts.get("parameters", 0) - parts.get("gradients", 0))
