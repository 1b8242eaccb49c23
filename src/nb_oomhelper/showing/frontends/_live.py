"""`%gpumem --live`: bars of each GPU and the host, or of each worker, that follow the memory while cells run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.case import Case
from nb_oomhelper.engines import WorkerReply
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.memory.segments import segments
from nb_oomhelper.memory.snapshot import read_driver, snapshot_of, take_snapshot
from nb_oomhelper.memory.usage import MemoryUsage
from nb_oomhelper.poll import WORKER, Repeat
from nb_oomhelper.records.memory import Segment
from nb_oomhelper.showing.frontends import _html, _style, _text
from nb_oomhelper.showing.frontends._widgets import view_of
from nb_oomhelper.showing.notes import say_notes
from nb_oomhelper.showing.report import bar
from nb_oomhelper.showing.wording import say
from nb_oomhelper.showing.worker_table import say_reply, who
from nb_oomhelper.untrusted import printable

_MOST = 64  # workers whose bars are drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is drawn: when it was read, label and parts of each bar, and what could not be read."""

    at: float
    bars: list[tuple[str, tuple[Segment, ...]]]
    notes: list[str]


Read = Callable[[], Reading]


def read_devices(driver: Driver, language: Language) -> Reading:
    """Read each GPU and the host.

    Args:
        driver: The door to NVML.
        language: Of the labels.
    """
    reading = read_driver(driver, named=False)
    host = take_snapshot(driver, backend="host", device=None)
    gpus = [
        (" · ".join(filter(None, (f"GPU {row.nvml_index}", row.name))), segments(snapshot_of(reading, row), "cuda"))
        for row in reading.devices
    ]
    notes = say_notes((reading.note, *(row.note for row in reading.devices)), language)
    bars = [*gpus, (say("title.host_place", language), segments(host, "host"))]
    return Reading(at=host.taken_at, bars=bars, notes=list(dict.fromkeys(notes)))


def of_workers(replies: Iterable[WorkerReply], language: Language) -> Reading:
    """Draw up what workers have answered: a bar for each GPU and each host.

    Args:
        replies: One a worker.
        language: Of the labels.
    """
    shown = list(replies)
    more = [say("told.more", language, count=_MOST)] if len(shown) > _MOST else []
    shown = shown[:_MOST]
    bars = [
        (" · ".join(filter(None, (who(reply, language), usage.device, usage.name))), _parts(usage))
        for reply in shown
        for usage in reply.usages
    ]
    notes = [say_reply(reply, language) for reply in shown if reply.problem is not None]
    return Reading(at=time.time(), bars=bars, notes=[*notes, *more])


def _parts(usage: MemoryUsage) -> tuple[Segment, ...]:
    """The bar of a row, as `segments` makes it of a snapshot."""
    own = "process" if usage.allocated is None else "rest"
    sizes = (
        ("allocated", usage.allocated),
        ("cached", usage.cached),
        (own, usage.rest),
        ("other", usage.others),
        ("free", usage.free),
    )
    return tuple(Segment(kind=kind, size=size) for kind, size in sizes if size is not None)  # type: ignore[arg-type]


class Live:
    """Bars in one widget, and the thread that draws them."""

    def __init__(self, read: Read, language: Language, refresh: float, minutes: float) -> None:
        import ipywidgets as widgets

        self._read = read
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
        display(view_of(self._bars) | {"text/plain": self._text()}, raw=True)
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

    def _text(self) -> str:
        """The last reading, where no widget can be shown: a widget's own text would be its code."""
        read = (f"{label}\n{_text.bar(bar(parts, self._language))}" for label, parts in self._last.bars)
        return printable("\n\n".join((*read, *self._last.notes)))

    def _draw(self, caption: str) -> None:
        blocks = [
            _html.section(label) + _html.bar(bar(parts, self._language), caption) for label, parts in self._last.bars
        ]
        self._bars.value = _style.of_panel() + "".join(blocks) + _html.notes(self._last.notes)
