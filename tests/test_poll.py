"""The one thread: it starts, calls, ends, and is gone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from nb_oomhelper.poll import Poll

pytestmark = pytest.mark.plain
LONG = 30.0  # seconds after which a thread that should have come or gone is lost


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "nb_oomhelper poll"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    assert threads() == []
    yield
    for thread in threads():
        thread.join(LONG)
    assert threads() == []


def until(count: int, answer: bool = True) -> tuple[Callable[[], bool], threading.Event]:
    """A tick that sets the event at its n-th call."""
    reached = threading.Event()
    calls: list[int] = []

    def tick() -> bool:
        calls.append(1)
        if len(calls) >= count:
            reached.set()
        return answer

    return tick, reached


def test_nothing_runs_until_it_is_started() -> None:
    poll = Poll(until(1)[0], 0.1)
    assert not poll.running
    poll.stop()


def test_it_ticks_until_it_is_stopped() -> None:
    tick, reached = until(3)
    poll = Poll(tick, 0.1)
    poll.start()
    (thread,) = threads()
    assert thread.daemon  # a kernel that ends must not wait for it
    assert reached.wait(LONG)
    running = poll.running
    poll.stop()
    assert (running, poll.running) == (True, False)
    assert threads() == []


def test_starting_twice_is_one_thread() -> None:
    poll = Poll(until(1)[0], 0.1)
    poll.start()
    poll.start()
    assert len(threads()) == 1
    poll.stop()
    poll.stop()


def test_it_starts_again_after_a_stop() -> None:
    tick, reached = until(1)
    poll = Poll(tick, 0.1)
    poll.start()
    poll.stop()
    reached.clear()
    poll.start()
    assert reached.wait(LONG)
    poll.stop()


def test_a_tick_may_end_it() -> None:
    tick, reached = until(1, answer=False)
    poll = Poll(tick, 0.1)
    poll.start()
    (thread,) = threads()
    assert reached.wait(LONG)
    thread.join(LONG)
    assert not poll.running


def test_one_error_passes(caplog: pytest.LogCaptureFixture) -> None:
    reached, calls = threading.Event(), [0]

    def tick() -> bool:
        calls[0] += 1
        if calls[0] in (1, 2, 4, 5):
            raise MemoryError
        if calls[0] == 6:
            reached.set()
        return True

    poll = Poll(tick, 0.1)
    poll.start()
    assert reached.wait(LONG)
    poll.stop()


def test_three_errors_in_a_row_end_it_and_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def tick() -> bool:
        raise ZeroDivisionError

    with caplog.at_level(logging.DEBUG, logger="nb_oomhelper.poll"):
        poll = Poll(tick, 0.1)
        poll.start()
        (thread,) = threads()
        thread.join(LONG)
    assert not poll.running
    assert [record.message for record in caplog.records] == ["the live readout failed"] * 3


def test_a_tick_that_stops_it_does_not_wait_for_itself() -> None:
    ended = threading.Event()

    def tick() -> bool:
        poll.stop()
        ended.set()
        return True

    poll = Poll(tick, 0.1)
    poll.start()
    assert ended.wait(LONG)


def test_stopped_and_started_within_a_tick_it_is_one_thread() -> None:
    """The thread that was stopped must end even though another one has been started meanwhile."""
    seen: list[threading.Thread] = []
    second = threading.Event()

    def tick() -> bool:
        seen.append(threading.current_thread())
        if len(seen) == 1:
            poll.stop()
            poll.start()
        elif len({id(thread) for thread in seen}) == 2:
            second.set()
        return True

    poll = Poll(tick, 0.1)
    poll.start()
    assert second.wait(LONG)
    seen[0].join(LONG)
    assert not seen[0].is_alive()
    assert len(threads()) == 1
    poll.stop()


def test_a_tick_that_hangs_does_not_hang_who_stops_it() -> None:
    begun, release = threading.Event(), threading.Event()

    def tick() -> bool:
        begun.set()
        release.wait(LONG)
        return True

    poll = Poll(tick, 0.1)
    poll.start()
    assert begun.wait(LONG)
    poll.stop()  # gives up after two seconds
    assert not poll.running
    assert len(threads()) == 1
    release.set()


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_it_never_spins(seconds: float) -> None:
    assert Poll(until(1)[0], seconds)._seconds == 0.1
