"""A case as an inline widget: live readout, fixes that run on a click, the entry.

Plain ipywidgets without any script of our own, so that it works wherever ipywidgets do.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any

from nb_oomhelper.address_space import is_scarce
from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.note import Note, note
from nb_oomhelper.showing.frontends import _static, _text
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._body import Body
from nb_oomhelper.showing.frontends._widgets import Parts, family, view_of
from nb_oomhelper.showing.report import Report, write

_log = logging.getLogger(__name__)


def available(shell: Any) -> bool:
    """Whether this shell has a kernel behind it and ipywidgets can be had."""
    return getattr(shell, "kernel", None) is not None and gap() is None


def gap() -> Note | None:
    """Find why there are no widgets; None where there are."""
    try:
        import ipywidgets  # noqa: F401
    except Exception as error:  # absent, broken, or no memory left to load it
        _log.debug("no ipywidgets", exc_info=True)
        return note("status.no_widgets", error=f"{type(error).__name__}: {error}")
    return None


def show(case: Case, actions: Actions) -> Panel:
    """Show the case in two messages: the report, and the widget without it.

    A front end that has lost the widget shows nothing else of its message: the report must be in one of its own.

    Args:
        case: One error, with all that is known of it.
        actions: What the panel may ask for.
    """
    panel = Panel(case, actions, write(case, actions.catalog(), actions.language()))
    panel.show()
    panel.follow()
    return panel


def picture(report: Report, case: str = "") -> dict[str, str]:
    """Make a display bundle of a report, without widgets.

    Args:
        report: The case in words.
        case: The name of the panel that is seen in its place where there is one, or "".
    """
    return {"text/html": _static.render(report, case), "text/plain": _text.render(report)}


def data_of(case: Case, actions: Actions) -> dict[str, Any]:
    """Make the part of a display bundle that programs read; it is left out where there is little room.

    Args:
        case: One error.
        actions: Has the knowledge.

    Returns:
        One item or, where it cannot be had, none: people must see their panel all the same.
    """
    if is_scarce():
        return {}
    try:
        from nb_oomhelper.showing.case_record import MIME, record_of

        return {MIME: record_of(case, actions.catalog(), brief=True)}  # it stays in the notebook's file
    except Exception:
        _log.debug("no record of a case", exc_info=True)
        return {}


class Panel:
    """The widgets of one case, and of those that follow when its cell is run from here and fails again."""

    def __init__(self, case: Case, actions: Actions, report: Report) -> None:
        self.name = uuid.uuid4().hex[:12]
        self.parts = Parts()
        self._actions = actions
        self._output: Any = None
        self._mark, self._first = "", report.language
        self._shown = 0  # how often
        self._body = Body(case, actions, report, self)
        self._report = report
        self.root = self.parts.box(self._body.children(), *self._classes(), column=True)

    # showing

    def is_of(self, case: Case, language: Language) -> bool:
        """Whether it shows this case.

        Args:
            case: One error.
            language: One that it speaks, or spoke before somebody has switched it.
        """
        return self._body.case is case and language in (self._first, self._body.language)

    def show(self) -> None:
        """Show it, or show it once more at another place."""
        from IPython.display import display

        self._shown += 1
        for bundle, name in ((self._saved(), self._saved_id), (self._view(), self._view_id)):
            display(bundle, raw=True, display_id=f"{name}-{self._shown}")

    def refresh(self) -> None:
        """Show what was run elsewhere, by a magic."""
        self._body.refresh()

    def _saved(self) -> dict[str, Any]:
        return picture(self._report, self.name) | data_of(self._body.case, self._actions)

    def _view(self) -> dict[str, Any]:
        return view_of(self.root)

    @property
    def _saved_id(self) -> str:
        return f"{self.name}-saved"

    @property
    def _view_id(self) -> str:
        return f"{self.name}-view"

    def _update(self, bundle: dict[str, Any], name: str) -> None:
        from IPython.display import update_display

        for number in range(1, self._shown + 1):
            update_display(bundle, raw=True, display_id=f"{name}-{number}")

    def keep(self, report: Report) -> None:
        """Let the saved report say what the panel says.

        Args:
            report: The case in words, as it is now.
        """
        self._report = report
        if self._shown and not is_scarce():
            self._update(self._saved(), self._saved_id)

    # what stands in it

    @property
    def output(self) -> Any:
        """The widget that shows what a fix or the cell prints; it comes when it is asked for."""
        if self._output is None:
            self._output = self.parts.output("oomh-output")
            self.arrange()
        return self._output

    def arrange(self) -> None:
        """Show the widgets of the case, which are others now."""
        # at the end, so that what stands before it is not drawn anew; the style sheet puts it in its place
        self.root.children = [*self._body.children(), *([] if self._output is None else [self._output])]

    def mark(self, state: str) -> None:
        """Show in which state the case is.

        Args:
            state: "working", "solved", or "" for failed.
        """
        self._mark = state
        self.root._dom_classes = self._classes()

    def _classes(self) -> tuple[str, ...]:
        return ("oomh", f"oomh-live-{self.name}", *([f"oomh-{self._mark}"] if self._mark else []))

    def adopt(self, case: Case) -> None:
        """Show another case in this one's place: a panel in a panel would be narrower each time.

        Args:
            case: The error that the cell ended with when it was run from here.
        """
        old, live = self._body, self.live
        old.readout.close()
        report = write(case, self._actions.catalog(), old.language)
        self._body = Body(case, self._actions, report, self)
        self.arrange()
        self.mark("")
        if live:
            self._body.readout.follow()
        self.keep(report)
        self._close(old.widgets())

    def _close(self, roots: list[Any]) -> None:
        """Give widgets back, but not what the others share."""
        for widget in family(roots):
            if widget not in self.parts.shared:
                widget.close()

    # the live line

    @property
    def live(self) -> bool:
        """Whether it follows the memory."""
        return self._body.readout.live

    def follow(self) -> None:
        """Begin the live readout."""
        self._body.readout.follow()

    def close(self) -> None:
        """End the live readout; what is shown stays."""
        self._body.readout.close()

    def retire(self) -> None:
        """Put a picture in the panel's place, and give its widgets back."""
        self.close()
        if is_scarce():  # it takes dozens of messages
            return
        self.keep(self._body.report())
        self._update({"text/html": "", "text/plain": ""}, self._view_id)
        self._close([self.root, *self._body.widgets()])
        for widget in self.parts.shared:
            widget.close()
