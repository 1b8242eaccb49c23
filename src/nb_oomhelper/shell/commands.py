"""`OOMHelper.watch_output`: what a command printed before it failed, explained in the cell that ran it.

That is `!python train.py` in a notebook, a cell of `%%bash`, `%%sh` or `%%script`, and `subprocess.run(…, check=True,
capture_output=True)`. In a terminal IPython gives a command the terminal itself, and nothing of it can be read.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from subprocess import CalledProcessError
from typing import Any

from nb_oomhelper.case import told_case
from nb_oomhelper.failure.documents import Document, Piece, read_pasted
from nb_oomhelper.failure.exception_graph import raised_with
from nb_oomhelper.failure.told import read_told
from nb_oomhelper.introspection import instance_dict
from nb_oomhelper.records.told import Spot
from nb_oomhelper.shell.core import Core

_TAIL = 64 << 10  # characters that are kept of an output
_SHOWN = 3  # errors of one command: its ranks may fail at once
_MARK = "_nb_oomhelper_read"  # set on an error whose output was read: it can come by on several routes
_ABSENT = object()


class Commands:
    """Reads the tail of what commands print, and shows a panel for a lack of memory in it.

    Args:
        core: The extension.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._shell: Any = core.services.shell
        self._pid = os.getpid()
        self._active = False
        self._before: Any = _ABSENT
        self._net: Any = None
        self._tail: _Tail | None = None  # of a cell that is a script
        self._last: Document | None = None  # what the last command has printed

    def install(self) -> None:
        """Stand between the shell and its `system`, where that gives what a command prints to the cell."""
        self._active = True
        system: Any = getattr(self._shell, "system", None)
        if getattr(system, "__name__", "") != "system_piped":
            return
        self._before = vars(self._shell).get("system", _ABSENT)
        self._net = self._make_net(system)
        self._shell.system = self._net

    def remove(self) -> None:
        """Put everything back; what somebody has put on top of ours since then stays, and calls ours no more."""
        self._active = False
        self._end_tail()
        if self._net is None or vars(self._shell).get("system") is not self._net:
            return
        if self._before is _ABSENT:
            del self._shell.system
        else:
            self._shell.system = self._before

    def begin(self, info: Any) -> None:
        """Keep what a cell prints that is a script."""
        self._last = None
        word = (getattr(info, "raw_cell", None) or "").lstrip().partition("\n")[0].split(" ")[0]
        scripts = getattr(self._shell.magics_manager.registry.get("ScriptMagics"), "magics", {}).get("cell", {})
        if word.startswith("%%") and word[2:] in scripts and self._tail is None:
            self._tail = _Tail()

    def end(self, result: Any, errors: int) -> None:  # noqa: ARG002
        """The cell has ended: what it printed is let go of."""
        self._end_tail()
        self._last = None

    def failed(self, error: BaseException) -> None:
        """Read the output of a command that failed with an error."""
        failed = next((one for one, _ in raised_with(error) if issubclass(type(one), CalledProcessError)), None)
        if failed is None or _MARK in instance_dict(failed):
            return
        instance_dict(failed)[_MARK] = True
        printed = self._tail.document() if self._tail is not None else self._last
        self._show(printed or read_pasted(_kept_by(failed)))

    def _end_tail(self) -> None:
        if self._tail is not None:
            self._tail.end()
            self._tail = None

    def _make_net(self, system: Callable[[str], Any]) -> Callable[[str], None]:
        """A `system` that keeps the tail of what the one before it prints."""

        def system_piped(cmd: str) -> None:
            if not self._active or os.getpid() != self._pid:
                system(cmd)
                return
            filled = self._shell.var_expand(cmd, depth=1)  # here the caller's names can be seen, and below no more
            tail = _Tail()
            try:
                with _Filled(self._shell, cmd, filled):
                    system(cmd)
            finally:
                tail.end()
                self._last = tail.document()
            if self._shell.user_ns.get("_exit_code"):
                self._core.services.attempt(lambda: self._show(self._last), None)

        return system_piped

    def _show(self, printed: Document | None) -> None:
        if printed is None or self._core.cells.quiet:
            return
        for told in read_told(printed).found[:_SHOWN]:
            event = replace(told.event, remote=told.event.remote or "command")
            case = told_case(replace(told, event=event), self._core.services)
            self._core.case = case
            self._core.panels.show(case)


def _kept_by(error: Any) -> str:
    """What `subprocess.run` has captured: of a lack of memory the error stream tells, if any does."""
    kept = [instance_dict(error).get(name) for name in ("output", "stderr")]
    texts = [one.decode("utf-8", "replace") if type(one) is bytes else one for one in kept]
    return "\n".join(one[-_TAIL:] for one in texts if type(one) is str)


class _Filled:
    """While it lasts, a command's text is filled in as it was found from where the user wrote it."""

    def __init__(self, shell: Any, cmd: str, filled: str) -> None:
        self._shell = shell
        self._cmd = cmd
        self._filled = filled

    def __enter__(self) -> None:
        shell, before = self._shell, self._shell.var_expand

        def var_expand(cmd: str, depth: int = 0, *rest: Any, **options: Any) -> Any:
            return self._filled if cmd is self._cmd else before(cmd, depth + 1, *rest, **options)

        self._had = vars(shell).get("var_expand", _ABSENT)
        shell.var_expand = var_expand

    def __exit__(self, *_error: object) -> None:
        if self._had is _ABSENT:
            del self._shell.var_expand
        else:
            self._shell.var_expand = self._had


class _Tail:
    """The last characters that are printed, from now until its end."""

    def __init__(self) -> None:
        self._chunks: deque[str] = deque()
        self._size = self._skipped = self._lines = 0
        self._lock = threading.Lock()
        self._tees = {name: _Tee(getattr(sys, name), self._keep) for name in ("stdout", "stderr")}
        for name, tee in self._tees.items():
            setattr(sys, name, tee)

    def document(self) -> Document | None:
        """What is kept; None of nothing."""
        with self._lock:
            text = "".join(self._chunks)
        return Document((Piece(text, Spot(line=1 + self._lines)),), self._skipped) if text else None

    def end(self) -> None:
        """Put the streams back. One that another thread has put its own on top of only passes on from now on."""
        for name, tee in self._tees.items():
            tee.active = False
            stream = getattr(sys, name)
            while type(stream) is _Tee and not stream.active:
                stream = stream.stream
            setattr(sys, name, stream)

    def _keep(self, text: str) -> None:
        with self._lock:
            self._chunks.append(text)
            self._size += len(text)
            while self._size - len(self._chunks[0]) >= _TAIL:
                self._drop(self._chunks.popleft())
            if self._size > 2 * _TAIL:  # one long piece
                whole = self._chunks.popleft()
                self._chunks.appendleft(whole[-_TAIL:])
                self._drop(whole[:-_TAIL])

    def _drop(self, text: str) -> None:
        self._size -= len(text)
        self._skipped += len(text)
        self._lines += text.count("\n")


class _Tee:
    """A stream that also gives what is written to somebody else."""

    def __init__(self, stream: Any, keep: Callable[[str], None]) -> None:
        self.stream = stream
        self.active = True
        self._keep = keep

    def write(self, text: Any) -> Any:
        """Write to the stream below."""
        if self.active and isinstance(text, str):
            self._keep(text)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Any:
        return iter(self.stream)
