"""What the magics need of the extension."""

from __future__ import annotations

from typing import Protocol

from nb_oomhelper.case import Case
from nb_oomhelper.services import Services
from nb_oomhelper.shell.cells import Cells
from nb_oomhelper.shell.hooks import Hooks
from nb_oomhelper.shell.panels import Panels
from nb_oomhelper.shell.settings import OOMHelper
from nb_oomhelper.shell.watching import Watching


class Core(Protocol):
    """One shell's nb_oomhelper.

    Attributes:
        case: The last out-of-memory error, or None.
        settings: As the user has them.
        hooks: Where errors pass.
        cells: Which cells run.
        watching: The watchers that are on.
    """

    case: Case | None
    settings: OOMHelper
    hooks: Hooks
    cells: Cells
    watching: Watching

    @property
    def services(self) -> Services:
        """What cases are worked on with."""

    @property
    def panels(self) -> Panels:
        """What is on the screen, and what a click or a magic does."""
