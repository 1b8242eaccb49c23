"""Who a process is to this one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nb_oomhelper.memory.processes import children, is_child

pytestmark = pytest.mark.plain

_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
"""


def test_children_and_their_children() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        assert is_child(parent.pid)
        assert is_child(grandchild)
        parent.communicate(b"")


def test_nobodys_child() -> None:
    for pid in (1, os.getpid(), os.getppid(), 0, -1, 1 << 70):
        assert not is_child(pid), pid


_HOLDS = "import sys; kept = b'1' * (100 << 20); print('there', flush=True); sys.stdin.read()"


def test_what_children_hold_on_the_host() -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"there"
        (row,) = [row for row in children() if row.pid == child.pid]
        assert 100 << 20 <= (row.used or 0) < 160 << 20
        assert row.is_child
        child.communicate(b"")
    assert child.pid not in [row.pid for row in children()]


def test_what_a_forked_child_shares_is_not_its_own() -> None:
    kept = b"1" * (100 << 20)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(read, 1)
        os._exit(len(kept) & 1)
    try:
        (row,) = [row for row in children() if row.pid == pid]
        assert (row.used or 0) < 50 << 20
    finally:
        os.write(write, b"x")
        os.waitpid(pid, 0)
