"""What the magics need of the extension."""

from __future__ import annotations

from typing import Protocol

from nb_oomhelper.case import Case
from nb_oomhelper.services import Services
from nb_oomhelper.shell.hooks import Hooks
from nb_oomhelper.shell.panels import Panels
from nb_oomhelper.shell.settings import OOMHelper


class Core(Protocol):
    """One shell's nb_oomhelper.

    Attributes:
        case: The last out-of-memory error, or None.
        settings: As the user has them.
        hooks: Where errors pass.
    """

    case: Case | None
    settings: OOMHelper
    hooks: Hooks

    @property
    def services(self) -> Services:
        """What cases are worked on with."""

    @property
    def panels(self) -> Panels:
        """What is on the screen, and what a click or a magic does."""
