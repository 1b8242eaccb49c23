"""What runs inside a kernel that is measured; the benchmarks import it there."""

from __future__ import annotations

import time
from typing import Any

MEBI = 1 << 20
GIBI = 1 << 30
NEVER = 1 << 50  # bytes that no machine has: asking for them is a real out-of-memory, at once


class Clock:
    """Notes when an error was raised, when its traceback had been shown, and when the panel was displayed."""

    def __init__(self) -> None:
        from IPython import get_ipython

        self.times: dict[str, float] = {}
        shell: Any = get_ipython()
        shell.display_pub.register_hook(self._displayed)
        show = shell._showtraceback  # what sends the traceback to the front end

        def timed(*args: Any, **options: Any) -> Any:
            try:
                return show(*args, **options)
            finally:
                self._note("traceback")

        shell._showtraceback = timed

    def raising(self) -> None:
        """Start: the error comes now."""
        self.times = {}
        self._note("raised")

    def read(self) -> dict[str, float]:
        """Milliseconds from the error to its traceback, and from there to the panel."""
        raised, traceback, panel = (self.times[name] for name in ("raised", "traceback", "panel"))
        return {"traceback": 1000 * (traceback - raised), "panel": 1000 * (panel - traceback)}

    def _displayed(self, message: dict[str, Any]) -> dict[str, Any]:
        if message["msg_type"] == "display_data":
            self._note("panel")
        return message

    def _note(self, name: str) -> None:
        self.times.setdefault(name, time.perf_counter())


def fill(count: int) -> list[list[int]]:
    """As many objects that the garbage collector follows, one list of them."""
    return [[number] for number in range(count)]


def run_cells(cell: str, count: int) -> float:
    """Run a cell again and again in this kernel; the median of the milliseconds that one took."""
    import statistics

    from IPython import get_ipython

    shell: Any = get_ipython()
    times = []
    for _ in range(count):
        started = time.perf_counter()
        shell.run_cell(cell, store_history=False)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def switch(on: bool) -> bool:
    """Load the extension, or unload it; whether it is loaded now."""
    from IPython import get_ipython

    manager: Any = get_ipython().extension_manager
    if on:
        manager.load_extension("nb_oomhelper")
    elif "nb_oomhelper" in manager.loaded:
        manager.unload_extension("nb_oomhelper")
    return on


def timed(code: str) -> list[float]:
    """Run code, and give its milliseconds and the bytes by which PyTorch's allocated memory fell."""
    import torch
    from IPython import get_ipython

    shell: Any = get_ipython()
    before = torch.cuda.memory_allocated()
    started = time.perf_counter()
    exec(code, shell.user_ns)
    took = 1000 * (time.perf_counter() - started)
    return [took, before - torch.cuda.memory_allocated()]


def gpumem() -> float:
    """Milliseconds of one `%gpumem`, its table included but not sent."""
    from IPython import get_ipython
    from IPython.utils.capture import capture_output

    shell: Any = get_ipython()
    with capture_output():
        started = time.perf_counter()
        shell.run_line_magic("gpumem", "")
        return 1000 * (time.perf_counter() - started)


def gpustat(sleep: bool = True) -> float:
    """Milliseconds of one query of gpustat, its table included.

    Args:
        sleep: False takes out the time for which it sleeps on purpose.
    """
    import importlib
    import io
    from unittest import mock

    core = importlib.import_module("gpustat.core")
    pynvml = importlib.import_module("pynvml")
    numbers = mock.patch.object(pynvml, "nvmlDeviceGetIndex", return_value=0)  # the stand-in has no such function
    sleeps = mock.patch.object(core.time, "sleep", time.sleep if sleep else mock.Mock())
    with numbers, sleeps:
        started = time.perf_counter()
        core.GPUStatCollection.new_query().print_formatted(io.StringIO())
        return 1000 * (time.perf_counter() - started)
