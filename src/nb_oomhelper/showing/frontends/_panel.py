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
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.showing.frontends import _html, _text
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._clicks import Clicks
from nb_oomhelper.showing.frontends._entry_forms import EntryForms
from nb_oomhelper.showing.frontends._readout import Readout
from nb_oomhelper.showing.frontends._widgets import Buttons, FixWidget, family, live_region, put
from nb_oomhelper.showing.outcome_text import tell
from nb_oomhelper.showing.report import Report, write
from nb_oomhelper.showing.wording import say

_log = logging.getLogger(__name__)
_OTHER: dict[Language, Language] = {"en": "zh", "zh": "en"}
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
    display(view | picture(report), raw=True, display_id=panel.display_id)
    panel.follow()
    return panel


def picture(report: Report) -> dict[str, str]:
    """Make a display bundle of a report, without widgets."""
    return {"text/html": _html.render(report), "text/plain": _text.render(report)}


class Panel:
    """The widgets of one case."""

    def __init__(self, case: Case, actions: Actions, report: Report) -> None:
        import ipywidgets as widgets

        self.display_id = uuid.uuid4().hex
        self.language: Language = report.language
        self.output = widgets.Output()
        self._case = case
        self._actions = actions
        self._again_result = ""
        self._clicks = Clicks(case, actions, self)
        self._build(report)
        self._write(report)
        self._tell()

    @property
    def live(self) -> bool:
        """Whether it follows the memory."""
        return self._readout.live

    def follow(self) -> None:
        """Begin the live readout."""
        self._readout.follow()

    def close(self) -> None:
        """End the live readout; what is shown stays."""
        self._readout.close()

    def retire(self) -> None:
        """Put a picture in the panel's place, and give its widgets back."""
        from IPython.display import update_display

        self.close()
        if is_scarce():  # it takes dozens of messages
            return
        update_display(picture(self._report()), raw=True, display_id=self.display_id)
        for widget in family([self.root, *self._runs()]):  # a fix that is only shown has a button all the same
            widget.close()

    # what it is made of

    def _build(self, report: Report) -> None:
        import ipywidgets as widgets

        buttons = Buttons(self._clicks.guard)
        self._head, bar, self._why, self._fixes, self._ends, self._notes = (widgets.HTML() for _ in range(6))
        self._status, self._told = live_region(), live_region()
        self._entry = widgets.HTML(layout=widgets.Layout(flex="1 1 400px"))
        page = widgets.Output()
        page.add_class("oomh-page")
        self._forms = EntryForms(self._case.match.entry if self._case.match else None, buttons, page, self.language)
        self._switch = buttons.make(self._switch_language)
        self._rows = [FixWidget(row, buttons, self._clicks.start) for row in report.fixes]
        self._again = buttons.make(self._clicks.start_again)
        self._again.layout.width, self._again.layout.align_self = "auto", "flex-start"
        self._again.layout.display = "none"
        self._head.layout.flex = "1 1 auto"
        top, foot = widgets.HBox([self._head, self._switch]), widgets.HBox([self._entry, *self._forms.buttons])
        foot.add_class("oomh-foot")
        rows = [row.root for row in self._rows]
        self.root = widgets.VBox(
            [
                *(top, bar, self._status, self._why, self._fixes, *rows),
                *(self._told, self.output, self._again, self._ends, self._notes, foot, page),
            ]
        )
        self.root.add_class("oomh")
        put(self._status, "")
        self._readout = Readout(self._case, self._actions, bar, self.language, self._say_unless_running)

    def _runs(self) -> list[Any]:
        return [self._again, *(row.run for row in self._rows)]

    def _report(self) -> Report:
        return write(self._case, self._actions.catalog(), self.language)

    def _write(self, report: Report) -> None:
        """Put the report's words into the widgets."""
        language = report.language
        self._head.value = _html.style() + _html.head(report) + _html.headline(report)
        self._why.value = _html.cause_rows(report)
        put(self._fixes, _html.section(say("section.fixes", language)) if report.fixes else "")
        rows = {row.plan.number: row for row in report.fixes}
        for widget in self._rows:
            if widget.plan.number in rows:  # one that cannot be put into words stays as it was
                widget.write(rows[widget.plan.number], language)
        put(self._ends, _html.dead_ends(report))
        put(self._notes, _html.notes(report.notes))
        self._entry.value = _html.entry(report)
        self._forms.write(language)
        self._again.description = say("button.again", language)
        self._switch.description = say("button.language", _OTHER[language])

    def _switch_language(self) -> None:
        """Show everything in the other language."""
        self.language = self._readout.language = _OTHER[self.language]
        self._write(self._report())
        self._tell()

    def _tell(self) -> None:
        """Show the last outcome, and how the cell fared after it."""
        lines: list[str] = []
        if self._case.outcomes:
            lines = tell(self._case.outcomes[-1], self._case, self._actions.catalog(), self.language)
        lines += [self._again_result] if self._again_result else []
        body = f'<div class="oomh-outcome" role="status">{_html.lines(lines)}</div>'
        put(self._told, _html.section(say("section.outcome", self.language)) + body if lines else "")

    def _say_unless_running(self, text: str) -> None:
        if not self._clicks.running:
            self.say(text)

    # what is seen of a click

    def say(self, text: str) -> None:
        """Put a line under the bar; none takes no room."""
        put(self._status, _html.notes([text]))

    def enable(self, enabled: bool) -> None:
        """Let the buttons that run something be pressed, or not."""
        for button in self._runs():
            button.disabled = not enabled
        if enabled:
            for row in self._rows:
                row.settle()

    def show_outcome(self, outcome: Outcome) -> None:
        """Show what a fix did, and what is left to do."""
        self._again_result = ""
        self._write(self._report())
        self._tell()
        # a reload has done the cell's work in its own way: the cell would only undo it
        self._again.layout.display = "" if self._case.cell and not outcome.loaded else "none"

    def show_rerun(self, text: str) -> None:
        """Show how the cell fared."""
        self._again_result = text
        self._tell()

    def show_error(self, text: str) -> None:
        """Show an error of ours where an outcome would stand."""
        put(self._told, _html.notes([text]))
