"""`%gpumem --live`: a bar for each GPU, or for the host, that follows the memory while cells run."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.memory.segments import segments
from nb_oomhelper.memory.snapshot import read_driver, snapshot_of, take_snapshot
from nb_oomhelper.poll import WORKER, Repeat
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.showing.frontends import _html
from nb_oomhelper.showing.notes import say_notes
from nb_oomhelper.showing.report import bar
from nb_oomhelper.showing.wording import say


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What is drawn: when it was read, label, backend and memory of each bar, and what could not be read."""

    at: float
    bars: list[tuple[str, str, MemorySnapshot]]
    notes: list[str]


class Live:
    """Bars in one widget, and the thread that draws them."""

    def __init__(self, driver: Driver, language: Language, refresh: float, minutes: float) -> None:
        import ipywidgets as widgets

        self._driver = driver
        self._language = language
        self._refresh = refresh
        self._until = time.monotonic() + 60 * minutes
        self._bars: Any = widgets.HTML()
        self._bars.add_class("oomh")
        self._bars.add_class("oomh-calm")
        self._repeat: Repeat | None = None
        self._drawing = threading.Lock()
        self._ended = False
        self._last = self._read()

    def show(self) -> None:
        """Show the bars and begin to follow; where there is no thread for that they stay as they are."""
        from IPython.display import display

        self._draw(say("live.bars", self._language, seconds=f"{self._refresh:g}"))
        display(self._bars)
        self._repeat = WORKER.every(self._refresh, self._tick)
        if not self._repeat.active:
            self._end()

    @property
    def live(self) -> bool:
        """Whether it follows the memory."""
        return self._repeat is not None and self._repeat.active

    def is_of(self, case: Case, language: Language) -> bool:  # noqa: ARG002
        """It is of no case."""
        return False

    def follow(self) -> None:
        """It follows from the start."""

    def refresh(self) -> None:
        """Nothing is run from it."""

    def retire(self) -> None:
        """The bars stay as they are: one widget."""
        self.close()

    def close(self) -> None:
        """End the following; the last reading stays. Nothing is read for it: whoever hangs there must not hang us."""
        if self._repeat is not None:
            self._repeat.stop()
        self._end()

    def _tick(self) -> bool:
        if time.monotonic() > self._until:
            self._end()
            return False
        found = self._read()
        with self._drawing:
            if self._ended:  # it was closed while memory was read
                return False
            self._last = found
            self._draw(say("live.bars", self._language, seconds=f"{self._refresh:g}"))
        return True

    def _end(self) -> None:
        """Say once that the last reading is the last one, and of when it is."""
        if not self._drawing.acquire(timeout=1.0):  # somebody draws and does not come back
            return
        try:
            if not self._ended:
                self._ended = True
                at = time.strftime("%H:%M:%S", time.localtime(self._last.at))
                self._draw(say("live.ended", self._language, time=at))
        finally:
            self._drawing.release()

    def _read(self) -> _Reading:
        reading = read_driver(self._driver)
        host = take_snapshot(self._driver, backend="host", device=None)
        gpus = [
            (" · ".join(filter(None, (f"GPU {row.nvml_index}", row.name))), "cuda", snapshot_of(reading, row))
            for row in reading.devices
        ]
        notes = say_notes((reading.note, *(row.note for row in reading.devices)), self._language)
        bars = [*gpus, (say("title.host_place", self._language), "host", host)]
        return _Reading(at=host.taken_at, bars=bars, notes=list(dict.fromkeys(notes)))

    def _draw(self, caption: str) -> None:
        blocks = [
            _html.section(label) + _html.bar(bar(segments(snapshot, backend), self._language), caption)
            for label, backend, snapshot in self._last.bars
        ]
        self._bars.value = _html.style() + "".join(blocks) + _html.notes(self._last.notes)
