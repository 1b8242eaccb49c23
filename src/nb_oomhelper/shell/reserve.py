"""Address space for the moment when there is none left.

A cell that fills its address space (RLIMIT_AS, RLIMIT_DATA) in small pieces leaves nothing: IPython cannot print the
traceback, no panel can be shown, and the kernel may die. A limit that the process may raise is raised from an error on
until the next cell begins. Where it may not, a little is mapped and never touched, which takes no memory, and is given
up when an error comes by.
"""

from __future__ import annotations

import logging
from typing import Any

from nb_oomhelper.address_space import PUT_BY, can_widen, narrow, put_by, room, widen

_log = logging.getLogger(__name__)
_SPARE = 24 << 20  # bytes above what a process holds that is full: without them it cannot even be told what it holds


class Reserve:
    """What one process has for an error, in two steps: for the traceback, and for the panel."""

    def __init__(self) -> None:
        self._held: list[Any] = []
        self._wide = False

    @property
    def held(self) -> int:
        """Bytes that are put by now."""
        return sum(map(len, self._held))

    def take(self) -> None:
        """Put some by, if there is a limit and enough room below it; anew where part was given up, or there is more.

        What was raised is put back.
        """
        narrow(_SPARE)
        self._wide = False
        if can_widen():
            self._unmap()
            return
        size = put_by((room() or 0) + self.held)
        if size > self.held:
            self._unmap()
            self._map(size)

    def give_up(self) -> None:
        """Make room: the first part, and when it is asked for again the rest."""
        if self._held:
            self._held.pop().close()
        elif can_widen():
            widen(PUT_BY if self._wide else PUT_BY // 4)
            self._wide = True

    def give_all(self) -> None:
        """Make all the room."""
        self._unmap()
        if can_widen():
            widen(PUT_BY)
            self._wide = True

    def end(self) -> None:
        """Leave everything as it would be without us."""
        self._unmap()
        narrow()
        self._wide = False

    def _map(self, size: int) -> None:
        try:
            import mmap

            # private: RLIMIT_DATA does not count what is shared
            private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            # a quarter for a rendered traceback, the rest for the search and a panel
            self._held = [mmap.mmap(-1, part, flags=private) for part in (size - size // 4, size // 4)]
        except (ImportError, AttributeError, OSError, MemoryError):
            _log.debug("nothing put by", exc_info=True)

    def _unmap(self) -> None:
        while self._held:
            self._held.pop().close()
