"""On a real CUDA device, of which PyTorch may use four GiB: the panel, the release, and what people do without them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.kernels import MeasuredKernel, kernel
from benchmarks.panel import fail, left_out, sides
from benchmarks.timing import Result, Side

NAME = "device"

_SET_UP = """
import torch
whole = torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction(4 * inside.GIBI / whole, 0)
def take(size): return torch.ones(size, dtype=torch.uint8, device="cuda")
model = take(512 * inside.MEBI)
clock = inside.Clock()
inside.switch(True)
def step():
    batch = take(inside.GIBI)
    outputs = batch + 1
    clock.raising()
    take(2 * inside.GIBI)
"""
_CUDA = "import torch; torch.ones(1, device='cuda')"
_RELEASE = "import nb_oomhelper; nb_oomhelper.release()"
_DEAD_END = "import gc, torch; gc.collect(); torch.cuda.empty_cache()"


def measure(repeats: int | None) -> Iterator[Result]:
    """Fail, try what does not help, release; again and again in one kernel. Then what a restart takes."""
    reason = missing()
    if reason is not None:
        yield Result(name=NAME, title="On a CUDA device", skipped=reason)
        return
    with kernel() as one:
        one.must(_SET_UP)
        rows = [_round(one) for _ in range(1 + (repeats or 11))]
        note = left_out(one)
    shown = [times for times, _, _ in rows]
    title = "On a CUDA device, from the exception to the panel"
    yield Result(name=NAME, title=title, sides=sides(shown[1:]), notes=(note,))
    yield Result(name=NAME, title=f"{title}: the kernel's first", sides=sides(shown[:1]))
    yield _releases([release for _, release, _ in rows[1:]], [dead_end for _, _, dead_end in rows[1:]])


def missing() -> str | None:
    """Why there is nothing to measure on, or None."""
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    return None if torch.cuda.is_available() else "PyTorch finds no CUDA device here"


def _round(one: MeasuredKernel) -> tuple[dict[str, float], list[float], list[float]]:
    """Times of the panel; milliseconds and freed bytes of the release, and of what does not help."""
    times = fail(one, "step()")
    dead_end: list[float] = one.eval(f"inside.timed({_DEAD_END!r})")
    release: list[float] = one.eval(f"inside.timed({_RELEASE!r})")
    return times, release, dead_end


def _releases(release: list[list[float]], dead_end: list[list[float]]) -> Result:
    return Result(
        name=NAME,
        title="On a CUDA device, from a failed cell to free memory",
        sides=(
            Side(name="nb_oomhelper.release()", times=tuple(took for took, _ in release)),
            Side(name="a restart of the kernel, import torch, start CUDA", times=tuple(_restart() for _ in range(3))),
            Side(name="gc.collect() and torch.cuda.empty_cache()", times=tuple(took for took, _ in dead_end)),
        ),
        notes=(
            f"the release frees {_least(release):.2f} GiB, gc.collect() and empty_cache() {_least(dead_end):.2f} GiB",
            "after a restart all variables are gone, and what made them has to run again: that time is not counted",
        ),
    )


def _least(rows: list[list[float]]) -> float:
    return min(freed for _, freed in rows) / (1 << 30)


def _restart() -> float:
    started = time.perf_counter()
    with kernel() as one:
        one.must(_CUDA)
        return 1000 * (time.perf_counter() - started)
