"""One `%gpumem`, next to what people type today."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.nvml_stub import build, environment, write_scenario
from tests.nvml_stub.build import compiler

from benchmarks.kernels import kernel
from benchmarks.machine import describe
from benchmarks.timing import Result, Time, take_turns

NAME = "gpumem"

_TITLE = "One %gpumem"
_SCENARIO = """
driver 580.65.06
gpu GPU-1 80GiB NVIDIA H100
used 20GiB
process self 12GiB
process 4711 8GiB
"""


def measure(repeats: int | None) -> Iterator[Result]:
    """Against `nvidia-smi` where there is a driver, else against gpustat on a stand-in for the driver."""
    if describe()["driver"] is not None:
        yield from _on_driver(repeats or 15)
    else:
        yield from _on_stub(repeats or 50)


def _on_driver(repeats: int) -> Iterator[Result]:
    command = shutil.which("nvidia-smi")
    if command is None:
        yield Result(name=NAME, title=_TITLE, skipped="there is a driver, but no nvidia-smi")
        return
    with kernel() as one:
        one.must("inside.switch(True)")
        sides = {"%gpumem": _asker(one.eval, "inside.gpumem()"), "nvidia-smi": lambda: _run(command)}
        yield Result(name=NAME, title=f"{_TITLE}, against nvidia-smi", sides=take_turns(sides, repeats, warm_up=2))


def _on_stub(repeats: int) -> Iterator[Result]:
    if compiler() is None:
        yield Result(name=NAME, title=_TITLE, skipped="no driver here, and no C compiler to build the stand-in for it")
        return
    with TemporaryDirectory() as folder, ExitStack() as stack:
        build(Path(folder))
        env = environment(write_scenario(Path(folder) / "scenario", _SCENARIO), Path(folder))
        wanted = {name: env[name] for name in ("NVML_STUB", "LD_LIBRARY_PATH")}
        ours = stack.enter_context(kernel(wanted))
        ours.must("inside.switch(True)")
        sides: dict[str, Time] = {"%gpumem": _asker(ours.eval, "inside.gpumem()")}
        notes = ["a stand-in for the driver, with one GPU that answers at once"]
        if importlib.util.find_spec("gpustat"):
            theirs = stack.enter_context(kernel(wanted))
            sides["gpustat"] = _asker(theirs.eval, "inside.gpustat()")
            sides["gpustat, but for its sleep"] = _asker(theirs.eval, "inside.gpustat(sleep=False)")
            notes.append("gpustat sleeps 100 ms a GPU, because it also tells how busy the processes keep the CPU")
        else:
            notes.append("gpustat is not installed here, so there is nothing to compare with: make bench installs it")
        yield Result(
            name=NAME,
            title=f"{_TITLE}, against gpustat",
            sides=take_turns(sides, repeats, warm_up=3),
            notes=tuple(notes),
        )


def _asker(ask: Callable[[str], float], expression: str) -> Time:
    return lambda: float(ask(expression))


def _run(command: str) -> float:
    started = time.perf_counter()
    subprocess.run([command], capture_output=True, timeout=60, check=True)
    return 1000 * (time.perf_counter() - started)
