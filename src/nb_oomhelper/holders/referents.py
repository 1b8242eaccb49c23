"""What objects refer to, as the garbage collector tells it, and which of that is their own."""

from __future__ import annotations

import gc
import sys
from types import FrameType, FunctionType

from nb_oomhelper.failure.places import at_top
from nb_oomhelper.holders.roots import named


def referents(things: list[object]) -> list[object]:
    """Give what these objects refer to; of functions and frames only what is their own."""
    special = [thing for thing in things if type(thing) is FunctionType or type(thing) is FrameType]
    if not special:
        return gc.get_referents(*things)
    found = gc.get_referents(*[one for one in things if not (type(one) is FunctionType or type(one) is FrameType)])
    for thing in special:
        if isinstance(thing, FunctionType):  # not its globals, which belong to a whole module
            found += (thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__)
        elif isinstance(thing, FrameType) and not at_top(thing.f_code):
            found += _held_by(thing)
    return found


def _held_by(frame: FrameType) -> list[object]:
    """A frame's locals. Before Python 3.13, to ask for them by name would leave a copy of them on the frame.

    That copy would keep what a generator drops when it goes on (python/cpython#113939). A generator's frame
    is empty there: the collector finds its locals by the generator.
    """
    if sys.version_info >= (3, 13):
        return [local for _, local in named(frame)]
    return [thing for thing in gc.get_referents(frame) if type(thing) is not FrameType]
