"""What one shell has on the screen: the newest is live, the last few can be clicked, the older ones are pictures."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

_CLICKED = 5  # panels that keep their widgets; each has dozens, on both sides of the connection


class Shown(Protocol):
    """Something that is on the screen."""

    @property
    def live(self) -> bool:
        """Whether it still follows the memory."""

    def close(self) -> None:
        """End what is live; what is shown stays, and can be clicked."""

    def retire(self) -> None:
        """Put a picture in its place, and give its widgets back."""


class Screen:
    """Keeps what is shown. Errors come from several threads at once, so it may be called from any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: deque[Shown] = deque()

    @property
    def live(self) -> bool:
        """Whether something on it is live."""
        return any(one.live for one in list(self._shown))

    def add(self, shown: Shown) -> None:
        """Keep what was just shown; what was live before it is so no longer."""
        with self._lock:
            self._shown.append(shown)
            older = list(self._shown)[:-1]
            gone = [self._shown.popleft() for _ in range(len(self._shown) - _CLICKED)]
        for one in older:
            one.close()
        for one in gone:
            one.retire()

    def close(self) -> None:
        """End all that is live."""
        with self._lock:
            shown = list(self._shown)
            self._shown.clear()
        for one in shown:
            one.close()
