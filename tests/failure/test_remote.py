"""Whether an error is this process's own, or came here from another's: real ones where they are quick to have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from numpy import ones, uint8

from nb_oomhelper.failure.detection import detect
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.event import OomEvent, Remote
from nb_oomhelper.showing.frontends import _static, _text
from nb_oomhelper.showing.report import write
from tests.cases import EVENT, HOLDINGS, SNAPSHOT, catalog, rich_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.plain

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 1.00 GiB is free."
)
REAL = """
import json, multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import numpy, torch
from nb_oomhelper.failure.detection import detect
try:
    import joblib
except ImportError:
    joblib = None

def bare(_=0):
    raise MemoryError
def array(_=0):
    numpy.ones(1 << 50, numpy.uint8)
class Items(torch.utils.data.Dataset):
    def __init__(self, make):
        self.make = make
    def __len__(self):
        return 1
    def __getitem__(self, index):
        device = "cuda"  # a word of the code that the worker's text quotes
        return self.make(device)
def launched(rank):
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
def told(call):
    try:
        call()
    except BaseException as error:
        event = detect(error)
        return event and [event.remote, event.format, event.certainty, event.exception_type.rpartition(".")[2]]

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    with fork.Pool(1) as pool, ProcessPoolExecutor(1, mp_context=fork) as executor:
        found = {
            "pool": told(lambda: pool.map(bare, [1])),
            "pool, array": told(lambda: pool.apply(array)),
            "executor": told(lambda: executor.submit(bare).result()),
            "executor, array": told(lambda: list(executor.map(array, [1]))),
        }
    for name, make in (("loader", bare), ("loader, array", array)):
        found[name] = told(lambda: list(torch.utils.data.DataLoader(Items(make), num_workers=1)))
        found[f"{name}, no worker"] = told(lambda: list(torch.utils.data.DataLoader(Items(make))))
    for name in ("threading", "multiprocessing", "loky"):
        both = lambda: joblib.Parallel(2, backend=name)(joblib.delayed(array)(one) for one in range(2))
        found[f"joblib, {name}"] = told(both) if joblib else "not installed"
    spawn = torch.multiprocessing.start_processes
    found["spawn"] = told(lambda: spawn(launched, nprocs=1, start_method="fork"))
    print(json.dumps(found))
