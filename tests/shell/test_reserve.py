"""Room for an error: a limit is raised for the while; else some is put by, below a limit, without taking memory."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from nb_oomhelper.address_space import PUT_BY as SIZE

pytestmark = pytest.mark.plain

PRELUDE = """
import json, os, resource
from nb_oomhelper.shell.reserve import Reserve
def pages(place):
    return int(open("/proc/self/statm").read().split()[place]) * os.sysconf("SC_PAGE_SIZE")
def limit(room, hard=None):
    size = pages(0) + room
    resource.setrlimit(resource.RLIMIT_AS, (size, size if hard is None else hard))
reserve = Reserve()
import mmap
def change(what):
    mapped, resident = pages(0), pages(1)
    what()
    return [pages(0) - mapped, abs(pages(1) - resident) < (1 << 20)]
"""


def play(code: str) -> Any:
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_a_limit_nothing_is_put_by() -> None:
    assert play("print(json.dumps([change(reserve.take), change(reserve.give_up)]))") == [[0, True], [0, True]]


def test_below_a_limit_it_takes_address_space_and_no_memory() -> None:
    code = """
        limit(1 << 30)
        print(json.dumps([change(one) for one in 2 * [reserve.take, reserve.take, reserve.give_all, reserve.give_all]]))
    """
    assert play(code) == 2 * [[SIZE, True], [0, True], [-SIZE, True], [0, True]]


def test_it_is_given_up_in_two_steps() -> None:
    """For the traceback and for the panel: threads that a failed load has left behind eat of the first."""
    code = "limit(1 << 30)\nreserve.take()\nprint(json.dumps([change(reserve.give_up) for _ in range(3)]))"
    first, second, third = play(code)
    assert first == [-SIZE // 4, True]
    assert second == [-SIZE + SIZE // 4, True]
    assert third == [0, True]


def test_what_was_given_up_is_put_by_again() -> None:
    """An ordinary error gives up the first part; the next one must find both."""
    code = """
        limit(1 << 30)
        reserve.take()
        reserve.give_up()
        print(json.dumps([change(reserve.take), len(reserve._held)]))
    """
    (taken, untouched), parts = play(code)
    assert abs(taken - SIZE // 4) < (1 << 20)
    assert (untouched, parts) == (True, 2)


def test_more_room_means_more_that_is_put_by() -> None:
    """What was taken in a process that was nearly full is too little for a panel later."""
    code = """
        limit(1 << 30)
        import mmap
        full = mmap.mmap(-1, (1 << 30) - (120 << 20))
        reserve.take()
        little = sum(map(len, reserve._held))
        full.close()
        reserve.take()
        print(json.dumps([little, sum(map(len, reserve._held))]))
    """
    little, much = play(code)
    assert 0 < little < SIZE // 4
    assert much == SIZE


def test_no_more_than_a_share_of_the_room_is_put_by() -> None:
    code = "limit({room} << 20)\nprint(json.dumps(change(reserve.take)))"
    assert play(code.format(room=90)) == [0, True]  # nobody would be helped
    (taken, untouched) = play(code.format(room=240))
    assert abs(taken - (40 << 20)) < (4 << 20)
    assert untouched


def test_a_limit_of_data_counts_too() -> None:
    code = """
        data = pages(5)
        resource.setrlimit(resource.RLIMIT_DATA, 2 * (data + (1 << 30),))
        reserve.take()
        print(json.dumps(pages(5) - data))
    """
    assert abs(play(code) - SIZE) < (4 << 20)  # private: the limit does not count what is shared


WIDE = """
from nb_oomhelper import address_space
def soft():
    return resource.getrlimit(resource.RLIMIT_AS)[0]
limit(240 << 20, resource.RLIM_INFINITY)
own = soft()
"""


def test_a_limit_that_may_be_raised_is_raised_for_the_while() -> None:
    """Nothing of the user's room is taken: OpenBLAS ends a process that lacks it in the middle of a product."""
    code = f"""{WIDE}
mapped = change(reserve.take)
first, second = [(reserve.give_up(), soft() - own)[1] for _ in range(2)]
told = address_space.limits()[0] - own, address_space.room(widened=False) <= 240 << 20 < address_space.room()
reserve.take()
print(json.dumps([mapped, first, second, told, soft() - own]))
"""
    assert play(code) == [[0, True], SIZE // 4, SIZE, [0, True], 0]


def test_a_limit_that_somebody_sets_meanwhile_is_theirs() -> None:
    code = f"""{WIDE}
reserve.give_all()
limit(300 << 20, resource.RLIM_INFINITY)
set_by_user = soft()
told = address_space.limits()[0]
reserve.take()
print(json.dumps([soft() - set_by_user, told - set_by_user]))
"""
    assert play(code) == [0, 0]


def test_a_full_process_keeps_a_little_until_it_has_room() -> None:
    code = f"""{WIDE}
import mmap
full = mmap.mmap(-1, 239 << 20)
reserve.give_all()
more = mmap.mmap(-1, 50 << 20)
reserve.take()
spare, told = address_space.room(), address_space.room(widened=False)
more.close(), full.close()
reserve.take()
print(json.dumps([spare >> 20, told, soft() - own]))
"""
    spare, told, after = play(code)
    assert 20 <= spare <= 24
    assert (told, after) == (0, 0)


def test_where_the_hard_limit_stands_in_the_way_some_is_put_by() -> None:
    code = """
        limit(240 << 20, pages(0) + (250 << 20))
        reserve.take()
        print(json.dumps([reserve.held > 0, address_space.can_widen()]))
    """
    assert play("from nb_oomhelper import address_space\n" + textwrap.dedent(code)) == [True, False]


def test_at_the_end_the_limit_is_the_users() -> None:
    assert play(f"{WIDE}\nreserve.give_all()\nreserve.end()\nprint(json.dumps(soft() - own))") == 0
