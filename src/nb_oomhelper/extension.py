"""The shell's side: hooks, magics, settings, the panels that are live. It owns the state and undoes it all."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from traitlets import Bool, Enum, Float, Unicode
from traitlets.config import Configurable

from nb_oomhelper import frontends, history, magics
from nb_oomhelper.case import Case, Desk, open_case, read_again, run_fix
from nb_oomhelper.catalog import Catalog, load_catalog
from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.hooks import Hooks
from nb_oomhelper.memory import scope_of
from nb_oomhelper.model import Outcome
from nb_oomhelper.nvml import Driver
from nb_oomhelper.wording import Language, pick_language

_log = logging.getLogger(__name__)
_MARK = "_nb_oomhelper_seen"  # set on an exception that has its panel: it can come by on several routes
_BUSY = 1.0  # seconds after which a running cell is worth telling


class OOMHelper(Configurable):
    """Settings of nb_oomhelper: `%config OOMHelper`, or `c.OOMHelper.…` in ipython_config.py."""

    language = Enum(["auto", "en", "zh"], "auto", help="Language of the panel; auto follows the environment.").tag(
        config=True
    )
    refresh_seconds = Float(1.0, min=0.2, help="Seconds between two readings of the live readout.").tag(config=True)
    live_minutes = Float(10.0, min=0.0, help="Minutes for which a panel is kept live.").tag(config=True)
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
        self.driver = Driver()
        self.desk = Desk(driver=self.driver, catalog=self.catalog, history=self._history_path)
        self.case: Case | None = None
        self.hooks = Hooks(shell, self._look, self._before, self._after)
        self._magics = magics.Registration(shell, self)
        self._catalog: tuple[str, Catalog] | None = None
        self._shown: list[frontends.Shown] = []
        self._cells: list[str] = []  # sources of the cells that run now: a magic may run one inside another
        self._since: float | None = None
        self._quiet = False

    def load(self) -> None:
        """Put everything in."""
        self.shell.configurables.append(self.settings)
        self._magics.install()
        self.hooks.install()

    def unload(self) -> None:
        """Take everything out, and end what is live."""
        self.hooks.remove()
        self._magics.remove()
        if self.settings in self.shell.configurables:
            self.shell.configurables.remove(self.settings)
        self.keep(None)
        self.driver.close()
        self.case = None

    # the knowledge and the settings, read when they are needed

    def catalog(self) -> Catalog:
        """The knowledge, with the user's own files; read once for a folder."""
        folder = self.settings.knowledge_dir or str(Path(self.shell.ipython_dir) / "nb_oomhelper")
        if self._catalog is None or self._catalog[0] != folder:
            self._catalog = (folder, load_catalog(Path(folder).expanduser()))
        return self._catalog[1]

    def language(self) -> Language:
        """The language that is set."""
        return pick_language(self.settings.language)

    def status(self) -> list[str]:
        """What is in place, one plain line each."""
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
        ]
        return [*lines, *([f"last problem: {self.desk.problem}"] if self.desk.problem else [])]

    # an error came by

    def _look(self, error: BaseException) -> None:
        """Open a case for an out-of-memory error that has none yet, and show it."""
        try:
            if self._quiet or getattr(error, _MARK, False):
                return
            cell = self._cells[-1] if self._cells else ""
            case = open_case(error, lambda: scope_of(self.shell, error), self.desk, cell)
            if case is not None:
                with contextlib.suppress(Exception):  # a class may refuse attributes
                    setattr(error, _MARK, True)
                self.case = case
                self.show(case)
        except Exception as problem:
            _log.debug("no panel", exc_info=True)
            print(f"nb_oomhelper could not show its panel: {type(problem).__name__}: {problem}", file=sys.stderr)

    def show(self, case: Case) -> None:
        """Show a case; the one before it is no longer live."""
        self.keep(frontends.show(case, self._actions(), self.shell))

    def keep(self, shown: frontends.Shown | None) -> None:
        """Remember what is live now, and end what was."""
        for one in self._shown:
            one.close()
        self._shown = [shown] if shown is not None else []

    def show_live(self) -> bool:
        """Show the live readout of every device; False where there are no widgets."""
        live = frontends.show_live(self.driver, self._actions(), self.shell)
        if live is not None:
            self.keep(live)
        return live is not None

    def _actions(self) -> frontends.Actions:
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
        self._quiet = True  # an error of the fix is told in its outcome, not in a panel of its own
        try:
            return run_fix(case, number, self._run_code, self.desk)
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

        task = asyncio.ensure_future(
            shell.run_cell_async(case.cell, store_history=True, transformed_cell=code, preprocessing_exc_tuple=None)
        )
        task.add_done_callback(lambda ended: done(_error_of(ended.result())))

    def _run_code(self, code: str) -> str | None:
        return _error_of(self.shell.run_cell(code, store_history=False, silent=True))

    def _on_main(self, call: Callable[[Callable[[], None]], None], waits: Callable[[], None]) -> None:
        """Run on the main thread. JupyterLab sends clicks to a subshell, whose thread runs beside a busy cell.

        That thread waits until `call` has called what it was given: as long as the click lasts, the front
        end puts the output where the click was.
        """
        if threading.current_thread() is threading.main_thread():
            call(lambda: None)
            return
        loop, finished = self.shell.kernel.io_loop, threading.Event()
        if self._since is not None:
            waits()
        loop.add_callback(call, finished.set)
        while not finished.wait(0.5) and loop.asyncio_loop.is_running():
            pass

    # cells come and go

    def _before(self, info: Any) -> None:
        self._cells.append(getattr(info, "raw_cell", None) or "")
        self._since = time.monotonic()

    def _after(self, _result: Any) -> None:
        if self._cells:  # the cell that loaded us ends without having begun for us
            self._cells.pop()
        self._since = None

    def _busy(self) -> bool:
        since = self._since
        return since is not None and time.monotonic() - since > _BUSY

    def _history_path(self) -> Path | None:
        if not self.settings.history:
            return None
        named = self.settings.history_path
        return Path(named).expanduser() if named else Path(self.shell.ipython_dir) / "nb_oomhelper" / "history.sqlite"

    def _history_line(self, path: Path) -> str:
        try:
            rates = history.measured_rates(path)
        except OomHelperError as error:
            return str(error)
        return f"{sum(total for _, total in rates.values())} measured outcomes in {path}"

    def _driver_line(self) -> str:
        reading = self.driver.read()
        return reading.note or f"{len(reading.devices)} devices"


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