"""


def test_real_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(REAL)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    for name, remote in (("threading", None), ("multiprocessing", "process pool"), ("loky", "process pool")):
        assert found.pop(f"joblib, {name}") in ("not installed", [remote, "numpy.array", "sure", "_ArrayMemoryError"])
    assert found == {
        "pool": ["process pool", "python.memory", "sure", "MemoryError"],
        "pool, array": ["process pool", "numpy.array", "sure", "_ArrayMemoryError"],
        "executor": ["process pool", "python.memory", "sure", "MemoryError"],
        "executor, array": ["process pool", "numpy.array", "sure", "_ArrayMemoryError"],
        "loader": ["dataloader worker", "python.memory", "sure", "MemoryError"],
        "loader, no worker": [None, "python.memory", "sure", "MemoryError"],
        "loader, array": ["dataloader worker", "numpy.array", "sure", "RuntimeError"],
        "loader, array, no worker": [None, "numpy.array", "sure", "_ArrayMemoryError"],
        "spawn": ["launcher", "pt.cuda.short", "sure", "ProcessRaisedException"],
    }


def made(module: str, name: str, *bases: type) -> type[BaseException]:
    """A class of that name in a module of that name, for a package that is not installed."""
    return type(name, bases or (Exception,), {"__module__": module})


RAY = made("ray.exceptions", "RayTaskError")
DUAL = type("RayTaskError(OutOfMemoryError)", (RAY, torch.OutOfMemoryError), {"__module__": "ray.exceptions"})
LOKY = 'joblib/externals/loky/process_executor.py", line 490, in _process_worker\nMemoryError'


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


ELSEWHERE: list[tuple[Remote, BaseException]] = [
    ("ray", DUAL(f"\x1b[36mray::A.oom()\x1b[39m (pid=7, ip=10.0.0.2)\ntorch.OutOfMemoryError: {CUDA}")),
    ("ray", RuntimeError(f"ray::step() (pid=7, ip=10.0.0.2)\n{CUDA}")),
    ("ipyparallel", made("ipyparallel.error", "RemoteError")(f"[0:apply] OutOfMemoryError: {CUDA}")),
    ("ipyparallel", made("ipyparallel.error", "CompositeError")(f"one or more exceptions raised in: f\n[0]: {CUDA}")),
    ("dask", made("distributed.scheduler", "KilledWorker")(CUDA)),
    ("dask", made("dask.multiprocessing", "RemoteException", MemoryError)(CUDA)),
    (
        "dataloader worker",
        MemoryError("Caught MemoryError in DataLoader worker process 0.\nOriginal Traceback\nMemoryError"),
    ),
    ("process pool", caused(MemoryError(), made("billiard.pool", "RemoteTraceback")("x"))),
    ("process pool", caused(MemoryError(), made("joblib.externals.loky.process_executor", "_RemoteTraceback")(LOKY))),
    ("launcher", made("torch.multiprocessing.spawn", "ProcessRaisedException")(f"\n\n-- Process 0 {CUDA}")),
    ("launcher", made("torch.distributed.elastic.multiprocessing.errors", "ChildFailedError")(CUDA)),
    ("launcher", RuntimeError(f"Command ['python', 'train.py'] failed with return code 1. The final lines: {CUDA}")),
    (
        "launcher",
        made("papermill.exceptions", "PapermillExecutionError")(f'Exception encountered at "In [3]":\n{CUDA}'),
    ),
    ("other", made("pyspark.errors.exceptions.captured", "PythonException")(f"An exception was thrown: {CUDA}")),
    ("other", made("py4j.protocol", "Py4JJavaError")(f"An error occurred while calling o1.fit.\n: {CUDA}")),
    ("java", made("py4j.protocol", "Py4JJavaError")("o1.fit.\n: java.lang.OutOfMemoryError: Java heap space")),
    ("ray", RuntimeError("ray::f() (pid=7, ip=10.0.0.2)\njava.lang.OutOfMemoryError: Java heap space")),
]


@pytest.mark.parametrize(("remote", "error"), ELSEWHERE)
def test_another_process(remote: Remote, error: BaseException) -> None:
    found = detect(error)
    assert found is not None
    assert found.remote == remote
    wrapped = detect(caused(ValueError("training failed"), error))
    assert wrapped is not None
    assert wrapped.remote == remote


THREADS = 'joblib/_utils.py", line 109, in __call__\nMemoryError'


class RefusingError(RuntimeError):
    """Whose class has code where an exception keeps its text and its arguments."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")


HERE: dict[str, BaseException] = {
    "plain": MemoryError(),
    "a class that refuses": RefusingError(CUDA),
    "a replica, which is a thread": torch.OutOfMemoryError(
        f"Caught OutOfMemoryError in replica 0 on device 0.\nOriginal Traceback (most recent call last):\n{CUDA}"
    ),
    "the thread that pins": RuntimeError(
        f"Caught RuntimeError in pin memory thread for device 0.\nOriginal Traceback (most recent call last):\n{CUDA}"
    ),
    "a text that quotes it": RuntimeError(f"{CUDA} (as: Caught MemoryError in DataLoader worker process 0.)"),
    "a text with figures of its own": RuntimeError(f"Memory status: 507 MiB are used. {CUDA}"),
    "a text that speaks of Ray": torch.OutOfMemoryError(f"{CUDA} See ray::f() (pid=1, ip=10.0.0.2)"),
    "a class of the user's with a known name": made("notebook_utils", "RemoteError")(CUDA),
    "joblib's threads": caused(
        MemoryError(), made("joblib.externals.loky.process_executor", "_RemoteTraceback")(THREADS)
    ),
}


