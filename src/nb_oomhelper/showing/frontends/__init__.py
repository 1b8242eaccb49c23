"""The ways of showing a case, best first."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from nb_oomhelper.address_space import is_scarce
from nb_oomhelper.case import Case
from nb_oomhelper.records.note import Note, note
from nb_oomhelper.showing import wording
from nb_oomhelper.showing.frontends import _panel, _terminal
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._live import Live, Read, Reading, of_workers, read_devices
from nb_oomhelper.showing.report import write
from nb_oomhelper.showing.screen import Shown

__all__ = [
    "FRONTENDS",
    "Actions",
    "Frontend",
    "Read",
    "Reading",
    "Shown",
    "of_workers",
    "read_devices",
    "show",
    "show_live",
    "warm",
    "widgets_gap",
]

_log = logging.getLogger(__name__)


class Frontend(Protocol):
    """A way of showing a case."""

    has_buttons: bool
    """Whether it makes widgets, which take dozens of messages."""

    def available(self, shell: Any) -> bool:
        """Whether it can be used in this shell."""

    def show(self, case: Case, actions: Actions) -> Shown | None:
        """Show the case.

        Args:
            case: One error, with all that is known of it.
            actions: What may be asked for.
        """


class _Panel:
    has_buttons = True

    def available(self, shell: Any) -> bool:
        return _panel.available(shell)

    def show(self, case: Case, actions: Actions) -> Shown:
        return _panel.show(case, actions)


class _Html:
    """For kernels without ipywidgets, and for processes without room: one message."""

    has_buttons = False

    def available(self, shell: Any) -> bool:
        return getattr(shell, "kernel", None) is not None

    def show(self, case: Case, actions: Actions) -> None:
        from IPython.display import display

        report = write(case, actions.catalog(), actions.language())
        display(_panel.picture(report) | _panel.data_of(case, actions), raw=True)


class _Text:
    """For terminals."""

    has_buttons = False

    def available(self, _shell: Any) -> bool:
        return True

    def show(self, case: Case, actions: Actions) -> None:
        print(_terminal.render_here(write(case, actions.catalog(), actions.language())))


FRONTENDS: tuple[Frontend, ...] = (_Panel(), _Html(), _Text())


def warm(shell: Any) -> None:
    """Import and read what showing a case needs: later there may be no room for it."""
    wording.warm()
    for frontend in FRONTENDS:
        frontend.available(shell)
    if getattr(shell, "kernel", None) is not None:
        import IPython.display  # noqa: F401


def show(case: Case, actions: Actions, shell: Any, *, static: bool = False) -> Shown | None:
    """Show a case in the best way that works here; the next best takes over where one fails.

    Args:
        case: What is shown.
        actions: What it may ask for.
        shell: Where.
        static: Without buttons. So it is anyway where there is little room: of the many messages that widgets take one
            could fail half-way, and everything after it would be unreadable.
    """
    last: Exception | None = None
    plain = static or is_scarce()
    for frontend in FRONTENDS:
        try:
            if not (plain and frontend.has_buttons) and frontend.available(shell):
                return frontend.show(case, actions)
        except Exception as error:  # a missing browser part or no memory must not cost the report
            _log.debug("a front end failed", exc_info=True)
            last = error
    if last is not None:
        raise last
    return None


def widgets_gap(shell: Any) -> Note | None:
    """Find why panels have no buttons in this shell; None where they have."""
    return note("status.terminal") if getattr(shell, "kernel", None) is None else _panel.gap()


def show_live(read: Read, actions: Actions, shell: Any, least: float = 0.0) -> Shown | None:
    """Show bars that follow memory.

    Args:
        read: Gives what is to be drawn.
        actions: Which language, how often, and for how long.
        shell: Where they are shown.
        least: Seconds between two readings, at least.

    Returns:
        None where there are no widgets.
    """
    if is_scarce() or not _panel.available(shell):
        return None
    live = Live(read, actions.language(), max(least, actions.refresh), actions.live)
    live.show()
    return live
