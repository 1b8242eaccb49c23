"""The shell's side: hooks, magics, settings, the panels that are live. It owns the state and undoes it all.

`%load_ext` is felt each time that a kernel starts, so only hooks, magics and settings are imported then.
The rest comes a second later, when the kernel is idle, or earlier if it is needed: an error that filled the
host's memory leaves little room to import anything.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.shell import magics
from nb_oomhelper.shell.cells import Cells, error_of
from nb_oomhelper.shell.hooks import Hooks
from nb_oomhelper.shell.reserve import Reserve
from nb_oomhelper.shell.settings import OOMHelper, expanded
from nb_oomhelper.showing.screen import Screen

if TYPE_CHECKING:
    from nb_oomhelper.case import Case, Services
    from nb_oomhelper.knowledge.catalog import Catalog
    from nb_oomhelper.knowledge.toml_tables import Language
    from nb_oomhelper.memory.nvml import Driver
    from nb_oomhelper.records.event import OomEvent
    from nb_oomhelper.records.note import Note
    from nb_oomhelper.records.remedy import Outcome
    from nb_oomhelper.showing import frontends

_log = logging.getLogger(__name__)
_MARK = "_nb_oomhelper_seen"  # set on an exception that was looked at: it can come by on several routes
_RELEASE = "release-failed-cell"
_BARE = "out of memory; `%oom release` gives back what the failed cell keeps"
_PANELS = 5  # panels of one cell: a pool of threads can fail in hundreds
_WARM = 1.0  # seconds after the load when what was left out is imported
# An exception's own attributes, past any code of its class, which may refuse or make up attributes.
_attributes: Callable[[BaseException], dict[str, Any]] = BaseException.__dict__["__dict__"].__get__


class Extension:
    """One shell's nb_oomhelper, from load to unload."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.settings = OOMHelper(parent=shell)
        self.case: Case | None = None
        self._reserve = Reserve()
        self.cells = Cells(shell)
        self.hooks = Hooks(shell, self._look, self._before, self.cells.end, self._reserve.give_up)
        self._magics = magics.Registration(shell, self)
        self._catalog: tuple[str, Catalog] | None = None
        self._screen = Screen()
        self._panels = 0  # of the cell that runs
        self._quiet: int | None = None  # the thread that runs a fix: its errors are told in the fix's outcome
        self._warming: Any = None

    @cached_property
    def driver(self) -> Driver:
        """The door to NVML."""
        from nb_oomhelper.memory.nvml import Driver

        return Driver()

    @cached_property
    def services(self) -> Services:
        """What cases are worked on with."""
        from nb_oomhelper.case import Services

        return Services(driver=self.driver, catalog=self.catalog, history=self._history_path)

    def load(self) -> None:
        """Put everything in."""
        self.shell.configurables.append(self.settings)
        self._magics.install()
        self.hooks.install()
        loop = getattr(getattr(self.shell, "kernel", None), "io_loop", None)
        if loop is not None:
            self._warming = loop.call_later(_WARM, self._warm)

    def unload(self) -> None:
        """Take everything out, and end what is live."""
        if self._warming is not None:
            self.shell.kernel.io_loop.remove_timeout(self._warming)
        self.hooks.remove()
        self._magics.remove()
        if self.settings in self.shell.configurables:
            self.shell.configurables.remove(self.settings)
        for end in (self._screen.close, self._end_reading, self._reserve.give_all):
            with contextlib.suppress(Exception):  # what ends badly must not keep the rest
                end()
        self.case = None

    def _end_reading(self) -> None:
        if "driver" in vars(self):
            self.driver.close()  # by the thread that is ended next
        if "nb_oomhelper.poll" in sys.modules:
            from nb_oomhelper.poll import WORKER

            if not WORKER.repeating:  # another shell of this process may have a live panel
                WORKER.end()

    def _warm(self) -> None:
        """Import and start what an error needs, while there is room for it."""
        self._warming = None
        try:
            from nb_oomhelper.loading.loaders import load_rows
            from nb_oomhelper.poll import WORKER
            from nb_oomhelper.showing import frontends

            self.catalog()
            load_rows()
            frontends.warm(self.shell)
            if WORKER.start():
                self.driver.begin()
        except Exception:  # it is tried again when it is needed
            _log.debug("not warmed", exc_info=True)

    # the knowledge and the settings, read when they are needed

    def catalog(self) -> Catalog:
        """The knowledge, with the user's own files; read once for a folder."""
        folder = self.settings.knowledge_dir or str(Path(self.shell.ipython_dir) / "nb_oomhelper")
        if self._catalog is None or self._catalog[0] != folder:
            from nb_oomhelper.knowledge.catalog import load_catalog

            self._catalog = (folder, load_catalog(expanded(folder)))
        return self._catalog[1]

    def language(self) -> Language:
        """The language that is set."""
        from nb_oomhelper.showing.wording import pick_language

        return pick_language(self.settings.language)

    def rates(self) -> dict[str, tuple[int, int]]:
        """For each fix, (n, m): it helped in n of m measured outcomes."""
        from nb_oomhelper.case import rates

        return rates(self.services)

    def status(self) -> list[str]:
        """What is in place and what is missing, one plain line each."""
        from nb_oomhelper.memory.host import gap
        from nb_oomhelper.records.note import note
        from nb_oomhelper.showing.frontends import widgets_gap
        from nb_oomhelper.showing.notes import say_note

        language, settings, catalog = self.language(), self.settings, self.catalog()
        path, reading = self._history_path(), self.driver.read()
        notes = [
            note("status.handler", slot=note("status.in_place" if self.hooks.has_slot else "status.taken")),
            note("status.language", chosen=language, setting=settings.language),
            note("status.live", seconds=f"{settings.refresh_seconds:g}", minutes=f"{settings.live_minutes:g}"),
            note("status.history", history=note("status.off") if path is None else self._history_line(path)),
            note("status.knowledge", entries=len(catalog.entries), fixes=len(catalog.fixes)),
            *(note("status.replaced", line=line) for line in catalog.replaced),
            *(note("status.left_out", problem=problem) for problem in catalog.problems),
            note("status.driver", driver=reading.note or note("status.devices", count=len(reading.devices))),
            note("status.host", host=gap() or note("status.can_be_read")),
            note("status.widgets", widgets=widgets_gap(self.shell) or note("status.can_be_shown")),
        ]
        if self.services.problem:
            traced = "_traced" if self.services.trace else ""
            notes.append(note(f"status.problem{traced}", problem=self.services.problem))
        return [say_note(one, language) for one in notes]

    def trace(self) -> str:
        """The traceback of the last problem of ours."""
        from nb_oomhelper.showing.wording import say

        return self.services.trace or say("status.no_problem", self.language())

    # an error came by

    def _look(self, error: BaseException, kept: bool) -> None:
        """Open a case for an out-of-memory error that has none yet, and show it.

        What nobody keeps (a thread's frames) is freed as soon as we return: it explains nothing.
        """
        if threading.get_ident() == self._quiet:
            return
        try:
            event = _new_event(error)
        except (Exception, KeyboardInterrupt) as problem:
            event = self._try_again(error, problem)
        if event is None:  # most errors: they need not wait for the rest to be imported
            return
        self._reserve.give_all()
        self.case = None  # until there is a new one: a fix of an older error must not run for this one
        try:
            self._open(error, kept)
        except (Exception, KeyboardInterrupt) as problem:
            self._failed(problem)
            self._show_bare(event)

    def _try_again(self, error: BaseException, problem: BaseException) -> OomEvent | None:
        """Read an error once more that could not be read: with what was put by, if it is one of memory by its class."""
        self._failed(problem)
        if not issubclass(type(error), MemoryError):
            return None
        self._reserve.give_all()
        self.case = None
        try:
            return _new_event(error)
        except (Exception, KeyboardInterrupt) as again:
            self._failed(again)
            _attributes(error)[_MARK] = True  # it comes by on other routes
            self._say(_BARE)
            return None

    def _open(self, error: BaseException, kept: bool) -> None:
        from nb_oomhelper.case import open_case
        from nb_oomhelper.holders.scope import scope_of

        case = open_case(
            error, lambda: scope_of(self.shell, error if kept else None), self.services, self.cells.source()
        )
        if case is None:
            return
        self.case = case
        if self.settings.auto_release and threading.current_thread() is threading.main_thread():
            self.services.attempt(lambda: self._release(case), None)
        self._panels += 1
        if self._panels > _PANELS:
            self._say(f"{case.event.exception_type}: one more out-of-memory error; %oom shows it")
        else:
            self.show(case, static=not kept and self._panels > 1)  # a pool of threads fails at once

    def _show_bare(self, event: OomEvent) -> None:
        """What can be told without looking at anything: the error's own numbers, and a release."""
        try:
            from nb_oomhelper.case import minimal_case
            from nb_oomhelper.showing import frontends

            if self.case is None:
                self.case = minimal_case(event, self.services)
            self._screen.add(frontends.show(self.case, self._actions(), self.shell, static=True))
        except (Exception, KeyboardInterrupt) as problem:
            self._failed(problem)
            self._say(_BARE)

    def _say(self, line: str) -> None:
        with contextlib.suppress(Exception):  # no memory, or a broken stderr: the traceback was shown
            print(f"nb_oomhelper: {line}", file=sys.stderr)

    def _failed(self, problem: BaseException) -> None:
        """Keep what went wrong with us, as text, for `%oom status`."""
        with contextlib.suppress(Exception):
            _log.debug("a part failed", exc_info=problem)
            self.services.failed(problem)

    def _release(self, case: Case) -> None:
        """Run the fix that releases the failed cell, as the user has asked for once and for all."""
        shown = getattr(self.shell, "_last_traceback", None)  # ipykernel's, for its reply; a cell inside clears it
        packaged = self.catalog().fix(_RELEASE).origin is None  # own code runs on a click only
        for plan in case.plans:
            if plan.fix == _RELEASE and packaged and plan.applicability != "display_only":
                self.run(case, plan.number)
        if shown is not None:
            self.shell._last_traceback = shown

    def show(self, case: Case, *, static: bool = False) -> None:
        """Show a case; the one before it is no longer live. A static one has no buttons."""
        from nb_oomhelper.showing import frontends

        shown = frontends.show(case, self._actions(), self.shell, static=static)
        if not static:  # else it stands beside the live panel of another thread
            self._screen.add(shown)

    def show_live(self) -> bool:
        """Show the live readout of every device; False where there are no widgets."""
        from nb_oomhelper.showing import frontends

        live = frontends.show_live(self.driver, self._actions(), self.shell)
        if live is not None:
            self._screen.add(live)
        return live is not None

    def _actions(self) -> frontends.Actions:
        from nb_oomhelper.case import read_again
        from nb_oomhelper.showing import frontends

        return frontends.Actions(
            catalog=self.catalog,
            language=self.language,
            run=self.run,
            rerun=self.rerun,
            read=lambda case: read_again(case, self.services),
            on_main=self.cells.on_main,
            busy=self.cells.busy,
            refresh=self.settings.refresh_seconds,
            live=self.settings.live_minutes,
        )

    # what clicks and magics do

    def run(self, case: Case, number: int) -> Outcome:
        """Run one of a case's fixes in the user's namespace.

        Raises:
            UsageError: There is no such fix, or it is only to be shown.
        """
        from nb_oomhelper.case import run_fix
        from nb_oomhelper.holders.scope import scope_of

        self._quiet = threading.get_ident()  # an error of the fix is told in its outcome, not in a panel of its own
        try:
            return run_fix(case, number, self._run_code, lambda: scope_of(self.shell), self.services)
        finally:
            self._quiet = None

    def rerun(self, case: Case, done: Callable[[str | None], None]) -> None:
        """Release what the failed cell still keeps, and run it again; `done` gets one line of its error, or None."""
        from nb_oomhelper.remedies.releasing import give_back

        with contextlib.suppress(Exception):  # then it runs with the room that there is
            give_back(self.shell)
        self.cells.rerun(case.cell, done)

    def _run_code(self, code: str) -> str | None:
        error = error_of(self.shell.run_cell(code, store_history=False, silent=True))
        self._reserve.take()  # what is told to be free then is free for cells
        return error

    def _before(self, info: Any) -> None:
        self._reserve.take()
        if not self.cells.source():
            self._panels = 0
        self.cells.begin(info)

    def _history_path(self) -> Path | None:
        if not self.settings.history:
            return None
        named = self.settings.history_path
        return expanded(named) if named else Path(self.shell.ipython_dir) / "nb_oomhelper" / "history.sqlite"

    def _history_line(self, path: Path) -> Note | str:
        from nb_oomhelper.records.note import note
        from nb_oomhelper.remedies import history

        try:
            rates = history.measured_rates(path)
        except OomHelperError as error:
            return str(error)
        return note("status.measured", count=sum(total for _, total in rates.values()), path=str(path))


def _new_event(error: BaseException) -> OomEvent | None:
    """The event of an out-of-memory error that has not come by before; None for all others."""
    if _MARK in _attributes(error):
        return None
    from nb_oomhelper.failure.detection import detect

    event = detect(error)
    return None if event is None or _is_known(error) else event


def _is_known(error: BaseException) -> bool:
    """Whether this error, or one behind it, came by before; from now on it did."""
    from nb_oomhelper.failure.exception_graph import raised_with

    chain = [_attributes(one) for one, _ in raised_with(error)]
    known = any(_MARK in attributes for attributes in chain)
    for attributes in chain:
        attributes[_MARK] = True
    return known
