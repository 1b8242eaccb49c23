"""What a panel shows of one case: the answer first, all else folded away and made when it is asked for."""

from __future__ import annotations

from typing import Any, Protocol

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.showing.frontends import _html, _style
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._clicks import Clicks
from nb_oomhelper.showing.frontends._elsewhere import Elsewhere
from nb_oomhelper.showing.frontends._entry_forms import EntryForms
from nb_oomhelper.showing.frontends._fix_list import FixList
from nb_oomhelper.showing.frontends._foresee import asking
from nb_oomhelper.showing.frontends._markup import lines as lines_of
from nb_oomhelper.showing.frontends._readout import Readout
from nb_oomhelper.showing.frontends._widgets import Buttons, Parts, Said
from nb_oomhelper.showing.outcome_text import is_solved, say_steps, tell
from nb_oomhelper.showing.report import Report, write
from nb_oomhelper.showing.wording import say, say_row

_OTHER: dict[Language, Language] = {"en": "zh", "zh": "en"}


class Around(Protocol):
    """The panel around the widgets of a case."""

    parts: Parts
    """Makes the widgets."""

    @property
    def output(self) -> Any:
        """The widget that shows what a fix or the cell prints."""

    def arrange(self) -> None:
        """Show the widgets of the case, which are others now."""

    def adopt(self, case: Case) -> None:
        """Show another case in this one's place."""

    def mark(self, state: str) -> None:
        """Show in which state the case is: "working", "solved", or "" for failed."""

    def keep(self, report: Report) -> None:
        """Let the saved report say what the panel says."""


