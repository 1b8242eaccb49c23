"""The worker that ran out, in the panel of its error: its bar, and a release there. What is shown is what runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from nb_oomhelper.case import Case
from nb_oomhelper.engines import Function, WorkerReply, code_for, functions_for
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.event import Worker
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.showing.frontends import _html
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._diff import code
from nb_oomhelper.showing.frontends._markup import lines
from nb_oomhelper.showing.frontends._widgets import Buttons
from nb_oomhelper.showing.headline import say_who
from nb_oomhelper.showing.markup import plain
from nb_oomhelper.showing.report import bar
from nb_oomhelper.showing.wording import say
from nb_oomhelper.showing.worker_table import say_reply

Start = Callable[[str, Callable[[], None]], None]  # shows a line, and does something on the main thread


class Elsewhere:
    """What a panel offers on the workers of an engine.

    Attributes:
        roots: Its box; nothing where it is not one of them that ran out.
        buttons: Those that run something.
    """

    def __init__(
        self, case: Case, actions: Actions, buttons: Buttons, start: Start, done: Callable[[Outcome], None]
    ) -> None:
        """Make the widgets. Nobody is asked.

        Args:
            case: Whose workers.
            actions: What asks them.
            buttons: What makes buttons.
            start: Does something on the main thread.
            done: Called with what a release has done.
        """
        self._case, self._actions, self._start, self._done = case, actions, start, done
        self._replies: list[WorkerReply] = []
        self._read_at = ""
        self._language: Language = "en"
        self.roots: list[Any] = []
        self.buttons: list[Any] = []
        self._functions = functions_for(case.event)
        if self._functions:
            self._build(buttons)

    def _build(self, buttons: Buttons) -> None:
        self._parts = parts = buttons.parts
        self._code, self._said = parts.html(""), parts.html("", "oomh-status", hidden=True)
        self.buttons = [buttons.make(partial(self._ask, function)) for function in self._functions]
        self.roots = [parts.box([self._said, self._code, parts.box(self.buttons, "oomh-buttons")], column=True)]

    def write(self, language: Language) -> None:
        """Put the words into the widgets."""
        self._language = language
        if not self.roots:
            return
        event = self._case.event
        self._code.value = lines([self._where(language)]) + code(code_for(self._functions[0], event))
        for button, name in zip(self.buttons, self._functions, strict=True):
            button.description = say(f"engines.{name}", language)
        self._tell()

    def _where(self, language: Language) -> str:
        """Say where that runs."""
        event = self._case.event
        worker = event.worker or Worker()
        if event.remote == "ray":
            return say(f"engines.task{'' if worker.host else '_all'}", language, host=plain(worker.host or ""))
        who = say_who(event, language) if worker.each else say("engines.all", language)
        return say("engines.runs", language, who=who)

    def enable(self, enabled: bool) -> None:
        """Let the buttons be pressed, or not."""
        for button in self.buttons:
            button.disabled = not enabled

    def _ask(self, function: Function) -> None:
        key = "engines.reading" if function == "read" else "engines.releasing"
        self._start(say(key, self._language), partial(self._run, function))

    def _run(self, function: Function) -> None:
        self._replies, outcome = self._actions.ask(self._case, function)
        self._read_at = time.strftime("%H:%M:%S")
        self._tell()
        if outcome is not None:
            self._done(outcome)

    def _tell(self) -> None:
        """Show what each has answered, with its bar."""
        drawn, at = "", say("engines.at", self._language, time=self._read_at)
        for reply in self._replies:
            said = say_reply(reply, self._language, freed=len(self._replies) > 1)  # of one the outcome tells it
            drawn += f'<div class="oomh-outcome">{lines([said])}</div>'
            if reply.parts:
                drawn += _html.bar(bar(reply.parts, self._language), at)
        self._parts.put(self._said, drawn)
