"""The search for holders, and a release, in a process with many live objects."""

from __future__ import annotations

import gc
import importlib
import io
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any

from benchmarks.timing import Result, Time, take_turns

_MANY = (100_000, 1_000_000, 5_000_000)
_SECONDS = 60.0  # no deadline here: the whole search is what is compared


def measure_search(repeats: int | None) -> Iterator[Result]:
    """Our search, the floor below every search, and another tool's report, side by side."""
    import torch

    from nb_oomhelper.frameworks import FRAMEWORKS
    from nb_oomhelper.holders.scope import Scope
    from nb_oomhelper.holders.search import find_holdings

    model = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(50)))
    for count in _MANY:
        variables = {"model": model, "things": [[number] for number in range(count)]}
        scope = Scope(variables=variables)

        def search(scope: Scope = scope) -> None:
            found = find_holdings(scope, FRAMEWORKS, backend="host", device=None, seconds=_SECONDS)
            assert found.complete

        sides: dict[str, Time] = {
            "nb_oomhelper's search": _timed(search),
            "gc.get_objects() filtered for tensors": _timed(_floor(torch)),
        }
        if (report := _memlab(model)) is not None:
            sides["pytorch_memlab's MemReporter"] = _timed(report)
        before = _most_resident()
        search()
        grown = (_most_resident() - before) >> 20
        yield Result(
            name="holdings",
            title=f"Who keeps memory, among {count:,} live lists",
            sides=take_turns(sides, repeats or 3, warm_up=0),
            notes=(f"the search itself took {grown} MiB more of resident memory at its most",),
        )
        del scope, variables, search, sides
        gc.collect()


def measure_release(repeats: int | None) -> Iterator[Result]:
    """What `release()` does to memory, against one collection."""
    from nb_oomhelper.remedies.releasing import give_back

    things = [[number] for number in range(1_000_000)]
    sides = {"give_back()": _timed(lambda: give_back(None)), "gc.collect()": _timed(gc.collect)}
    yield Result(
        name="release",
        title=f"Releasing, among {len(things):,} live lists",
        sides=take_turns(sides, repeats or 7),
        goal=1.5,
    )


def _floor(torch: Any) -> Callable[[], object]:
    return lambda: sum(one.nbytes for one in gc.get_objects() if isinstance(one, torch.Tensor))


def _memlab(model: Any) -> Callable[[], object] | None:
    """The other tool's report, or None where it is not installed."""
    try:
        reporter = importlib.import_module("pytorch_memlab").MemReporter
    except ImportError:
        return None

    def report() -> None:
        with redirect_stdout(io.StringIO()):
            reporter(model).report()

    return report


def _timed(call: Callable[[], object]) -> Time:
    def measure() -> float:
        started = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - started)

    return measure


def _most_resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
