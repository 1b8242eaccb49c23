"""How much memory a cell took: before, peak and after, on each GPU that is in use, and on the host."""

from __future__ import annotations

from types import TracebackType

from nb_oomhelper.failure.detection import detect
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.allocators import allocators_by_gpu, refusals_of
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.poll import WORKER, Repeat
from nb_oomhelper.records.memory import AllocatorMemory
from nb_oomhelper.showing.memory_table import say_caught
from nb_oomhelper.showing.wording import is_noise, say, say_size

_SAMPLE = 0.1  # seconds between two looks at what keeps no peak of its own


class Meter:
    """Measures what happens between its start and its stop."""

    def __init__(self) -> None:
        self._repeat: Repeat | None = None
        self._resident: int | None = None  # the highest that was seen
        self._allocated: dict[int | None, int | None] = {}  # the same, by GPU

    def __enter__(self) -> Meter:
        self._host = read_host().this_process
        self._gpus = allocators_by_gpu()
        self._sample()
        self._repeat = WORKER.every(_SAMPLE, self._sample)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()

    def stop(self, language: Language, error: BaseException | None = None) -> list[str]:
        """End the measuring and say what was seen, one line a GPU and one for the host.

        Args:
            language: "en" or "zh".
            error: What the cell ends with.
        """
        self._end()
        self._sample()
        rows = allocators_by_gpu()
        lines = [self._gpu_line(device, found, language) for device, found in rows.items()]
        lines += say_caught(refusals_of(rows).since(refusals_of(self._gpus), _is_refusal(error)), language)
        host = _sampled(say("gpumem.host", language), language)
        return [*filter(None, lines), _line(host, (self._host, self._resident, read_host().this_process), language)]

    def _end(self) -> None:
        if self._repeat is not None:
            self._repeat.stop()

    def _gpu_line(self, device: int | None, rows: list[AllocatorMemory], language: Language) -> str | None:
        """None for a GPU on which nothing is or was allocated meanwhile."""
        before, seen = self._gpus.get(device, []), self._allocated.get(device)
        peak = _raised_peak(before, rows)
        if not (peak or seen):
            return None
        what = say("gpumem.metered_gpu", language, device=device)
        what = _sampled(what, language) if peak is None else what
        return _line(what, (_total(before) if before else 0, peak or seen, _total(rows)), language)

    def _sample(self) -> bool:
        self._resident = _higher(self._resident, read_host().this_process)
        for device, rows in allocators_by_gpu().items():
            self._allocated[device] = _higher(self._allocated.get(device), _total(rows))
        return True


def _is_refusal(error: BaseException | None) -> int:
    """1 for an error that an allocator has counted, and the cell has not caught."""
    event = detect(error) if error is not None else None
    return int(event is not None and event.remote is None and event.backend != "host")


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


def _sampled(what: str, language: Language) -> str:
    return say("gpumem.sampled", language, what=what, seconds=f"{_SAMPLE:g}")


def _line(what: str, figures: tuple[int | None, int | None, int | None], language: Language) -> str:
    before, peak, after = figures
    sizes = {"before": say_size(before, language), "peak": say_size(peak, language), "after": say_size(after, language)}
    rise, change = _change(before, peak, language), _change(before, after, language)
    return say("gpumem.metered", language, what=what, rise=rise, change=change, **sizes)


def _change(before: int | None, after: int | None, language: Language) -> str:
    change = None if before is None or after is None else after - before
    if is_noise(change):
        return "±0"
    return f"{'+' if change is not None and change > 0 else ''}{say_size(change, language)}"
