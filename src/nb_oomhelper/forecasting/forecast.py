"""The forecast of one call, which is run on tensors without bytes in a copy of this process."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nb_oomhelper.errors import OomHelperError, UsageError
from nb_oomhelper.forecasting.allocator import LARGE_SEGMENT, Settings, read_settings
from nb_oomhelper.forecasting.batches import Batch, largest_batch
from nb_oomhelper.forecasting.cell_run import CellRun
from nb_oomhelper.forecasting.compiled import forecast_jitted, is_jitted, refuse_unjitted, works_with_jax
from nb_oomhelper.forecasting.judging import (
    Replayed,
    band,
    by_age,
    given_back,
    judge,
    replay,
    replay_on_host,
    width,
)
from nb_oomhelper.forecasting.process_copy import LATE, CopyError, run_in_copy
from nb_oomhelper.forecasting.stand_ins import Devices, hush, look_at_devices, stand_in
from nb_oomhelper.forecasting.trace import Trace
from nb_oomhelper.forecasting.without_bytes import follow
from nb_oomhelper.frameworks._pytorch_allocator import read_segments
from nb_oomhelper.memory.room import host_free
from nb_oomhelper.memory.snapshot import open_driver, take_snapshot
from nb_oomhelper.records.forecast import Band, Forecast
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.records.note import note
from nb_oomhelper.session import current_shell

DEADLINE = 60.0  # seconds
_EDGE = 0.02  # of what is reserved: so near to the limit it counts in which order segments were made
_CONTEXT = 500 << 20  # bytes that starting CUDA takes, where that is still to come


def forecast(call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Forecast:
    """Tell what memory a call would take, without running it on the device.

    The call itself is run, in a copy of this process and on tensors without bytes: nothing of yours is changed, no
    tensor, no counter, no random state. What it does outside of memory it does: files are written, requests are sent.
    A function that `jax.jit` gave is not run: it is traced and compiled here, and the compiler's plan is told.

    Args:
        call: A function of yours: a training step, `model.generate`, `trainer.train`.
        args, kwargs: What it is called with.

    Returns:
        The peak on the current CUDA device, or on the host where there is none, by kind, and whether it fits.

    Raises:
        UsageError: PyTorch is not imported here, or this is no call, or a function of JAX's that is not jitted.
        OomHelperError: This process cannot be copied, or a jitted function cannot be compiled in time.
    """
    if not callable(call):
        raise UsageError("forecast takes a function and what to call it with: forecast(step, batch)")
    name = getattr(call, "__qualname__", type(call).__name__)
    if is_jitted(call):
        return forecast_jitted(call, args, kwargs, f"{name}(…)")
    if works_with_jax([args, kwargs]):
        raise refuse_unjitted(name)
    batch = Batch()
    return forecast_call(lambda: batch(call, *args, **kwargs), f"{name}(…)", batch=batch)


def forecast_call(
    call: Callable[[], Any] | CellRun,
    text: str,
    *,
    deadline: float = DEADLINE,
    devices: Devices | None = None,
    batch: Batch | None = None,
    host: bool = False,
) -> Forecast:
    """Tell what memory a call would take, and what batch would fit where it may not.

    Args:
        call: Takes nothing; or a cell.
        text: What to call it; "" for a whole cell.
        deadline: Seconds after which it is cut off.
        devices: What is known of CUDA's devices; None asks.
        batch: What `call` calls the user's function with, where that shows how large a batch is.
        host: It is about host memory, though there may be a CUDA device.

    Raises:
        UsageError: PyTorch is not imported here.
        OomHelperError: This process cannot be copied.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        raise UsageError("there is nothing of PyTorch's here yet: a forecast follows calls of PyTorch's")
    begun = time.perf_counter()
    kind, known, tell = _followed(torch, devices, host=host)

    def forecast_rows(rows: int | None) -> Forecast:
        if batch is not None:
            batch.rows = rows
        left = max(1.0, begun + deadline - time.perf_counter())
        trace = follow_call(call, torch, kind, known, left, batch)
        return Forecast(call=text, **_ends(trace), **tell(trace))

    found = forecast_rows(None)
    if batch is not None and found.verdict in ("tight", "does_not"):
        found = replace(found, would_fit=largest_batch(found, forecast_rows))
    return replace(found, seconds=time.perf_counter() - begun)


def _followed(
    torch: Any, devices: Devices | None, *, host: bool
) -> tuple[str, Devices, Callable[[Trace], dict[str, Any]]]:
    """The type of the device that is meant, what is known of it, and what makes figures of a trace there."""
    if host or not torch.cuda.is_available():
        return "cpu", Devices(1), _on_host
    settings = read_settings(os.environ)
    segments = read_held(torch, settings)
    known = devices or look_at_devices(torch, segments)
    return "cuda", known, lambda trace: _on_device(trace, torch, known, settings, segments)


def read_held(torch: Any, settings: Settings) -> list[dict[str, Any]]:
    """Read what the current CUDA device's allocator has; nothing where CUDA was not started, or a back end tells none.

    Args:
        torch: The module.
        settings: The allocator's.
    """
    if not torch.cuda.is_initialized() or "backend" in settings.others:
        return []
    return read_segments(torch, torch.cuda.current_device())


