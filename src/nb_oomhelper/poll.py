"""The one thread beside the kernel's own: it asks the driver, and draws what is live.

A call to the driver may hang, and nothing ends a hung call: who asks must be able to go on without an answer.
And no thread may be started once memory is full: the new thread can die before it says that it has begun, which
`Thread.start` waits for without an end, or take the process along. So there is one thread for everything, started
while there is room.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from nb_oomhelper.address_space import is_scarce, room

_PATIENCE = 3  # failures in a row
_ENOUGH = 1 << 30  # bytes of address space: its stack and glibc's arena take 72 MiB, too large a share of less
_IDLE = 3600.0  # seconds; it is woken earlier
_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


class LateError(Exception):
    """No answer in time; the text says why in one line."""


class Repeat:
    """A function that is called every so many seconds until it is stopped or returns False.

    An error in it is logged. One may pass, such as memory that is full for a moment; three in a row end it: a figure
    that cannot be read is not worth an error every second.
    """

    def __init__(self, tick: Callable[[], bool], seconds: float, ended: Callable[[], object] | None = None) -> None:
        self._tick = tick
        self._ended = ended
        self._failed = 0
        self.seconds = max(0.1, seconds)
        self.due = time.monotonic() + self.seconds
        self.active = True

    def stop(self) -> None:
        """Call it no more. One call may be going on just now: who draws must look whether it may still."""
        self.active = False

    def run(self) -> None:
        """Call it once, if it is still wanted."""
        try:
            self.active = self.active and self._tick()
            self._failed = 0
        except Exception:
            self._failed += 1
            _log.debug("the live readout failed", exc_info=True)
            if self._failed >= _PATIENCE and self.active:
                self.active = False
                if self._ended is not None:
                    self._ended()
        self.due = time.monotonic() + self.seconds


class _Question:
    """One question on its way to the thread, and its answer."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.answered = threading.Event()
        self.wanted = True
        self.answer: Any = None
        self.error: BaseException | None = None

    def put(self) -> None:
        """Ask it, unless nobody waits any more."""
        if self.wanted:
            try:
                self.answer = self.function()
            except BaseException as error:  # it is raised where the question came from
                self.error = error
        self.answered.set()


class Worker:
    """The thread, what it is asked, and what it repeats. One a process; safe to use from any thread."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._questions: deque[_Question] = deque()
        self._repeats: list[Repeat] = []
        self._hung: _Question | None = None  # the last one that somebody gave up waiting for

    @property
    def repeating(self) -> bool:
        """Whether anything is still to be repeated, for whichever shell."""
        return any(one.active for one in list(self._repeats))

    @property
    def running(self) -> bool:
        """Whether the thread is alive, in this process: a forked one has none."""
        return self._pid == os.getpid() and self._thread is not None and self._thread.is_alive()

    def start(self) -> bool:
        """Start the thread where it does not run and there is room for one; whether it runs now."""
        if self._pid != os.getpid():
            self.__init__()  # type: ignore[misc]  # forked: the locks may be held by threads that are not here
        with self._lock:
            if self.running:
                return True
            left = room()
            if left is not None and left < _ENOUGH:
                return False
            self._hung = None  # that was another thread's
            self._thread = threading.Thread(target=self._loop, name="nb_oomhelper", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the system gives no more threads
                self._thread = None
            return self._thread is not None

    def ask(self, function: Callable[[], _Answer], seconds: float) -> _Answer:
        """Call a function on the thread and wait for what it returns.

        Raises:
            LateError: There was no answer in `seconds`; or at once where an earlier question still hangs, or there
                is no thread and no room for one.
            Exception: Whatever the function raised.
        """
        if threading.current_thread() is self._thread:
            return function()
        if not self.start():
            raise LateError("no room for a thread to ask from")
        if self._hung is not None and not self._hung.answered.is_set():
            raise LateError("an earlier question has no answer yet")
        self._hung = None
        question = _Question(function)
        self._questions.append(question)
        self._wake.set()
        try:
            question.answered.wait(seconds)
        finally:  # also where the wait is interrupted
            question.wanted = False
        if not question.answered.is_set():
            self._hung = question
            raise LateError(f"no answer in {seconds:g} s")
        try:
            if question.error is not None:
                raise question.error
            answer: _Answer = question.answer
            return answer
        finally:
            del question  # it has the error, and the error this frame

    def tell(self, function: Callable[[], object]) -> None:
        """Have a function called on the thread as soon as it can be, if it runs; nobody waits for it."""
        if self.running:
            self._questions.append(_Question(function))
            self._wake.set()

    def every(self, seconds: float, tick: Callable[[], bool], ended: Callable[[], object] | None = None) -> Repeat:
        """Call `tick` every `seconds`, if the thread runs or can be started.

        Args:
            seconds: Between two calls.
            tick: Returns False when it is to be called no more.
            ended: Called on the thread where `tick` has failed too often.
        """
        repeat = Repeat(tick, seconds, ended)
        repeat.active = self.start()
        if repeat.active:
            with self._lock:
                self._repeats.append(repeat)
            self._wake.set()
        return repeat

    def end(self) -> None:
        """End the thread as soon as it comes back from what it does now; wait a moment for it, no more."""
        if self._pid != os.getpid():  # forked: the thread is not here, and the lock may be held by one that is not
            return
        with self._lock:
            thread, self._thread = self._thread, None
            for repeat in self._repeats:
                repeat.stop()
            self._repeats = []
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=0.5)

    def _loop(self) -> None:
        """Nothing that happens here may end the thread: with full memory even waiting can fail."""
        me = threading.current_thread()
        while self._thread is me:
            try:
                self._turn()
            except Exception:
                time.sleep(0.2)

    def _turn(self) -> None:
        soonest = min((one.due for one in self._repeats), default=time.monotonic() + _IDLE)
        self._wake.wait(max(0.0, soonest - time.monotonic()))
        self._wake.clear()
        while self._questions:
            self._questions.popleft().put()
        now = time.monotonic()
        for repeat in [one for one in self._repeats if one.active and one.due <= now]:
            # with no room it may cost the process: glibc gives up where a library's thread-local data find none
            if is_scarce():
                repeat.due = now + repeat.seconds
            else:
                repeat.run()
        with self._lock:
            self._repeats = [one for one in self._repeats if one.active]


WORKER = Worker()
"""The one thread of this process."""
