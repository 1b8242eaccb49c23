"""The workers of the engines that people already use: their memory read and given back, through the engine's client.

One module an engine, with the names of the protocol `Engine`. Nothing is installed or left on a worker, and nothing is
asked of one but for a click or a command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from nb_oomhelper.engines import _dask, _ipyparallel
from nb_oomhelper.engines.answers import RELEASE_THERE, Answer, WorkerReply, reply_of, summed
from nb_oomhelper.records.event import OomEvent, Remote
from nb_oomhelper.records.note import note

__all__ = ["RELEASE_THERE", "Function", "WorkerReply", "ask_all", "ask_failed", "can_ask", "code_for", "summed"]

Function = Literal["read", "release"]
_SECONDS: dict[Function, float] = {"read": 2.0, "release": 10.0}  # for all workers together: they are asked at once


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


ENGINES: tuple[Engine, ...] = (_ipyparallel, _dask)


def can_ask(event: OomEvent) -> bool:
    """Whether the worker that ran out lives, as far as is known, and is of an engine through which it can be asked."""
    dead = event.worker is not None and event.worker.alive is False
    return not dead and any(event.remote == engine.NAME for engine in ENGINES)


def code_for(function: Function, event: OomEvent | None = None) -> str:
    """Give the expression that a worker evaluates.

    Args:
        function: What it does there.
        event: Says of which device, and of which processes; None is the host of any.
    """
    values = ""
    if event is not None:
        of = (event.backend, event.device, event.framework) if event.backend == "cuda" else ("host",)
        values = ", ".join(map(repr, of))
        each = event.worker.each if event.worker is not None and event.remote == "dask" else ()
        pids = [int(pid) for _, pid in each if pid]
        if pids:
            values += f", pids={pids}"
    return f'__import__("importlib").import_module("nb_oomhelper.there").{function}({values})'


def ask_failed(function: Function, event: OomEvent) -> list[WorkerReply]:
    """Run a function on the workers that an error came from; on all of the cluster's where it does not tell which.

    Args:
        function: What.
        event: An error of theirs.

    Returns:
        One row a worker; never those of another cluster, or of a worker that has an old one's number or address.
    """
    (engine,) = (one for one in ENGINES if event.remote == one.NAME)
    wanted = list(event.worker.each) if event.worker is not None else []
    if not wanted and engine.clusters() > 1:
        return [WorkerReply(engine=engine.NAME, id="", problem=note("engines.several"))]
    code = code_for(function, event)
    wait = _begun(engine, wanted or None, code, _SECONDS[function])
    if wait is None:
        return [WorkerReply(engine=engine.NAME, id="", problem=note("engines.no_client"))]
    return [reply_of(engine.NAME, answer) for answer in wait()]


def ask_all(function: Function) -> list[WorkerReply]:
    """Run a function on all workers of all clusters that this process has a client of.

    Args:
        function: What.

    Returns:
        One row a worker; empty where there is no client.
    """
    code, seconds = code_for(function), _SECONDS[function]
    waiting = [(one.NAME, wait) for one in ENGINES if (wait := _begun(one, None, code, seconds)) is not None]
    replies = [reply_of(name, answer) for name, wait in waiting for answer in wait()]
    return [reply for reply in replies if reply.id] or replies  # beside others nobody asks for a client long closed


def _begun(
    engine: Engine, wanted: Sequence[tuple[str, str]] | None, code: str, seconds: float
) -> Callable[[], list[Answer]] | None:
    """Begin; where an engine's own classes are none that we know, that is told, and the other engines are asked."""
    try:
        return engine.begin(wanted, code, seconds)
    except Exception as error:
        told = (type(error).__name__, str(error))
        return lambda: [Answer(id=name, error=told) for name, _ in wanted or [("", "")]]
