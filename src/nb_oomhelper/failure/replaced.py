"""Errors that code has caught, kept, and replaced by one of its own: a search for a batch size that found none."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator
from types import CellType, FrameType

from nb_oomhelper.failure.places import at_top, is_users
from nb_oomhelper.introspection import traceback_of

_KEPT, _NAMES, _MEMBERS = 20, 2_000, 200  # how many errors are taken, and of what is looked at


def replaced_by(error: BaseException) -> list[BaseException]:
    """Find the errors that the function which raised this one had caught, and still has in its variables.

    Those of an earlier run are not meant: what was caught in a function has its very frame in its traceback. No
    function of the user's runs, and no copy of its variables is made.

    Returns:
        At most 20, the last of each list first; none where a library has raised the error.
    """
    frame = _raising(error)
    if frame is None or not is_users(frame.f_code.co_filename.replace("\\", "/")):
        return []
    found: dict[int, BaseException] = {}
    for one in _values(frame):
        for kept in _errors(one):
            link = traceback_of(kept)
            if kept is not error and link is not None and link.tb_frame is frame and len(found) < _KEPT:
                found[id(kept)] = kept
    return list(found.values())


def _raising(error: BaseException) -> FrameType | None:
    link = traceback_of(error)
    while link is not None and link.tb_next is not None:
        link = link.tb_next
    return None if link is None else link.tb_frame


def _values(frame: FrameType) -> Iterator[object]:
    """What its variables refer to. Of a function's frame the collector tells it; `f_locals` would make a copy."""
    values: Iterable[object] = gc.get_referents(frame)
    if at_top(frame.f_code):
        names = frame.f_locals
        values = list(dict.values(names)) if issubclass(type(names), dict) else ()
    for one, _ in zip(values, range(_NAMES), strict=False):
        yield one.cell_contents if type(one) is CellType and gc.get_referents(one) else one


def _errors(value: object) -> Iterator[BaseException]:
    if issubclass(type(value), BaseException):
        yield value  # type: ignore[misc]
        return
    members: Iterable[object] = ()
    if type(value) in (list, tuple, deque):
        members = list(value)[::-1]  # type: ignore[call-overload]
    elif type(value) is dict:
        members = list(value.values())[::-1]
    for one, _ in zip(members, range(_MEMBERS), strict=False):
        if issubclass(type(one), BaseException):
            yield one  # type: ignore[misc]
