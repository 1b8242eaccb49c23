"""The ways of showing a case, best first."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from nb_oomhelper.case import Case
from nb_oomhelper.frontends import _html, _panel, _text
from nb_oomhelper.frontends._actions import Actions
from nb_oomhelper.frontends._live import Live
from nb_oomhelper.nvml import Driver
from nb_oomhelper.report import write

__all__ = ["FRONTENDS", "Actions", "Frontend", "Shown", "show", "show_live", "widgets_gap"]

_log = logging.getLogger(__name__)


class Shown(Protocol):
    """Something that is on the screen and may still be live."""

    def close(self) -> None:
        """End what is live; what is shown stays."""


class Frontend(Protocol):
    """A way of showing a case."""

    def available(self, shell: Any) -> bool:
        """Whether it can be used in this shell."""

    def show(self, case: Case, actions: Actions) -> Shown | None:
        """Show the case."""


class _Panel:
    def available(self, shell: Any) -> bool:
        return _panel.available(shell)

    def show(self, case: Case, actions: Actions) -> Shown:
        return _panel.show(case, actions)


class _Html:
    """For kernels without ipywidgets."""

    def available(self, shell: Any) -> bool:
        return getattr(shell, "kernel", None) is not None

    def show(self, case: Case, actions: Actions) -> None:
        from IPython.display import display

        report = write(case, actions.catalog(), actions.language())
        display({"text/html": _html.render(report), "text/plain": _text.render(report)}, raw=True)


class _Text:
    """For terminals."""

    def available(self, _shell: Any) -> bool:
        return True

    def show(self, case: Case, actions: Actions) -> None:
        print(_text.render(write(case, actions.catalog(), actions.language())))


FRONTENDS: tuple[Frontend, ...] = (_Panel(), _Html(), _Text())


def show(case: Case, actions: Actions, shell: Any) -> Shown | None:
    """Show a case in the best way that works here; the next best takes over where one fails."""
    last: Exception | None = None
    for frontend in FRONTENDS:
        try:
            if frontend.available(shell):
                return frontend.show(case, actions)
        except Exception as error:  # a missing browser part or no memory must not cost the report
            _log.debug("a front end failed", exc_info=True)
            last = error
    if last is not None:
        raise last
    return None


def widgets_gap(shell: Any) -> str | None:
    """Why panels have no buttons in this shell; None where they have."""
    return "none: this is a terminal" if getattr(shell, "kernel", None) is None else _panel.gap()


def show_live(driver: Driver, actions: Actions, shell: Any) -> Shown | None:
    """Show bars of every device that follow its memory; None where there are no widgets."""
    if not _panel.available(shell):
        return None
    live = Live(driver, actions.language(), actions.refresh, actions.live)
    live.show()
    return live
