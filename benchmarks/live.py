"""What a live panel takes, and `%gpumem` of many GPUs: `python -m benchmarks.live [--seconds S] [--json FILE]`.

A stand-in for the driver has GPUs that answer at once; what gpustat and nvitop take for one reading of it is measured
in the same kernel, where they are installed. Calls of the driver are those of pynvml's C functions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.kernel.driver import Kernel
from tests.nvml_stub import build, environment, write_scenario

_PROCESSES = 2000
_TYPED = {"gpustat": "gpustat", "nvitop": "nvitop -1"}
_MESSAGE = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 80.00 GiB of which 512.00 MiB is "
    "free."
)
_SET_UP = f"""
import importlib.util, statistics, subprocess, sys, time, pynvml
from IPython.utils.capture import capture_output
calls, pointer = 0, pynvml._nvmlGetFunctionPointer
def counted(name):
    global calls
    calls += 1
    return pointer(name)
pynvml._nvmlGetFunctionPointer = counted
class OutOfMemoryError(RuntimeError):
    pass
def fail():
    raise OutOfMemoryError({_MESSAGE!r})
def ours():
    with capture_output():
        get_ipython().run_line_magic("gpumem", "")
def of_nvitop():
    from nvitop import Device
    for device in Device.all():
        device.as_snapshot()
        device.processes()
def of_gpustat():
    import io
    from gpustat import core
    core.time.sleep = lambda seconds: None
    core.GPUStatCollection.new_query().print_formatted(io.StringIO())
def took(what, times=7):
    global calls
    what()
    seconds, counts = [], []
    for _ in range(times):
        calls, started, used = 0, time.perf_counter(), time.process_time()
        what()
        seconds.append(1000 * (time.process_time() - used))
        counts.append(calls)
    return [round(statistics.median(seconds), 2), int(statistics.median(counts))]
def readers():
    found = {{"%gpumem": ours}}
    found |= {{"gpustat": of_gpustat}} if importlib.util.find_spec("gpustat") else {{}}
    return found | ({{"nvitop": of_nvitop}} if importlib.util.find_spec("nvitop") else {{}})
def waited(what, times=5):
    waits = []
    for _ in range(times):
        started = time.perf_counter()
        what()
        waits.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(waits))
def typed(name):
    command = [sys.executable, "-m", *name.split()]
    return waited(lambda: subprocess.run(command, capture_output=True, timeout=60, check=True))
"""


def follow(seconds: float) -> dict[str, Any]:
    """Let a panel follow a GPU whose memory does not change.

    Args:
        seconds: For how long, and for how long without it.

    Returns:
        Messages, calls of the driver for one reading, and the share of a processor, beside that of a kernel that
        follows nothing.
    """
    with _kernel(1) as kernel:
        kernel.execute("%gpumem")
        idle = _share(kernel, seconds)
        kernel.execute("fail()")
        kernel.poll(3)  # the first readings differ: what the panel itself has taken
        live = _share(kernel, seconds)
    return {"messages": live["messages"], "calls": round(live["calls"] / seconds, 1), "live": live, "idle": idle}


def read(gpus: int) -> dict[str, Any]:
    """Read GPUs with 2,000 processes in all.

    Args:
        gpus: How many.

    Returns:
        By reader: milliseconds of a processor and calls of the driver for one reading in the kernel; and how long one
        waits for `%gpumem`, and for the others as they are typed, in milliseconds.
    """
    with _kernel(gpus) as kernel:
        names = kernel.eval("[*readers()]")
        waits = {"%gpumem": kernel.eval("waited(ours)", timeout=120)}  # first: nvitop puts itself before pynvml's calls
        found = {name: kernel.eval(f"took(readers()[{name!r}])", timeout=120) for name in names}
        for command in (_TYPED[name] for name in names if name in _TYPED):
            waits[command] = kernel.eval(f"typed({command!r})", timeout=300)
        return {"gpus": gpus, **found, "waits": waits}


@contextmanager
def _kernel(gpus: int) -> Iterator[Kernel]:
    """A kernel with the extension and so many GPUs."""
    with TemporaryDirectory() as folder:
        home = Path(folder)
        build(home)
        each = min(60, _PROCESSES // gpus)
        lines = ["driver 580.65.06"]
        for gpu in range(gpus):
            lines += [f"gpu GPU-{gpu} 80GiB NVIDIA H100", "used 79GiB"]
            lines += [f"process {100_000 + gpu * each + number} 500MiB" for number in range(each)]
        env = environment(write_scenario(home / "scenario", "\n".join([*lines, ""])), home)
        wanted = {name: env[name] for name in ("NVML_STUB", "LD_LIBRARY_PATH")} | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        with Kernel(sys.executable, home, wanted) as kernel:
            kernel.execute("%load_ext nb_oomhelper")
            kernel.poll(3)  # what it imports when it is idle
            kernel.execute(_SET_UP)
            yield kernel


def _share(kernel: Kernel, seconds: float) -> dict[str, Any]:
    kernel.execute("calls, used, began = 0, time.process_time(), time.monotonic()")
    late = kernel.poll(seconds)
    share, calls = kernel.eval("[(time.process_time() - used) / (time.monotonic() - began), calls]")
    return {"percent": round(100 * share, 3), "messages": len(late.comms) + len(late.displays), "calls": calls}


def main() -> int:
    """Print what was measured, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="for which a panel is followed")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    found = {"live": follow(options.seconds), "readings": [read(gpus) for gpus in (1, 8, 33, 64)]}
    print(json.dumps(found, indent=1))
    if options.json:
        whole = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **found}
        options.json.write_text(json.dumps(whole, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
