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
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Enum, Float, Unicode
from traitlets.config import Configurable

from nb_oomhelper import magics
from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.hooks import Hooks
from nb_oomhelper.reserve import Reserve

if TYPE_CHECKING:
    from nb_oomhelper import frontends
    from nb_oomhelper.case import Case, Desk
    from nb_oomhelper.catalog import Catalog
    from nb_oomhelper.model import Outcome
    from nb_oomhelper.nvml import Driver
    from nb_oomhelper.wording import Language

_log = logging.getLogger(__name__)
_MARK = "_nb_oomhelper_seen"  # set on an exception that was looked at: it can come by on several routes
_RELEASE = "release-failed-cell"
_BUSY = 1.0  # seconds after which a running cell is worth telling
_WARM = 1.0  # seconds after the load when what was left out is imported
# An exception's own attributes, past any code of its class, which may refuse or make up attributes.
_attributes: Callable[[BaseException], dict[str, Any]] = BaseException.__dict__["__dict__"].__get__


class OOMHelper(Configurable):
    """Settings of nb_oomhelper: `%config OOMHelper`, or `c.OOMHelper.…` in ipython_config.py."""

    language = Enum(["auto", "en", "zh"], "auto", help="Language of the panel; auto follows the environment.").tag(
        config=True
    )
    refresh_seconds = Float(1.0, min=0.2, help="Seconds between two readings of the live readout.").tag(config=True)
    live_minutes = Float(10.0, min=0.0, help="Minutes for which a panel is kept live.").tag(config=True)
    auto_release = Bool(False, help="Release the failed cell at once, without a click.").tag(config=True)
    history = Bool(True, help="Keep what fixes did on this machine, for measured rates.").tag(config=True)
    history_path = Unicode(
        "", help="SQLite file of the history; empty: nb_oomhelper/history.sqlite in the IPython directory."
    ).tag(config=True)
    knowledge_dir = Unicode(
        "",
        help="Folder with entries/*.toml and fixes/*.toml of your own; empty: nb_oomhelper in the IPython directory.",
    ).tag(config=True)


