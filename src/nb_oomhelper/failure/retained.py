"""What Python and IPython keep of a failed cell: exceptions, tracebacks, frames.

The shell is passed in; nothing here changes or keeps anything. Which holder is set by which line
of IPython was read in IPython 8.18 to 9.18 (`core/interactiveshell.py`, `core/ultratb.py`).
"""

from __future__ import annotations

import builtins
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CellType, CodeType, FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

from nb_oomhelper.failure.exception_graph import raised_with
from nb_oomhelper.introspection import traceback_of

_MOST = 20_000  # objects that are looked at behind frames: some 20 ms
_ALIVE = (ModuleType, CodeType, FrameType, TracebackType)
_SHELLS = ("IPython", "ipykernel")
_qualname: Callable[[type], str] = type.__dict__["__qualname__"].__get__


def kept_exceptions(shell: Any) -> list[BaseException]:
    """List the exceptions that Python, IPython and its debugger still refer to."""
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
    """List the tracebacks that are referred to directly, beside those of the exceptions."""
    formatter = getattr(shell, "InteractiveTB", None)
    roots = [getattr(sys, "last_traceback", None), getattr(formatter, "tb", None)]
    return [root for root in roots if isinstance(root, TracebackType)]


def of_earlier_cells(
    errors: Iterable[BaseException], known: Iterable[tuple[FrameType, int]]
) -> list[tuple[FrameType, int]]:
    """List the frames of cells that failed before, as `frames_of` does; those that are known are left out.

    Once the next cell has failed, nothing leads to them. They and their exception refer to each other, and
    so keep all of their locals until the garbage is collected, as every release does.

    Args:
        errors: All exceptions that there are.
        known: The frames of the failed cell, each with its line.

    Returns:
        Frames and the lines that failed in them.
    """
    theirs = {id(frame) for frame, _ in known}
    cells = [error for error in errors if _reached_ipython(error)]
    graph = {id(one): one for error in cells for one, _ in raised_with(error)}
    return [(frame, line) for frame, line in frames_of(graph.values()) if id(frame) not in theirs]


def _reached_ipython(error: BaseException) -> bool:
    """Whether no code of the user's has caught an exception: a traceback begins where it was caught."""
    start = traceback_of(error)
    owner = None if start is None else dict.get(start.tb_frame.f_globals, "__name__")
    return type(owner) is str and owner.partition(".")[0] in _SHELLS


def frames_of(errors: Iterable[BaseException], tracebacks: Iterable[TracebackType] = ()) -> list[tuple[FrameType, int]]:
    """List the frames of exceptions.

    Args:
        errors: Exceptions; those behind them are not followed.
        tracebacks: More of them, which no exception has.

    Returns:
        Each frame once with the line that failed in it, outermost first within a traceback. Drop it soon.
    """
    found: dict[int, tuple[FrameType, int]] = {}
    starts = [traceback_of(error) for error in errors]
    for start in (*starts, *tracebacks):
        for link in _links(start):
            found.setdefault(id(link.tb_frame), (link.tb_frame, link.tb_lineno))
    return list(found.values())


def _links(start: TracebackType | None) -> Iterator[TracebackType]:
    while start is not None:
        yield start
        start = start.tb_next


def only_theirs(frames: Sequence[FrameType]) -> list[CellType | dict[str, Any]]:
    """Find what cleared frames still keep, and nobody else does: variables of closures, and names of class bodies.

    A frame keeps the function that it ran, and the function the variables that it shares with functions
    around it (so does a comprehension's frame on Python 3.11). Which of them are theirs is found as the
    collector finds what is garbage: references are counted, and what has one from elsewhere, such as a
    function that the user can still call, is alive with all that it leads to.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return []  # references are not counted exactly then
    nodes, met = _reach(frames)
    probe = object()
    nodes[id(probe)] = probe
    counts = {key: sys.getrefcount(thing) for key, thing in nodes.items()}
    counting = counts.pop(id(probe)) - 1  # references that the counting itself makes; one more is the name `probe`
    del nodes[id(probe)]
    alive = [nodes[key] for key, count in counts.items() if count - counting > met[key]]
    while alive:
        thing = alive.pop()
        if nodes.pop(id(thing), None) is not None:
            alive.extend(_kept_by(thing))
    roots = [root for frame in frames for root in _roots(frame) if id(root) in nodes]
    cells = [cell for root in roots if isinstance(root, FunctionType) for cell in root.__closure__ or ()]
    return [root for root in roots if isinstance(root, dict)] + [cell for cell in cells if id(cell) in nodes]


def _reach(frames: Iterable[FrameType]) -> tuple[dict[int, Any], Counter[int]]:
    """What frames lead to, by id, and by how many references; what is not looked at counts as alive."""
    nodes: dict[int, Any] = {}
    met: Counter[int] = Counter()
    todo = [thing for frame in frames for thing in _roots(frame)]
    while todo and len(nodes) < _MOST:
        thing = todo.pop()
        met[id(thing)] += 1
        if id(thing) not in nodes:
            nodes[id(thing)] = thing
            todo.extend(_kept_by(thing))
    return nodes, met


def _roots(frame: FrameType) -> list[Any]:
    """The function that a frame ran; and the names of a class body, which are no locals to clear()."""
    # compared by identity: a metaclass may define `__eq__`
    found = [thing for thing in gc.get_referents(frame) if type(thing) is FunctionType or type(thing) is dict]
    return [thing for thing in found if thing is not frame.f_globals]


def _kept_by(thing: Any) -> list[Any]:
    """What an object refers to, but for what lives anyway: modules, and classes that are not a function's own."""
    kind = type(thing)
    if issubclass(kind, _ALIVE) or (issubclass(kind, type) and "<locals>" not in _qualname(thing)):
        return []
    module = (thing.__globals__, vars(builtins)) if kind is FunctionType else ()
    found = gc.get_referents(thing)
    return [one for one in found if gc.is_tracked(one) and not any(one is part for part in module)]
