"""Which worker an error came from: its number, machine and process, as the programs print them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, get_args

import pytest

from nb_oomhelper.failure.detection import detect
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.event import Remote, Worker
from nb_oomhelper.showing.headline import say_who
from tests.cases import EVENT

pytestmark = pytest.mark.plain


def raised(module: str, name: str, *args: object, **attributes: Any) -> BaseException:
    """An error of a class of that name in a module of that name, for a package that is not installed."""
    error: BaseException = type(name, (Exception,), {"__module__": module})(*args)
    vars(error).update(attributes)
    return error


class Answer:
    """What requests keeps of an answer; its body would be decoded by a property."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def text(self) -> str:
        raise AssertionError("this is not to be run")


FULL = "MemoryError: Unable to allocate 2.00 GiB for an array with shape (1,) and data type uint8"
ENGINE = ("MemoryError", FULL, "", {"engine_uuid": "9-f", "engine_id": 2, "method": "apply"})
CHILD = f"""
============================================================
train.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-03-01_10:11:12
  host      : node-3.local
  rank      : 5 (local_rank: 1)
  exitcode  : 1 (pid: 4711)
  error_file: /tmp/error.json
  traceback : {FULL}
"""
KILLED = (
    "Attempted to run task 'step-1' on 4 different workers, but all those workers died while running it. The last "
    "worker that attempt to run the task was tcp://10.0.0.7:34567. Inspecting worker logs is often a good next step."
)
DIED = """The actor died unexpectedly before finishing this task.
	class_name: A
	actor_id: 622cfaad1dad4e57
	pid: 29997
	namespace: b1b90d37-5529-4256-8a6f-a91fef84af94
	ip: 10.0.0.2
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed
by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly due
to SIGSEGV or another unexpected error."""
NODE = (
    "Task was killed due to the node running low on memory.\nMemory on the node (IP: 10.0.0.9, ID: e5d953ef) where the "
    "task (task ID: 43534ce9, name=allocate, pid=11362, memory used=1.25GB) was running was 27.71GB / 28.80GB "
    "(0.962273), which exceeds the memory usage threshold of 0.95."
)
FOUND: list[tuple[BaseException, Remote, Worker | None]] = [
    (
        raised(
            "ray.exceptions", "RayTaskError", f"\x1b[36mray::A.step()\x1b[39m (pid=77, ip=10.0.0.2, repr=A)\n{FULL}"
        ),
        "ray",
        Worker(pid=77, host="10.0.0.2", alive=True),
    ),
    (
        raised(
            "ray.exceptions", "RayTaskError", f"ray::A.step() (pid=77, ip=10.0.0.2, actor_id=65ec4c, repr=A)\n{FULL}"
        ),
        "ray",
        Worker(id="65ec4c", pid=77, host="10.0.0.2", alive=True),
    ),
    (
        raised("ray.exceptions", "ActorDiedError", DIED),
        "ray",
        Worker(id="622cfaad1dad4e57", pid=29997, host="10.0.0.2", alive=False),
    ),
    (raised("ray.exceptions", "OutOfMemoryError", NODE), "ray", Worker(pid=11362, host="10.0.0.9", alive=False)),
    (
        raised("ipyparallel.error", "RemoteError", "MemoryError", FULL, engine_info=ENGINE[-1]),
        "ipyparallel",
        Worker(id="2", alive=True, each=(("2", "9-f"),)),
    ),
    (
        raised("ipyparallel.error", "CompositeError", FULL, elist=[ENGINE, (*ENGINE[:3], {"engine_id": 0})]),
        "ipyparallel",
        Worker(id="2, 0", alive=True, each=(("2", "9-f"), ("0", ""))),
    ),
    (
        raised(
            "ipyparallel.error",
            "AlreadyDisplayedError",
            FULL,
            original_error=raised("ipyparallel.error", "RemoteError", FULL, engine_info=ENGINE[-1]),
        ),
        "ipyparallel",
        Worker(id="2", alive=True, each=(("2", "9-f"),)),
    ),
    (raised("distributed.scheduler", "KilledWorker", KILLED), "dask", Worker(id="tcp://10.0.0.7:34567", alive=False)),
    (
        RuntimeError(f"Caught MemoryError in DataLoader worker process 3.\nOriginal Traceback:\n{FULL}"),
        "dataloader worker",
        Worker(id="3"),
    ),
    (
        RuntimeError("DataLoader worker (pid 123) is killed by signal: Killed. "),
        "dataloader worker",
        Worker(pid=123, alive=False),
    ),
    (
        raised(
            "torch.multiprocessing.spawn",
            "ProcessRaisedException",
            f"\n\n-- Process 1 terminated with the following error:\n{FULL}",
            error_index=1,
            error_pid=55,
        ),
        "launcher",
        Worker(id="1", pid=55, alive=False),
    ),
    (
        raised("torch.distributed.elastic.multiprocessing.errors", "ChildFailedError", CHILD),
        "launcher",
        Worker(id="5", host="node-3.local", pid=4711, alive=False),
    ),
    (raised("billiard.pool", "RemoteTraceback", FULL), "process pool", None),
    (
        raised("openai", "APIError", f"Error code: 500 - {{'error': {{'message': '{FULL}'}}}}"),
        "server",
        Worker(alive=True),
    ),
    (
        raised(
            "requests.exceptions",
            "HTTPError",
            "500 Server Error: Internal Server Error for url: http://me:secret@gpu-1:8000/generate",
            response=Answer(json.dumps({"detail": FULL}).encode()),
        ),
        "server",
        Worker(host="gpu-1:8000", alive=True),
    ),
    (RuntimeError(f"HTTP 503: {FULL}"), "server", Worker(alive=True)),
    (RuntimeError(f"The request failed with status code 500: {FULL}"), "server", Worker(alive=True)),
    (RuntimeError(json.dumps({"error": FULL})), "server", Worker(alive=True)),
]


