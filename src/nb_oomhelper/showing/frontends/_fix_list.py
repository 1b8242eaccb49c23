"""The fixes of a panel, each with its buttons: the one to try now on top, the others only where they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.showing.fix_text import FixRow
from nb_oomhelper.showing.frontends import _html
from nb_oomhelper.showing.frontends._diff import short_change, whole_code
from nb_oomhelper.showing.frontends._foresee import Ask, Foresee
from nb_oomhelper.showing.frontends._markup import lines
from nb_oomhelper.showing.frontends._widgets import Buttons
from nb_oomhelper.showing.markup import unmarked
from nb_oomhelper.showing.report import Report
from nb_oomhelper.showing.wording import say

Start = Callable[["FixWidget", bool], None]  # runs a fix, and the cell after it if that is true


class FixList:
    """All fixes of one case.

    Attributes:
        fold: The button that opens the others.
        rest: The box of the others; None until they are asked for.
    """

    def __init__(
        self, report: Report, buttons: Buttons, start: Start, ask: Ask, changed: Callable[[], None], *, cell: bool
    ):
        """Make the widgets that are seen at first.

        Args:
            report: The case in words.
            buttons: What makes their buttons.
            start: Runs one, and the cell after it if that is true.
            ask: Asks for the forecast of one.
            changed: Called when `rest` has come.
            cell: Whether the failed cell is known, so that it can be run.
        """
        self.rest: Any = None
        self._buttons, self._cell, self._changed = buttons, cell, changed
        self._start, self._ask = start, ask
        self._made: dict[int, FixWidget] = {}  # by the number of the plan
        self._enabled = True
        self._report = report
        self._top = self._widget(report.lead, first=True) if report.lead else None
        more = self._title()
        self.fold = buttons.make(self._toggle, "oomh-fold", description=more, hidden=not more)

    @property
    def lead(self) -> list[Any]:
        """The box of the fix to try now; none where there is none."""
        return [] if self._top is None else [self._top.root]

    @property
    def widgets(self) -> list[Any]:
        """All boxes that there are, also those that stand nowhere just now."""
        return [*(one.root for one in self._made.values()), *([self.rest] if self.rest else []), self.fold]

    def write(self, report: Report) -> None:
        """Put the words into the widgets, and what is to be tried now on top.

        Args:
            report: The case in words.
        """
        self._report = report
        self._top = self._widget(report.lead, first=True) if report.lead else None
        for row in report.rows:
            if row.plan.number in self._made and row is not report.lead:
                self._widget(row, first=False)
        if self.rest is not None:
            self.rest.children = self._others()
        self._mark()

    def close(self) -> None:
        """Fold the others away."""
        if self.rest is not None:
            self._buttons.parts.hide(self.rest, True)
            self._mark()

    def enable(self, enabled: bool) -> None:
        """Let the buttons that run something be pressed, or not."""
        self._enabled = enabled
        for one in self._made.values():
            one.enable(enabled)

    def _widget(self, row: FixRow, *, first: bool) -> FixWidget:
        number = row.plan.number
        if number not in self._made:
            args = (row, self._report.language, first, self._buttons, self._start, self._ask)
            self._made[number] = FixWidget(*args, cell=self._cell)
            if not self._enabled:
                self._made[number].enable(False)
        else:
            self._made[number].write(row, self._report.language, first)
        return self._made[number]

    def _others(self) -> list[Any]:
        return [self._widget(row, first=False).root for row in self._report.others]

    def _toggle(self) -> None:
        if self.rest is None:
            self.rest = self._buttons.parts.box(self._others(), column=True)
            self._changed()
        else:
            self._buttons.parts.hide(self.rest, not self._buttons.parts.is_hidden(self.rest))
        self._mark()

    def _title(self) -> str:
        count = len(self._report.others)
        title = say(self._report.fold, self._report.language, count=count)
        closed = self.rest is None or self._buttons.parts.is_hidden(self.rest)
        return f"{'▸' if closed else '▾'} {title}" if count else ""

    def _mark(self) -> None:
        self.fold.description = title = self._title()
        self._buttons.parts.hide(self.fold, not title)


class FixWidget:
    """One fix in the panel: its row, its code, and the question before something is lost."""

    def __init__(
        self, row: FixRow, language: Language, first: bool, buttons: Buttons, start: Start, ask: Ask, *, cell: bool
    ) -> None:
        """Make the widgets.

        Args:
            row: The fix in words.
            language: "en" or "zh".
            first: It is the one to try now.
            buttons: What makes its buttons.
            start: Runs it, and the cell after it if that is true.
            ask: Asks for its forecast.
            cell: Whether the failed cell is known, so that it can be run.
        """
        self.done = False
        self._start = start
        self._buttons, self._parts = buttons, buttons.parts
        self._whole = row.plan.reruns or row.plan.loads  # runs the cell, or what is left of it, itself
        self._then = cell and not self._whole
        self._asked = False  # for the cell, too
        self._code: Any = None
        self._confirm: Confirm | None = None
        self._keep(row, language, first)
        copied = row.plan.applicability == "display_only"
        runs = not copied and (self._whole or (cell and row.plan.verdict != "again"))
        asks: dict[str, Callable[[], None]] = {"run": lambda: self._ask(True), "only": lambda: self._ask(False)}
        wanted = [name for name, on in (("run", runs), ("only", not copied and not self._whole)) if on]
        self._runs = {name: buttons.make(asks[name], **self._words(name)) for name in wanted}
        self._show = buttons.make(self._toggle, **self._words("code"))
        self._foresee = None
        if row.plan.foreseeable and not copied:
            self._foresee = Foresee(buttons, lambda: ask(self.plan.number), self._arrange)
        self._text = self._parts.html(_html.fix(row, inline=first), "oomh-fix-text")
        self.root = self._parts.box([], "oomh-row")
        self._arrange()
        self._settle()

    @property
    def plan(self) -> FixPlan:
        """The fix; after a load others lose what was loaded, and say so."""
        return self._row.plan

    def _arrange(self) -> None:
        """Show the widgets that there are."""
        foresee = self._foresee
        buttons = [*self._runs.values(), *([foresee.button] if foresee else []), self._show]
        below = [foresee and foresee.question, self._confirm and self._confirm.root, self._code]
        self.root.children = [self._text, *buttons, *(one for one in below if one)]

    def write(self, row: FixRow, language: Language, first: bool) -> None:
        """Put the row's words into its widgets.

        Args:
            row: The fix in words.
            language: "en" or "zh".
            first: It is the one to try now.
        """
        self._keep(row, language, first)
        self._text.value = _html.fix(row, inline=first)
        for name, button in (*self._runs.items(), ("code", self._show)):
            for trait, value in self._words(name).items():
                setattr(button, trait, value)
        if self._code is not None:
            self._code.value = whole_code(row, language, noted=first)
        if self._confirm is not None:
            self._confirm.write(self._question(), language)
        self._settle()

    def enable(self, enabled: bool) -> None:
        """Let the buttons that run something be pressed, or not."""
        for button in self._runs.values():
            button.disabled = not enabled
        if self._foresee is not None:
            self._foresee.enable(enabled)
        if enabled:
            self._settle()

    def _keep(self, row: FixRow, language: Language, first: bool) -> None:
        self._row, self._language, self._first = row, language, first
        self.done = self.done or row.done

    def _words(self, name: str) -> dict[str, str]:
        """What a button says."""
        told = {"number": self.plan.number, "title": unmarked(self._row.title)}
        help_key = "run_whole" if name == "run" and self._whole else name
        words = {
            "description": say(f"button.{name}", self._language),
            "tooltip": say(f"button.{help_key}_help", self._language, **told),
        }
        if name == "run":
            words["button_style"] = "primary" if self._first and not self.done else ""
        return words

    def _question(self) -> str:
        then = say("fix.then_runs", self._language) if self._asked and self._then else ""
        return lines([say("fix.loses", self._language, loses=self._row.loses), then])

    def _settle(self) -> None:
        """A fix that did its work cannot be run twice by a second click, nor one that no longer applies at all."""
        if self._foresee is not None:
            self._foresee.write(self.plan, self._language, done=self.done)
        for button in self._runs.values():
            self._parts.hide(button, self.plan.applicability == "display_only")
        if self.done:
            for button in self._runs.values():
                button.disabled = True
            button = self._runs["run" if self._whole else "only"]
            button.description = f"✓ {button.description.removeprefix('✓ ')}"

    def _ask(self, cell: bool) -> None:
        self._asked = cell
        if self.plan.applicability != "unsafe" or not (self._row.asks or self._is_unseen()):
            self._start(self, cell and self._then)
            return
        if self._confirm is None:
            self._confirm = Confirm(self._question(), self._language, self._buttons, self._answer)
            self._arrange()
        self._confirm.write(self._question(), self._language)
        self._parts.hide(self._confirm.root, False)
        self._unfold()  # what is asked for is what is shown
        self._parts.focus(self._confirm.cancel)

    def _is_unseen(self) -> bool:
        """Whether what it changes is not to be seen beside the button."""
        folded = self._code is None or self._parts.is_hidden(self._code)
        return folded and not (self._first and short_change(self._row))

    def _answer(self, sure: bool) -> None:
        if self._confirm is not None:
            self._parts.hide(self._confirm.root, True)
        self._parts.focus(self._buttons.home if sure else self._runs["run" if self._asked else "only"])
        if sure:
            self._start(self, self._asked and self._then)

    def _unfold(self) -> None:
        if self._code is None:
            self._code = self._parts.html(whole_code(self._row, self._language, noted=self._first), "oomh-whole-code")
            self._arrange()
        self._parts.hide(self._code, False)

    def _toggle(self) -> None:
        if self._code is None or self._parts.is_hidden(self._code):
            self._unfold()
        else:
            self._parts.hide(self._code, True)


class Confirm:
    """The question before something is lost.

    Attributes:
        cancel: The button that loses nothing, where the focus begins: Enter pressed twice must not lose anything.
    """

    def __init__(self, question: str, language: Language, buttons: Buttons, answer: Callable[[bool], None]) -> None:
        """Make the widgets.

        Args:
            question: What is lost, as markup.
            language: "en" or "zh".
            buttons: What makes its buttons.
            answer: Called with whether it is to be done.
        """
        self._question = buttons.parts.html(question)
        sure, cancel = say("button.sure", language), say("button.cancel", language)
        self._sure = buttons.make(lambda: answer(True), description=sure, button_style="warning")
        self.cancel = buttons.make(lambda: answer(False), description=cancel)
        self.root = buttons.parts.box([self._question, self._sure, self.cancel], "oomh-confirm")

    def write(self, question: str, language: Language) -> None:
        """Put the words into the widgets.

        Args:
            question: What is lost, as markup.
            language: "en" or "zh".
        """
        self._question.value = question
        self._sure.description = say("button.sure", language)
        self.cancel.description = say("button.cancel", language)
