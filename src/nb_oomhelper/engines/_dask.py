"""Dask distributed: workers by their addresses, through the client's own loop; each with a deadline of its own.

`Client.run` does not wait for the tasks of a worker. What one has not answered in time may still run there.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from nb_oomhelper.engines.answers import Answer, late
from nb_oomhelper.records.event import Remote
from nb_oomhelper.records.note import note

NAME: Remote = "dask"
_MORE = 0.2  # seconds after which a loop that has not kept its own deadline is given up


def begin(wanted: Sequence[tuple[str, str]] | None, code: str, seconds: float) -> Callable[[], list[Answer]] | None:
    """Send an expression to workers.

    Args:
        wanted: Address of each worker that is meant, and its PID or ""; None is all.
        code: The expression; it sees to the PIDs itself.
        seconds: For all of them.

    Returns:
        What waits for the answers; None where there is no client.
    """
    clients = _clients()
    if not clients:
        return None
    addresses = None if wanted is None else [address for address, _ in wanted]
    schedulers = _by_cluster(clients)
    if not schedulers:
        problem = note("engines.asynchronous" if _running(clients) else "engines.closed")
        return lambda: [Answer(id=address, problem=problem) for address in addresses or [""]]
    until = time.monotonic() + seconds
    asked = [
        (address, asyncio.run_coroutine_threadsafe(_ask(client, addresses, code, seconds), client.loop.asyncio_loop))
        for address, client in schedulers.items()
    ]

    def wait() -> list[Answer]:
        found: dict[str, Answer] = {}
        for scheduler, future in asked:
            found |= _answers(scheduler, future, until, seconds)
        gone = note("engines.gone")
        if addresses is None:
            return list(found.values())
        silent = [one for one in found.values() if one.id not in addresses]  # a scheduler that has not answered
        return [found.get(one) or Answer(id=one, problem=silent[0].problem if silent else gone) for one in addresses]

    return wait


def clusters() -> int:
    """Count the clusters that can be asked."""
    return len(_by_cluster(_clients()))


def _clients() -> list[Any]:
    kind = getattr(sys.modules.get("distributed.client"), "Client", None)
    return list(getattr(kind, "_instances", ()))


def _running(clients: Sequence[Any]) -> list[Any]:
    return [client for client in clients if client.status == "running"]


def _by_cluster(clients: Sequence[Any]) -> dict[str, Any]:
    """One client a scheduler, by its address, that can be waited for: not on the loop that runs on this very thread."""
    try:
        here: Any = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    there = [client for client in _running(clients) if client.loop.asyncio_loop is not here]
    return {str(client.scheduler.address): client for client in there}


async def _ask(client: Any, wanted: Sequence[str] | None, code: str, seconds: float) -> dict[str, Answer]:
    """Ask all at once; of the workers that are wanted those that this cluster has."""
    until = time.monotonic() + seconds
    known = await asyncio.wait_for(client.nthreads(), seconds)
    found = [address for address in known if wanted is None or address in wanted]

    async def one(address: str) -> Answer:
        asked = client.run(eval, code, workers=[address], on_error="return")  # a builtin: no code of ours is sent
        try:
            value = (await asyncio.wait_for(asked, max(0.0, until - time.monotonic())))[address]
        except TimeoutError:
            return Answer(id=address, problem=late(seconds))
        except Exception as error:
            value = error
        if isinstance(value, OSError) and not isinstance(value, FileNotFoundError | PermissionError):
            return Answer(id=address, problem=note("engines.unreachable"))
        if isinstance(value, Exception):
            return Answer(id=address, error=(type(value).__name__, str(value)))
        return Answer(id=address, value=value)

    return dict(zip(found, await asyncio.gather(*map(one, found)), strict=True))


def _answers(scheduler: str, future: Future[dict[str, Answer]], until: float, seconds: float) -> dict[str, Answer]:
    try:
        return future.result(max(0.0, until + _MORE - time.monotonic()))
    except TimeoutError:
        problem = late(seconds)
    except Exception:  # it was closed meanwhile
        problem = note("engines.closed")
    finally:
        future.cancel()
    return {scheduler: Answer(id=scheduler, problem=problem)}
