"""From a trace to a forecast: the allocator is replayed, and the peak is held against the room that there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nb_oomhelper.forecasting.allocator import CachingAllocator, NoRoomError, Settings
from nb_oomhelper.forecasting.trace import Trace
from nb_oomhelper.records.forecast import Band, Verdict
from nb_oomhelper.records.note import Note, note

_SURE = 0.02  # of what a call adds: the kernels' own buffers that are not known
_CONVOLUTION = 0.05  # cuDNN chooses how much it works in
_ASSUMED = 0.03
_OTHER_SETTINGS = 0.10


@dataclass(slots=True)
class Replayed:
    """What the allocator did.

    Attributes:
        allocated, reserved: The most bytes of each.
        held: Bytes allocated at the beginning.
        peak: Index of the event at which most was allocated.
        kinds: Bytes by kind at that event.
        full: There was no room for it all.
    """

    allocated: int = 0
    reserved: int = 0
    held: int = 0
    peak: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    full: bool = False


def replay(
    trace: Trace, settings: Settings, segments: Sequence[dict[str, Any]] = (), room: int | None = None
) -> Replayed:
    """Let the caching allocator do what a trace says.

    Args:
        trace: What is allocated and freed.
        settings: The allocator's.
        segments: What it has to begin with, as `torch.cuda.memory_snapshot()` tells it, the oldest first.
        room: Bytes that may be reserved; None is without end.
    """
    allocator = CachingAllocator(settings, room)
    allocator.begin(segments)
    found = Replayed(held=allocator.allocated)
    places: dict[int, int] = {}
    try:
        for index, event in enumerate(trace.events):
            if index == trace.begins > 0:
                allocator.begin_anew()
                found.held, found.peak = allocator.allocated, index
            if event >= 0:
                places[event] = allocator.allocate(trace.blocks[event].size)
                if allocator.allocated == allocator.peak_allocated:
                    found.peak = index
            else:
                number = -event - 1
                allocator.free(places.pop(number, trace.blocks[number].address))
    except NoRoomError:
        found.full = True
    found.allocated, found.reserved = allocator.peak_allocated, allocator.peak_reserved
    found.kinds = _kinds(trace, settings, found)
    return found


def by_age(segments: Sequence[dict[str, Any]], trace: Trace) -> list[dict[str, Any]]:
    """Put segments in the order in which they were made, as far as that shows: the allocator takes of the oldest first.

    A snapshot has their addresses and not their ages, and drivers give addresses upward or downward. Parameters are
    made before gradients and the state of an optimizer: where these lie tells which of the two it is here.

    Args:
        segments: As the allocator tells them.
        trace: Has the tensors that there are.
    """
    found = sorted(segments, key=lambda one: int(one["address"]))
    first = _middle(trace, {"parameters"})
    later = _middle(trace, {"gradients", "optimizer"})
    return found[::-1] if first is not None and later is not None and later < first else found


def _middle(trace: Trace, kinds: set[str]) -> float | None:
    """The middle of the addresses of tensors that there are, by their sizes."""
    there = [block for block in trace.blocks if block.address and block.kind in kinds]
    whole = sum(block.size for block in there)
    return sum(block.address * block.size for block in there) / whole if whole else None


def replay_on_host(trace: Trace) -> Replayed:
    """Add up what a trace has on the host, where each tensor is given back at once."""
    found, now, live = Replayed(), 0, set[int]()
    for index, event in enumerate(trace.events):
        if index < trace.begins:
            continue
        number = event if event >= 0 else -event - 1
        if event >= 0:
            live.add(number)
            now += trace.blocks[number].size
        elif number in live:  # what was there before stays out of it
            now -= trace.blocks[number].size
        if now > found.allocated:
            found.allocated, found.peak = now, index
    found.kinds = _kinds(trace, None, found)
    return found


def given_back(trace: Trace) -> int:
    """Add up what the host gets back before a call begins.

    Args:
        trace: What was followed.
    """
    return sum(trace.blocks[-event - 1].size for event in trace.events[: trace.begins] if event < 0)


def _kinds(trace: Trace, settings: Settings | None, found: Replayed) -> dict[str, int]:
    """Bytes by kind when most was allocated; what the trace does not know is held."""
    rounded = settings.rounded if settings is not None else lambda size: size
    there = {number for number, block in enumerate(trace.blocks) if block.address}
    for event in trace.events[: found.peak + 1]:
        if event >= 0:
            there.add(event)
        else:
            there.discard(-event - 1)
    sizes: Counter[str] = Counter()
    for number in there:
        block = trace.blocks[number]
        kind = "held" if block.address and block.kind == "other" else block.kind
        if not block.address or settings is not None:
            sizes[kind] += rounded(block.size)
    sizes["held"] += found.allocated - sizes.total()
    return {kind: size for kind, size in sizes.most_common() if size > 0}


def width(trace: Trace, added: int, settings: Settings, workspace: int) -> tuple[int, int, tuple[Note, ...]]:
    """Tell how far the peak may be off, and why.

    Args:
        trace: What was followed.
        added: Bytes that the call adds.
        settings: The allocator's.
        workspace: Bytes of one of cuBLAS's workspaces that the call makes; 0 of none.

    Returns:
        Bytes below, bytes above, and the reasons.
    """
    parts, notes = _SURE, [note("forecast.kernels", percent=f"{_SURE:.0%}")]
    keys = {key for key, _ in trace.notes}
    for key, share in (("convolution", _CONVOLUTION), ("assumed_zero", _ASSUMED), ("assumed_false", _ASSUMED)):
        if key in keys:
            parts += share
    notes += [note(f"forecast.{key}", line=line) for key, line in trace.notes]
    if settings.others:
        parts += _OTHER_SETTINGS
        notes.append(note("forecast.settings", names=", ".join(settings.others)))
    above = int(added * parts)
    return int(added * _SURE) + workspace, above, tuple(notes)


def judge(fits: Iterable[bool | None], ended: str) -> Verdict:
    """Say whether it fits.

    Args:
        fits: Whether there is room for the least, the likely and the most that is expected; None is unknown.
        ended: How the call ended: what it would have taken behind its end nobody knows.
    """
    least, likely, most = fits
    if least is None:
        return "unknown"
    if not least:
        return "does_not"
    if ended != "returned":
        return "unknown"
    return "fits" if most and likely else "tight"


def band(likely: int, below: int, above: int) -> Band:
    """Put figures in a band.

    Args:
        likely: Bytes.
        below, above: How far it may be off.
    """
    return Band(low=max(0, likely - below), likely=likely, high=likely + above)
