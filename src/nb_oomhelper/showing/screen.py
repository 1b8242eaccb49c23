"""What one shell has on the screen: the newest is live, the last few can be clicked, the older ones are pictures."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nb_oomhelper.case import Case
    from nb_oomhelper.knowledge.toml_tables import Language

_log = logging.getLogger(__name__)

_CLICKED = 5  # panels that keep their widgets; each has dozens, on both sides of the connection


class Shown(Protocol):
    """Something that is on the screen."""

    @property
    def live(self) -> bool:
        """Whether it still follows the memory."""

    def is_of(self, case: Case, language: Language) -> bool:
        """Whether it shows this case, in this language."""

    def show(self) -> None:
        """Show it, or show it once more at another place."""

    def follow(self) -> None:
        """Begin to be live."""

    def refresh(self) -> None:
        """Show what was run elsewhere, by a magic."""

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

    def add(self, shown: Shown | None) -> None:
        """Keep what was just shown, None for what has no widgets; what was live before it is so no longer."""
        with self._lock:
            older = list(self._shown)
            self._shown.extend([] if shown is None else [shown])
            gone = [self._shown.popleft() for _ in range(len(self._shown) - _CLICKED)]
        for one in older:
            _carefully(one.close)
        for one in gone:
            _carefully(one.retire)

    def show_again(self, case: Case, language: Language) -> bool:
        """Show the panel of a case at another place, too, as the newest.

        Args:
            case: One error.
            language: The one that the panel must speak.

        Returns:
            False where there is none with its widgets.
        """
        with self._lock:
            found = next((one for one in self._shown if one.is_of(case, language)), None)
            if found is None:
                return False
            self._shown.remove(found)
        found.show()
        self.add(found)
        if not found.live:
            found.follow()
        return True

    def refresh(self, case: Case, language: Language) -> None:
        """Let the panel of a case show what was run elsewhere, by a magic.

        Args:
            case: One error.
            language: One that the panel speaks.
        """
        for one in [one for one in list(self._shown) if one.is_of(case, language)]:
            _carefully(one.refresh)

    def close(self) -> None:
        """End all that is live."""
        with self._lock:
            shown = list(self._shown)
            self._shown.clear()
        for one in shown:
            _carefully(one.close)


def _carefully(do: Callable[[], None]) -> None:
    """What ends badly must not spoil what comes after it."""
    try:
        do()
    except Exception:
        _log.debug("a panel did not end well", exc_info=True)
