"""Kernels whose memory is nearly gone: never worse with us than without.

Each round fills the address space but for a little, and fails. The traceback must be shown, then our report or one
plain line; the next cell must answer; and what the kernel sends must stay readable (a message that was sent by halves
is "Invalid Signature" to who reads it).
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import LOAD, MIB, shown
from tests.kernel.driver import Kernel, KernelError, Reply

pytestmark = pytest.mark.kernel

ROUNDS = int(os.environ.get("NB_OOMHELPER_ROUNDS", "10"))
LIMIT = 700 * MIB  # bytes that the process has in all, beyond what it has when it is idle
FILL = """
import gc, mmap, os, resource
import numpy
def limit(room):
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + room, resource.RLIM_INFINITY))
def left():
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    return resource.getrlimit(resource.RLIMIT_AS)[0] - size
def crowd(rest):
    blocks = []
    while left() - rest >= 1 << 16:
        try:
            blocks.append(numpy.empty(left() - rest, numpy.uint8))
        except MemoryError:
            break
    return numpy.ones(1 << 30)
def empty():
    "What a user does by hand who has no better way; plainly, so that a kernel without us can go on as well."
    import sys
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            setattr(sys, name, None)
    shell = get_ipython()
    shell.InteractiveTB.tb = None
    shell.last_execution_result.error_in_exec = None
    gc.collect()
"""


@dataclass
class Rounds:
    """What became of the rounds: how many kernels were lost, showed their traceback, and a word of ours."""

    lost: list[str] = field(default_factory=list)
    unsaid: list[Reply] = field(default_factory=list)
    unexplained: list[Reply] = field(default_factory=list)
    answered: int = 0


def play(kernel: Kernel, rooms: Iterable[int], ours: bool) -> Rounds:
    """Fail again and again, each time with so many bytes left."""
    found = Rounds()
    with contextlib.suppress(KernelError):
        for room in rooms:
            try:
                kernel.execute(f"limit({LIMIT})", timeout=30)
                reply = kernel.execute(f"crowd({room})", timeout=60)
                if not reply.errors:
                    found.unsaid.append(reply)
                if ours and not shown(reply) and "nb_oomhelper" not in reply.stderr:
                    found.unexplained.append(reply)
                kernel.execute("%oom release" if ours else "empty()", timeout=60)
                assert kernel.execute("1 + 1", timeout=30).status == "ok"
                found.answered += 1
            except (KernelError, ValueError) as error:  # ValueError: jupyter_client's "Invalid Signature"
                found.lost.append(str(error)[-1500:])
                raise KernelError from error
    return found


@pytest.fixture
def full(start_kernel: StartKernel, kernel_python: Path) -> Kernel:
    """A kernel of each environment, ready to be filled."""
    kernel = start_kernel(kernel_python)
    kernel.execute(FILL)
    return kernel


@pytest.mark.parametrize("room", [8, 32, 64, 256, None], ids=str)
def test_with_little_room_the_kernel_goes_on(full: Kernel, room: int | None) -> None:
    """None is another room each time; with NB_OOMHELPER_ROUNDS=167 that are 500 in three environments."""
    full.execute(LOAD)
    full.poll(2.5)  # until it has imported and started what an error needs
    found = play(full, [(random.randrange(300) if room is None else room) * MIB for _ in range(ROUNDS)], ours=True)
    assert found.lost == []
    assert (found.answered, found.unsaid, found.unexplained) == (ROUNDS, [], [])


@pytest.mark.parametrize("room", [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_with_no_room_it_is_no_worse_than_without_us(start_kernel: StartKernel, kernel_python: Path, room: int) -> None:
    """Without a byte left IPython itself loses tracebacks and kernels; we put something by for that."""
    counts = {}
    for ours in (True, False):
        answered = untold = 0
        for _ in range(max(1, ROUNDS // 5)):  # a kernel that was lost is a new one
            kernel = start_kernel(kernel_python)
            kernel.execute(FILL)
            if ours:
                kernel.execute(LOAD)
                kernel.poll(2.5)
            found = play(kernel, 5 * [room * MIB], ours)
            kernel.end()
            answered, untold = answered + found.answered, untold + len(found.unsaid)
        counts[ours] = (answered, untold)
    assert counts[True][0] >= counts[False][0]
    assert counts[True][1] <= counts[False][1]


def test_what_fits_without_us_fits(full: Kernel) -> None:
    """Nothing is put by where the limit can be raised for an error: a sixth of the room was, and the cell failed."""
    full.execute(LOAD)
    full.poll(2.5)
    full.execute("limit(300 << 20)")
    assert full.execute("numpy.empty(280 << 20, numpy.uint8).size").status == "ok"
    assert full.execute("numpy.empty(400 << 20, numpy.uint8)").status == "error"
    assert full.execute("numpy.empty(200 << 20, numpy.uint8).size").status == "ok"
    assert full.eval("resource.getrlimit(resource.RLIMIT_AS)[0] - left() >= 0 and left() < 300 << 20")
