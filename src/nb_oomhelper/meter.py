"""How much memory a cell took: before, peak and after, on the GPU where there is one, and on the host."""

from __future__ import annotations

from types import TracebackType

from nb_oomhelper.fixes import read_measure
from nb_oomhelper.host import read_host
from nb_oomhelper.memory import busiest, busiest_allocators
from nb_oomhelper.nvml import Driver
from nb_oomhelper.poll import WORKER, Repeat
from nb_oomhelper.units import format_bytes

_SAMPLE = 0.1  # seconds between two looks at what keeps no peak of its own


class Meter:
    """Measures what happens between its start and its stop."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._repeat: Repeat | None = None
        self._resident: int | None = None  # the highest that was seen
        self._allocated: int | None = None

    def __enter__(self) -> Meter:
        self._before = read_measure(self._driver, *busiest())
        self._peak_before = _peak()
        self._sample()
        self._repeat = WORKER.every(_SAMPLE, self._sample)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()

    def stop(self) -> list[str]:
        """End the measuring and say what was seen, one line for the GPU and one for the host."""
        self._end()
        self._sample()
        after = read_measure(self._driver, *busiest())
        seen = f", seen every {_SAMPLE:g} s"
        lines = []
        if after.allocated is not None:
            peak, exact = self._gpu_peak()
            lines.append(
                f"allocated{'' if exact else seen}: {_line(self._before.allocated or 0, peak, after.allocated)}"
            )
        lines.append(f"host{seen}: {_line(self._before.resident, self._resident, after.resident)}")
        return lines

    def _end(self) -> None:
        if self._repeat is not None:
            self._repeat.stop()

    def _gpu_peak(self) -> tuple[int | None, bool]:
        """The allocator's own peak, if this cell raised it: that is exact. Else the highest that was seen."""
        device, peak = _peak()
        before_device, before = self._peak_before
        if peak is not None and (before_device is None or (before_device == device and peak > (before or 0))):
            return peak, True
        return self._allocated, False

    def _sample(self) -> bool:
        self._resident = _higher(self._resident, read_host().this_process)
        sizes = [one.allocated for one in busiest_allocators() if one.allocated is not None]
        self._allocated = _higher(self._allocated, sum(sizes) if sizes else None)
        return True


def _higher(known: int | None, seen: int | None) -> int | None:
    return max((size for size in (known, seen) if size is not None), default=None)


def _line(before: int | None, peak: int | None, after: int | None) -> str:
    change = None if before is None or after is None else after - before
    sign = "+" if change is not None and change >= 0 else ""
    span = f"{format_bytes(before)} → {format_bytes(after)}"
    return f"peak {format_bytes(peak)}, change {sign}{format_bytes(change)} ({span})"


def _peak() -> tuple[tuple[str | int | None, ...] | None, int | None]:
    """Whose peak it is, and the allocator's own figure.

    None for both where no framework has started a GPU; of two on one device the peaks need not have come together.
    """
    found = busiest_allocators()
    whose = tuple(part for one in found for part in (one.framework, one.device)) or None
    return whose, found[0].peak_allocated if len(found) == 1 else None
