"""Address space put by for the moment when there is none left.

A cell that fills its address space (RLIMIT_AS, RLIMIT_DATA) in small pieces leaves nothing: IPython cannot print the
traceback, no panel can be shown, and the kernel may die. So while there is such a limit, a little of it is mapped and
never touched, which takes no memory. It is given up when an error comes by.
"""

from __future__ import annotations

import logging
from typing import Any

from nb_oomhelper.address_space import put_by, room

_log = logging.getLogger(__name__)


class Reserve:
    """What is put by in one process, and given up in two steps: for the traceback, and for the panel."""

    def __init__(self) -> None:
        self._held: list[Any] = []

    @property
    def held(self) -> int:
        """Bytes that are put by now."""
        return sum(map(len, self._held))

    def take(self) -> None:
        """Put some by, if there is a limit and enough room below it; anew where part was given up, or there is more."""
        size = put_by((room() or 0) + self.held)
        if size <= self.held:
            return
        self.give_all()
        try:
            import mmap

            # private: RLIMIT_DATA does not count what is shared
            private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            # a quarter for a rendered traceback, the rest for the search and a panel
            self._held = [mmap.mmap(-1, part, flags=private) for part in (size - size // 4, size // 4)]
        except (ImportError, AttributeError, OSError, MemoryError):
            _log.debug("nothing put by", exc_info=True)

    def give_up(self) -> None:
        """Make room: the first part, and when it is asked for again the rest."""
        if self._held:
            self._held.pop().close()

    def give_all(self) -> None:
        """Make all the room."""
        while self._held:
            self.give_up()
