"""Where errors pass: IPython's custom handler slot first, and nets for the routes that miss it.

Which route reaches which of them was seen in real kernels of IPython 8 and 9: the slot misses wrapped
errors, groups, `%run`, `%time`, `__repr__` and widget callbacks, which all pass `shell.showtraceback`;
`post_run_cell` sees what a cell died of; threads pass `threading.excepthook` alone. So one error can come
by several times: who looks must know it again.

Nothing here raises into the user's cell, and nothing keeps an exception.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

_CAUGHT = (RuntimeError, MemoryError)  # what frameworks raise; wider would spoil IPython's own SyntaxError display
_ABSENT = object()


class Hooks:
    """Puts the hooks in, and takes exactly them out again.

    Args:
        shell: The InteractiveShell.
        look: Called with each error after its traceback was shown, and whether Python and IPython keep it
            from then on; must not raise.
        before, after: Called around each cell.
        ease: Called once before a traceback is shown: there may be little memory left to show it with.
    """

    def __init__(
        self,
        shell: Any,
        look: Callable[[BaseException, bool], None],
        before: Callable[[Any], None],
        after: Callable[[Any], None],
        free_reserve: Callable[[], None] = lambda: None,
    ) -> None:
        self._shell = shell
        self._look = look
        self._before = before
        self._after = after
        self._free_reserve = free_reserve
        self._active = False
        self._handling = False
        self._pid = os.getpid()
        self._slot: tuple[tuple[type[BaseException], ...], Any] = ((), None)
        self._shown_before: Any = _ABSENT
        self._thread_before: Callable[[Any], Any] | None = None

    def install(self) -> None:
        """Put every hook in."""
        shell = self._shell
        self._active = True
        self._slot = (tuple(shell.custom_exceptions), shell.CustomTB)
        self._take_slot()
        self._shown_before = vars(shell).get("showtraceback", _ABSENT)
        self._net = self._make_net()
        shell.showtraceback = self._net
        shell.events.register("pre_run_cell", self._before)
        shell.events.register("post_run_cell", self._ran)
        self._thread_before = threading.excepthook
        self._thread_net = _make_thread_net(self, self._thread_before)
        threading.excepthook = self._thread_net

    def remove(self) -> None:
        """Put everything back as it was; what somebody has put on top of ours since then stays."""
        shell = self._shell
        self._active = False
        if self.has_slot:
            shell.custom_exceptions, shell.CustomTB = self._slot
        if vars(shell).get("showtraceback") is self._net:
            if self._shown_before is _ABSENT:
                del shell.showtraceback
            else:
                shell.showtraceback = self._shown_before
        for event, callback in (("pre_run_cell", self._before), ("post_run_cell", self._ran)):
            with contextlib.suppress(ValueError):  # somebody has taken it out already
                shell.events.unregister(event, callback)
        if threading.excepthook is self._thread_net and self._thread_before is not None:
            threading.excepthook = self._thread_before

    @property
    def has_slot(self) -> bool:
        """Whether IPython's one handler slot is still ours; another extension may have taken it."""
        return bool(self._shell.CustomTB == self._handle)

    def _take_slot(self) -> None:
        """Not by `set_custom_exc`: that catches what showing a traceback may raise, and drops us for it."""
        others = tuple(kind for kind in self._slot[0] if kind not in _CAUGHT)
        self._shell.custom_exceptions, self._shell.CustomTB = _CAUGHT + others, self._handle

    def _handle(self, etype: Any, value: Any, tb: Any, tb_offset: int | None = None) -> None:
        """IPython's handler: the traceback first, by whoever had the slot before, else as usual."""
        self.free_reserve()
        self._handling = True  # the net below must not ease once more: the rest is for the panel
        try:
            kinds, before = self._slot
            if not (kinds and isinstance(value, kinds) and self._shown_by(before, etype, value, tb, tb_offset)):
                self._shell.showtraceback((etype, value, tb), tb_offset=tb_offset)
        finally:
            self._handling = False
            self._seen(value)

    def _shown_by(self, before: Any, *error: Any) -> bool:
        """Call the handler that had the slot; False where it failed. IPython has emptied the slot then."""
        try:
            before(*error)
            failed = not self._shell.custom_exceptions
        except Exception:  # IPython 8.18 fails as well
            failed = True
        if failed and self._active:
            self._slot = ((), self._shell.CustomTB)
            self._take_slot()
        return not failed

    def _make_net(self) -> Callable[..., Any]:
        """A showtraceback that calls the one it found, then looks at the error that was shown."""

        def showtraceback(*args: Any, **options: Any) -> Any:
            if not self._handling:
                self.free_reserve()
            given = options.get("exc_tuple") or (args[0] if args else None)
            error = given[1] if given else sys.exc_info()[1]
            try:
                return self._show(*args, **options)
            finally:
                if not self._handling:  # else who handles it looks, after what somebody may print beside it
                    self._seen(error)

        return showtraceback

    def _show(self, *args: Any, **options: Any) -> Any:
        """Call the showtraceback below ours: the shell's own one as it is now, for its class may have been patched."""
        if self._shown_before is not _ABSENT:
            return self._shown_before(*args, **options)
        return type(self._shell).showtraceback(self._shell, *args, **options)

    def _ran(self, result: Any) -> None:
        try:
            self._seen(getattr(result, "error_in_exec", None))
        finally:
            self._after(result)

    def seen_in_thread(self, error: object) -> None:
        """Look at what a thread died of; nobody keeps it."""
        self._seen(error, kept=False)

    def free_reserve(self) -> None:
        """Make room for a traceback; nothing may keep it from being shown."""
        with contextlib.suppress(Exception):
            self._free_reserve()

    def _seen(self, error: object, kept: bool = True) -> None:
        # a forked process has the front end's sockets, and what it shows there nobody can click
        if self._active and isinstance(error, BaseException) and os.getpid() == self._pid:
            self._look(error, kept)


def _make_thread_net(hooks: Hooks, before: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A threading.excepthook that calls the one before, then looks; it does not keep the shell alive."""
    known = weakref.ref(hooks)

    def excepthook(args: Any) -> None:
        ours = known()
        if ours is not None:
            ours.free_reserve()
        before(args)
        if ours is not None:
            ours.seen_in_thread(args.exc_value)

    return excepthook
