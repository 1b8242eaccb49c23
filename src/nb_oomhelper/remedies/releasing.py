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
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from types import AsyncGeneratorType, CellType, CoroutineType, FrameType, GeneratorType
from typing import Any

from nb_oomhelper import frameworks
from nb_oomhelper.errors import UsageError
from nb_oomhelper.failure import retained
from nb_oomhelper.failure.exception_graph import raised_with
from nb_oomhelper.holders.scope import RECENT_RESULTS
from nb_oomhelper.introspection import living, with_subclasses
from nb_oomhelper.records.memory import Measure
from nb_oomhelper.records.remedy import Step, StepKind, decrease

_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_listening: ContextVar[list[Step] | None] = ContextVar("nb_oomhelper_steps", default=None)


def _unread() -> Measure:
    return Measure(backend="host")


def give_back(
    shell: Any,
    *,
    deep: bool = False,
    history: bool = False,
    names: Sequence[str] = (),
    read: Callable[[], Measure] = _unread,
) -> tuple[Step, ...]:
    """Break the references to a failed cell's objects, and hand the memory back.

    Args:
        shell: The InteractiveShell, or None outside IPython.
        deep: Also drop the exceptions themselves: then `%tb` and `%debug` have nothing to show. And clear
            the frames of exceptions that finished tasks, futures and log records keep, and drop what JAX
            has compiled.
        history: Also forget displayed results: Out, `_`, `__`, `___`, `_N`. Texts stay.
        names: User variables to delete, also where Out shares them.
        read: Reads the figures that each step is measured by.

    Returns:
        What was done, and what each step gave back.

    Raises:
        UsageError: A name is not a variable of the user's. Nothing was done then.
    """
    names = _checked(shell, names)
    steps, before = [], read()
    for do in _release_steps(shell, deep=deep, history=history, names=names):
        done = do()
        after = read()
        if done.count != 0:
            steps.append(_measured(done, before, after))
            before = after
    listening = _listening.get()
    if listening is not None:
        listening.extend(steps)
    return tuple(steps)


@contextmanager
def steps_taken() -> Iterator[list[Step]]:
    """Gather the steps of every release within, such as one that a fix's code asks for."""
    steps: list[Step] = []
    token = _listening.set(steps)
    try:
        yield steps
    finally:
        _listening.reset(token)


def _release_steps(shell: Any, *, deep: bool, history: bool, names: Sequence[str]) -> Iterator[Callable[[], Step]]:
    """The steps of a release, each to be done before the next is asked for."""
    yield partial(_clear_kept, shell)
    if deep:
        yield _clear_elsewhere
        yield partial(_drop_exceptions, shell)
    if history:
        yield partial(_forget_results, shell)
    for name in names:
        yield partial(_delete, shell, name)
    yield _collect
    for framework in frameworks.FRAMEWORKS:
        for kind, empty in framework.caches(deep=deep):
            yield partial(_empty, kind, empty)


def _measured(step: Step, before: Measure, after: Measure) -> Step:
    return replace(
        step,
        allocated=decrease(before.allocated, after.allocated),
        device_used=decrease(before.device_used, after.device_used),
        resident=decrease(before.resident, after.resident),
    )


def _clear_kept(shell: Any) -> Step:
    kept = retained.frames_of(retained.kept_exceptions(shell), retained.kept_tracebacks(shell))
    return Step(done="frames", count=clear_frames(frame for frame, _ in kept))


def _collect() -> Step:
    gc.collect()
    trim()
    return Step(done="collect")


def _empty(kind: StepKind, empty: Callable[[], object]) -> Step:
    try:
        empty()
    except Exception as error:  # a sticky CUDA error: only a restart of the kernel helps
        return Step(done=kind, error=type(error).__name__)
    return Step(done=kind)


def clear_frames(frames: Iterable[FrameType]) -> int:
    """Drop the locals of finished frames; running and suspended ones are left alone.

    Returns:
        The number of frames that were cleared.
    """
    finished = list(frames)
    may_wait = [frame for frame in finished if frame.f_code.co_flags & _SUSPENDABLE]
    # the others first: where memory is full, what they give back is the room to look for those that wait
    cleared = [frame for frame in finished if not frame.f_code.co_flags & _SUSPENDABLE and _clear(frame)]
    try:
        suspended = _suspended(may_wait)
    except MemoryError:
        suspended = {id(frame) for frame in may_wait}
    cleared += [frame for frame in may_wait if id(frame) not in suspended and _clear(frame)]
    try:
        left = retained.only_theirs(cleared)
    except MemoryError:
        left = []
    for thing in left:
        if isinstance(thing, CellType):
            del thing.cell_contents
        else:
            thing.clear()
    return len(cleared)


