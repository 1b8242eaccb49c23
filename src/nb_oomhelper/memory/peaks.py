"""How much memory something took: before, peak and after, on each GPU that is in use, and on the host."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nb_oomhelper.memory.allocators import allocators_by_gpu
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.poll import WORKER, Repeat
from nb_oomhelper.records.memory import AllocatorMemory

SAMPLE = 0.1  # seconds between two looks at what keeps no peak of its own
_LONGEST = 24 * 3600.0  # seconds, should nobody ask for what was seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """What happened to one device's memory, in bytes; None is unknown.

    Attributes:
        backend, device: "cuda" and the framework's ordinal, or "host" and None.
        before, peak, after: This process's, of a GPU what its allocators have given out.
        sampled: The peak is the highest that was seen every `SAMPLE` seconds; else the allocator's own.
    """

    backend: str
    device: int | None
    before: int | None
    peak: int | None
    after: int | None
    sampled: bool


class Peaks:
    """Measures what happens between its start and its stop."""

    def __init__(self) -> None:
        self._repeat: Repeat | None = None
        self._until = time.monotonic() + _LONGEST
        self._resident: int | None = None  # the highest that was seen
        self._allocated: dict[int | None, int | None] = {}  # the same, by GPU

    def start(self) -> None:
        """Read what there is, and begin to look."""
        self._host = read_host().this_process
        self._gpus = allocators_by_gpu()
        self._sample()
        self._repeat = WORKER.every(SAMPLE, self._sample)

    def end(self) -> None:
        """Look no more."""
        if self._repeat is not None:
            self._repeat.stop()

    def stop(self) -> list[Peak]:
        """Look no more, and give what was seen: the GPUs on which anything is or was allocated, and the host."""
        self.end()
        self._sample()
        found = [self._of_gpu(device, rows) for device, rows in allocators_by_gpu().items()]
        after = read_host().this_process
        host = Peak(backend="host", device=None, before=self._host, peak=self._resident, after=after, sampled=True)
        return [*filter(None, found), host]

    def _of_gpu(self, device: int | None, rows: list[AllocatorMemory]) -> Peak | None:
        before, seen = self._gpus.get(device, []), self._allocated.get(device)
        peak = _raised_peak(before, rows)
        if not (peak or seen):
            return None
        return Peak(
            backend="cuda",
            device=device,
            before=_total(before) if before else 0,
            peak=peak or seen,
            after=_total(rows),
            sampled=peak is None,
        )

    def _sample(self) -> bool:
        self._resident = _higher(self._resident, read_host().this_process)
        for device, rows in allocators_by_gpu().items():
            self._allocated[device] = _higher(self._allocated.get(device), _total(rows))
        return time.monotonic() < self._until


def _raised_peak(before: list[AllocatorMemory], after: list[AllocatorMemory]) -> int | None:
    """The allocator's own peak, if it was raised: that is exact.

    None where the peak is from before, and where two frameworks share the GPU: theirs need not have come together.
    """
    if len(after) != 1 or after[0].peak_allocated is None:
        return None
    if before and ([one.framework for one in before] != [after[0].framework] or before[0].peak_allocated is None):
        return None
    known = before[0].peak_allocated if before else None
    return after[0].peak_allocated if after[0].peak_allocated > (known or 0) else None


def _total(rows: list[AllocatorMemory]) -> int | None:
    sizes = [one.allocated for one in rows if one.allocated is not None]
    return sum(sizes) if sizes else None


def _higher(known: int | None, seen: int | None) -> int | None:
    return max((size for size in (known, seen) if size is not None), default=None)
