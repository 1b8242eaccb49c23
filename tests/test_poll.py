"""The one thread: it answers in time or not at all, repeats what is asked for, and is started only with room."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nb_oomhelper.poll import LateError, Worker

pytestmark = pytest.mark.plain
LONG = 30.0  # seconds after which a thread that should have come or gone is lost


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker()
    yield one
    thread = one._thread
    one.end()
    if thread is not None:
        thread.join(LONG)
        assert not thread.is_alive()


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


def test_nothing_runs_until_it_is_wanted(worker: Worker) -> None:
    assert not worker.running


def test_a_question_is_answered_on_the_thread(worker: Worker) -> None:
    thread = worker.ask(threading.current_thread, LONG)
    assert thread.name == "nb_oomhelper"
    assert thread.daemon  # a kernel that ends must not wait for it
    assert worker.ask(lambda: worker.ask(threading.current_thread, LONG), LONG) is thread  # a tick that asks


def test_an_error_is_raised_where_the_question_came_from(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        worker.ask(lambda: 1 // 0, LONG)
    assert worker.ask(lambda: 1, LONG) == 1


def test_who_asks_is_not_held_by_a_call_that_hangs(worker: Worker) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go_on.wait()

    with pytest.raises(LateError, match=r"no answer in 0\.1 s"):
        worker.ask(hang, 0.1)
    assert begun.is_set()
    with pytest.raises(LateError, match="an earlier question"):  # at once: one wait is enough
        worker.ask(lambda: 1, LONG)
    worker.end()  # does not wait for it either
    go_on.set()


def test_it_answers_again_once_the_hung_call_is_back(worker: Worker) -> None:
    go_on = threading.Event()
    with pytest.raises(LateError):
        worker.ask(go_on.wait, 0.1)
    tick, reached = until(1)
    worker.every(0.1, tick)
    go_on.set()
    assert reached.wait(LONG)
    assert worker.ask(lambda: 1, LONG) == 1


def test_a_question_that_nobody_waits_for_any_more_is_not_asked(worker: Worker) -> None:
    go_on, hangs = threading.Event(), threading.Event()
    asked: list[int] = []

    def hang() -> bool:
        hangs.set()
        return go_on.wait()

    worker.every(0.1, hang)
    assert hangs.wait(LONG)
    with pytest.raises(LateError):
        worker.ask(lambda: asked.append(1), 0.1)
    go_on.set()
    tick, reached = until(2)
    worker.every(0.1, tick)
    assert reached.wait(LONG)
    assert asked == []


def test_an_answer_at_the_last_moment_is_one(worker: Worker) -> None:
    """The wait may end just when the answer comes, on a machine that is busy: neither may stay late."""
    for _ in range(40):
        with contextlib.suppress(LateError):
            worker.ask(lambda: threading.Event().wait(0.02), 0.02)
    for _ in range(100):  # the last one that was late has been answered by now, or will be
        with contextlib.suppress(LateError):
            assert worker.ask(lambda: 1, LONG) == 1
            return
        threading.Event().wait(0.05)
    pytest.fail("it calls itself late for ever")


def test_who_repeats_is_told_that_it_failed_too_often(worker: Worker) -> None:
    told = threading.Event()
    worker.every(0.1, lambda: bool(1 // 0), told.set)
    assert told.wait(LONG)
    assert not worker.repeating


def test_it_repeats_until_it_is_stopped(worker: Worker) -> None:
    tick, reached = until(3)
    repeat = worker.every(0.1, tick)
    assert reached.wait(LONG)
    assert repeat.active
    repeat.stop()
    assert not repeat.active


def test_it_repeats_until_the_tick_says_so(worker: Worker) -> None:
    tick, reached = until(1, answer=False)
    repeat = worker.every(0.1, tick)
    assert reached.wait(LONG)
    worker.ask(lambda: None, LONG)  # the turn is over
    assert not repeat.active


def test_one_failure_may_pass_and_three_in_a_row_end_it(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    seen: list[int] = []

    def tick() -> bool:
        seen.append(1)
        if len(seen) == 5:
            done.set()
        if len(seen) != 2:
            raise OSError("full")
        return True

    with caplog.at_level(logging.DEBUG, "nb_oomhelper.poll"):
        repeat = worker.every(0.1, tick)
        assert done.wait(LONG)
        worker.ask(lambda: None, LONG)
    assert len(seen) == 5
    assert not repeat.active
    assert len(caplog.records) == 4


def test_several_share_the_thread(worker: Worker) -> None:
    ticks = [until(2) for _ in range(3)]
    for tick, _ in ticks:
        worker.every(0.1, tick)
    assert all(reached.wait(LONG) for _, reached in ticks)
    assert len({worker.ask(threading.current_thread, LONG) for _ in ticks}) == 1


def test_it_starts_again_after_its_end(worker: Worker) -> None:
    first = worker.ask(threading.current_thread, LONG)
    worker.end()
    first.join(LONG)
    assert not worker.running
    assert worker.ask(threading.current_thread, LONG) is not first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_a_thread_of_its_own(worker: Worker) -> None:
    worker.start()
    child = os.fork()
    if not child:
        os._exit(0 if not worker.running and worker.ask(lambda: 5, LONG) == 5 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def play(code: str) -> Any:
    """Run code in a process of its own, which has room for `room` bytes more."""
    prelude = """
        import json, os, resource
        from nb_oomhelper.poll import LateError, Worker
        def limit(room):
            size = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (size + room, resource.RLIM_INFINITY))
        worker = Worker()
    """
    command = [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_thread_is_started_where_there_is_little_room() -> None:
    """It could die before it says that it has begun: `Thread.start` would wait for ever."""
    pytest.importorskip("resource")
    code = """
        limit(100 << 20)
        try:
            worker.ask(lambda: 1, 5)
        except LateError as error:
            print(json.dumps([str(error), worker.start(), worker.every(0.1, lambda: True).active]))
    """
    assert play(code) == ["no room for a thread to ask from", False, False]


def test_a_process_without_room_is_left_in_peace() -> None:
    """The thread was started while there was room; it does not tick while there is none."""
    pytest.importorskip("resource")
    code = """
        import mmap, time
        ticks = []
        worker.every(0.1, lambda: ticks.append(1) or True)
        while not ticks:
            time.sleep(0.05)
        limit(40 << 20)
        time.sleep(0.3)
        before = len(ticks)
        time.sleep(0.6)
        after = len(ticks)
        limit(1 << 30)
        time.sleep(0.6)
        print(json.dumps([after - before, len(ticks) > after]))
    """
    assert play(code) == [0, True]