@pytest.mark.parametrize(("error", "remote", "worker"), FOUND, ids=lambda one: type(one).__name__)
def test_which_worker_it_was(error: BaseException, remote: Remote, worker: Worker | None) -> None:
    found = detect(error)
    assert found is not None
    assert (found.remote, found.worker) == (remote, worker)


def test_an_error_of_this_process_has_none() -> None:
    found = detect(MemoryError(FULL))
    assert found is not None
    assert (found.remote, found.worker) == (None, None)


def failed_there(monkeypatch: pytest.MonkeyPatch, *rows: tuple[str, float, str]) -> Worker | None:
    """What is told of Dask's worker, with a scheduler in this process that has seen these failures, newest first."""
    tasks = [SimpleNamespace(exception_text=text, timestamp=when, erred_on={address}) for text, when, address in rows]
    workers = {"tcp://10.0.0.7:1": SimpleNamespace(host="10.0.0.7", pid=4711)}
    module = ModuleType("distributed.scheduler")
    module.Scheduler = SimpleNamespace(_instances={Scheduler(tasks, workers)})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "distributed.scheduler", module)
    found = detect(raised("dask.multiprocessing", "RemoteException", FULL))
    assert found is not None
    assert found.remote == "dask"
    return found.worker


class Scheduler(NamedTuple):
    """What is read of Dask's, which cannot be had without its package."""

    erred_tasks: Any
    workers: Any
    address: str = "tcp://s"

    def __hash__(self) -> int:
        return id(self)


OURS, OTHER = "RemoteException('full')", "ValueError('x')"


def test_dasks_scheduler_in_this_process_tells_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    found = failed_there(monkeypatch, (OTHER, 10, "tcp://b:1"), (OURS, 9, "tcp://10.0.0.7:1"), (OURS, 1, "tcp://c:1"))
    each = (("tcp://10.0.0.7:1", "4711"),)
    assert found == Worker(id="tcp://10.0.0.7:1", host="10.0.0.7", pid=4711, alive=True, each=each)


def test_tasks_of_one_call_may_fail_on_several_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = failed_there(monkeypatch, (OURS, 9.1, "tcp://b:1"), (OURS, 9, "tcp://10.0.0.7:1"))
    each = (("tcp://b:1", ""), ("tcp://10.0.0.7:1", "4711"))
    assert found == Worker(id="tcp://b:1, tcp://10.0.0.7:1", alive=True, each=each)


@pytest.mark.parametrize("rows", [(), ((OTHER, 9, "tcp://b:1"),), ((OURS, "?", "tcp://b:1"), (OURS, 9, "tcp://b:1"))])
def test_dasks_scheduler_may_not_tell(monkeypatch: pytest.MonkeyPatch, rows: Any) -> None:
    assert failed_there(monkeypatch, *rows) == Worker(alive=True)


@pytest.mark.parametrize(
    "odd", [{"engine_info": 3}, {"elist": [3, ()]}, {"elist": 3}, {"engine_info": {"engine_id": "<b>"}}]
)
def test_odd_attributes(odd: dict[str, Any]) -> None:
    found = detect(raised("ipyparallel.error", "RemoteError", FULL, **odd))
    assert found is not None
    assert found.worker == Worker(alive=True)


@pytest.mark.parametrize(
    ("remote", "worker", "said"),
    [
        ("ray", None, "a Ray worker"),
        ("ray", Worker(pid=77, host="10.0.0.2"), "a Ray worker (PID 77 on 10.0.0.2)"),
        ("ipyparallel", Worker(id="2"), "ipyparallel engine 2"),
        ("dask", Worker(id="tcp://10.0.0.7:1"), "the Dask worker tcp://10.0.0.7:1"),
        ("dataloader worker", Worker(pid=3), "a DataLoader's worker (PID 3)"),
        ("launcher", Worker(id="5", host="node-3"), "rank 5 of what was launched from here (on node-3)"),
        ("ray", Worker(id="65ec", pid=77), "a Ray actor (PID 77)"),
        ("server", Worker(host="gpu-1:8000"), "a server that was asked from here (on gpu-1:8000)"),
        ("other", Worker(id="5"), "a worker"),
    ],
)
def test_it_is_named(remote: Remote, worker: Worker | None, said: str) -> None:
    assert say_who(replace(EVENT, remote=remote, worker=worker), "en") == said


def test_every_language_names_it() -> None:
    for language in get_args(Language):
        for remote in get_args(Remote):
            said = say_who(replace(EVENT, remote=remote, worker=Worker(id="9", pid=12, host="h")), language)
            assert "12" in said
            assert "h" in said