@pytest.mark.parametrize("name", HERE)
def test_this_process(name: str) -> None:
    found = detect(HERE[name])
    assert found is not None
    assert found.remote is None


def caught(call: Callable[[], object]) -> OomEvent:
    try:
        call()
    except BaseException as error:
        found = detect(error)
        assert found is not None
        return found
    raise AssertionError("nothing was raised")


def test_a_pool_of_threads_is_this_process() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert caught(lambda: pool.submit(lambda: ones(1 << 50, uint8)).result()).remote is None


def test_what_failed_here_while_anothers_error_was_handled() -> None:
    def both() -> None:
        try:
            raise MemoryError from made("multiprocessing.pool", "RemoteTraceback")("MemoryError")
        except MemoryError:
            ones(1 << 50, uint8)

    found = caught(both)
    assert (found.remote, found.format) == (None, "numpy.array")


def test_anothers_error_while_one_of_here_was_handled() -> None:
    """The pool's error is no lack of memory: the one behind it is not the pool's."""

    def both() -> None:
        try:
            ones(1 << 50, uint8)
        except MemoryError:
            raise ValueError("no") from None

    def pool() -> None:
        try:
            both()
        except ValueError as error:
            caused(error, made("multiprocessing.pool", "RemoteTraceback")("ValueError: no"))
            raise

    assert caught(pool).remote is None


def rebuilt(file: str) -> Any:
    """A frame as tblib makes it after one of another process's."""
    return compile("raise __traceback_maker", file, "exec")


@pytest.mark.parametrize(
    ("outer", "remote"),
    [("/site-packages/distributed/client.py", "dask"), ("/site-packages/dask/base.py", "dask"), ("/x.py", "other")],
)
def test_a_traceback_that_was_rebuilt(outer: str, remote: Remote) -> None:
    names = {"__traceback_maker": MemoryError(), "frame": rebuilt("<dynamic-code>")}
    assert caught(lambda: exec(compile("exec(frame)", outer, "exec"), names)).remote == remote


def test_a_worker_of_dasks_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Client(processes=False)`: its workers are threads, and still their tracebacks are rebuilt."""
    worker = ModuleType("distributed.worker")
    worker.Worker = type("Worker", (), {"_instances": {1}})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "distributed.worker", worker)
    names = {"__traceback_maker": MemoryError(), "frame": rebuilt("<dynamic-code>")}
    code = compile("exec(frame)", "/site-packages/distributed/client.py", "exec")
    assert caught(lambda: exec(code, names)).remote is None


# -- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("remote", get_args(Remote))
@pytest.mark.parametrize("backend", ["cuda", "host"])
def test_the_panel_says_so_first_and_shows_nothing_of_here(remote: Remote, language: Language, backend: str) -> None:
    event = replace(EVENT, remote=remote, backend=backend, certainty="probable")
    case = rich_case(event, SNAPSHOT)
    case.plans, case.outcomes = (), []
    found = write(case, catalog(), language)
    assert (found.parts, found.cause_rows, found.fixes, found.dead_ends, found.place) == ((), (), (), (), "")
    first = _text.render(found).splitlines()[0]
    assert first == found.title
    begin = {"en": "Probably out of memory in another process: ", "zh": "可能是另一个进程内存不足："}
    assert first.startswith(begin[language])
    assert "2.00 GiB" in found.headline
    assert len(found.notes) == 2  # what the text does not prove, and the file that was left out
    drawn = _static.render(found).partition("</style>")[2]
    assert 'class="oomh-bar"' not in drawn
    assert "oomh-why" not in drawn
    assert "8.00 GiB" not in drawn
    assert "%oom fix" not in _text.render(found)


def test_the_entry_is_about_the_other_process() -> None:
    case = rich_case(replace(EVENT, remote="ray"), replace(SNAPSHOT, holdings=HOLDINGS))
    assert write(case, catalog(), "en").entry.startswith("**CUDA-OOM-070**")
