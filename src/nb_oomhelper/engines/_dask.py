"""Dask distributed: workers by their addresses, through the client's own loop; all at once.

`Client.run` does not wait for the tasks of a worker. What one has not answered in time may still run there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from nb_oomhelper.engines.answers import Answer, late
from nb_oomhelper.failure.workers import dask_clients, is_open
from nb_oomhelper.records.event import Remote
from nb_oomhelper.records.note import Note, note

NAME: Remote = "dask"


def begin(wanted: Sequence[tuple[str, str]] | None, code: str, seconds: float) -> Callable[[], list[Answer]] | None:
    """Send an expression to workers.

    Args:
        wanted: Address of each worker that is meant, and its PID, or "" where it had already left; None is all.
        code: The expression; it sees to the PIDs itself.
        seconds: For all of them.

    Returns:
        What waits for the answers; None where there is no client.
    """
    clients = dask_clients()
    if not clients:
        return None
    addresses = None if wanted is None else [address for address, pid in wanted if pid]
    schedulers = _by_cluster(clients)
    if not schedulers:
        problem = note("engines.asynchronous" if any(map(is_open, clients)) else "engines.closed")
        return lambda: [Answer(id=address, problem=problem) for address, _ in wanted or [("", "")]]
    until, silent = time.monotonic() + seconds, late(seconds)
    import asyncio  # whoever has a client has imported it; an import of ours would be at every error

    asked: list[tuple[str, dict[str, Answer], Future[None]]] = []
    for address, client in schedulers.items():
        found: dict[str, Answer] = {}
        sent = asyncio.run_coroutine_threadsafe(_ask(client, addresses, code, found, silent), client.loop.asyncio_loop)
        asked.append((address, found, sent))

    def wait() -> list[Answer]:
        answers: dict[str, Answer] = {}
        for scheduler, found, sent in asked:
            ended = _answers(scheduler, sent, until, silent)
            answers |= dict(found) or ended
        if wanted is None:
            return list(answers.values()) or [Answer(id="", problem=note("engines.empty"))]
        names = {address for address, _ in wanted}
        mute = next((one.problem for one in answers.values() if one.id not in names), note("engines.gone"))
        return [
            answers.get(one) or Answer(id=one, problem=mute if pid else note("engines.gone")) for one, pid in wanted
        ]

    return wait


def clusters() -> int:
    """Count the clusters that can be asked."""
    return len(_by_cluster(dask_clients()))


def _by_cluster(clients: Sequence[Any]) -> dict[str, Any]:
    """One client a scheduler, by its address, that can be waited for: its loop runs, and not on this very thread."""
    import asyncio

    try:
        here: Any = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    there = [client for client in clients if is_open(client) and client.loop.asyncio_loop.is_running()]
    return {str(one.scheduler.address): one for one in there if one.loop.asyncio_loop is not here}


async def _ask(client: Any, wanted: Sequence[str] | None, code: str, found: dict[str, Answer], silent: Note) -> None:
    """Ask all at once, of the workers that are wanted those that this cluster has; each answer is noted as it comes."""
    import asyncio

    known = await client.nthreads()
    found |= {one: Answer(id=one, problem=silent) for one in known if wanted is None or one in wanted}

    async def ask(address: str) -> None:
        try:  # a builtin: no code of ours is sent
            value = (await client.run(eval, code, workers=[address], on_error="return"))[address]
        except Exception as error:
            value = error
        found[address] = _answer(address, value)

    await asyncio.gather(*map(ask, list(found)))


def _answer(address: str, value: object) -> Answer:
    if isinstance(value, OSError) and not isinstance(value, FileNotFoundError | PermissionError):
        return Answer(id=address, problem=note("engines.unreachable"))
    if isinstance(value, Exception):
        return Answer(id=address, error=(type(value).__name__, str(value)))
    return Answer(id=address, value=value)


def _answers(scheduler: str, future: Future[None], until: float, silent: Note) -> dict[str, Answer]:
    """What is there by then: nothing but the scheduler's silence where it has not even told of its workers."""
    problem = silent
    try:
        future.result(max(0.0, until - time.monotonic()))
        return {}
    except TimeoutError:
        pass
    except Exception:  # it was closed meanwhile
        problem = note("engines.closed")
    finally:
        future.cancel()
    return {scheduler: Answer(id=scheduler, problem=problem)}
