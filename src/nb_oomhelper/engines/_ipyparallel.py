"""ipyparallel: each engine by its uuid, through a client of the notebook's; its number may be another's by now.

An engine does one thing at a time. What it has not begun in time is taken back, so that nothing runs there later.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nb_oomhelper.engines.answers import Answer, late
from nb_oomhelper.introspection import instance_dict, living, with_subclasses
from nb_oomhelper.records.event import Remote
from nb_oomhelper.records.note import note

NAME: Remote = "ipyparallel"
_Engine = tuple[Any, int]  # a client, and the number that it has for an engine


def begin(wanted: Sequence[tuple[str, str]] | None, code: str, seconds: float) -> Callable[[], list[Answer]] | None:
    """Send an expression to engines.

    Args:
        wanted: Number and uuid of each engine that is meant; None is all.
        code: The expression.
        seconds: For all of them.

    Returns:
        What waits for the answers; None where there is no client.
    """
    clients = _clients()
    if not clients:
        return None
    there = [client for client in clients if not client._closed]
    if not there:
        return lambda: [Answer(id=number, problem=note("engines.closed")) for number, _ in wanted or [("", "")]]
    until, found = time.monotonic() + seconds, _engines(there)
    if not found and wanted is None:
        return lambda: [Answer(id="", problem=note("engines.empty"))]
    asked = [(number, _send(number, engine, code), engine) for number, engine in _chosen(found, wanted)]

    def wait() -> list[Answer]:
        try:
            return [_answer(number, pending, until, seconds) for number, pending, _ in asked]
        finally:
            for _, pending, engine in asked:
                _take_back(pending, engine)

    return wait


def clusters() -> int:
    """Count the clusters that can be asked."""
    return len({_cluster(client) for client in _clients() if not client._closed})


def _clients() -> list[Any]:
    """The clients that anybody keeps, but for those that never found their cluster: an error keeps such a one."""
    kind = getattr(sys.modules.get("ipyparallel"), "Client", None)
    if kind is None:
        return []
    try:
        return [client for client in living(with_subclasses([kind])) or [] if "session" in instance_dict(client)]
    except MemoryError:
        return []


def _cluster(client: Any) -> str:
    return str(client.session.key)


def _engines(clients: Sequence[Any]) -> dict[str, _Engine]:
    """Client and number of each engine, by its uuid: two clients may have the same cluster."""
    return {uuid: (client, number) for client in clients for number, uuid in sorted(dict(client._engines).items())}


def _chosen(
    found: dict[str, _Engine], wanted: Sequence[tuple[str, str]] | None
) -> Iterator[tuple[str, _Engine | None]]:
    """The number of each that is meant, and where it can be asked; None where it is there no more."""
    if wanted is None:
        yield from ((str(number), (client, number)) for client, number in found.values())
    else:
        yield from ((number, found.get(uuid)) for number, uuid in wanted)


def _send(name: str, engine: _Engine | None, code: str) -> Any:
    """What is waited for; or at once an `Answer`."""
    if engine is None:
        return Answer(id=name, problem=note("engines.gone"))
    client, number = engine
    try:
        return client.direct_view(number).apply_async(eval, code)  # a builtin: no code of ours is sent
    except Exception as error:  # it has died, or its client was closed, since we looked
        return Answer(id=name, error=(type(error).__name__, str(error)))


def _answer(name: str, pending: Any, until: float, seconds: float) -> Answer:
    if isinstance(pending, Answer):
        return pending
    pending.wait(max(0.0, until - time.monotonic()))
    if not pending.ready():
        return Answer(id=name, problem=late(seconds))
    try:
        return Answer(id=name, value=pending.get(0))
    except Exception as error:
        told = instance_dict(error)  # RemoteError
        return Answer(id=name, error=(str(told.get("ename", type(error).__name__)), str(told.get("evalue", error))))


def _take_back(pending: Any, engine: _Engine | None) -> None:
    if engine is not None and not isinstance(pending, Answer) and not pending.ready():
        client, number = engine
        with contextlib.suppress(Exception):  # it has died, or its client was closed
            client.abort(pending, targets=number, block=False)
