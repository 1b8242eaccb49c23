"""What a worker of ipyparallel and of Dask holds after a task has run out of memory, and what gives it back.

`python -m benchmarks.workers` starts clusters of its own on this machine and prints the tables of docs/engines.md. It
needs ipyparallel, distributed, numpy and psutil. `--panel`: from the traceback to the panel.
`--played`: the table of workers that are played, which needs nothing.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from tests.played_workers import played

from benchmarks.kernels import kernel
from benchmarks.panel import fail as panel_of
from nb_oomhelper import engines, there

_SIZES = (1, 2, 8, 32)  # workers
_PLAYED = (1, 8, 64, 512)
_REPEATS = 5


def fail() -> None:
    """Run out of memory with an array of 200 MiB alive."""
    import numpy

    kept: Any = numpy.ones(200 << 20, numpy.uint8)
    numpy.ones(1 << 50, kept.dtype)


def resident() -> int:  # as above, with its imports inside: it runs on a worker
    """This process's bytes of host memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


class Ipyparallel:
    """Engines, and the ways to give memory back on the first."""

    def __init__(self, count: int) -> None:
        self._cluster = importlib.import_module("ipyparallel").Cluster(n=count, log_level=40)
        self.client = self._cluster.start_and_connect_sync()
        self.client.wait_for_engines(count, timeout=120)

    def on_first(self, function: Callable[[], Any]) -> Any:
        """Run a function on the first worker."""
        return self.client[self.client.ids[0]].apply_sync(function)

    def end(self) -> None:
        """End the cluster."""
        self.client.shutdown(hub=True)
        self._cluster.stop_cluster_sync()

    def ways(self) -> dict[str, Callable[[], object]]:
        """The ways of its own to give memory back there."""
        return {"`gc.collect()` there": lambda: self.on_first(gc.collect)}


class Dask:
    """Workers, and the ways to give memory back on the first."""

    def __init__(self, count: int) -> None:
        distributed = importlib.import_module("distributed")
        self._cluster = distributed.LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None)
        self.client = distributed.Client(self._cluster)

    def on_first(self, function: Callable[[], Any]) -> Any:
        """Run a function on the first worker."""
        return self.client.submit(function, workers=[0], pure=False).result()

    def end(self) -> None:
        """End the cluster."""
        self.client.close()
        self._cluster.close()

    def ways(self) -> dict[str, Callable[[], object]]:
        """The ways of its own to give memory back there."""
        return {"`gc.collect()` there": lambda: self.client.run(gc.collect), "`client.restart()`": self.client.restart}


def given_back(kind: type[Ipyparallel | Dask], name: str) -> list[str]:
    """One row a way: bytes before, after the error, after the way, and its seconds."""
    rows = []
    ways = {"`%oom release --engines`": lambda: engines.ask_all("release")}
    cluster = kind(2)
    cluster.end()
    for way in (*ways, *cluster.ways()):
        cluster = kind(2)
        cluster.on_first(resident)
        engines.ask_all("read")
        before = cluster.on_first(resident)
        with contextlib.suppress(Exception):
            cluster.on_first(fail)
        after = cluster.on_first(resident)
        started = time.perf_counter()
        (ways | cluster.ways())[way]()
        seconds = time.perf_counter() - started
        sizes = " | ".join(f"{size >> 20}" for size in (before, after, cluster.on_first(resident)))
        rows.append(f"| {name} | {way} | {sizes} | {seconds:.2f} s |")
        cluster.end()
    return rows


def read_times(kind: type[Ipyparallel | Dask], name: str) -> list[str]:
    """One row a number of workers: seconds of the first `%gpumem --engines`, and of later ones."""
    rows = []
    for count in _SIZES:
        cluster = kind(count)
        times = []
        for _ in range(_REPEATS + 1):
            started = time.perf_counter()
            replies = engines.ask_all("read")
            times.append(time.perf_counter() - started)
        answered = sum(reply.problem is None for reply in replies)
        rows.append(f"| {name} | {count} | {answered} | {times[0]:.2f} s | {statistics.median(times[1:]):.2f} s |")
        cluster.end()
    return rows


def played_times(engine: str, count: int, *, healthy: bool) -> str:
    """One row of workers that are played: seconds, bytes and threads of `%gpumem --engines`, and who did not answer."""
    with played() as clusters:
        clusters.add(engine, "tcp://played", count, there.read(), healthy=healthy)
        engines.ask_all("read")
        times = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            replies = engines.ask_all("read")
            times.append(time.perf_counter() - started)
        size, threads = _cost()
    answered = sum(reply.problem is None for reply in replies)
    seconds, which = statistics.median(times), "all answer" if healthy else "one of four answers"
    return f"| {engine} | {count} | {which} | {answered} | {len(replies)} | {seconds:.2f} s | {size} | {threads} |"


def _cost() -> tuple[str, int]:
    """Bytes at most of one reading, and threads that it has started."""
    before, seen = threading.active_count(), [0]
    asking = threading.Thread(target=engines.ask_all, args=("read",))
    tracemalloc.start()
    asking.start()
    while asking.is_alive():
        seen.append(threading.active_count() - before - 1)
        asking.join(0.02)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return f"{peak / 1e6:.1f} MB", max(seen)


_IN_A_KERNEL = """
import distributed, ipyparallel
from benchmarks.workers import fail
cluster = ipyparallel.Cluster(n=1, log_level=40)
engines = cluster.start_and_connect_sync()
engines.wait_for_engines(1, timeout=120)
client = distributed.Client(distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None))
clock = inside.Clock()
inside.switch(True)
"""
_FAILING = {
    "this kernel": "fail()",
    "ipyparallel": "engines[0].apply_sync(fail)",
    "Dask": "client.submit(fail, pure=False).result()",
}


def panel_times() -> list[str]:
    """One row a place that runs out: milliseconds from the traceback that is shown to the panel, in one kernel."""
    taken: dict[str, list[float]] = {name: [] for name in _FAILING}
    with kernel() as one:
        one.must(_IN_A_KERNEL)
        for _ in range(1 + 2 * _REPEATS):
            for name, cell in _FAILING.items():
                taken[name].append(panel_of(one, f"clock.raising()\n{cell}")["panel"])
        one.must("engines.shutdown(hub=True)\ncluster.stop_cluster_sync()\nclient.cluster.close()")
    return [f"| {name} | {statistics.median(times[1:]):.0f} ms |" for name, times in taken.items()]


def main() -> None:
    """Print the tables."""
    if "--panel" in sys.argv:
        print("\n".join(panel_times()))
        return
    if "--played" in sys.argv:
        for engine in ("ipyparallel", "dask"):
            for count in _PLAYED:
                for healthy in (True, False):
                    print(played_times(engine, count, healthy=healthy), flush=True)
        return
    kinds: tuple[tuple[type[Ipyparallel | Dask], str], ...] = ((Ipyparallel, "ipyparallel"), (Dask, "Dask"))
    for rows in (given_back, read_times):
        for kind, name in kinds:
            print("\n".join(rows(kind, name)), flush=True)


if __name__ == "__main__":
    main()
