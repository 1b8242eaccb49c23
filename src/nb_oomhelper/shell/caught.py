"""`OOMHelper.watch_allocator`: errors that the code of a cell has caught itself, as the allocator counts them."""

from __future__ import annotations

from typing import Any

from nb_oomhelper.memory.allocators import Refusals, read_refusals
from nb_oomhelper.shell.core import Core


class Caught:
    """Counts them cell by cell.

    Args:
        core: The extension.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._before: Refusals | None = None
        self.last: Refusals | None = None  # of the last cell that had any; None where none had

    def install(self) -> None:
        """Nothing is put in: the allocator counts anyway."""

    def remove(self) -> None:
        """Nothing is to be taken out."""

    def begin(self, info: Any) -> None:  # noqa: ARG002
        """A cell begins: how many there were."""
        if self._before is None:  # a cell within a cell is part of it
            self._before = read_refusals()

    def end(self, result: Any, errors: int) -> None:  # noqa: ARG002
        """The cell has ended: how many there are more, but for those that came by as errors.

        Args:
            result: As IPython has it.
            errors: How many came by.
        """
        before, self._before = self._before, None
        if before is None or not self._core.cells.idle:
            self._before = before
            return
        counted = read_refusals().since(before, errors)
        if counted:
            self.last = counted

    def failed(self, error: BaseException) -> None:
        """Nothing of this is counted by the allocator."""
