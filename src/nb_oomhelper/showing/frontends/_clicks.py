"""What a panel's buttons do: run a fix, the cell, or one after the other; one click at a time, on the main thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from nb_oomhelper.case import Case
from nb_oomhelper.errors import StaleError
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.showing.fix_text import say_stale
from nb_oomhelper.showing.frontends._actions import Actions
from nb_oomhelper.showing.frontends._fix_list import FixWidget
from nb_oomhelper.showing.markup import plain
from nb_oomhelper.showing.outcome_text import fix_title
from nb_oomhelper.showing.wording import say

_log = logging.getLogger(__name__)


class View(Protocol):
    """What is seen of a click."""

    @property
    def output(self) -> Any:
        """The widget that shows what a fix prints."""

    @property
    def language(self) -> Language:
        """The language that is shown."""

    def say(self, text: str) -> None:
        """Show a line while something runs; "" takes it away."""

    def enable(self, enabled: bool) -> None:
        """Let buttons be pressed, or not."""

    def rest(self) -> None:
        """Nothing runs any more."""

    def show_outcome(self, outcome: Outcome) -> None:
        """Show what a fix did, how the cell fared after it, and what is left to do."""

    def adopt(self, case: Case) -> None:
        """Show the error that the cell ended with in this one's place."""

    def show_error(self, text: str, anew: bool = False) -> None:
        """Show an error of ours, and what is left to do if that has changed."""


class Clicks:
    """The clicks of one panel."""

    def __init__(self, case: Case, actions: Actions, view: View) -> None:
        self.running = False
        self._step, self._since = "", 0.0  # what runs, and since when
        self._case = case
        self._actions = actions
        self._view = view

    def guard(self, click: Callable[[], None]) -> None:
        """Do what a click does; an error of ours becomes one line in the panel, and the log has the rest."""
        with self._guarded(lambda: None, runs=False):
            click()

    def start(self, widget: FixWidget, cell: bool) -> None:
        """Run a fix, now or as soon as the main thread is free.

        Args:
            widget: The fix's.
            cell: Run the failed cell after it.
        """
        if self.running or widget.done:
            return
        language, plan = self._view.language, widget.plan
        title = fix_title(plan.fix, plan.subject, self._case, self._actions.catalog(), language)
        with self._guarded(lambda: None):
            self._begin(say("outcome.step_fix" if cell else "outcome.running", language, title=title))
            self._actions.on_main(partial(self._run, widget, cell), self._waits)

    def start_again(self) -> None:
        """Run the cell again, now or as soon as the main thread is free."""
        if not self.running:
            with self._guarded(lambda: None):
                self._begin(say("outcome.again", self._view.language))
                self._actions.on_main(self._rerun, self._waits)

    def ticked(self, text: str) -> None:
        """Say what runs, and for how long; called now and then.

        Args:
            text: What is said where nothing of these runs.
        """
        seconds = time.monotonic() - self._since
        progress = f"{self._step} {seconds:.0f} s" if seconds >= 1 else self._step
        self._view.say(progress if self.running else text)

    def start_work(self, text: str, work: Callable[[], None]) -> None:
        """Do something that shows by itself what came of it, now or as soon as the main thread is free.

        Args:
            text: What is shown meanwhile.
            work: What is done.
        """
        if not self.running:
            with self._guarded(lambda: None):
                self._begin(text)
                self._actions.on_main(partial(self._work, work), self._waits)

    def _begin(self, text: str) -> None:
        self.running = True
        self._show_step(text)
        self._view.enable(False)

    def _show_step(self, text: str) -> None:
        self._step, self._since = text, time.monotonic()
        self._view.say(text)

    def _waits(self) -> None:
        self._show_step(say("live.busy", self._view.language))

    def _end(self) -> None:
        self.running = False
        self._view.say("")
        self._view.enable(True)
        self._view.rest()

    def _work(self, work: Callable[[], None], finish: Callable[[], None]) -> None:
        with self._guarded(finish):
            work()
            self._end()
            finish()

    def _run(self, widget: FixWidget, cell: bool, finish: Callable[[], None]) -> None:
        with self._guarded(finish):
            self._view.output.outputs = ()
            try:
                outcome = _run_inside(self._view.output, self._actions, self._case, widget.plan.number)
            except StaleError:
                self._end()
                catalog, language = self._actions.catalog(), self._view.language
                self._view.show_error(say_stale(self._case, widget.plan.number, catalog, language), anew=True)
                finish()
                return
            widget.done = outcome.error is None
            if cell and outcome.error is None:
                self._show_step(say("outcome.step_cell", self._view.language))
                self._rerun(finish)
                return
            self._view.show_outcome(outcome)
            self._end()
            finish()

    def _rerun(self, finish: Callable[[], None]) -> None:
        output = self._view.output
        with self._guarded(finish):
            output.outputs = ()
            output.__enter__()  # a cell that awaits goes on after this call

            def done(again: Case | None) -> None:
                try:
                    output.__exit__(None, None, None)
                    self._reran(again)
                finally:
                    finish()

            try:
                self._actions.rerun(self._case, done)
            except BaseException:
                output.__exit__(None, None, None)
                raise

    def _reran(self, again: Case | None) -> None:
        if again is None:
            self._view.show_outcome(self._case.outcomes[-1])
        self._end()
        if again is not None:
            self._view.adopt(again)

    @contextmanager
    def _guarded(self, finish: Callable[[], None], runs: bool = True) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # an interrupt, too: the panel must not say "Running" for ever
            _log.debug("a click failed", exc_info=True)
            try:
                if runs:
                    self._end()
                self._view.show_error(plain(f"{type(error).__name__}: {error}".removesuffix(": ")))
            finally:  # another thread waits for it
                finish()
            if not isinstance(error, Exception | KeyboardInterrupt):
                raise


def _run_inside(output: Any, actions: Actions, case: Case, number: int) -> Outcome:
    """Run a fix with its output in the panel. An Output shows an error that leaves it, and swallows it."""
    problem: BaseException | None = None
    outcome = None
    with output:
        try:
            outcome = actions.run(case, number)
        except BaseException as error:
            problem = error
    try:
        if outcome is None:
            raise problem or RuntimeError("the fix has no outcome")
        return outcome
    finally:
        del problem  # it has this frame
