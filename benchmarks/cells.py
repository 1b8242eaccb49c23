"""What the extension costs a cell that has nothing to do with it: one that does nothing, and one that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.kernels import MeasuredKernel, kernel
from benchmarks.timing import Result, take_turns

_WITH, _WITHOUT = "with nb_oomhelper", "without"
_NOTHING, _ERROR = "pass", "raise ValueError('no')"  # an empty cell would not run at all


def measure_empty(repeats: int | None) -> Iterator[Result]:
    """An empty cell."""
    yield from _compare("empty", "A cell that does nothing", _NOTHING, 50, repeats or 30)


def measure_error(repeats: int | None) -> Iterator[Result]:
    """A cell that fails with an ordinary error; then the first such cell of a kernel."""
    yield from _compare("error", "A cell that raises a ValueError", _ERROR, 10, repeats or 30)
    yield Result(
        name="error",
        title="The first ValueError of a kernel, right after the load: round trip",
        sides=take_turns({_WITH: lambda: _first(True), _WITHOUT: lambda: _first(False)}, min(repeats or 5, 5)),
        notes=("nb_oomhelper imports what recognizes errors then, unless the kernel was idle for a second before",),
    )


def _compare(name: str, title: str, cell: str, count: int, repeats: int) -> Iterator[Result]:
    """One kernel, in which the extension is loaded and unloaded in turns."""
    with kernel() as one:
        inside = {_WITH: _timer_inside(one, True, cell, count), _WITHOUT: _timer_inside(one, False, cell, count)}
        yield Result(name=name, title=f"{title}: time in the kernel", sides=take_turns(inside, repeats))
    with ExitStack() as stack:
        kernels = {_WITH: stack.enter_context(kernel()), _WITHOUT: stack.enter_context(kernel())}
        kernels[_WITH].must("inside.switch(True)")
        trips = {side: partial(one.trip, cell) for side, one in kernels.items()}
        yield Result(name=name, title=f"{title}: round trip", sides=take_turns(trips, repeats * 5, warm_up=5))


def _timer_inside(one: MeasuredKernel, on: bool, cell: str, count: int) -> Callable[[], float]:
    def run() -> float:
        one.eval(f"inside.switch({on})")
        return float(one.eval(f"inside.run_cells({cell!r}, {count})"))

    return run


def _first(on: bool) -> float:
    with kernel() as one:
        if on:
            one.must("inside.switch(True)")
        return one.trip(_ERROR)
