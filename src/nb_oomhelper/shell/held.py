"""What the process held before a cell, and when it had failed: the two ends between which the cell made something."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nb_oomhelper.address_space import limits
from nb_oomhelper.shell.reserve import Reserve

if TYPE_CHECKING:
    from nb_oomhelper.records.memory import Footprint, Span

_HEAVY = frozenset({"numpy", "torch", "jax", "cupy", "pandas", "polars", "pyarrow", "tensorflow"})


class Held:
    """Reads what the process holds, without what is put by."""

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self._before: Footprint | None = None
        self._at_error: Footprint | None = None

    def begin(self) -> None:
        """A cell begins."""
        self._before, self._at_error = self._read(), None

    def fail(self) -> None:
        """An error comes by: read before a traceback is made of it, which takes memory, too."""
        self._at_error = self._read()
        self._reserve.give_up()

    def look(self) -> Span:
        """Give both ends, for the error that came by last."""
        span = (self._before, self._at_error or self._read())
        self._at_error = None
        return span

    def _read(self) -> Footprint | None:
        """What the process holds; None where nothing is loaded that holds much, and no limit meets plain Python."""
        if _HEAVY.isdisjoint(sys.modules) and limits() == (None, None):
            return None
        from nb_oomhelper.memory.footprint import read_footprint

        return read_footprint(self._reserve.held)
