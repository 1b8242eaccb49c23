"""The memory bar of a panel, which follows the memory for a while."""

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
from nb_oomhelper.showing.report import bar
from nb_oomhelper.showing.wording import say

_SPAN = 120  # seconds that the sparkline shows


class Readout:
    """Draws a case's memory into a widget.

    Attributes:
        language: The language of its words from the next drawing on.
    """

    def __init__(
        self, case: Case, actions: Actions, widget: Any, language: Language, tell: Callable[[str], None]
    ) -> None:
        """Draw the memory as it was when the error came.

        Args:
            case: Whose memory it is.
            actions: What reads it, and for how long.
            widget: An HTML widget.
            language: "en" or "zh".
            tell: Called after each reading with a line about a cell that runs, or "".
        """
        self.language = language
        self._case = case
        self._actions = actions
        self._widget = widget
        self._busy = tell
        self._used: deque[int] = deque(maxlen=max(2, round(_SPAN / actions.refresh)))
        self._until = 0.0
        self._last = case.snapshot  # as it was read last
        self._repeat: Repeat | None = None
        self._drawing = threading.Lock()
        self._draw(case.snapshot, say("live.still", language))

    @property
    def live(self) -> bool:
        """Whether it follows the memory."""
        return self._repeat is not None and self._repeat.active

    def follow(self) -> None:
        """Begin to follow, where it is memory of this process's that can be read, and there is a thread for it."""
        if self._case.event.remote is not None or is_told(self._case.event, self._case.snapshot):
            return
        self._until = time.monotonic() + 60 * self._actions.live
        self._repeat = WORKER.every(self._actions.refresh, self._tick, self._freeze)

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
        if self._case.event.remote is not None:
            return
        parts = segments_of(self._case.event, snapshot, self._case.diagnosis.requested)
        self._used.append(sum(part.size or 0 for part in parts if part.kind not in ("free", "barred", "short")))
        self._widget.value = _html.bar(bar(parts, self.language), caption, self._used)

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
