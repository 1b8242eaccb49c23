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
SIZE = 32 << 20  # bytes: a rendered traceback, ipywidgets' modules, the stack of one thread
_PLENTY = 8 * SIZE  # bytes that must be left for it to be worth taking: a release needs room, too


class Reserve:
    """What is put by in one process."""

    def __init__(self) -> None:
        self._held: Any = None

    def take(self) -> None:
        """Put some by, if there is a limit and plenty of room below it."""
        if self._held is not None or (_room() or 0) < _PLENTY:
            return
        import mmap

        try:
            self._held = mmap.mmap(-1, SIZE)
        except OSError:
            _log.debug("nothing put by", exc_info=True)

    def give_up(self) -> None:
        """Make room."""
        held, self._held = self._held, None
        if held is not None:
            held.close()


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
