"""From the exception to the panel, next to the traceback that comes before it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.kernels import MeasuredKernel, kernel
from benchmarks.timing import Result, Side

NAME = "panel"

_OURS, _THEIRS = "traceback shown → panel displayed", "raised → traceback shown"
SIZES = (0, 100_000, 1_000_000, 5_000_000)
_SET_UP = """
import importlib.util, sys
if importlib.util.find_spec("torch"):
    import torch
    def take(size): return torch.ones(size, dtype=torch.uint8)
    def fail(): return torch.empty(inside.NEVER, dtype=torch.uint8)
else:
    import numpy
    def take(size): return numpy.ones(size, numpy.uint8)
    def fail(): return numpy.empty(inside.NEVER, numpy.uint8)
objects = inside.fill({count})
model = take(64 * inside.MEBI)
clock = inside.Clock()
inside.switch(True)
def step():
    batch = take(32 * inside.MEBI)
    outputs = [batch + 1]
    clock.raising()
    fail()
"""
_HELD = "get_ipython()._nb_oomhelper.case.snapshot.holdings"


def measure(repeats: int | None) -> Iterator[Result]:
    """A namespace of each size, in a kernel of its own; the first error of a kernel is told apart."""
    for count in SIZES:
        title = f"From the exception to the panel, {count:,} live objects"
        with kernel() as one:
            one.must(_SET_UP.format(count=count))
            rows = [fail(one, "step()") for _ in range(1 + (repeats or 11))]
            note = left_out(one)
        yield Result(name=NAME, title=title, sides=sides(rows[1:]), notes=(note,))
        first = "both import what they need then; the panel's part is mostly ipywidgets and nb_oomhelper's own modules"
        yield Result(name=NAME, title=f"{title}: the kernel's first", sides=sides(rows[:1]), notes=(first,))


def fail(one: MeasuredKernel, cell: str) -> dict[str, float]:
    """Run a cell that runs out of memory, in a kernel that has a `clock`; its times."""
    reply = one.execute(cell, timeout=120, stop_on_error=False)
    if reply.status != "error" or not reply.mime("application/vnd.jupyter.widget-view+json"):
        raise RuntimeError(f"no panel came: {reply}")
    times: dict[str, float] = one.eval("clock.read()")
    return times


def sides(rows: list[dict[str, float]]) -> tuple[Side, Side]:
    """The panel's times and the traceback's."""
    ours, theirs = (tuple(row[key] for row in rows) for key in ("panel", "traceback"))
    return Side(name=_OURS, times=ours), Side(name=_THEIRS, times=theirs)


def left_out(one: MeasuredKernel) -> str:
    """How far the search for holders came before its deadline."""
    searched, total, seconds = one.eval(f"[{_HELD}.searched, {_HELD}.total, {_HELD}.seconds]")
    took = f"the search for holders took {seconds:.2f} s"
    if searched == total:
        return f"{took}; nothing was left out ({total} holders)"
    return f"{took}; {total - searched} of {total} holders were left out at the deadline"
