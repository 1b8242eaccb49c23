"""A case as an inline widget: live readout, fixes that run on a click, the entry.

Plain ipywidgets without any script of our own, so that it works wherever ipywidgets do.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any

from nb_oomhelper.address_space import is_scarce
from nb_oomhelper.case import Case
from nb_oomhelper.records.note import Note, note
from nb_oomhelper.showing.frontends import _html, _text
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._body import Body
from nb_oomhelper.showing.frontends._widgets import family
from nb_oomhelper.showing.report import Report, write

_log = logging.getLogger(__name__)
_VIEW = "application/vnd.jupyter.widget-view+json"


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
    """Show the case in one message that carries the widget, text/html and text/plain.

    Args:
        case: One error, with all that is known of it.
        actions: What the panel may ask for.
    """
    from IPython.display import display

    report = write(case, actions.catalog(), actions.language())
    panel = Panel(case, actions, report)
    view = {_VIEW: {"version_major": 2, "version_minor": 0, "model_id": panel.root.model_id}}
    display(view | picture(report) | data_of(case, actions), raw=True, display_id=panel.display_id)
    panel.follow()
    return panel


def picture(report: Report) -> dict[str, str]:
    """Make a display bundle of a report, without widgets."""
    return {"text/html": _html.render(report), "text/plain": _text.render(report)}


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

        return {MIME: record_of(case, actions.catalog())}
    except Exception:
        _log.debug("no record of a case", exc_info=True)
        return {}


class Panel:
    """The widgets of one case, and of those that follow when its cell is run from here and fails again."""

    def __init__(self, case: Case, actions: Actions, report: Report) -> None:
        import ipywidgets as widgets

        self.display_id = uuid.uuid4().hex
        self._actions = actions
        self.output = widgets.Output()
        self.output.add_class("oomh-output")
        self.root = widgets.VBox()
        self.root.add_class("oomh")
        self._body = self._make(case, report)

    def _make(self, case: Case, report: Report) -> Body:
        body = Body(case, self._actions, report, self)
        self.root.children = [body.above, self.output, body.below]
        return body

    def adopt(self, case: Case) -> None:
        """Show another case in this one's place: a panel in a panel would be narrower each time.

        Args:
            case: The error that the cell ended with when it was run from here.
        """
        old, live = self._body, self.live
        old.readout.close()
        self.solve(False)
        self._body = self._make(case, write(case, self._actions.catalog(), old.language))
        if live:
            self._body.readout.follow()
        for widget in family(old.widgets()):
            widget.close()

    def solve(self, solved: bool) -> None:
        """Show whether the cell has run to its end."""
        if solved:
            self.root.add_class("oomh-solved")
        else:
            self.root.remove_class("oomh-solved")

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
        from IPython.display import update_display

        self.close()
        if is_scarce():  # it takes dozens of messages
            return
        bundle = picture(self._body.report()) | data_of(self._body.case, self._actions)
        update_display(bundle, raw=True, display_id=self.display_id)
        for widget in family([self.root, *self._body.widgets()]):
            widget.close()