def _clear(frame: FrameType) -> bool:
    try:
        frame.clear()
    except RuntimeError:  # still running, here or in another thread
        return False
    if sys.version_info < (3, 13):
        # Whoever rendered the traceback left a dict of the locals on the frame that clear() does not
        # drop (python/cpython#113939); reading it again brings it in line with the cleared frame.
        frame.f_locals  # noqa: B018
    return True


def _suspended(frames: list[FrameType]) -> set[int]:
    """Ids of frames whose generator or coroutine waits to go on: clear() would close it for good."""
    wanted = {id(frame) for frame in frames}
    if not wanted or sys.version_info >= (3, 13):  # from 3.13 on, clear() itself refuses
        return set()
    attributes = {GeneratorType: "gi_frame", CoroutineType: "cr_frame", AsyncGeneratorType: "ag_frame"}
    found = living(attributes)
    return wanted if found is None else wanted & {id(getattr(one, attributes[type(one)])) for one in found}


def _clear_elsewhere() -> Step:
    """Clear what failed tasks and futures, and log records, keep beside Python and IPython."""
    errors, records = _kept_elsewhere()
    formatter = logging.Formatter()
    for record in records:
        if record.exc_info and not record.exc_text:  # what would be printed stays
            record.exc_text = formatter.formatException(record.exc_info)
        record.exc_info = None
    graph = {id(one): one for error in errors for one, _ in raised_with(error)}
    cleared = clear_frames(frame for frame, _ in retained.frames_of(graph.values()))
    return Step(done="elsewhere", count=cleared + len(records))


def _kept_elsewhere() -> tuple[list[BaseException], list[logging.LogRecord]]:
    """Exceptions of finished tasks and futures, and log records with a traceback, wherever they are kept."""
    names = (("asyncio", "Future"), ("_asyncio", "Future"), ("concurrent.futures", "Future"))
    futures = tuple(
        kind for module, name in names if (kind := getattr(sys.modules.get(module), name, None)) is not None
    )
    try:
        found = living(with_subclasses((*futures, logging.LogRecord))) or []
    except MemoryError:
        found = []
    errors: list[BaseException] = []
    records: list[logging.LogRecord] = []
    for thing in found:
        if isinstance(thing, logging.LogRecord):
            records.extend([thing] if thing.exc_info else [])
        elif isinstance(error := getattr(thing, "_exception", None), BaseException):
            errors.append(error)
    return errors, records


def _drop_exceptions(shell: Any) -> Step:
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
    return Step(done="exception")


def _forget_results(shell: Any) -> Step:
    """The six holders of a displayed result (IPython's own flush() misses the last two)."""
    if shell is None:
        return Step(done="results", count=0)
    results = _results(shell)
    hook = shell.displayhook
    for namespace in (shell.user_ns, shell.user_ns_hidden):
        for number, result in results.items():
            if namespace.get(f"_{number}") is result:  # else it is the user's own
                del namespace[f"_{number}"]
        for name in RECENT_RESULTS:
            # a user's own `_` (a loop variable, gettext) is not IPython's to forget
            if name in namespace and namespace[name] is getattr(hook, name, None):
                namespace[name] = ""
    for name in RECENT_RESULTS:
        setattr(hook, name, "")
    count = len(results)
    results.clear()
    last = getattr(shell, "last_execution_result", None)
    if last is not None:
        last.result = None
    return Step(done="results", count=count)


def _results(shell: Any) -> dict[int, Any]:
    """IPython's own dict of displayed results: `_oh` and `Out` are only names, and may be the user's."""
    found: dict[int, Any] = shell.history_manager.output_hist
    return found


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


def _delete(shell: Any, name: str) -> Step:
    """Delete a variable, also in the script that `%run` took it from, and the results that are the same object."""
    thing = shell.user_ns.pop(name)
    for space in shell.all_ns_refs:
        if space.get(name) is thing:
            del space[name]
    results = _results(shell)
    for number in [number for number, result in results.items() if result is thing]:
        del results[number]
        for namespace in (shell.user_ns, shell.user_ns_hidden):
            namespace.pop(f"_{number}", None)
    for recent in RECENT_RESULTS:
        for namespace in (shell.user_ns, shell.user_ns_hidden):
            if namespace.get(recent) is thing:
                namespace[recent] = ""
        if getattr(shell.displayhook, recent, None) is thing:
            setattr(shell.displayhook, recent, "")
    last = getattr(shell, "last_execution_result", None)
    if last is not None and last.result is thing:
        last.result = None
    return Step(done="variable", name=name)


def trim() -> None:
    """Give freed heap pages back to the system where the C library can (glibc). Never raises."""
    try:
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, OSError, AttributeError, TypeError):  # another C library, or Windows, which has none by None
        return
