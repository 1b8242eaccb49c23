"""One thread that calls one function every interval: start it, and stop and join it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_PATIENCE = 3  # failures in a row
_log = logging.getLogger(__name__)


class Poll:
    """Calls `tick` every `seconds` from a daemon thread until it is stopped or `tick` returns False.

    An error in `tick` is logged. One may pass, such as memory that is full for a moment; three in a row
    end the polling: a figure that cannot be read is not worth an error every second.
    """

    def __init__(self, tick: Callable[[], bool], seconds: float) -> None:
        self._tick = tick
        self._seconds = max(0.1, seconds)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; does nothing while it runs."""
        if self.running:
            return
        self._stop = threading.Event()  # one a thread: an earlier one that still hangs must end, not go on
        self._thread = threading.Thread(target=self._loop, args=[self._stop], name="nb_oomhelper poll", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it, at most two seconds: a hung driver must not hang the kernel."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2.0)

    def _loop(self, stop: threading.Event) -> None:
        failed = 0
        while failed < _PATIENCE and not stop.wait(self._seconds):
            try:
                if not self._tick():
                    return
                failed = 0
            except Exception:
                failed += 1
                _log.debug("the live readout failed", exc_info=True)
