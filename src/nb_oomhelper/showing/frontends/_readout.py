"""The live line of a panel, which follows the memory for a while; the bar above it stays as it was at the error."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.segments import is_told, segments_of
from nb_oomhelper.poll import WORKER, Repeat
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.showing.frontends import _html
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._widgets import Parts
from nb_oomhelper.showing.wording import say, say_size

_SPAN = 120  # seconds that the sparkline shows


class Readout:
    """Writes a case's memory into a widget.

    Attributes:
        language: The language of its words from the next drawing on.
    """

    def __init__(
        self,
        case: Case,
        actions: Actions,
        widget: Any,
        parts: Parts,
        language: Language,
        tell: Callable[[str], None],
    ) -> None:
        """Keep what is followed.

        Args:
            case: Whose memory it is.
            actions: What reads it, and for how long.
            widget: An HTML widget.
            parts: Shows and hides it.
            language: "en" or "zh".
            tell: Called after each reading with a line about a cell that runs, or "".
        """
        self.language = language
        self._case = case
        self._actions = actions
        self._widget, self._parts = widget, parts
        self._busy = tell
        self._used: deque[int] = deque(maxlen=max(2, round(_SPAN / actions.refresh)))
        self._until = 0.0
        self._last = case.snapshot  # as it was read last
        self._drawn: tuple[object, ...] = ()
        self._repeat: Repeat | None = None
        self._drawing = threading.Lock()
        self._note(case.snapshot)

    @property
    def live(self) -> bool:
        """Whether it follows the memory."""
        return self._repeat is not None and self._repeat.active

    def follow(self) -> None:
        """Begin to follow, where it is memory of this process's that can be read, and there is a thread for it."""
        if not self._can_be_read():
            return
        self._until = time.monotonic() + 60 * self._actions.live
        self._repeat = WORKER.every(self._actions.refresh, self._tick, self._freeze)

    def look(self) -> None:
        """Read once, where nothing is followed: after a fix or a cell."""
        if not self.live and self._can_be_read():
            self._last = self._actions.read(self._case)
            self._freeze()

    def _can_be_read(self) -> bool:
        return self._case.event.remote is None and not is_told(self._case.event, self._case.snapshot)

    def speak(self, language: Language) -> None:
        """Say its line in another language: at once where it is no longer written anew, else with the next reading.

        Args:
            language: "en" or "zh".
        """
        self.language = language
        if self._widget.value and not self.live:
            self._freeze()

    def close(self) -> None:
        """End the following; what is shown stays. Nothing is read for it: whoever hangs there must not hang us."""
        if self.live and self._repeat is not None:
            self._repeat.stop()
            self._freeze()

    def _tick(self) -> bool:
        if time.monotonic() > self._until:
            self._freeze()
            return False
        snapshot = self._actions.read(self._case)
        with self._drawing:
            if not self.live:  # it was closed while memory was read
                return False
            self._last = snapshot
            self._draw(snapshot, say("live.now", self.language, seconds=f"{self._actions.refresh:g}"))
            self._busy(say("live.busy", self.language) if self._actions.busy() else "")
        return True

    def _draw(self, snapshot: MemorySnapshot, caption: str) -> None:
        used, free = self._note(snapshot)
        sizes = {"used": say_size(used, self.language), "free": say_size(free, self.language)}
        drawn = (*sizes.values(), caption, len({*self._used}) == 1)
        if drawn == self._drawn:  # nothing is another but the time: that is worth no message
            return
        self._drawn = drawn
        first = not self._widget.value
        self._widget.value = _html.now(say("live.reading", self.language, **sizes), caption, self._used)
        if first:
            self._parts.hide(self._widget, False)

    def _note(self, snapshot: MemorySnapshot) -> tuple[int, int | None]:
        """Keep how much is used; that and how much is free."""
        parts = segments_of(self._case.event, snapshot)
        used = sum(part.size or 0 for part in parts if part.kind not in ("free", "barred", "short"))
        self._used.append(used)
        return used, next((part.size for part in parts if part.kind == "free"), None)

    def _freeze(self) -> None:
        """Say that the last reading is the last one, and of when it is."""
        if not self._drawing.acquire(timeout=1.0):  # somebody draws and does not come back
            return
        try:
            at = time.strftime("%H:%M:%S", time.localtime(self._last.taken_at))
            self._draw(self._last, say("live.ended", self.language, time=at))
            self._busy("")
        finally:
            self._drawing.release()
