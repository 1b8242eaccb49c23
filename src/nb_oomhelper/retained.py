"""What Python and IPython keep of a failed cell: exceptions, tracebacks, frames.

The shell is passed in; nothing here changes or keeps anything. Which holder is set by which line
of IPython was read in IPython 8.18 to 9.18 (`core/interactiveshell.py`, `core/ultratb.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any

from nb_oomhelper.frames import raised_with


def kept_exceptions(shell: Any) -> list[BaseException]:
    """The exceptions that Python, IPython and its debugger still refer to."""
    result = getattr(shell, "last_execution_result", None)
    roots = [
        getattr(sys, "last_exc", None),
        getattr(sys, "last_value", None),
        getattr(result, "error_in_exec", None),
        getattr(result, "error_before_exec", None),
    ]
    debugger = getattr(getattr(shell, "InteractiveTB", None), "pdb", None)
    roots.extend(getattr(debugger, "_chained_exceptions", None) or ())
    found = {id(error): error for root in roots if isinstance(root, BaseException) for error, _ in raised_with(root)}
    return list(found.values())


def kept_tracebacks(shell: Any) -> list[TracebackType]:
    """The tracebacks that are referred to directly, beside those of the exceptions."""
    formatter = getattr(shell, "InteractiveTB", None)
    roots = [getattr(sys, "last_traceback", None), getattr(formatter, "tb", None)]
    return [root for root in roots if isinstance(root, TracebackType)]


def frames_of(errors: Iterable[BaseException], tracebacks: Iterable[TracebackType] = ()) -> list[tuple[FrameType, int]]:
    """Each frame once with the line that failed in it, outermost first within a traceback."""
    found: dict[int, tuple[FrameType, int]] = {}
    starts = [error.__traceback__ for error in errors]
    for start in (*starts, *tracebacks):
        for link in _links(start):
            found.setdefault(id(link.tb_frame), (link.tb_frame, link.tb_lineno))
    return list(found.values())


def _links(start: TracebackType | None) -> Iterator[TracebackType]:
    while start is not None:
        yield start
        start = start.tb_next
