"""What one shell has on its screen, and what clicks and magics do with a case."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from nb_oomhelper.address_space import is_scarce
from nb_oomhelper.case import Case, read_again, run_fix
from nb_oomhelper.holders.scope import scope_of
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.remedies.releasing import give_back
from nb_oomhelper.services import Services
from nb_oomhelper.shell import on_engines, say
from nb_oomhelper.shell.attempts import follow, note_run
from nb_oomhelper.shell.cells import Cells
from nb_oomhelper.shell.fix_forecasts import forecast_fix
from nb_oomhelper.shell.reruns import Reruns
from nb_oomhelper.shell.settings import OOMHelper
from nb_oomhelper.showing import frontends
from nb_oomhelper.showing.screen import Screen

_RELEASE = "release-failed-cell"
_MOST = 5  # panels of one cell: a pool of threads can fail in hundreds


class Panels:
    """Shows cases, and runs their fixes.

    Args:
        services: What cases are worked on with.
        settings: As the user has them.
        cells: Runs code, and says what runs.
    """

    def __init__(self, services: Services, settings: OOMHelper, cells: Cells) -> None:
        self.screen = Screen()
        self.reruns = Reruns(services)
        self._services = services
        self._settings = settings
        self._cells = cells
        self._last: Case | None = None  # what was opened last
        self._rerun: Case | None = None  # whose cell a panel runs again
        self._again: Case | None = None  # the error that it ended with

    # showing

    def open(self, case: Case, number: int, *, kept: bool) -> None:
        """Show a case that is new, released at once where the user has asked for that.

        Args:
            case: What is shown.
            number: How many errors of this cell have come by, this one included.
            kept: Whether Python and IPython keep the error, as they do not keep a thread's.
        """
        before, self._last = self._last, case
        if before is not None and number == 1:
            self._services.attempt(lambda: follow(case, before), None)
        if self._settings.auto_release and threading.current_thread() is threading.main_thread():
            self._services.attempt(lambda: self._release(case), None)
        if kept and self._rerun is not None and self._rerun.cell == case.cell:
            self._again = case  # the panel from which it was run shows it
        elif number > _MOST:
            say(f"{case.event.exception_type}: one more out-of-memory error; %oom shows it")
        else:
            self.show(case, static=not kept and number > 1)  # a pool of threads fails at once

    def show(self, case: Case, *, static: bool = False, language: Language | None = None) -> None:
        """Show a case, or its panel once more; the one before it is no longer live.

        Args:
            case: What is shown.
            static: Without buttons, beside what is live, as for another thread's error or a text's.
            language: Another one than is set.
        """
        actions = self._actions() if language is None else replace(self._actions(), language=lambda: language)
        static = static or case.told is not None
        if not static and not is_scarce() and self.screen.show_again(case, actions.language()):
            return
        shown = frontends.show(case, actions, self._services.shell, static=static)
        if not static:
            self.screen.add(shown)

    def show_minimal(self, case: Case) -> None:
        """Show a case without buttons, in place of what was live."""
        self.screen.add(frontends.show(case, self._actions(), self._services.shell, static=True))

    def show_live(self, read: frontends.Read | None = None, least: float = 0.0) -> bool:
        """Show what `read` gives live, else every device, with so many seconds between; False where no widgets are."""
        read = read or partial(frontends.read_devices, self._services.driver, self._settings.pick_language())
        live = frontends.show_live(read, self._actions(), self._services.shell, least)
        if live is not None:
            self.screen.add(live)
        return live is not None

    def _actions(self) -> frontends.Actions:
        return frontends.Actions(
            catalog=self._services.catalog,
            language=self._settings.pick_language,
            run=self.run,
            rerun=self.rerun,
            forecast=lambda case, number: forecast_fix(case, number, self._services),
            read=lambda case: read_again(case, self._services),
            on_main=self._cells.on_main,
            busy=self._cells.busy,
            refresh=self._settings.refresh_seconds,
            live=self._settings.live_minutes,
            ask=partial(on_engines.ask_failed, self.reruns),
        )

    # acting

    def run(self, case: Case, number: int) -> Outcome:
        """Run one of a case's fixes in the user's namespace.

        Args:
            case: Gets the outcome.
            number: The fix's own.

        Returns:
            What the fix did; an error of it is told there, and in no panel of its own.

        Raises:
            UsageError: There is no such fix, or it is only to be shown.
        """
        shell = self._services.shell
        with self._cells.quietly():
            outcome = run_fix(case, number, self._cells.run_code, lambda: scope_of(shell), self._services)
        self.reruns.fixed(case)
        return outcome

    def rerun(self, case: Case, done: Callable[[Case | None], None]) -> None:
        """Release what the failed cell still keeps, and run it again; a new error of it gets no panel of its own.

        Args:
            case: Has the cell; its last outcome gets how the cell fared.
            done: Gets the new case where it ran out of memory again, else None.
        """

        def ended(error: str | None) -> None:
            again, self._again, self._rerun = self._again, None, None
            note_run(case, error, self._services)
            if again is not None:  # it was opened before this was known
                self._services.attempt(lambda: follow(again, case), None)
            done(again)

        self._again, self._rerun = None, case
        try:
            self.run_cell(case, ended)
        except BaseException:
            self._rerun = None
            raise

    def run_cell(self, case: Case, done: Callable[[str | None], None]) -> None:
        """Release what the failed cell still keeps, and run it again.

        Args:
            case: Has the cell.
            done: Gets one line of its error, or None.
        """
        with contextlib.suppress(Exception):  # then it runs with the room that there is
            give_back(self._services.shell)
        self._cells.rerun(case.cell, done)

    def _release(self, case: Case) -> None:
        """Run the fix that releases the failed cell, as the user has asked for once and for all."""
        shell = self._services.shell
        shown = getattr(shell, "_last_traceback", None)  # ipykernel's, for its reply; a cell inside clears it
        packaged = self._services.catalog().fix(_RELEASE).origin is None  # own code runs on a click only
        for plan in case.plans:
            if plan.fix == _RELEASE and packaged and plan.applicability != "display_only":
                self.run(case, plan.number)
        if shown is not None:
            shell._last_traceback = shown
