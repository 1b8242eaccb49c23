"""What is left out at the load, so that a kernel starts as fast as without us: it is made up for soon after."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nb_oomhelper.services import Services

_log = logging.getLogger(__name__)
_DELAY = 1.0  # seconds after the load


class Warming:
    """Imports and starts what an error needs, once, when the kernel is idle.

    Args:
        shell: The InteractiveShell; in one without an event loop nothing is done ahead.
        services: Gives what cases are worked on with.
    """

    def __init__(self, shell: Any, services: Callable[[], Services]) -> None:
        self._loop: Any = getattr(getattr(shell, "kernel", None), "io_loop", None)
        self._services = services
        self._later: Any = None

    def begin(self) -> None:
        """Do it a little later."""
        if self._loop is not None:
            self._later = self._loop.call_later(_DELAY, self._warm)

    def cancel(self) -> None:
        """Do it no more, if it was not done."""
        if self._later is not None:
            self._loop.remove_timeout(self._later)
            self._later = None

    def _warm(self) -> None:
        self._later = None
        try:
            from nb_oomhelper.shell.services import warm

            warm(self._services())
        except Exception:  # it is tried again when it is needed
            _log.debug("not warmed", exc_info=True)
