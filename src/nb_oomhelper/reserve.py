"""Address space put by for the moment when there is none left.

A cell that fills its address space (RLIMIT_AS, RLIMIT_DATA) in small pieces leaves nothing: IPython cannot print the
traceback, no panel can be shown, and the kernel may die. So while there is such a limit, a little of it is mapped and
never touched, which takes no memory. It is given up when an error comes by.
"""

from __future__ import annotations

import logging
from typing import Any

from nb_oomhelper.address_space import room

_log = logging.getLogger(__name__)
SIZE = 64 << 20  # bytes: a rendered traceback; then a search, ipywidgets' modules, the stack of one thread
_FIRST = SIZE // 2  # of it for the traceback; threads that the failed call has left behind may eat of that
_PLENTY = 6 * SIZE  # bytes that must be left for it to be worth taking: a release needs room, too


class Reserve:
    """What is put by in one process, and given up in two steps: for the traceback, and for the panel."""

    def __init__(self) -> None:
        self._held: list[Any] = []

    def take(self) -> None:
        """Put some by, if there is a limit and plenty of room below it."""
        if self._held or (room() or 0) < _PLENTY:
            return
        try:
            import mmap

            # private: RLIMIT_DATA does not count what is shared
            private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            self._held = [mmap.mmap(-1, size, flags=private) for size in (SIZE - _FIRST, _FIRST)]
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
