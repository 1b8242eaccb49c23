"""Who a process is to this one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nb_oomhelper.memory.processes import is_child

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
