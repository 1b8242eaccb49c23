"""Which worker an error came from: its number, machine and process, as the programs print them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

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
FOUND: list[tuple[BaseException, Remote, Worker | None]] = [
    (
        raised(
            "ray.exceptions", "RayTaskError", f"\x1b[36mray::A.step()\x1b[39m (pid=77, ip=10.0.0.2, repr=A)\n{FULL}"
        ),
        "ray",
        Worker(pid=77, host="10.0.0.2", alive=True),
    ),
    (
        raised("ipyparallel.error", "RemoteError", "MemoryError", FULL, engine_info=ENGINE[-1]),
        "ipyparallel",
        Worker(id="2", alive=True),
    ),
    (
        raised("ipyparallel.error", "CompositeError", FULL, elist=[ENGINE, (*ENGINE[:3], {"engine_id": 0})]),
        "ipyparallel",
        Worker(id="2, 0", alive=True),
    ),
    (
        raised(
            "ipyparallel.error",
            "AlreadyDisplayedError",
            FULL,
            original_error=raised("ipyparallel.error", "RemoteError", FULL, engine_info=ENGINE[-1]),
        ),
        "ipyparallel",
        Worker(id="2", alive=True),
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
