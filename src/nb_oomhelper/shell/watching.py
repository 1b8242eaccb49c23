"""What is watched only where somebody has switched it on: commands, caught errors, kernels that die."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nb_oomhelper.shell.settings import OOMHelper


class Watcher(Protocol):
    """One of them. Nothing of it may raise into a cell: whoever calls it takes care of that."""

    def install(self) -> None:
        """Begin to watch."""

    def remove(self) -> None:
        """Put everything back as it was."""

    def begin(self, info: Any) -> None:
        """A cell begins."""

    def end(self, result: Any, errors: int) -> None:
        """A cell has ended.

        Args:
            result: As IPython has it; None where the cell was cancelled.
            errors: How many out-of-memory errors of it came by.
        """

    def failed(self, error: BaseException) -> None:
        """An error came by that is no lack of memory of this process's."""


_WATCHERS = {  # by setting: its module and its class
    "watch_output": ("nb_oomhelper.shell.commands", "Commands"),
    "watch_allocator": ("nb_oomhelper.shell.caught", "Caught"),
    "watch_kernel": ("nb_oomhelper.shell.run_file", "RunFile"),
}


class Watching:
    """The watchers of one shell that are on.

    Args:
        settings: Say which; also while the shell runs.
        core: The extension, which they work with; `core.Core` says what they find there.
    """

    def __init__(self, settings: OOMHelper, core: Any) -> None:
        self._settings = settings
        self._core = core
        self._on: dict[str, Watcher] = {}

    def install(self) -> None:
        """Begin to watch what is switched on, and follow the switches."""
        self._settings.observe(self._switch, list(_WATCHERS))
        self._switch(None)

    def remove(self) -> None:
        """Watch nothing more."""
        self._settings.unobserve(self._switch, list(_WATCHERS))
        for name in list(self._on):
            self._end(name)

    def get(self, name: str) -> Any:
        """The watcher of a setting; None where it is off."""
        return self._on.get(name)

    def begin(self, info: Any) -> None:
        """A cell begins."""
        self._each(lambda one: one.begin(info))

    def end(self, result: Any, errors: int) -> None:
        """A cell has ended.

        Args:
            result: As IPython has it.
            errors: How many out-of-memory errors of it came by.
        """
        self._each(lambda one: one.end(result, errors))

    def failed(self, error: BaseException) -> None:
        """An error came by that is no lack of memory of this process's."""
        self._each(lambda one: one.failed(error))

    def _each(self, call: Callable[[Watcher], None]) -> None:
        for watcher in list(self._on.values()):
            self._core.services.attempt(partial(call, watcher), None)

    def _switch(self, _change: object) -> None:
        for name, (module, kind) in _WATCHERS.items():
            if getattr(self._settings, name) == (name in self._on):
                continue
            if name in self._on:
                self._end(name)
            else:
                self._core.services.attempt(partial(self._begin, name, module, kind), None)

    def _begin(self, name: str, module: str, kind: str) -> None:
        watcher: Watcher = getattr(import_module(module), kind)(self._core)
        watcher.install()
        self._on[name] = watcher

    def _end(self, name: str) -> None:
        with contextlib.suppress(Exception):
            self._on.pop(name).remove()
