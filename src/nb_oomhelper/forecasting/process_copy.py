"""A copy of this process, in which a call may do what it wants to objects in memory: none of it comes back.

The copy is a fork. It ends by itself or is ended, and all that comes out of it is one pickled answer of ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_GRACE = 5.0  # seconds after the deadline in which the copy may still tell what it knows
_RETRY, _FAILED = b"R", b"F"
LATE = "late"  # the error's text where the call neither ended in time nor let itself be interrupted


class CopyError(Exception):
    """There is no copy, or it has ended without an answer; the text says why."""


class DeadlineError(BaseException):
    """Time is up; no `except Exception` of the user's catches it."""


class RetryError(Exception):
    """In the copy: it cannot be used, since PyTorch has noticed the fork."""


@contextlib.contextmanager
def late_errors_left(trace: Any) -> Iterator[None]:
    """Let errors go that come when time was up while PyTorch entered or left a mode: in a copy it need not be left.

    Args:
        trace: Of the run: whether it has ended so.
    """
    try:
        yield
    except RuntimeError:
        if trace.ended != "deadline":
            raise


def run_in_copy(work: Callable[[], Any], deadline: float) -> Any:
    """Run something in a copy of this process.

    Args:
        work: Gives what can be pickled. `DeadlineError` is raised in it when time is up.
        deadline: Seconds.

    Returns:
        What it gave.

    Raises:
        CopyError: No copy could be made, or it died, or it did not end in time.
    """
    if not hasattr(os, "fork"):
        raise CopyError("os.fork")
    answer = _attempt(os.fork, work, deadline)
    if answer == _RETRY:  # autograd refuses its work in a fork that it knows of, once there was a backward pass
        answer = _attempt(_silent_fork(), work, deadline)
    if answer == _RETRY:
        raise CopyError("autograd")
    if answer.startswith(_FAILED):
        raise CopyError(answer[1:].decode())
    return pickle.loads(answer)  # written by our own copy, over a pipe that nobody else has


def _silent_fork() -> Callable[[], int]:
    """A fork that libraries are not told of: POSIX's `_Fork`."""
    library = ctypes.PyDLL(None)
    if not hasattr(library, "_Fork"):
        raise CopyError("_Fork")

    def fork() -> int:
        ctypes.pythonapi.PyOS_BeforeFork()
        number: int = library._Fork()
        if number == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        else:
            ctypes.pythonapi.PyOS_AfterFork_Parent()
        return number

    return fork


def _attempt(fork: Callable[[], int], work: Callable[[], Any], deadline: float) -> bytes:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # what is buffered must not be written twice
            stream.flush()
    reader, writer = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads beside a fork
            number = fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        raise CopyError(str(error)) from None
    if number == 0:
        os.close(reader)
        _be_the_copy(work, writer, deadline)
    os.close(writer)
    ended, until = 0, time.monotonic() + deadline + _GRACE
    try:
        answer = _read(reader, until)
        late = not answer and time.monotonic() >= until
    finally:
        os.close(reader)
        ended = _end(number)
    if not answer:
        raise CopyError(LATE if late else _said(ended))
    return answer


def _said(ended: int) -> str:
    """How the copy has ended without an answer."""
    number = os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0
    return signal.Signals(number).name if number in list(signal.Signals) else "died"


def _be_the_copy(work: Callable[[], Any], writer: int, deadline: float) -> None:
    """Answer and end, whatever happens; nothing of the original's is run on the way out."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, _time_is_up)
        signal.setitimer(signal.ITIMER_REAL, deadline)
        _silence()
        try:
            answer = pickle.dumps(work())
        except RetryError:
            answer = _RETRY
        except BaseException:  # ours: what the user's call raises is a part of the answer
            answer = _FAILED + traceback.format_exc().encode()
        signal.setitimer(signal.ITIMER_REAL, 0)
        with open(writer, "wb", closefd=False) as pipe:
            pipe.write(answer)
        code = 0
    finally:
        os._exit(code)


def _time_is_up(*_: Any) -> None:
    raise DeadlineError


def _silence() -> None:
    """Send what is printed nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def _read(reader: int, until: float) -> bytes:
    """All that comes through the pipe until it is closed, or until time is up."""
    found = bytearray()
    while (left := until - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            more = os.read(reader, 1 << 20)
            if not more:
                break
            found += more
    return bytes(found)


def _end(number: int) -> int:
    """End the copy and what it has started, and take its number off the list of processes; how it has ended."""
    with contextlib.suppress(OSError):
        os.killpg(number, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(number, signal.SIGKILL)
    with contextlib.suppress(OSError):
        return os.waitpid(number, 0)[1]
    return 0
