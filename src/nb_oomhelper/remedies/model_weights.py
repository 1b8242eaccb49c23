"""Where the weights of a model lie, and how many bytes they take; no attribute of the user's is asked for."""

from __future__ import annotations

import sys

from nb_oomhelper.introspection import class_mro, instance_dict

_PARTS = 16  # models within one, that are looked at


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
    base = sys.modules["torch"]._C.TensorBase
    names = instance_dict(thing)
    own, below = names.get("_parameters"), names.get("_modules")
    for weight in list(own.values()) if type(own) is dict else ():
        if weight is not None and issubclass(type(weight), sys.modules["torch"].Tensor):
            storage = base.untyped_storage(weight)
            if storage.data_ptr() not in met:
                met.add(storage.data_ptr())
                where = base.device.__get__(weight).type
                name = "host" if where == "cpu" else where
                sizes[name] = sizes.get(name, 0) + storage.nbytes()
    for inner in list(below.values()) if depth and type(below) is dict else ():
        if inner is not None:
            measure_model(inner, sizes, met, depth - 1)


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
