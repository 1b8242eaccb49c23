"""The fixes of a panel, each with its buttons: the first, the others, and those that would not be enough, folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.showing.fix_text import FixRow
from nb_oomhelper.showing.frontends import _html
from nb_oomhelper.showing.frontends._widgets import Buttons, hide
from nb_oomhelper.showing.markup import unmarked
from nb_oomhelper.showing.report import Report
from nb_oomhelper.showing.wording import say

Start = Callable[["FixWidget", bool], None]  # runs a fix, and the cell after it if that is true


class FixList:
    """All fixes of one case.

    Attributes:
        first: The box of the first fix; empty where none makes the cell run.
        rest: The box of the others.
    """

    def __init__(self, report: Report, buttons: Buttons, start: Start, *, cell: bool) -> None:
        """Make the widgets.

        Args:
            report: The case in words.
            buttons: What makes their buttons.
            start: Runs one, and the cell after it if that is true.
            cell: Whether the failed cell is known, so that it can be run.
        """
        import ipywidgets as widgets

        self._rows = [FixWidget(row, buttons, start, cell=cell) for row in (*report.fixes, *report.not_enough)]
        roots, count = [row.root for row in self._rows], len(report.fixes)
        self._short = widgets.VBox(roots[count:])
        self._fold = buttons.make(self._toggle)
        self._fold.add_class("oomh-fold")
        hide(self._fold, not report.not_enough)
        hide(self._short, True)
        self.first = widgets.VBox(roots[: min(1, count)])
        self.rest = widgets.VBox([*roots[1:count], self._fold, self._short])
        self._language: Language = report.language

    @property
    def buttons(self) -> list[Any]:
        """Those that run something."""
        return [button for row in self._rows for button in row.buttons]

    def unfold(self) -> None:
        """Show the code of the first."""
        if self.first.children:
            self._rows[0].unfold()

    def write(self, report: Report, chosen: FixPlan | None) -> None:
        """Put the words into the widgets.

        Args:
            report: The case in words.
            chosen: The fix to try now, or None.
        """
        self._language = report.language
        rows = {row.plan.number: row for row in (*report.fixes, *report.not_enough)}
        for widget in self._rows:
            if (row := rows.get(widget.plan.number)) is not None:  # one without words stays as it was
                widget.write(row, report.language, first=chosen is not None and chosen.number == row.plan.number)
        self._mark()

    def enable(self, enabled: bool) -> None:
        """Let the buttons that run something be pressed, or not."""
        for button in self.buttons:
            button.disabled = not enabled
        if enabled:
            for row in self._rows:
                row.settle()

    def _toggle(self) -> None:
        hide(self._short, self._short.layout.display != "none")
        self._mark()

    def _mark(self) -> None:
        mark = "▸" if self._short.layout.display == "none" else "▾"
        title = say("section.not_enough", self._language, count=len(self._short.children))
        self._fold.description = f"{mark} {title}"


class FixWidget:
    """One fix in the panel: its row, its code, and the question before something is lost."""

    def __init__(self, row: FixRow, buttons: Buttons, start: Start, *, cell: bool) -> None:
        """Make the widgets.

        Args:
            row: The fix in words.
            buttons: What makes its buttons.
            start: Runs it, and the cell after it if that is true.
            cell: Whether the failed cell is known, so that it can be run.
        """
        import ipywidgets as widgets

        self.plan = row.plan
        self.done = False
        self._start = start
        self._whole = row.plan.reruns or row.plan.loads  # runs the cell, or what is left of it, itself
        self._then = cell and not self._whole
        self._asked = False  # for the cell, too
        self._text = widgets.HTML(layout=widgets.Layout(flex="1 1 420px"))
        self._code = widgets.HTML()
        self._question = widgets.HTML(layout=widgets.Layout(flex="1 1 300px"))
        self.run = buttons.make(lambda: self._ask(True))
        self.only = buttons.make(lambda: self._ask(False))
        self._show = buttons.make(self._toggle)
        self._sure = buttons.make(lambda: self._answer(True))
        self._cancel = buttons.make(lambda: self._answer(False))
        self._confirm = widgets.HBox([self._question, self._sure, self._cancel])
        self._confirm.add_class("oomh-confirm")
        self._sure.button_style = "warning"
        run = [self.run] if self._whole or (cell and row.plan.verdict != "again") else []
        only = [] if self._whole else [self.only]
        pair = widgets.HBox([*(run + only if row.plan.applicability != "display_only" else []), self._show])
        pair.add_class("oomh-buttons")
        line = widgets.HBox([self._text, pair])
        line.add_class("oomh-row")
        self.root = widgets.VBox([line, self._code, self._confirm])
        hide(self._confirm, True)
        hide(self._code, True)

    @property
    def buttons(self) -> list[Any]:
        """Those that run something."""
        return [self.run, self.only]

    def write(self, row: FixRow, language: Language, first: bool = False) -> None:
        """Put the row's words into its widgets.

        Args:
            row: The fix in words.
            language: "en" or "zh".
            first: It is the one to try now.
        """
        self.plan = row.plan  # after a load, others lose what was loaded, and say so
        self._text.value = _html.fix(row)
        self._code.value = _html.change(row, language) + _html.code(row.plan.code)
        then = say("fix.then_runs", language) if self._asked and self._then else ""
        self._question.value = _html.lines([say("fix.loses", language, loses=row.loses), then])
        for button, key in ((self.run, "run"), (self.only, "only"), (self._show, "code"), (self._sure, "sure")):
            button.description = say(f"button.{key}", language)
        self._cancel.description = say("button.cancel", language)
        told = {"number": row.plan.number, "title": unmarked(row.title)}
        self.run.tooltip = say("button.run_whole_help" if self._whole else "button.run_help", language, **told)
        self.only.tooltip = say("button.only_help", language, **told)
        self._show.tooltip = say("button.code_help", language)
        self.run.button_style = "primary" if first else ""
        self._row, self._language, self._first = row, language, first
        self.settle()

    def unfold(self) -> None:
        """Show the code."""
        hide(self._code, False)

    def settle(self) -> None:
        """A fix that did its work cannot be run twice by a second click."""
        if self.done:
            self.run.button_style = ""
            for button in self.buttons:
                button.disabled = True
            button = self.run if self._whole else self.only
            button.description = f"✓ {button.description.removeprefix('✓ ')}"

    def _ask(self, cell: bool) -> None:
        self._asked = cell
        if self.plan.applicability == "unsafe":
            self.write(self._row, self._language, self._first)
            hide(self._confirm, False)
            hide(self._code, False)  # what is asked for is what is shown
        else:
            self._start(self, cell and self._then)

    def _answer(self, sure: bool) -> None:
        hide(self._confirm, True)
        if sure:
            self._start(self, self._asked and self._then)

    def _toggle(self) -> None:
        hide(self._code, self._code.layout.display != "none")
