"""`%gpumem --live`: a bar for each GPU, or for the host, that follows the memory while cells run."""

from __future__ import annotations

import time
from typing import Any

from nb_oomhelper.frontends import _html
from nb_oomhelper.memory import read_driver, snapshot_of, take_snapshot
from nb_oomhelper.nvml import Driver
from nb_oomhelper.outcomes import plain
from nb_oomhelper.poll import WORKER, Repeat
from nb_oomhelper.report import bar
from nb_oomhelper.wording import Language, say


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

    def show(self) -> None:
        """Show the bars and begin to follow."""
        from IPython.display import display

        self._draw(say("live.now", self._language, seconds=f"{self._refresh:g}"))
        display(self._bars)
        self._repeat = WORKER.every(self._refresh, self._tick)

    @property
    def live(self) -> bool:
        """Whether it follows the memory."""
        return self._repeat is not None and self._repeat.active

    def retire(self) -> None:
        """The bars stay as they are: one widget."""
        self.close()

    def close(self) -> None:
        """End the following; the last reading stays."""
        if self._repeat is not None:
            self._repeat.stop()
        self._draw(say("live.ended", self._language, time=time.strftime("%H:%M:%S")))

    def _tick(self) -> bool:
        if time.monotonic() > self._until:
            self._draw(say("live.ended", self._language, time=time.strftime("%H:%M:%S")))
            return False
        self._draw(say("live.now", self._language, seconds=f"{self._refresh:g}"))
        return True

    def _draw(self, caption: str) -> None:
        reading = read_driver(self._driver)
        host = take_snapshot(self._driver, backend="host", device=None)
        places = [
            (f"GPU {row.nvml_index} · {row.name or ''}", "cuda", snapshot_of(self._driver, row))
            for row in reading.devices
        ]
        blocks = [
            _html.section(label) + _html.bar(bar(snapshot, backend, self._language), caption)
            for label, backend, snapshot in [*places, (say("title.host_place", self._language), "host", host)]
        ]
        notes = [plain(note) for note in (reading.note, *(row.note for row in reading.devices)) if note]
        self._bars.value = _html.style() + "".join(blocks) + _html.notes(dict.fromkeys(notes))
