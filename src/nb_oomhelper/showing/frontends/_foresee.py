"""The button that asks for the size with which a fix makes the cell fit; it says first what is run to find it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._markup import lines
from nb_oomhelper.showing.frontends._widgets import Buttons
from nb_oomhelper.showing.wording import say

Ask = Callable[[int], None]


class View(Protocol):
    """What is seen of a forecast."""

    @property
    def language(self) -> Language:
        """The language that is shown."""

    def show_error(self, text: str, anew: bool = False) -> None:
        """Show an error of ours, and what is left to do if that has changed."""


def asking(case: Case, actions: Actions, view: View, start: Callable[[str, Callable[[], None]], None]) -> Ask:
    """Make what asks for the forecast of one of a case's fixes, by its number.

    Args:
        case: Gets the plan with it.
        actions: Has what finds it.
        view: Where it is seen.
        start: Does something on the main thread, with a line that says what.
    """

    def work(number: int) -> None:
        actions.forecast(case, number)
        view.show_error("", anew=True)

    return lambda number: start(say("forecast.running", view.language), partial(work, number))


class Foresee:
    """The button, and the question behind it.

    Attributes:
        button: It is hidden where there is nothing to be asked, or it was asked.
        question: The box of the question, which is made when it is asked for.
    """

    def __init__(self, buttons: Buttons, start: Callable[[], None], changed: Callable[[], None]) -> None:
        """Make the button, hidden.

        Args:
            buttons: What makes it.
            start: Asks for the forecast.
            changed: Called when `question` has come.
        """
        self.question: Any = None
        self._buttons, self._start, self._changed = buttons, start, changed
        self._language: Language = "en"
        self.button = buttons.make(self._ask, hidden=True)

    def write(self, plan: FixPlan, language: Language, *, done: bool) -> None:
        """Put the words into the button.

        Args:
            plan: The fix.
            language: "en" or "zh".
            done: The fix was run.
        """
        self._language = language
        self.button.description = say("button.foresee", language)
        self.button.tooltip = say("button.foresee_help", language, number=plan.number)
        shown = plan.foreseeable and plan.forecast is None and plan.applicability != "display_only" and not done
        self._buttons.parts.hide(self.button, not shown)

    def enable(self, enabled: bool) -> None:
        """Let it be pressed, or not."""
        self.button.disabled = not enabled

    def _ask(self) -> None:
        parts, language = self._buttons.parts, self._language
        if self.question is None:
            text = parts.html(lines([say("forecast.runs_fix", language), say("forecast.risk", language)]))
            sure = self._buttons.make(lambda: self._answer(True), description=say("button.go_on", language))
            cancel = self._buttons.make(lambda: self._answer(False), description=say("button.cancel", language))
            self.question = parts.box([text, sure, cancel], "oomh-confirm")
            self._changed()
        parts.hide(self.question, False)

    def _answer(self, sure: bool) -> None:
        self._buttons.parts.hide(self.question, True)
        self._buttons.parts.focus(self._buttons.home if sure else self.button)
        if sure:
            self._start()
