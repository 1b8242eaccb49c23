"""What cases are worked on with, and what becomes of a part that fails."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.knowledge.catalog import Catalog, load_catalog
from nb_oomhelper.memory.nvml import Driver

_log = logging.getLogger(__name__)
_Part = TypeVar("_Part")


@dataclass(slots=True)
class Services:
    """What cases are worked on with: made once by the extension, and passed to whoever needs it.

    Attributes:
        driver: The door to NVML.
        catalog: Gives the knowledge; called late, because reading it opens files.
        history: Where outcomes are kept; None keeps none.
        shell: The InteractiveShell, or None outside IPython.
        problem: The last thing that went wrong with us, one line, or None; and its traceback.
    """

    driver: Driver
    catalog: Callable[[], Catalog]
    history: Callable[[], Path | None]
    shell: Any = None
    problem: str | None = None
    trace: str | None = None

    def failed(self, problem: BaseException) -> None:
        """Keep what went wrong with a part of ours: one line, and the traceback as text; nothing of its frames."""
        told = isinstance(problem, OomHelperError)  # its line is meant for people, and says all there is
        self.problem = f"{'' if told else f'{type(problem).__name__}: '}{problem}".strip().splitlines()[0]
        self.trace = None if told else "".join(traceback.format_exception(problem))

    def attempt(self, part: Callable[[], _Part], otherwise: _Part) -> _Part:
        """Do one part of a case. One that fails costs only itself: the rest must be shown all the same.

        Args:
            part: Is called once.
            otherwise: What is given where it failed; the problem is kept.

        Returns:
            What the part gives, or `otherwise`.
        """
        try:
            return part()
        except Exception as problem:
            _log.debug("a part failed", exc_info=True)
            with contextlib.suppress(Exception):
                self.failed(problem)
            return otherwise


def without_shell() -> Services:
    """Make the services of a process without a shell: what is packaged is known, and nothing is kept."""
    catalog = load_catalog()
    return Services(driver=Driver(), catalog=lambda: catalog, history=lambda: None)
