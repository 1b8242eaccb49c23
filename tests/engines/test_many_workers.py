"""Hundreds of workers, some of which are silent, gone or talk nonsense: one row each, and nobody waits for them.

The workers are played: what is asked of a client of Dask's is a coroutine, in a loop of its own, that answers or not.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from nb_oomhelper import there
from nb_oomhelper.engines import _dask
from nb_oomhelper.engines.answers import Answer, reply_of

pytestmark = pytest.mark.plain

TOLD = there.read()
SILENT, GONE, NONSENSE = range(3)  # of four workers; the last one of them answers


class Client:
    """What is asked of Dask's client, by its names."""

    status = "running"

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, count: int) -> None:
        self.loop = SimpleNamespace(asyncio_loop=loop)
        self.scheduler = SimpleNamespace(address=name)
        self.count = count

    async def nthreads(self) -> dict[str, int]:
        if self.count == 0:  # a scheduler that does not answer
            await asyncio.Event().wait()
        return {f"{self.scheduler.address}/{number}": 1 for number in range(self.count)}

    async def run(self, function: Any, code: str, *, workers: list[str], on_error: str) -> dict[str, Any]:
        assert (function, code, on_error) == (eval, "there", "return")
        kind = int(workers[0].rpartition("/")[2]) % 4
        if kind == SILENT:
            await asyncio.Event().wait()
        if kind == GONE:
            raise ConnectionError("refused")
        return {workers[0]: {"form": 7} if kind == NONSENSE else TOLD}


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[Client]]:
    """The set of the clients that there are; `add` puts one in."""
    loop, module = asyncio.new_event_loop(), ModuleType("distributed.client")
    found: set[Client] = set()
    module.Client = SimpleNamespace(_instances=found)  # type: ignore[attr-defined]
    module.loop = loop  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "distributed.client", module)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield found
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def add(clients: set[Client], name: str, count: int) -> None:
    clients.add(Client(sys.modules["distributed.client"].loop, name, count))


def kinds(answers: list[Answer]) -> dict[str | None, int]:
    replies = [reply_of("dask", answer) for answer in answers]
    keys = [reply.problem.key if reply.problem else None for reply in replies]
    return {key: keys.count(key) for key in keys}


def asked(wanted: list[tuple[str, str]] | None = None) -> list[Answer]:
    wait = _dask.begin(wanted, "there", 1.0)
    assert wait is not None
    return wait()


@pytest.mark.parametrize("count", [4, 64, 512])
def test_each_is_a_row(clients: set[Client], count: int) -> None:
    add(clients, "tcp://a", count)
    share = count // 4
    wanted = {"engines.late": share, "engines.unreachable": share, "engines.form": share, None: share}
    assert kinds(asked()) == wanted


def test_a_scheduler_that_does_not_answer_does_not_cost_the_others(clients: set[Client]) -> None:
    add(clients, "tcp://a", 4)
    add(clients, "tcp://silent", 0)
    answers = {answer.id: answer for answer in asked()}
    assert len(answers) == 5
    assert answers["tcp://silent"].problem is not None
    assert answers["tcp://a/3"].value


def test_those_that_are_wanted_are_asked_and_no_other(clients: set[Client]) -> None:
    add(clients, "tcp://a", 8)
    add(clients, "tcp://b", 8)
    found = asked([("tcp://b/3", "1"), ("tcp://b/9", "1"), ("tcp://a/2", "1"), ("tcp://a/3", "")])
    assert [answer.id for answer in found] == ["tcp://b/3", "tcp://b/9", "tcp://a/2", "tcp://a/3"]
    assert kinds(found) == {None: 1, "engines.gone": 2, "engines.form": 1}  # the last one had left at its error


def test_a_worker_of_a_scheduler_that_does_not_answer_is_late_not_gone(clients: set[Client]) -> None:
    add(clients, "tcp://silent", 0)
    assert kinds(asked([("tcp://x", "1")])) == {"engines.late": 1}


def test_two_clients_of_one_cluster_ask_once(clients: set[Client]) -> None:
    add(clients, "tcp://a", 4)
    add(clients, "tcp://a", 4)
    assert len(asked()) == 4
    assert _dask.clusters() == 1
