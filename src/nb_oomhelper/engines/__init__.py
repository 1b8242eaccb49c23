"""The workers of the engines that people already use: their memory read and given back, through the engine's client.

One module an engine, with the names of the protocol `Engine`. Nothing is installed or left on a worker, and nothing is
asked of one but for a click or a command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from nb_oomhelper.engines import _dask, _ipyparallel, _ray
from nb_oomhelper.engines.answers import RELEASE_THERE, Answer, WorkerReply, reply_of, summed
from nb_oomhelper.records.event import OomEvent, Remote
from nb_oomhelper.records.note import note

__all__ = [
    "RELEASE_THERE",
    "Function",
    "WorkerReply",
    "ask_all",
    "ask_failed",
    "begin_all",
    "code_for",
    "functions_for",
    "summed",
]

Function = Literal["read", "release", "watch", "watched"]
_SECONDS: dict[Function, float] = {
    "read": 2.0,
    "release": 10.0,
    "watch": 2.0,
    "watched": 2.0,
}  # for all workers together: they are asked at once
_STARTS = 10.0  # of one of Ray's machines, which may have to start a process for the task


class Engine(Protocol):
    """How one engine's workers are asked."""

    NAME: Remote

    def begin(
        self, wanted: Sequence[tuple[str, str]] | None, code: str, seconds: float
    ) -> Callable[[], list[Answer]] | None:
        """Send an expression to workers.

        Args:
            wanted: What each that is meant is called, and what no later one has, or ""; None is all.
            code: The expression.
            seconds: For all of them.

        Returns:
            What waits for the answers; None where there is no client.
        """

    def clusters(self) -> int:
        """Count the clusters that can be asked."""


ENGINES: tuple[Engine, ...] = (_ray, _ipyparallel, _dask)


def functions_for(event: OomEvent) -> tuple[Function, ...]:
    """Tell what can be done about an error through the engine of the worker that ran out, as far as is known.

    Args:
        event: The error.

    Returns:
        Nothing where there is no engine for it, or the worker is dead. Of Ray's the machine is read, dead or not.
    """
    if event.remote == _ray.NAME:
        return ("read",)
    dead = event.worker is not None and event.worker.alive is False
    return () if dead or all(event.remote != engine.NAME for engine in ENGINES) else ("release", "read")


def code_for(function: Function, event: OomEvent | None = None, engine: Remote | None = None) -> str:
    """Give the expression that a worker evaluates.

    Args:
        function: What it does there.
        event: Says of which device, and of which processes; None is the host of any.
        engine: Whose worker, where there is no event.
    """
    if (event.remote if event is not None else engine) == _ray.NAME:
        worker = event.worker if event is not None else None
        values = f"{event.backend!r}, {worker.pid}" if event is not None and worker is not None and worker.pid else ""
        return _call("read_node", values)
    values = ""
    if event is not None:
        of = (event.backend, event.device, event.framework) if event.backend == "cuda" else ("host",)
        values = ", ".join(map(repr, of))
        each = event.worker.each if event.worker is not None and event.remote == "dask" else ()
        pids = [int(pid) for _, pid in each if pid]
        if pids:
            values += f", pids={pids}"
    return _call(function, values)


def _call(name: str, values: str) -> str:
    return f'__import__("importlib").import_module("nb_oomhelper.there").{name}({values})'


def ask_failed(function: Function, event: OomEvent) -> list[WorkerReply]:
    """Run a function on the workers that an error came from; on all of the cluster's where it does not tell which.

    Args:
        function: What.
        event: An error of theirs.

    Returns:
        One row a worker; never those of another cluster, or of a worker that has an old one's number or address.
    """
    (engine,) = (one for one in ENGINES if event.remote == one.NAME)
    wanted = _wanted(event)
    if not wanted and engine.clusters() > 1:
        return [WorkerReply(engine=engine.NAME, id="", problem=note("engines.several"))]
    seconds = _STARTS if engine.NAME == _ray.NAME else _SECONDS[function]
    wait = _begun(engine, wanted or None, code_for(function, event), seconds)
    if wait is None:
        return [WorkerReply(engine=engine.NAME, id="", problem=note("engines.no_client"))]
    return [reply_of(engine.NAME, answer) for answer in wait()]


def ask_all(function: Function, only: Remote | None = None) -> list[WorkerReply]:
    """Run a function on all workers of all clusters that this process has a client of.

    Args:
        function: What.
        only: Of this engine alone.

    Returns:
        One row a worker, of Ray one a machine that is read; empty where there is no client.
    """
    return begin_all(function, only)()


def begin_all(function: Function, only: Remote | None = None) -> Callable[[], list[WorkerReply]]:
    """Begin with that.

    Args:
        function: What.
        only: Of this engine alone.

    Returns:
        What waits for the answers, until the time is over.
    """
    wanted = [one for one in ENGINES if only in (None, one.NAME) and (function == "read" or one.NAME != _ray.NAME)]
    begun = [(one.NAME, _begun(one, None, code_for(function, engine=one.NAME), _SECONDS[function])) for one in wanted]

    def wait() -> list[WorkerReply]:
        replies = [reply_of(name, answer) for name, ask in begun if ask is not None for answer in ask()]
        return [reply for reply in replies if reply.id] or replies  # beside others nobody asks for a client long closed

    return wait


def _wanted(event: OomEvent) -> list[tuple[str, str]]:
    """The workers of an error, as its engine's `begin` wants them; of Ray the machine."""
    if event.worker is None:
        return []
    if event.remote == _ray.NAME:
        return [(event.worker.host, "")] if event.worker.host else []
    return list(event.worker.each)


def _begun(
    engine: Engine, wanted: Sequence[tuple[str, str]] | None, code: str, seconds: float
) -> Callable[[], list[Answer]] | None:
    """Begin; where an engine's own classes are none that we know, that is told, and the other engines are asked."""

    def failed(error: Exception) -> list[Answer]:
        told = (type(error).__name__, str(error))
        return [Answer(id=name, error=told) for name, _ in wanted or [("", "")]]

    def wait_or_tell() -> list[Answer]:
        try:
            return [] if wait is None else wait()
        except Exception as error:
            return failed(error)

    try:
        wait = engine.begin(wanted, code, seconds)
    except Exception as error:
        told = failed(error)
        return lambda: told
    return None if wait is None else wait_or_tell
