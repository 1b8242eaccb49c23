"""Errors that code has caught, kept, and replaced by one of its own: a search for a batch size that found none."""

from __future__ import annotations

import dis
import gc
import re
from collections import deque
from collections.abc import Iterable, Iterator
from types import CellType, FrameType, TracebackType

from nb_oomhelper.failure.places import at_top, is_users
from nb_oomhelper.introspection import traceback_of

_KEPT, _NAMES, _MEMBERS = 20, 2_000, 200  # how many errors are taken, and of what is looked at
_SAYS_WHY = re.compile(r"memory|\boom\b|batch|\bsizes?\b|\bfits?\b|too (?:large|big)", re.IGNORECASE)


def replaced_by(error: BaseException) -> list[BaseException]:
    """Find the errors that the function which raised this one had caught, and still has in its variables.

    Those of an earlier run are not meant: what was caught in a function has its very frame in its traceback. No
    function of the user's runs, and no copy of its variables is made.

    Returns:
        At most 20, the last of each list first; none where a library has raised the error, or nobody: a name that is
        missing takes no error's place.
    """
    link = _last(error)
    if link is None or not _is_raised(link) or not is_users(link.tb_frame.f_code.co_filename.replace("\\", "/")):
        return []
    frame = link.tb_frame
    found: dict[int, BaseException] = {}
    for one in _values(frame):
        for kept in _errors(one):
            link = traceback_of(kept)
            if kept is not error and link is not None and link.tb_frame is frame and len(found) < _KEPT:
                found[id(kept)] = kept
    return list(found.values())


def says_why(text: str) -> bool:
    """Tell whether the error that was raised instead speaks of memory or sizes: others may have causes of their own.

    Args:
        text: What it prints.
    """
    return _SAYS_WHY.search(text) is not None


def _last(error: BaseException) -> TracebackType | None:
    link = traceback_of(error)
    while link is not None and link.tb_next is not None:
        link = link.tb_next
    return link


def _is_raised(link: TracebackType) -> bool:
    """Whether a `raise` has failed there, and not an operation."""
    return link.tb_frame.f_code.co_code[link.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _values(frame: FrameType) -> Iterator[object]:
    """What its variables refer to. Of a function's frame the collector tells it; `f_locals` would make a copy."""
    values: Iterable[object] = gc.get_referents(frame)
    if at_top(frame.f_code):
        names = frame.f_locals
        values = list(dict.values(names)) if issubclass(type(names), dict) else ()
    for one, _ in zip(values, range(_NAMES), strict=False):
        yield one.cell_contents if type(one) is CellType and gc.get_referents(one) else one


def _errors(value: object, deeper: bool = True) -> Iterator[BaseException]:
    """The errors that a variable has: itself, those of a list or a dict, and those of pairs and lists in it."""
    if issubclass(type(value), BaseException):
        yield value  # type: ignore[misc]
        return
    members: Iterable[object] = ()
    if type(value) in (list, tuple, deque):
        members = list(value)[::-1]  # type: ignore[call-overload]
    elif type(value) is dict:
        members = list(value.values())[::-1]
    for one, _ in zip(members, range(_MEMBERS), strict=False):
        if deeper or issubclass(type(one), BaseException):
            yield from _errors(one, deeper=False)
