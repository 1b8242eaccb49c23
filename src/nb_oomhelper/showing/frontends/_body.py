"""What a panel shows of one case: the answer first, the details below it, folded where they have been read."""

from __future__ import annotations

from typing import Any, Protocol

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.showing.frontends import _html
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._clicks import Clicks
from nb_oomhelper.showing.frontends._elsewhere import Elsewhere
from nb_oomhelper.showing.frontends._entry_forms import EntryForms
from nb_oomhelper.showing.frontends._fix_list import FixList
from nb_oomhelper.showing.frontends._readout import Readout
from nb_oomhelper.showing.frontends._widgets import Buttons, hide, live_region, put
from nb_oomhelper.showing.outcome_text import next_plan, tell
from nb_oomhelper.showing.report import Report, write
from nb_oomhelper.showing.wording import say

_OTHER: dict[Language, Language] = {"en": "zh", "zh": "en"}


class Around(Protocol):
    """The panel around the widgets of a case."""

    output: Any
    """The widget that shows what a fix or the cell prints."""

    def adopt(self, case: Case) -> None:
        """Show another case in this one's place."""

    def solve(self, solved: bool) -> None:
        """Show whether the cell has run to its end."""


class Body:
    """The widgets of one case: `above` what the cell prints, and `below` it; `readout` is its bar."""

    def __init__(self, case: Case, actions: Actions, report: Report, panel: Around) -> None:
        """Make the widgets.

        Args:
            case: One error, with all that is known of it.
            actions: What may be asked for.
            report: The case in words.
            panel: What these widgets stand in.
        """
        self.language: Language = report.language
        self.output, self.adopt = panel.output, panel.adopt
        self._panel = panel
        self.case = case
        self._actions = actions
        self._clicks = Clicks(case, actions, self)
        self._folded = bool(report.tried)
        self._build(report)
        self._write(report)
        self._tell()

    def report(self) -> Report:
        """The case in words, as it is now."""
        return write(self.case, self._actions.catalog(), self.language)

    def widgets(self) -> list[Any]:
        """All that it is made of; a fix that is only shown has buttons all the same."""
        return [self.above, self.below, *self._rows.buttons]

    # what it is made of

    def _build(self, report: Report) -> None:
        import ipywidgets as widgets

        buttons = Buttons(self._clicks.guard)
        self._head, self._tried, bar, self._why, self._fixes = (widgets.HTML() for _ in range(5))
        self._status, self._told = live_region(), live_region()
        self._head.layout.flex = "1 1 auto"
        self._switch, self._more = buttons.make(self._switch_language), buttons.make(self._unfold)
        top = widgets.HBox([self._head, self._more, self._switch])
        self.above = widgets.VBox([top, self._tried, self._status, self._told])
        self._rows = FixList(report, buttons, self._clicks.start, cell=bool(self.case.cell))
        if not self._folded:
            self._rows.unfold()
        self._again = buttons.make(self._clicks.start_again)
        self._again.add_class("oomh-again")
        hide(self._again, True)
        self._there = Elsewhere(self.case, self._actions, buttons, self._clicks.start_work, self.show_outcome)
        self._upper = widgets.VBox([bar, self._why, self._fixes])
        self._lower = widgets.VBox([self._rows.rest, *self._build_foot(buttons)])
        self.below = widgets.VBox([self._again, *self._there.roots, self._upper, self._rows.first, self._lower])
        put(self._status, "")
        self.readout = Readout(self.case, self._actions, bar, self.language, self._say_unless_running)

    def _build_foot(self, buttons: Buttons) -> list[Any]:
        import ipywidgets as widgets

        page = widgets.Output()
        page.add_class("oomh-page")
        self._ends, self._notes = widgets.HTML(), widgets.HTML()
        self._entry = widgets.HTML(layout=widgets.Layout(flex="1 1 400px"))
        self._forms = EntryForms(self.case.match.entry if self.case.match else None, buttons, page, self.language)
        foot = widgets.HBox([self._entry, *self._forms.buttons])
        foot.add_class("oomh-foot")
        return [self._ends, self._notes, foot, page]

    def _write(self, report: Report) -> None:
        """Put the report's words into the widgets."""
        language = report.language
        self._head.value = _html.style() + _html.head(report) + _html.headline(report)
        put(self._tried, _html.tried(report))
        self._why.value = _html.cause_rows(report)
        put(self._fixes, _html.section(say("section.fixes", language)) if report.fixes else "")
        self._rows.write(report, next_plan(self.case))
        put(self._ends, _html.dead_ends(report))
        put(self._notes, _html.notes(report.notes))
        self._entry.value = _html.entry(report)
        self._forms.write(language)
        self._there.write(language)
        self._again.description = say("button.again", language)
        self._switch.description = say("button.language", _OTHER[language])
        self._arrange(report)

    def _arrange(self, report: Report) -> None:
        """Show the details, or the answer alone."""
        language = report.language
        hide(self._more, not (report.solved or report.tried))
        self._more.description = say("button.details" if self._folded else "button.less", language)
        hide(self._upper, self._folded)
        hide(self._lower, self._folded)
        hide(self._rows.first, self._folded and report.solved)
        hide(self.output, self._folded and not report.solved)

    def _unfold(self) -> None:
        self._folded = not self._folded
        self._arrange(self.report())

    def _switch_language(self) -> None:
        """Show everything in the other language."""
        self.language = self.readout.language = _OTHER[self.language]
        self._write(self.report())
        self._tell()

    def _tell(self) -> None:
        """Show the last outcome, and how the cell fared after it."""
        last, catalog = self.case.outcomes[-1:], self._actions.catalog()
        lines = [line for outcome in last for line in tell(outcome, self.case, catalog, self.language)]
        put(self._told, _html.outcome(lines, self.language))

    def _say_unless_running(self, text: str) -> None:
        if not self._clicks.running:
            self.say(text)

    # what is seen of a click

    def say(self, text: str) -> None:
        """Put a line above the fixes; none takes no room."""
        put(self._status, _html.notes([text]))

    def enable(self, enabled: bool) -> None:
        """Let the buttons that run something be pressed, or not."""
        self._again.disabled = not enabled
        self._rows.enable(enabled)
        self._there.enable(enabled)

    def show_outcome(self, outcome: Outcome) -> None:
        """Show what a fix did, how the cell fared after it, and what is left to do."""
        report = self.report()
        self._folded = report.solved
        self._panel.solve(report.solved)
        self._write(report)
        self._tell()
        # a reload has done the cell's work in its own way: the cell would only undo it
        hide(self._again, not self.case.cell or outcome.loaded or bool(outcome.ran))

    def show_error(self, text: str) -> None:
        """Show an error of ours where an outcome would stand."""
        put(self._told, _html.notes([text]))
