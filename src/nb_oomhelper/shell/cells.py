"""The cells of one shell: which of them run, and running one from a click.

JupyterLab sends clicks to a subshell, whose thread runs beside a busy cell. What touches the user's namespace must not
run there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

CANCELLED = "it was cancelled"  # in place of a line of an error
_BUSY = 1.0  # seconds after which a running cell is worth telling
Done = Callable[[str | None], None]


class Cells:
    """Which cells run now, by thread, and how to run one more.

    Args:
        shell: The InteractiveShell.
        ran: Called after each piece of code that a fix has run.
    """

    def __init__(self, shell: Any, ran: Callable[[], None] = lambda: None) -> None:
        self._shell = shell
        self._ran = ran
        self._quiet: int | None = None
        self._lock = threading.Lock()
        self._running: list[tuple[int, Any]] = []  # thread and info, in their order: one may run another
        self._since: float | None = None
        self._again: Any = None  # the loop itself keeps no task alive
        self.reruns = False  # the cell that begins now is one that has failed, as a click or a magic runs it again

    # cells come and go

    def begin(self, info: Any) -> None:
        """A cell begins on this thread."""
        with self._lock:
            if not self._running:
                self._since = time.monotonic()
            self.reruns = False
            self._running.append((threading.get_ident(), info))

    def end(self, result: Any) -> None:
        """A cell has ended. Not every cell that ends has begun: not the one that loaded us, nor an empty one.

        Where something leaves IPython's own code, it ends the cell under another info than it began with. So it is the
        last one on this thread with that source; without any result it was cancelled, and is the last one of all.
        """
        with self._lock:
            row = self._row_of(getattr(result, "info", None))
            if row is not None:
                thread, later = self._running[row][0], self._running[row:]
                # what it had run itself, and was interrupted before it could end, ends with it
                self._running = self._running[:row] + [one for one in later if one[0] != thread]
            if not self._running:
                self._since = None

    def _row_of(self, ended: Any) -> int | None:
        rows = list(enumerate(self._running))[::-1]
        if ended is None:
            return next((row for row, _ in rows), None)
        same = (row for row, (_, info) in rows if info is ended)
        here, source = threading.get_ident(), getattr(ended, "raw_cell", None)
        alike = (row for row, (thread, info) in rows if thread == here and info.raw_cell == source)
        return next(same, next(alike, None))

    @property
    def idle(self) -> bool:
        """Whether no cell runs, on any thread."""
        return not self._running

    def source(self) -> str:
        """Source of the innermost cell that this thread runs, or ""."""
        here = threading.get_ident()
        return next((info.raw_cell for thread, info in reversed(self._running) if thread == here), "")

    def busy(self) -> bool:
        """Whether a cell has been running for so long that it is worth telling."""
        since = self._since
        return since is not None and time.monotonic() - since > _BUSY

    # running one more

    @property
    def quiet(self) -> bool:
        """Whether this thread runs a fix, whose errors its outcome tells."""
        return threading.get_ident() == self._quiet

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Run a fix on this thread."""
        self._quiet = threading.get_ident()
        try:
            yield
        finally:
            self._quiet = None

    def run_code(self, code: str) -> str | None:
        """Run code in the user's namespace, with no entry of the history; one line of its error, or None."""
        error = error_of(self._shell.run_cell(code, store_history=False, silent=True))
        self._ran()
        return error

    def rerun(self, cell: str, done: Done) -> None:
        """Run a cell as a new entry of the history; within another cell, by a magic, it is part of that one's entry.

        Args:
            cell: Its source.
            done: Gets one line of its error, or None.
        """
        shell, self.reruns = self._shell, True
        code = shell.transform_cell(cell)
        if not shell.should_run_async(cell, transformed_cell=code):
            done(error_of(shell.run_cell(cell, store_history=not self.source())))
            return
        import asyncio

        self._again = asyncio.ensure_future(self._await_cell(cell, code, done))

    async def _await_cell(self, cell: str, code: str, done: Done) -> None:
        """Run a cell that awaits. As ipykernel does: IPython leaves the events after it to the caller."""
        result = None
        try:
            result = await self._shell.run_cell_async(
                cell, store_history=True, transformed_cell=code, preprocessing_exc_tuple=None
            )
        finally:
            self._shell.events.trigger("post_execute")
            self._shell.events.trigger("post_run_cell", result)
            done(CANCELLED if result is None else error_of(result))

    def on_main(self, call: Callable[[Callable[[], None]], None], waits: Callable[[], None]) -> None:
        """Run on the main thread.

        Another thread waits until `call` has called what it was given: as long as the click lasts, the front end puts
        the output where the click was.

        Args:
            call: What is run; it calls what it is given when it has ended.
            waits: Called on this thread if that has to wait for a running cell.
        """
        if threading.current_thread() is threading.main_thread():
            call(lambda: None)
            return
        loop, begun, finished = self._shell.kernel.io_loop, threading.Event(), threading.Event()

        def begin() -> None:
            begun.set()
            call(finished.set)

        loop.add_callback(begin)
        if not begun.wait(0.3):
            waits()
        while not finished.wait(0.5) and loop.asyncio_loop.is_running():
            pass


def error_of(result: Any) -> str | None:
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