class Extension:
    """One shell's nb_oomhelper, from load to unload."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.settings = OOMHelper(parent=shell)
        self.case: Case | None = None
        self._reserve = Reserve()
        self.hooks = Hooks(shell, self._look, self._before, self._after, self._reserve.give_up)
        self._magics = magics.Registration(shell, self)
        self._catalog: tuple[str, Catalog] | None = None
        self._shown: list[frontends.Shown] = []
        self._cells: list[tuple[int, Any]] = []  # thread and info of each cell that runs: one may run another
        self._since: float | None = None
        self._quiet = False
        self._warming: Any = None
        self._again: Any = None  # the loop itself keeps no task alive

    @cached_property
    def driver(self) -> Driver:
        """The door to NVML."""
        from nb_oomhelper.nvml import Driver

        return Driver()

    @cached_property
    def desk(self) -> Desk:
        """What cases are worked on with."""
        from nb_oomhelper.case import Desk

        return Desk(driver=self.driver, catalog=self.catalog, history=self._history_path)

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
        self.keep(None)
        self._reserve.give_all()
        if "driver" in vars(self):
            self.driver.close()
        self.case = None

    def _warm(self) -> None:
        """Import what an error needs while there is room for it."""
        try:
            from nb_oomhelper import frontends  # noqa: F401
            from nb_oomhelper.loaders import load_rows

            self.catalog()
            load_rows()
        except Exception:  # it is tried again when it is needed
            _log.debug("not warmed", exc_info=True)

    # the knowledge and the settings, read when they are needed

    def catalog(self) -> Catalog:
        """The knowledge, with the user's own files; read once for a folder."""
        folder = self.settings.knowledge_dir or str(Path(self.shell.ipython_dir) / "nb_oomhelper")
        if self._catalog is None or self._catalog[0] != folder:
            from nb_oomhelper.catalog import load_catalog

            self._catalog = (folder, load_catalog(_expanded(folder)))
        return self._catalog[1]

    def language(self) -> Language:
        """The language that is set."""
        from nb_oomhelper.wording import pick_language

        return pick_language(self.settings.language)

    def rates(self) -> dict[str, tuple[int, int]]:
        """For each fix, (n, m): it helped in n of m measured outcomes."""
        from nb_oomhelper.case import rates

        return rates(self.desk)

    def status(self) -> list[str]:
        """What is in place and what is missing, one plain line each."""
        from nb_oomhelper.frontends import widgets_gap
        from nb_oomhelper.host import gap

        slot = "in place" if self.hooks.has_slot else "taken by another extension; the other hooks still see errors"
        path = self._history_path()
        lines = [
            f"exception handler: {slot}",
            f"language: {self.language()} (setting: {self.settings.language})",
            f"live readout: every {self.settings.refresh_seconds:g} s, for {self.settings.live_minutes:g} minutes",
            f"history: {'off' if path is None else self._history_line(path)}",
            f"knowledge: {len(self.catalog().entries)} entries, {len(self.catalog().fixes)} fixes",
            *(f"left out: {problem}" for problem in self.catalog().problems),
            f"driver: {self._driver_line()}",
            f"host memory: {gap() or 'can be read'}",
            f"widgets: {widgets_gap(self.shell) or 'can be shown'}",
        ]
        return [*lines, *([f"last problem: {self.desk.problem}"] if self.desk.problem else [])]

    # an error came by

    def _look(self, error: BaseException, kept: bool) -> None:
        """Open a case for an out-of-memory error that has none yet, and show it.

        What nobody keeps (a thread's frames) is freed as soon as we return: it explains nothing.
        """
        try:
            if self._quiet or _MARK in _attributes(error):
                return
            from nb_oomhelper.frameworks import detect

            if detect(error) is None or _is_known(error):  # most errors: they need not wait for the rest to be imported
                return
            self._reserve.give_all()
            from nb_oomhelper.case import open_case
            from nb_oomhelper.memory import scope_of

            case = open_case(error, lambda: scope_of(self.shell, error if kept else None), self.desk, self._cell())
            if case is not None:
                self.case = case
                if self.settings.auto_release and threading.current_thread() is threading.main_thread():
                    self._release(case)
                self.show(case)
        except Exception as problem:
            _log.debug("no panel", exc_info=True)
            with contextlib.suppress(Exception):  # no memory, or a broken stderr: the traceback was shown
                print(f"nb_oomhelper could not show its panel: {type(problem).__name__}: {problem}", file=sys.stderr)

    def _release(self, case: Case) -> None:
        """Run the fix that releases the failed cell, as the user has asked for once and for all."""
        shown = getattr(self.shell, "_last_traceback", None)  # ipykernel's, for its reply; a cell inside clears it
        for plan in case.plans:
            if plan.fix == _RELEASE:
                self.run(case, plan.number)
        if shown is not None:
            self.shell._last_traceback = shown

    def show(self, case: Case) -> None:
        """Show a case; the one before it is no longer live."""
        from nb_oomhelper import frontends

        self.keep(frontends.show(case, self._actions(), self.shell))

    def keep(self, shown: frontends.Shown | None) -> None:
        """Remember what is live now, and end what was."""
        for one in self._shown:
            one.close()
        self._shown = [shown] if shown is not None else []

    def show_live(self) -> bool:
        """Show the live readout of every device; False where there are no widgets."""
        from nb_oomhelper import frontends

        live = frontends.show_live(self.driver, self._actions(), self.shell)
        if live is not None:
            self.keep(live)
        return live is not None

    def _actions(self) -> frontends.Actions:
        from nb_oomhelper import frontends
        from nb_oomhelper.case import read_again

        return frontends.Actions(
            catalog=self.catalog,
            language=self.language,
            run=self.run,
            rerun=self.rerun,
            read=lambda case: read_again(case, self.desk),
            on_main=self._on_main,
            busy=self._busy,
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
        from nb_oomhelper.memory import scope_of

        self._quiet = True  # an error of the fix is told in its outcome, not in a panel of its own
        try:
            return run_fix(case, number, self._run_code, lambda: scope_of(self.shell), self.desk)
        finally:
            self._quiet = False

    def rerun(self, case: Case, done: Callable[[str | None], None]) -> None:
        """Run the failed cell again, as a new entry of the history; `done` gets one line of its error, or None."""
        shell = self.shell
        code = shell.transform_cell(case.cell)
        if not shell.should_run_async(case.cell, transformed_cell=code):
            done(_error_of(shell.run_cell(case.cell, store_history=True)))
            return
        import asyncio

        self._again = asyncio.ensure_future(self._await_cell(case.cell, code, done))

    async def _await_cell(self, cell: str, code: str, done: Callable[[str | None], None]) -> None:
        """Run a cell that awaits. As ipykernel does: IPython leaves the events after it to the caller."""
        result = None
        try:
            result = await self.shell.run_cell_async(
                cell, store_history=True, transformed_cell=code, preprocessing_exc_tuple=None
            )
        finally:
            self.shell.events.trigger("post_execute")
            self.shell.events.trigger("post_run_cell", result)
            done("it was cancelled" if result is None else _error_of(result))

    def _run_code(self, code: str) -> str | None:
        error = _error_of(self.shell.run_cell(code, store_history=False, silent=True))
        self._reserve.take()  # what is told to be free then is free for cells
        return error

    def _on_main(self, call: Callable[[Callable[[], None]], None], waits: Callable[[], None]) -> None:
        """Run on the main thread. JupyterLab sends clicks to a subshell, whose thread runs beside a busy cell.

        That thread waits until `call` has called what it was given: as long as the click lasts, the front
        end puts the output where the click was.
        """
        if threading.current_thread() is threading.main_thread():
            call(lambda: None)
            return
        loop, begun, finished = self.shell.kernel.io_loop, threading.Event(), threading.Event()

        def begin() -> None:
            begun.set()
            call(finished.set)

        loop.add_callback(begin)
        if not begun.wait(0.3):
            waits()
        while not finished.wait(0.5) and loop.asyncio_loop.is_running():
            pass

    # cells come and go

    def _before(self, info: Any) -> None:
        self._reserve.take()
        if not self._cells:
            self._since = time.monotonic()
        self._cells.append((threading.get_ident(), info))

    def _after(self, result: Any) -> None:
        """Not every cell that ends has begun: not the one that loaded us, nor an empty one."""
        ended = getattr(result, "info", None)  # no result: it was cancelled
        self._cells = [row for row in self._cells if row[1] is not ended] if ended else self._cells[:-1]
        if not self._cells:
            self._since = None

    def _cell(self) -> str:
        """Source of the innermost cell that this thread runs, or ""."""
        here = threading.get_ident()
        return next((info.raw_cell for thread, info in reversed(self._cells) if thread == here), "")

    def _busy(self) -> bool:
        since = self._since
        return since is not None and time.monotonic() - since > _BUSY

    def _history_path(self) -> Path | None:
        if not self.settings.history:
            return None
        named = self.settings.history_path
        return _expanded(named) if named else Path(self.shell.ipython_dir) / "nb_oomhelper" / "history.sqlite"

    def _history_line(self, path: Path) -> str:
        from nb_oomhelper import history

        try:
            rates = history.measured_rates(path)
        except OomHelperError as error:
            return str(error)
        return f"{sum(total for _, total in rates.values())} measured outcomes in {path}"

    def _driver_line(self) -> str:
        reading = self.driver.read()
        return reading.note or f"{len(reading.devices)} devices"


def _is_known(error: BaseException) -> bool:
    """Whether this error, or one behind it, came by before; from now on it did."""
    from nb_oomhelper.frames import raised_with

    chain = [_attributes(one) for one, _ in raised_with(error)]
    known = any(_MARK in attributes for attributes in chain)
    for attributes in chain:
        attributes[_MARK] = True
    return known


def _expanded(path: str) -> Path:
    """A path from the settings; one whose `~name` is nobody stays as it is written."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def _error_of(result: Any) -> str | None:
    """One line of the error that a cell ended with, or None."""
    error = result.error_before_exec or result.error_in_exec
    if error is None:
        return None
    try:
        text = str(error)
    except Exception:  # a user's exception may fail to print itself
        text = ""
    line = f"{type(error).__name__}: {text}".strip().splitlines()[0]
    return line if len(line) <= 300 else line[:299] + "…"
