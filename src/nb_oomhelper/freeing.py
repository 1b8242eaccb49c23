"""Give memory back: break what Python and IPython keep of a failed cell, collect, empty caches.

The order matters. Frames first: their locals hold the tensors. Then the references that the caller asked
to drop. Then one collection, because exceptions and frames form cycles. Caches last: only blocks that no
tensor uses can go back to the driver.
"""

from __future__ import annotations

import gc
import inspect
import logging
import sys
from collections.abc import Iterable, MutableMapping, Sequence
from types import AsyncGeneratorType, CellType, CoroutineType, FrameType, GeneratorType
from typing import Any

from nb_oomhelper import frameworks, host, retained
from nb_oomhelper.errors import UsageError
from nb_oomhelper.frames import raised_with

_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_RECENT = ("_", "__", "___")  # IPython's names for the last three displayed results


def give_back(shell: Any, *, deep: bool = False, history: bool = False, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Break the references to a failed cell's objects, and hand the memory back.

    Args:
        shell: The InteractiveShell, or None outside IPython.
        deep: Also drop the exceptions themselves: then `%tb` and `%debug` have nothing to show. And clear
            the frames of exceptions that finished tasks, futures and log records keep.
        history: Also forget displayed results: Out, `_`, `__`, `___`, `_N`. Texts stay.
        names: User variables to delete, also where Out shares them.

    Returns:
        What was done, one plain line a step.

    Raises:
        UsageError: A name is not a variable of the user's. Nothing was done then.
    """
    lines = []
    names = _checked(shell, names)
    cleared = clear_frames(
        frame for frame, _ in retained.frames_of(retained.kept_exceptions(shell), retained.kept_tracebacks(shell))
    )
    if cleared:
        lines.append(f"cleared the local names of {cleared} {'frame' if cleared == 1 else 'frames'}")
    if deep:
        lines.extend(_clear_elsewhere())
        lines.extend(_drop_exceptions(shell))
    if history:
        lines.extend(_forget_results(shell))
    for name in names:
        _delete(shell, name)
        lines.append(f"deleted the variable {name}")
    gc.collect()
    for framework in frameworks.FRAMEWORKS:
        lines.extend(framework.empty_cache())
    host.trim()
    return tuple(lines)


def clear_frames(frames: Iterable[FrameType]) -> int:
    """Drop the locals of finished frames; running and suspended ones are left alone.

    Returns:
        The number of frames that were cleared.
    """
    cleared: list[FrameType] = []
    finished = list(frames)
    suspended = _suspended(finished)
    for frame in finished:
        if id(frame) in suspended:
            continue
        try:
            frame.clear()
        except RuntimeError:  # still running, here or in another thread
            continue
        if sys.version_info < (3, 13):
            # Whoever rendered the traceback left a dict of the locals on the frame that clear() does not
            # drop (python/cpython#113939); reading it again brings it in line with the cleared frame.
            frame.f_locals  # noqa: B018
        cleared.append(frame)
    for left in retained.only_theirs(cleared):
        if isinstance(left, CellType):
            del left.cell_contents
        else:
            left.clear()
    return len(cleared)


def _suspended(frames: list[FrameType]) -> set[int]:
    """Ids of frames whose generator or coroutine waits to go on: clear() would close it for good."""
    wanted = {id(frame) for frame in frames if frame.f_code.co_flags & _SUSPENDABLE}
    if not wanted or sys.version_info >= (3, 13):  # from 3.13 on, clear() itself refuses
        return set()
    attribute = {GeneratorType: "gi_frame", CoroutineType: "cr_frame", AsyncGeneratorType: "ag_frame"}
    found = set()
    for thing in gc.get_objects():
        name = attribute.get(type(thing))
        if name is not None:
            found.add(id(getattr(thing, name)))
    return wanted & found


def _clear_elsewhere() -> list[str]:
    """Clear what tasks and futures that have failed, and log records, keep beside Python and IPython."""
    errors, records = _kept_elsewhere()
    formatter = logging.Formatter()
    for record in records:
        if record.exc_info and not record.exc_text:  # what would be printed stays
            record.exc_text = formatter.formatException(record.exc_info)
        record.exc_info = None
    graph = {id(one): one for error in errors for one, _ in raised_with(error)}
    cleared = clear_frames(frame for frame, _ in retained.frames_of(graph.values()))
    lines = [f"cleared {cleared} frames that finished tasks and futures keep"] if cleared else []
    return lines + ([f"dropped the tracebacks of {len(records)} log records"] if records else [])


def _kept_elsewhere() -> tuple[list[BaseException], list[logging.LogRecord]]:
    """Exceptions of finished tasks and futures, and log records with a traceback, wherever they are kept."""
    names = (("asyncio", "Future"), ("_asyncio", "Future"), ("concurrent.futures", "Future"))
    futures = tuple(kind for place, name in names if (kind := getattr(sys.modules.get(place), name, None)) is not None)
    errors: list[BaseException] = []
    records: list[logging.LogRecord] = []
    known: dict[int, tuple[type, type | None]] = {}  # by id, since a metaclass may define __hash__
    for thing in gc.get_objects():
        kind = type(thing)
        found = known.get(id(kind))
        if found is None:
            bases = (*futures, logging.LogRecord)
            found = known[id(kind)] = (kind, next((base for base in bases if type.__subclasscheck__(base, kind)), None))
        if found[1] is logging.LogRecord:
            records.extend([thing] if thing.exc_info else [])
        elif found[1] is not None and isinstance(error := getattr(thing, "_exception", None), BaseException):
            errors.append(error)
    return errors, records


def _drop_exceptions(shell: Any) -> list[str]:
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    formatter = getattr(shell, "InteractiveTB", None)
    if formatter is not None:
        formatter.tb = None
        if getattr(formatter, "pdb", None) is not None:
            formatter.pdb = None
    result = getattr(shell, "last_execution_result", None)
    if result is not None:
        result.error_in_exec = None
        result.error_before_exec = None
    return ["dropped the exception itself: %tb and %debug have nothing to show now"]


def _forget_results(shell: Any) -> list[str]:
    """The six holders of a displayed result (IPython's own flush() misses the last two)."""
    if shell is None:
        return []
    results = shell.user_ns.get("_oh", {})
    hook = shell.displayhook
    for namespace in (shell.user_ns, shell.user_ns_hidden):
        for number, result in results.items():
            if namespace.get(f"_{number}") is result:  # else it is the user's own
                del namespace[f"_{number}"]
        for name in _RECENT:
            # a user's own `_` (a loop variable, gettext) is not IPython's to forget
            if name in namespace and namespace[name] is getattr(hook, name, None):
                namespace[name] = ""
    for name in _RECENT:
        if name in shell.user_ns_hidden:
            shell.user_ns_hidden[name] = ""
        setattr(hook, name, "")
    count = len(results)
    results.clear()
    last = getattr(shell, "last_execution_result", None)
    if last is not None:
        last.result = None
    return [f"forgot {count} displayed {'result' if count == 1 else 'results'}"]


def _checked(shell: Any, names: Sequence[str]) -> list[str]:
    """Each name once, if all of them are variables of the user's; a hidden name may have been given a new value."""
    if isinstance(names, str):
        raise UsageError(f"names wants a list of names, such as names=[{names!r}]")
    if not all(isinstance(name, str) for name in names):
        raise UsageError("names wants the names of variables, not the variables: names=['x'], not names=[x]")
    space: MutableMapping[str, Any] = {} if shell is None else shell.user_ns
    hidden = {} if shell is None else shell.user_ns_hidden
    missing = [name for name in names if name not in space or (name in hidden and hidden[name] is space[name])]
    if missing:
        raise UsageError(f"no variable called {', '.join(missing)}; nothing was released")
    return list(dict.fromkeys(names))


def _delete(shell: Any, name: str) -> None:
    """Delete a variable, also in the script that `%run` took it from, and the results that are the same object."""
    thing = shell.user_ns.pop(name)
    for space in shell.all_ns_refs:
        if space.get(name) is thing:
            del space[name]
    results = shell.user_ns.get("_oh", {})
    for number in [number for number, result in results.items() if result is thing]:
        del results[number]
        for namespace in (shell.user_ns, shell.user_ns_hidden):
            namespace.pop(f"_{number}", None)
    for recent in _RECENT:
        for namespace in (shell.user_ns, shell.user_ns_hidden):
            if namespace.get(recent) is thing:
                namespace[recent] = ""
        if getattr(shell.displayhook, recent, None) is thing:
            setattr(shell.displayhook, recent, "")
    last = getattr(shell, "last_execution_result", None)
    if last is not None and last.result is thing:
        last.result = None
