"""Whether an autograd graph was being made on the way to the error."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from types import FrameType

from nb_oomhelper.failure.places import at_top, is_users
from nb_oomhelper.holders.roots import named
from nb_oomhelper.introspection import class_mro, instance_dict
from nb_oomhelper.remedies.elements import describe

_NO_GRAD = frozenset({"no_grad", "inference_mode", "set_grad_enabled"})
_NO_GRAD_FUNCTION = "decorate_context"  # what torch.no_grad() makes of a function


def has_graph(frames: Iterable[tuple[FrameType, int]]) -> bool | None:
    """Tell whether anything computed on the way to an error has an autograd graph; None where nothing tells.

    Args:
        frames: The failed cell's frames with the lines that failed in them, outermost first.
    """
    if "torch" not in sys.modules:
        return None
    way = [frame for frame, _ in frames]
    things = [thing for frame in way if not at_top(frame.f_code) for _, thing in named(frame)]
    if not things:
        return None
    return any(describe(one).kind in ("graph", "number") for one in things) or _would_have_one(way, things)


def _would_have_one(way: list[FrameType], things: list[object]) -> bool:
    """Whether a graph was about to begin: at the first layer nothing has one yet, but its weights learn."""
    cell = itertools.dropwhile(lambda frame: not at_top(frame.f_code), way)  # what stands before runs every cell
    return not any(map(_may_see_to_it, cell)) and any(map(_learns, things))


def _may_see_to_it(frame: FrameType) -> bool:
    """Whether code may have switched gradients off: by its words, or as code of a library that we do not know."""
    code = frame.f_code
    own = at_top(code) or is_users(code.co_filename.replace("\\", "/"))
    known = own or str(frame.f_globals.get("__name__")).startswith("torch.")
    return not known or code.co_name == _NO_GRAD_FUNCTION or not _NO_GRAD.isdisjoint(code.co_names)


def _learns(thing: object) -> bool:
    """Whether it is a tensor that gets gradients, or a layer with such a weight of its own."""
    torch = sys.modules["torch"]
    if issubclass(type(thing), torch.Tensor):
        return bool(torch._C.TensorBase.requires_grad.__get__(thing))
    if not any(kind is torch.nn.Module for kind in class_mro(type(thing))):
        return False
    own = instance_dict(thing).get("_parameters")
    return type(own) is dict and any(one is not None and _learns(one) for one in list(own.values()))
