"""JAX: what a jitted function takes, as the compiler has fixed it before anything is run.

JAX is found in `sys.modules`. The function is traced and compiled as at its first call, in this process: a copy of it
(a fork) has none of the compiler's threads. Arrays that are not there yet are asked for by their shapes alone.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.errors import OomHelperError, UsageError
from nb_oomhelper.forecasting.fusions import largest_inside
from nb_oomhelper.forecasting.judging import band, judge
from nb_oomhelper.frameworks import _jax
from nb_oomhelper.memory.room import host_free
from nb_oomhelper.memory.snapshot import open_driver, take_snapshot
from nb_oomhelper.records.forecast import Forecast
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.records.note import note, size_note
from nb_oomhelper.session import current_shell
from nb_oomhelper.untrusted import one_line

COMPILE = 60.0  # seconds
# Of what a call adds: what libraries work in that the compiler does not plan. On the host 544 MiB were 551 to 583.
_SURE, _ON_HOST = 0.02, 0.10
_JITTED = "PjitFunction"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """What the compiler has fixed, in bytes on one device.

    Attributes:
        arguments, outputs, temporaries, code: Of each kind.
        alias: Outputs that lie where donated arguments lay.
        inside: The largest result in between of what libraries compute on the host, which is in no plan.
        devices: How many devices the program is for.
        device: The first of them, as JAX has it.
    """

    arguments: int
    outputs: int
    temporaries: int
    code: int
    alias: int
    inside: int
    devices: int
    device: Any


def is_jitted(thing: object) -> bool:
    """Tell whether something is what `jax.jit` gives, by its class alone.

    Args:
        thing: Anything.
    """
    kind = type(thing)
    return _jax.loaded() and kind.__name__ == _JITTED and kind.__module__.partition(".")[0] == "jaxlib"


def works_with_jax(arguments: object) -> bool:
    """Tell whether a call must be one of JAX's: an array of it is among the arguments, or PyTorch is not here.

    Args:
        arguments: A list of them, with lists and dicts within.
    """
    return _jax.loaded() and ("torch" not in sys.modules or any(True for _ in _arrays(arguments)))


def refuse_unjitted(name: str) -> UsageError:
    """Give the error for a function of JAX's that is not jitted.

    Args:
        name: What it is called.
    """
    return UsageError(
        f"{name} is not what jax.jit gives: JAX runs its operations one by one, and what they take is known only then. "
        "Of a function that jax.jit gave the compiler tells it before"
    )


def forecast_jitted(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], text: str, *, deadline: float = COMPILE
) -> Forecast:
    """Tell what a call of a jitted function takes: its arguments, results, temporaries and code.

    Args:
        function: What `jax.jit` gave.
        args, kwargs: What it is called with: arrays, or `jax.ShapeDtypeStruct` for those that are not there yet.
        text: What to call it.
        deadline: Seconds for the compiler.

    Raises:
        OomHelperError: The function cannot be traced or compiled, or not in time, or the compiler tells no sizes.
    """
    begun = time.perf_counter()
    try:
        lowered = function.lower(*args, **kwargs)
    except Exception as error:  # of the user's code, which is run with stand-ins for arrays
        raise OomHelperError(f"no forecast: tracing {text} raised {_told(error)}") from None
    planned = _plan(_within(lowered.compile, deadline))
    here = sum(size for device, size in _held_in((args, kwargs)) if device == _jax.place_of(planned.device))
    found = _on_device(planned, min(here, planned.arguments))
    return Forecast(call=text, **found, ended="returned", seconds=time.perf_counter() - begun)


def _within(compile_it: Callable[[], Any], deadline: float) -> Any:
    """What the compiler gives. It cannot be stopped: after the deadline it goes on by itself, and nobody waits."""
    done: list[tuple[Any, str]] = []

    def work() -> None:
        try:
            done.append((compile_it(), ""))
        except Exception as error:
            done.append((None, _told(error)))

    thread = threading.Thread(target=work, name="nb_oomhelper-compile", daemon=True)
    thread.start()
    thread.join(deadline)
    if not done:
        raise OomHelperError(
            f"no forecast: XLA has not compiled it within {deadline:g} s, and goes on in the background"
        )
    found, error = done[0]
    if error:
        raise OomHelperError(f"no forecast: compiling it raised {error}")
    return found


def _plan(compiled: Any) -> _Planned:
    try:
        told = compiled.memory_analysis()
        shardings = sys.modules["jax"].tree_util.tree_leaves((compiled.input_shardings, compiled.output_shardings))
        devices = {one for sharding in shardings for one in sharding.device_set}
    except Exception as error:  # a back end without it
        raise OomHelperError(f"no forecast: the compiler tells no sizes ({_told(error)})") from None
    if told is None or not devices:
        raise OomHelperError("no forecast: the compiler of this back end tells no sizes")
    first = min(devices, key=lambda one: int(one.id))
    return _Planned(
        arguments=told.argument_size_in_bytes,
        outputs=told.output_size_in_bytes,
        temporaries=told.temp_size_in_bytes,
        code=told.generated_code_size_in_bytes,
        alias=told.alias_size_in_bytes,
        inside=largest_inside(compiled.as_text()) if first.platform == "cpu" else 0,
        devices=len(devices),
        device=first,
    )


def _on_device(planned: _Planned, here: int) -> dict[str, Any]:
    """The figures: what is there already, and what the call adds."""
    backend, ordinal = _jax.place_of(planned.device)
    new = planned.arguments - here
    temporaries = planned.temporaries + planned.inside
    added = new + planned.outputs - planned.alias + temporaries + planned.code
    with open_driver(current_shell()) as driver:
        snapshot = take_snapshot(driver, backend=backend, device=ordinal, framework="jax")
    on_host = backend == "host"
    held = 0 if on_host else _jax_held(snapshot, here)
    share = _ON_HOST if on_host else _SURE
    room, peak, above = _room(snapshot, on_host), held + added, int(added * share) + planned.inside
    kinds = {
        "arguments": new if on_host else planned.arguments,
        "outputs": planned.outputs - planned.alias,
        "temporaries": temporaries,
        "code": planned.code,
        "held": max(0, held - here),
    }
    notes = [note("forecast.planned"), note("forecast.kernels", percent=f"{share:.0%}")]
    if planned.inside:
        notes.append(note("forecast.inside", size=size_note(planned.inside)))
    if planned.devices > 1:
        notes.append(note("forecast.sharded", count=planned.devices))
    fits = tuple(None if room is None else size <= room for size in (peak - planned.inside, peak, peak + above))
    return {
        "device": "host" if on_host else f"{backend}:{ordinal}",
        "verdict": judge(fits, "returned"),
        "allocated": band(peak, planned.inside, above),
        "reserved": None,
        "kinds": tuple((kind, size) for kind, size in sorted(kinds.items(), key=lambda one: -one[1]) if size > 0),
        "place": "",
        "held": held,
        "room": room,
        "notes": tuple(notes),
    }


def _jax_held(snapshot: MemorySnapshot, here: int) -> int:
    """Bytes that JAX has given out on the device; at least the arguments that are there."""
    return max(here, (snapshot.allocator.allocated if snapshot.allocator else None) or 0)


def _room(snapshot: MemorySnapshot, on_host: bool) -> int | None:
    """Bytes that JAX can have given out in all: of its pool, and what is free beside it, below its limit."""
    if on_host:
        return host_free(snapshot.host)
    allocator, free = snapshot.allocator, snapshot.device.free if snapshot.device else None
    pool, limit = (allocator.reserved, allocator.limit) if allocator else (None, None)
    whole = None if free is None else free + (pool or 0)
    return limit if whole is None else whole if limit is None else min(limit, whole)


def _arrays(found: object) -> Any:
    kinds = _jax.array_classes()
    if any(type(found) is kind for kind in kinds):
        yield found
    elif isinstance(found, list | tuple):
        for one in found:
            yield from _arrays(one)
    elif isinstance(found, dict):
        yield from _arrays(list(found.values()))


def _held_in(arguments: object) -> list[tuple[tuple[str, int | None], int]]:
    """Where the arrays among arguments lie, each piece of memory once, with its bytes."""
    rows = {key: ((backend, device), size) for _, key, backend, device, size in _jax.storages(list(_arrays(arguments)))}
    return list(rows.values())


def _told(error: BaseException) -> str:
    line = str(error).strip().split("\n")[0]
    return one_line(f"{type(error).__name__}: {line}" if line else type(error).__name__)
