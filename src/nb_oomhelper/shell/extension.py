"""One shell's nb_oomhelper: what is loaded and unloaded, and what happens in which order when an error comes by.

`%load_ext` is felt each time that a kernel starts, so only hooks, magics and settings are imported then.
The rest comes a second later, when the kernel is idle, or earlier if it is needed: an error that filled the
host's memory leaves little room to import anything.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from nb_oomhelper.shell import magics, say
from nb_oomhelper.shell.cells import Cells
from nb_oomhelper.shell.held import Held
from nb_oomhelper.shell.hooks import Hooks
from nb_oomhelper.shell.reserve import Reserve
from nb_oomhelper.shell.settings import OOMHelper
from nb_oomhelper.shell.task_net import TaskNet
from nb_oomhelper.shell.warming import Warming
from nb_oomhelper.shell.watching import Watching

if TYPE_CHECKING:
    from nb_oomhelper.case import Case
    from nb_oomhelper.failure.detection import Failure
    from nb_oomhelper.records.event import OomEvent
    from nb_oomhelper.records.memory import Span
    from nb_oomhelper.services import Services
    from nb_oomhelper.shell.panels import Panels

_log = logging.getLogger(__name__)
_MARK = "_nb_oomhelper_seen"  # set on an exception that was looked at: it can come by on several routes
_BARE = "out of memory; `%oom release` gives back what the failed cell keeps"
# An exception's own attributes, past any code of its class, which may refuse or make up attributes.
_attributes: Callable[[BaseException], dict[str, Any]] = BaseException.__dict__["__dict__"].__get__


class Extension:
    """One shell's nb_oomhelper, from load to unload."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.settings = OOMHelper(parent=shell)
        self.case: Case | None = None
        self._reserve = Reserve()
        self._held = Held(self._reserve)
        self.cells = Cells(shell, self._reserve.take)  # what is told to be free after a fix then is free for cells
        self.hooks = Hooks(shell, self._look, self._before, self._after, self._held.fail)
        self._tasks = TaskNet(shell, _read_text, self._show)
        self._magics = magics.Registration(shell, self)
        self._errors = 0  # of the cell that runs
        self._warming = Warming(shell, lambda: self.services)
        self.watching = Watching(self.settings, self)

    @cached_property
    def services(self) -> Services:
        """What cases are worked on with."""
        from nb_oomhelper.shell.services import make_services

        return make_services(self.shell, self.settings)

    @cached_property
    def panels(self) -> Panels:
        """What is on the screen, and what a click or a magic does."""
        from nb_oomhelper.shell.panels import Panels

        return Panels(self.services, self.settings, self.cells)

    # from load to unload

    def load(self) -> None:
        """Put everything in."""
        self.shell.configurables.append(self.settings)
        self._magics.install()
        self.hooks.install()
        self.watching.install()
        self._tasks.install()
        self._warming.begin()

    def unload(self) -> None:
        """Take everything out, and end what is live."""
        self._warming.cancel()
        self.watching.remove()
        self.hooks.remove()
        self._tasks.remove()
        self._magics.remove()
        if self.settings in self.shell.configurables:
            self.shell.configurables.remove(self.settings)
        for end in (partial(_close_screen, self), partial(_end_services, self), self._reserve.end):
            with contextlib.suppress(Exception):  # what ends badly must not keep the rest
                end()
        self.case = None

    # a cell begins, an error comes by

    def _before(self, info: Any) -> None:
        self._reserve.take()
        if self.cells.reruns or not self.cells.source():
            self._errors = 0
            self._held.begin()
        self.cells.begin(info)
        self.watching.begin(info)
        if "panels" in vars(self):
            self.panels.reruns.begin(info)

    def _after(self, result: Any) -> None:
        self.cells.end(result)
        self.watching.end(result, self._errors)
        if "panels" in vars(self):
            self.services.attempt(lambda: self.panels.reruns.end(result), None)

    def _look(self, error: BaseException, kept: bool) -> None:
        """Open a case for an out-of-memory error that has none yet, and show it.

        What nobody keeps (a thread's or a task's) is freed as soon as we return, and need not be of the cell that runs.
        """
        if self.cells.quiet:
            return
        span = self._held.look()
        try:
            failure = _read_new(error)
        except (Exception, KeyboardInterrupt) as problem:
            failure = self._read_again(error, problem)
        if failure is None:  # most errors need not wait for the rest to be imported
            self.watching.failed(error)
        else:
            self._show(failure, kept, span)

    def _show(self, failure: Failure, kept: bool = False, span: Span = (None, None)) -> None:
        if failure.event is None:
            return
        self._reserve.give_all()
        self.case = None  # until there is a new one: a fix of an older error must not run for this one
        try:
            self._open(failure, kept, span)
        except (Exception, KeyboardInterrupt) as problem:
            self._failed(problem)
            self._open_minimal(failure.event)

    def _read_again(self, error: BaseException, problem: BaseException) -> Failure | None:
        """Read an error once more that could not be read: with what was put by, if it is one of memory by its class."""
        self._failed(problem)
        if not issubclass(type(error), MemoryError):
            return None
        self._reserve.give_all()
        self.case = None
        try:
            return _read_new(error)
        except (Exception, KeyboardInterrupt) as again:
            self._failed(again)
            _attributes(error)[_MARK] = True  # it comes by on other routes
            say(_BARE)
            return None

    def _open(self, failure: Failure, kept: bool, span: Span) -> None:
        from nb_oomhelper.case import open_case
        from nb_oomhelper.holders.scope import scope_of

        where = partial(scope_of, self.shell, failure if kept else replace(failure, errors=()))
        case = open_case(failure, where, self.services, self.cells.source() if kept else "", span)
        if case is None:
            return
        self.case = case
        self._errors += 1
        self.panels.open(case, self._errors, kept=kept)

    def _open_minimal(self, event: OomEvent) -> None:
        """What can be told without looking at anything: the error's own numbers, and a release."""
        try:
            from nb_oomhelper.case import minimal_case

            if self.case is None:
                self.case = minimal_case(event, self.services)
            self.panels.show_minimal(self.case)
        except (Exception, KeyboardInterrupt) as problem:
            self._failed(problem)
            say(_BARE)

    def _failed(self, problem: BaseException) -> None:
        """Keep what went wrong with us, as text, for `%oom status`."""
        with contextlib.suppress(Exception):
            _log.debug("a part failed", exc_info=problem)
            self.services.failed(problem)


def _close_screen(extension: Extension) -> None:
    if "panels" in vars(extension):
        extension.panels.screen.close()


def _end_services(extension: Extension) -> None:
    if "services" in vars(extension):
        from nb_oomhelper.shell.services import end

        end(extension.services)


def _read_new(error: BaseException) -> Failure | None:
    """Read an error; None for one that has come by before. It must not outlive the call that it is read for."""
    if _MARK in _attributes(error):
        return None
    from nb_oomhelper.failure.detection import read_failure

    failure = read_failure(error)
    return None if failure.event is None or _is_known(failure) else failure


def _read_text(error: BaseException) -> Failure | None:
    """Read an error without keeping anything of it but its text."""
    failure = _read_new(error)
    return None if failure is None else replace(failure, errors=())


def _is_known(failure: Failure) -> bool:
    """Whether this error, or one behind it, came by before; from now on it did."""
    chain = [_attributes(one) for one in failure.errors]
    known = any(_MARK in attributes for attributes in chain)
    for attributes in chain:
        attributes[_MARK] = True
    return known