def follow_call(
    call: Callable[[], Any] | CellRun,
    torch: Any,
    device: str,
    devices: Devices,
    deadline: float,
    batch: Batch | None = None,
) -> Trace:
    """Run a call on tensors without bytes in a copy of this process.

    Args:
        call: Takes nothing; or a cell.
        torch: The module.
        device: Type of the device that is followed.
        devices: What is known of CUDA's.
        deadline: Seconds.
        batch: Knows the rows of its batch, once it was called.

    Raises:
        OomHelperError: This process cannot be copied.
    """
    from torch.utils import _python_dispatch  # noqa: F401  # here, so that a copy need not

    importlib.import_module("torch._subclasses.fake_tensor")

    def work() -> Trace:
        stand_in(torch, devices)
        hush()
        trace = follow(call, torch, device, devices)
        trace.batch = batch.found if batch is not None else None
        return trace

    try:
        trace: Trace = run_in_copy(work, deadline)
    except CopyError as error:
        raise OomHelperError(f"no forecast: {_no_answer(str(error))}") from error
    return trace


def _no_answer(why: str) -> str:
    """Why there was none."""
    last = "".join(why.strip().splitlines()[-1:])
    if last == LATE:
        return "the call did not end in time, and waits for what a copy of this process has not: threads, processes"
    past = " in the call: something in it works past PyTorch" if last.startswith("SIG") else ""
    return f"the copy of this process gave no answer ({last}{past})"


def _ends(trace: Trace) -> dict[str, Any]:
    return {name: getattr(trace, name) for name in ("ended", "error", "line", "batch", "trains")}


def _on_device(
    trace: Trace, torch: Any, devices: Devices, settings: Settings, segments: list[dict[str, Any]]
) -> dict[str, Any]:
    number, started = devices.current, torch.cuda.is_initialized()
    with open_driver(current_shell()) as driver:
        snapshot = take_snapshot(driver, backend="cuda", device=number, framework="pytorch")
    segments = by_age(segments, trace)
    found, other = replay(trace, settings, segments), replay(trace, settings, segments[::-1])
    below, above, notes = width(trace, found.allocated - found.held, settings, _second_workspace(trace))
    room = _room(snapshot, started)

    edge = int(found.reserved * _EDGE)
    spares = _page(max(below, edge)), 0, -_page(max(above, edge))
    verdicts = {
        judge((_fits(trace, settings, order, room, spare) for spare in spares), trace.ended)
        for order in (segments, segments[::-1])
    }
    if not started:
        notes = (*notes, note("forecast.context", size=note("size", bytes=_CONTEXT)))
    return {
        "device": f"cuda:{number}",
        "verdict": verdicts.pop() if len(verdicts) == 1 else "tight" if trace.ended == "returned" else "unknown",
        "allocated": band(found.allocated, below, above),
        "reserved": None if "backend" in settings.others else _reserved_band(found, other, below, above),
        "kinds": tuple(found.kinds.items()),
        "place": trace.place_at(found.peak),
        "held": found.held,
        "room": room,
        "notes": notes,
    }


def _fits(
    trace: Trace, settings: Settings, segments: list[dict[str, Any]], room: int | None, spare: int
) -> bool | None:
    """Whether there is room for it all; None is unknown. Segments are emptied where that makes room."""
    return None if room is None else not replay(trace, settings, segments, room + spare).full


def _reserved_band(found: Replayed, other: Replayed, below: int, above: int) -> Band:
    """Also where the segments that there are were made in the other order."""
    one = band(found.reserved, _page(below), _page(above))
    return replace(one, low=min(one.low, other.reserved), high=max(one.high, other.reserved))


def _page(size: int) -> int:
    """In whole segments: what does not fit one takes another."""
    return -(-size // LARGE_SEGMENT) * LARGE_SEGMENT


def _second_workspace(trace: Trace) -> int:
    """Bytes of the workspace of autograd's thread, if the call makes it: there may be one for both."""
    sizes = [block.size for block in trace.blocks if block.kind == "workspace"]
    return sizes[-1] if sizes else 0


def _room(snapshot: MemorySnapshot, started: bool) -> int | None:
    """Bytes that PyTorch may have reserved in all."""
    free = snapshot.device.free if snapshot.device else None
    if free is None:
        return None
    if not started:
        return max(0, free - _CONTEXT)
    allocator = snapshot.allocator
    reserved = (allocator.reserved if allocator else None) or 0
    limit = allocator.limit if allocator else None
    return free + reserved if limit is None else min(limit, free + reserved)


def _on_host(trace: Trace) -> dict[str, Any]:
    with open_driver(current_shell()) as driver:
        snapshot = take_snapshot(driver, backend="host", device=None)
    found, free = replay_on_host(trace), host_free(snapshot.host)
    free = None if free is None else free + given_back(trace)
    below, above, notes = width(trace, found.allocated, Settings(), 0)
    return {
        "device": "host",
        "verdict": judge(_fit(found, free, below, above), trace.ended),
        "allocated": band(found.allocated, below, above),
        "reserved": None,
        "kinds": tuple(found.kinds.items()),
        "place": trace.place_at(found.peak),
        "held": 0,
        "room": free,
        "notes": notes,
    }


def _fit(found: Replayed, free: int | None, below: int, above: int) -> tuple[bool | None, ...]:
    return tuple(None if free is None else found.allocated + more <= free for more in (-below, 0, above))
