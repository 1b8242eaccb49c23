"""Address space put by for the moment when there is none left.

A cell that fills its address space (RLIMIT_AS) in small pieces leaves nothing: IPython cannot print the
traceback, no panel can be shown, and the kernel may die. So while there is such a limit, a little of it is
mapped and never touched, which takes no memory. It is given up when an error comes by.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

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
        if self._held or (_room() or 0) < _PLENTY:
            return
        import mmap

        try:
            self._held = [mmap.mmap(-1, size) for size in (SIZE - _FIRST, _FIRST)]
        except OSError:
            _log.debug("nothing put by", exc_info=True)

    def give_up(self) -> None:
        """Make room: the first part, and when it is asked for again the rest."""
        if self._held:
            self._held.pop().close()

    def give_all(self) -> None:
        """Make all the room."""
        while self._held:
            self.give_up()


def _room() -> int | None:
    """Bytes that this process may still map; None where nothing limits them, or it cannot be told."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])  # proc(5): the program's size
        return limit - pages * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, AttributeError, OSError, ValueError):  # Windows, or a system without /proc
        return None
