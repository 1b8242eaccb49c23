"""`OOMHelper.watch_kernel`: a small file while a cell runs; one that is left tells how a kernel ended."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from nb_oomhelper.memory.allocators import allocators_by_gpu
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.memory.kills import read_group
from nb_oomhelper.memory.runs import Ended, Run, path_of, take_ended, this_run, write_run
from nb_oomhelper.poll import WORKER, Repeat
from nb_oomhelper.shell.core import Core
from nb_oomhelper.showing.ended_text import say_ended

_SECONDS = 2.0  # between two readings while a cell runs


class RunFile:
    """Keeps the file of this kernel, and tells of those that others have left.

    Args:
        core: The extension.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pid = os.getpid()
        self._run: Run | None = None
        self._path: Path | None = None
        self._repeat: Repeat | None = None
        self.ended: list[Ended] = []  # found at the load, for `%oom status`

    def install(self) -> None:
        """Tell of kernels of this folder that ended in the middle of a cell."""
        atexit.register(self._clear)
        self.ended = take_ended(Path.cwd(), self._core.settings.runs_folder(), read_group())
        language = self._core.settings.pick_language()
        for ended in self.ended[-1:]:  # `%oom status` tells the others
            print("\n".join(say_ended(ended, language)))

    def remove(self) -> None:
        """Take the file away."""
        atexit.unregister(self._clear)
        self._clear()

    def begin(self, info: Any) -> None:
        """A cell begins: the file says which. What runs within it or beside it is part of it."""
        if self._run is not None or getattr(info, "silent", False):
            return
        number = self._core.services.shell.displayhook.prompt_count  # IPython 9 has raised its own count by now
        self._run = this_run(number, read_group())
        if self._run is None:
            return
        self._path = path_of(self._run, self._core.settings.runs_folder())
        self._write()
        self._repeat = WORKER.every(_SECONDS, self._tick)

    def end(self, result: Any, errors: int) -> None:  # noqa: ARG002
        """The last cell that ran has ended: there is nothing to tell."""
        if self._core.cells.idle:
            self._clear()

    def failed(self, error: BaseException) -> None:
        """An error is no end."""

    def _tick(self) -> bool:
        if self._run is None or os.getpid() != self._pid:
            return False
        self._write()
        return True

    def _write(self) -> None:
        run, path = self._run, self._path
        if run is None or path is None:
            return
        sizes = [one.allocated for rows in allocators_by_gpu().values() for one in rows if one.allocated is not None]
        resident = read_host().this_process
        run = replace(run, read=time.time(), resident=resident, allocated=sum(sizes) if sizes else None)
        write_run(run, path)
        if self._run is None:  # the cell has ended meanwhile
            path.unlink(missing_ok=True)

    def _clear(self) -> None:
        if os.getpid() != self._pid:  # a forked process does not speak for its parent
            return
        self._run, repeat = None, self._repeat
        if repeat is not None:
            repeat.stop()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
