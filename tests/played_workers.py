"""Clusters of workers that are played, as many as are wanted: of four one is silent, one gone, one talks nonsense.

What is asked of a client of Dask's is a coroutine, what is asked of one of ipyparallel's a message; either is answered
in a loop of its own, each worker after a delay of its own, or never.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

SILENT, GONE, NONSENSE, ANSWERS = range(4)  # of four workers in a row
_DELAYS = (0.0, 0.01, 0.1, 0.3)  # seconds


def kind_of(number: int, healthy: bool) -> int:
    """What a worker does, by its number."""
    return ANSWERS if healthy else number % 4


def delay_of(number: int) -> float:
    """The seconds after which it does that."""
    return _DELAYS[number // 4 % len(_DELAYS)]


class DaskClient:
    """What is asked of Dask's client, by its names; with no workers its scheduler does not answer."""

    status = "running"

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, count: int, told: Any, healthy: bool) -> None:
        self.loop = SimpleNamespace(asyncio_loop=loop)
        self.scheduler = SimpleNamespace(address=name)
        self.count, self.told, self.healthy = count, told, healthy

    async def nthreads(self) -> dict[str, int]:
        if self.count == 0:
            await asyncio.Event().wait()
        return {f"{self.scheduler.address}/{number}": 1 for number in range(self.count)}

    async def run(self, function: Any, code: str, *, workers: list[str], on_error: str) -> dict[str, Any]:
        assert function is eval
        assert on_error == "return"
        number = int(workers[0].rpartition("/")[2])
        kind = kind_of(number, self.healthy)
        await asyncio.sleep(delay_of(number))
        if kind == SILENT:
            await asyncio.Event().wait()
        if kind == GONE:
            raise ConnectionError("refused")
        return {workers[0]: {"form": 7} if kind == NONSENSE else self.told}


class EngineError(Exception):
    """As ipyparallel names what it has for an engine that has died."""


class EnginesClient:
    """What is asked of ipyparallel's client, by its names."""

    _closed = False

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, count: int, told: Any, healthy: bool) -> None:
        self.session = SimpleNamespace(key=name)
        self._engines = {number: f"{name}/{number}" for number in range(count)}
        self.loop, self.told, self.healthy = loop, told, healthy
        self.aborted: list[int] = []

    def direct_view(self, number: int) -> Any:
        return SimpleNamespace(apply_async=lambda function, code: self._ask(number, function))

    def abort(self, pending: Any, *, targets: int, block: bool) -> None:
        assert not pending.ready()
        assert block is False
        self.aborted.append(targets)

    def _ask(self, number: int, function: Any) -> Any:
        assert function is eval
        answered, kind = threading.Event(), kind_of(number, self.healthy)

        def get(timeout: float) -> Any:
            assert answered.wait(timeout)
            if kind == GONE:
                raise EngineError(f"Engine {number} died")
            return {"form": 7} if kind == NONSENSE else self.told

        if kind != SILENT:
            self.loop.call_soon_threadsafe(self.loop.call_later, delay_of(number), answered.set)
        return SimpleNamespace(wait=answered.wait, ready=answered.is_set, get=get)


class Played:
    """The clusters that there are: `add` makes one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.dask: set[DaskClient] = set()
        self.engines: list[EnginesClient] = []

    def add(self, engine: str, name: str, count: int, told: Any, *, healthy: bool = False) -> None:
        """Add a client of a cluster of "dask" or of "ipyparallel", whose workers tell that; `healthy`: all of them."""
        if engine == "dask":
            self.dask.add(DaskClient(self._loop, name, count, told, healthy))
        else:
            self.engines.append(EnginesClient(self._loop, name, count, told, healthy))


@contextmanager
def played() -> Iterator[Played]:
    """Put played clients in the place of Dask's and ipyparallel's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    clusters, before = Played(loop), dict(sys.modules)
    dask, engines = ModuleType("distributed.client"), ModuleType("ipyparallel")
    dask.Client = SimpleNamespace(_instances=clusters.dask)  # type: ignore[attr-defined]
    engines.Client = EnginesClient  # type: ignore[attr-defined]
    sys.modules |= {"distributed.client": dask, "ipyparallel": engines}
    try:
        yield clusters
    finally:
        for name in ("distributed.client", "ipyparallel"):
            del sys.modules[name]
            if name in before:
                sys.modules[name] = before[name]
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
