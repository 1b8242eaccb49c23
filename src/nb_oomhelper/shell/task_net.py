"""A net for tasks that nobody awaits: the exception handler of the kernel's asyncio loop, chained."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class TaskNet:
    """Sees the errors that asyncio hands to its loop's handler, since nobody has asked for them.

    Asyncio does so when it collects the task: in any thread, in the middle of anything. So what is told is read at
    once, and shown when the loop is free; the error itself is not kept for that.

    Args:
        shell: The InteractiveShell; without a kernel's loop there is nothing to do.
        read: Called at once with an error; gives what is to be shown of it, or None.
        show: Called with that on the loop's thread; must not raise.
    """

    def __init__(self, shell: Any, read: Callable[[BaseException], Any], show: Callable[[Any], None]) -> None:
        io_loop = getattr(getattr(shell, "kernel", None), "io_loop", None)
        self._loop: Any = getattr(io_loop, "asyncio_loop", None)
        self._read = read
        self._show = show
        self._before: Callable[..., Any] | None = None
        self._net: Callable[..., Any] | None = None

    def install(self) -> None:
        """Put it above the handler that is there."""
        if self._loop is not None:
            self._before = self._loop.get_exception_handler()
            self._net = _make_net(self, self._before)
            self._loop.set_exception_handler(self._net)

    def remove(self) -> None:
        """Put the handler back that was there; one that somebody has put above ours stays."""
        if self._loop is not None and self._loop.get_exception_handler() is self._net:
            self._loop.set_exception_handler(self._before)

    def look(self, error: object) -> None:
        """Read an error that is handed on, and have it shown soon."""
        with contextlib.suppress(Exception):  # who collects must not be troubled; a loop that is closed shows nothing
            told = self._read(error) if isinstance(error, BaseException) else None
            if told is not None:
                self._loop.call_soon_threadsafe(self._show, told)


def _make_net(net: TaskNet, before: Callable[..., Any] | None) -> Callable[..., Any]:
    """A handler that calls the one before, then looks; it does not keep the shell alive."""
    known = weakref.ref(net)

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if before is None:
            loop.default_exception_handler(context)
        else:
            before(loop, context)
        ours = known()
        if ours is not None:
            ours.look(context.get("exception"))

    return handle