class Body:
    """The widgets of one case; `readout` is its live line."""

    def __init__(self, case: Case, actions: Actions, report: Report, panel: Around) -> None:
        """Make the widgets that are seen at first.

        Args:
            case: One error, with all that is known of it.
            actions: What may be asked for.
            report: The case in words.
            panel: What these widgets stand in.
        """
        self.language: Language = report.language
        self.case, self._panel, self._actions = case, panel, actions
        self._clicks, self._folded = Clicks(case, actions, self), True  # folded is a case that is solved
        self._build(report)
        self.readout = Readout(case, actions, self._now, self._panel.parts, self.language, self._clicks.ticked)

    @property
    def output(self) -> Any:
        """The widget that shows what a fix or the cell prints."""
        return self._panel.output

    def report(self) -> Report:
        """The case in words, as it is now."""
        return write(self.case, self._actions.catalog(), self.language)

    def children(self) -> list[Any]:
        """What stands in the panel, from the top."""
        later = [self._rows.rest, self._forms.page]
        seen = [*self._rows.lead, *_there([self._again]), *self._elsewhere.roots, self._picture, self._now, self._feet]
        return [self._head, self._corner, self._said.widget, *seen, *_there(later)]

    def widgets(self) -> list[Any]:
        """All that it is made of, also what stands nowhere just now."""
        return [*self.children(), *self._rows.widgets, *_there([self._more])]

    # what it is made of

    def _build(self, report: Report) -> None:
        parts, language = self._panel.parts, report.language
        self._buttons = buttons = Buttons(parts, self._clicks.guard)
        self._head = parts.html(_html.top(report), "oomh-top")
        other = say("button.language", _OTHER[language])
        self._switch = buttons.home = buttons.make(self._switch_language, description=other)
        self._corner = parts.box([self._switch], "oomh-top", "oomh-corner")
        self._more: Any = None
        self._again: Any = None
        self._said = Said(parts, _outcome(self.case, self._actions, self.language))
        starts = self._clicks.start, asking(self.case, self._actions, self, self._clicks.start_work)
        self._rows = FixList(report, buttons, *starts, self._panel.arrange, cell=bool(self.case.cell))
        self._elsewhere = Elsewhere(self.case, self._actions, buttons, self._clicks.start_work, self.show_outcome)
        self._elsewhere.write(language)
        self._picture = parts.html(_style.of_panel() + _html.picture(report))
        self._now = parts.html("", hidden=True)
        self._folds = parts.html(_html.folds(report))
        entry = self.case.match.entry if self.case.match else None
        self._forms = EntryForms(entry, buttons, language, self._panel.arrange)
        self._feet = parts.box(_there([self._rows.fold, self._folds, self._forms.fold]), "oomh-folds")

    def _write(self) -> Report:
        """Put the words of the case as it is now into the widgets."""
        report = self.report()
        self._head.value = _html.top(report)
        self._rows.write(report)
        self._picture.value = _style.of_panel() + _html.picture(report)
        self._folds.value = _html.folds(report)
        self._forms.write(report.language)
        self._elsewhere.write(report.language)
        self._switch.description = say("button.language", _OTHER[report.language])
        if self._again is not None:
            self._again.description = say("button.again", report.language)
        self._arrange(report)
        return report

    def _arrange(self, report: Report) -> None:
        """Show everything, or of a case that is solved two lines."""
        if report.solved and self._more is None:
            self._more = self._buttons.make(self._unfold)
            self._corner.children = [self._switch, self._more]  # what is there already keeps the focus
        if self._more is not None:
            self._more.description = say("button.details" if self._folded else "button.less", report.language)
            self._panel.parts.hide(self._more, not report.solved)
        self._panel.arrange()
        folded, opened = report.solved and self._folded, (self._rows.rest, self._forms.page)
        if folded:
            self._rows.close()
            self._forms.close()
        for one in self.children()[3:]:  # below what was said
            if one not in opened:
                self._panel.parts.hide(one, folded or (one is self._now and not one.value))

    def _unfold(self) -> None:
        self._folded = not self._folded
        self._arrange(self.report())

    def _switch_language(self) -> None:
        self.language = _OTHER[self.language]
        self.readout.speak(self.language)
        self._said.tell(_outcome(self.case, self._actions, self.language))
        self._write()

    # what is seen of a click

    def say(self, text: str) -> None:
        """Put a line above the fixes; none takes no room."""
        self._said.say(_html.status(text))

    def enable(self, enabled: bool) -> None:
        """Let the buttons that run something be pressed, or not."""
        if self._again is not None:
            self._again.disabled = not enabled
        self._rows.enable(enabled)
        self._elsewhere.enable(enabled)
        if not enabled:
            self._panel.mark("working")

    def show_outcome(self, outcome: Outcome) -> None:
        """Show what a fix did, how the cell fared after it, and what is left to do."""
        # a reload has done the cell's work in its own way: the cell would only undo it
        wanted = self.case.cell and not outcome.loaded and not outcome.ran
        again = self._again or (wanted and self._buttons.make(self._clicks.start_again, "oomh-again"))
        self._again = again if wanted else None
        self._folded = is_solved(self.case)
        self._said.tell(_outcome(self.case, self._actions, self.language))
        self.readout.look()
        self._panel.keep(self._write())

    def refresh(self) -> None:
        """Show what was run elsewhere, by a magic."""
        if self.case.outcomes and not self._clicks.running:
            self.show_outcome(self.case.outcomes[-1])
            self.rest()
        elif not self._clicks.running:
            self.show_error("", anew=True)

    def rest(self) -> None:
        """Nothing runs any more: show how the case stands."""
        self._panel.mark("solved" if is_solved(self.case) else "")

    def adopt(self, case: Case) -> None:
        """Show another case in this one's place."""
        self._panel.adopt(case)

    def show_error(self, text: str, anew: bool = False) -> None:
        """Show an error of ours, or none, where an outcome would stand, and what is left to do if that has changed."""
        self._said.tell(_html.notes([text] if text else []))
        if anew:
            self._panel.keep(self._write())


def _outcome(case: Case, actions: Actions, language: Language) -> str:
    """The last outcome, and how the cell fared after it; in one line where that has solved it."""
    if not case.outcomes:
        return ""
    last, steps = case.outcomes[-1], say_steps(case.outcomes[-1], language)
    lines = [line for line in tell(last, case, actions.catalog(), language) if line not in steps]
    folded = _html.fold(say("button.details", language), lines_of(steps))
    return _html.outcome([say_row(lines, language)] if is_solved(case) else lines, folded, spoken=True)


def _there(widgets: list[Any]) -> list[Any]:
    return [one for one in widgets if one is not None]
