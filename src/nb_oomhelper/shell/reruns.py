"""The user's own next run of a failed cell, after a fix: what tells whether that has helped."""

from __future__ import annotations

from typing import Any

from nb_oomhelper.case import Case, record_run
from nb_oomhelper.services import Services


class Reruns:
    """Waits for the next run of the cell that the last fix was for.

    Args:
        services: What outcomes are kept with.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._fixed: Case | None = None
        self._begun: tuple[Case, int] | None = None  # such a run has begun, when so many fixes had run

    def fixed(self, case: Case) -> None:
        """A fix has run; from now on it is this one that a run tells of."""
        self._fixed = case

    def begin(self, info: Any) -> None:
        """A cell begins: the user's own are those that get an entry of the history.

        A fix that runs while the cell does (by `auto_release`, or by a magic in it) is not what it has run after.
        """
        case = self._fixed
        if case is not None and info.store_history and info.raw_cell == case.cell:
            self._begun = (case, len(case.outcomes))

    def end(self, result: Any) -> None:
        """A cell has ended; without a result it was cancelled."""
        if self._begun is None:
            return
        case, fixes = self._begun
        if result is not None and result.info.raw_cell != case.cell:  # within it or beside it
            return
        self._begun = None
        stopped = result is None or isinstance(result.error_in_exec, KeyboardInterrupt)
        if not stopped and len(case.outcomes) == fixes:
            record_run(case, self._services, ran=bool(result.success))
