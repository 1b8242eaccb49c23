"""How much memory a cell took: before, peak and after, on the GPU where there is one, and on the host."""

from __future__ import annotations

from types import TracebackType

from nb_oomhelper.fixes import active_backend, read_measure
from nb_oomhelper.frameworks import FRAMEWORKS
from nb_oomhelper.host import read_host
from nb_oomhelper.nvml import Driver
from nb_oomhelper.poll import Poll
from nb_oomhelper.units import format_bytes

_SAMPLE = 0.1  # seconds between two looks at what keeps no peak of its own


class Meter:
    """Measures what happens between its start and its stop."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._poll = Poll(self._sample, _SAMPLE)
        self._highest: int | None = None

    def __enter__(self) -> Meter:
        self._before = read_measure(self._driver, active_backend(), None)
        self._peak_before = _peak()
        self._highest = self._before.resident
        self._poll.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._poll.stop()

    def stop(self) -> list[str]:
        """End the measuring and say what was seen, one line for the GPU and one for the host."""
        self._poll.stop()
        self._sample()
        after = read_measure(self._driver, active_backend(), None)
        lines = []
        if after.allocated is not None:
            lines.append("allocated: " + _line(self._before.allocated or 0, self._gpu_peak(), after.allocated))
        lines.append(f"host, seen every {_SAMPLE:g} s: " + _line(self._before.resident, self._highest, after.resident))
        return lines

    def _gpu_peak(self) -> int | None:
        """The allocator's own peak, if this cell raised it; else nobody kept one for it alone."""
        peak = _peak()
        if peak is not None and (self._peak_before is None or peak > self._peak_before):
            return peak
        return None

    def _sample(self) -> bool:
        resident = read_host().this_process
        if resident is not None and (self._highest is None or resident > self._highest):
            self._highest = resident
        return True


def _line(before: int | None, peak: int | None, after: int | None) -> str:
    change = None if before is None or after is None else after - before
    sign = "+" if change is not None and change >= 0 else ""
    peak_text = "not above an earlier one" if peak is None else format_bytes(peak)
    return f"peak {peak_text}, change {sign}{format_bytes(change)} ({format_bytes(before)} → {format_bytes(after)})"


def _peak() -> int | None:
    for framework in FRAMEWORKS:
        allocator = framework.allocator("cuda", None)
        if allocator is not None:
            return allocator.peak_allocated
    return None
