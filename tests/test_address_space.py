"""How much may still be mapped: what a limit leaves, and None without one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from nb_oomhelper.address_space import SCARCE

pytestmark = pytest.mark.plain
resource = pytest.importorskip("resource")

CODE = """
import json, mmap, os, resource, sys
from nb_oomhelper.address_space import is_scarce, room
kind, field = json.loads(sys.argv[1])
def used():
    return int(open("/proc/self/statm").read().split()[field]) * os.sysconf("SC_PAGE_SIZE")
seen = [room()]
resource.setrlimit(getattr(resource, kind), (used() + (200 << 20), resource.RLIM_INFINITY))
seen.append(room())
held = mmap.mmap(-1, 150 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
seen += [room(), is_scarce()]
held.close()
seen.append(is_scarce())
print(json.dumps(seen))
"""


def play(kind: str, field: int) -> list[Any]:
    command = [sys.executable, "-c", CODE, json.dumps([kind, field])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    seen: list[Any] = json.loads(done.stdout)
    return seen


@pytest.mark.parametrize(("kind", "field"), [("RLIMIT_AS", 0), ("RLIMIT_DATA", 5)])
def test_what_a_limit_leaves(kind: str, field: int) -> None:
    free, limited, fuller, scarce, after = play(kind, field)
    assert free is None
    assert abs(limited - (200 << 20)) < (8 << 20)
    assert abs(limited - fuller - (150 << 20)) < (8 << 20)
    assert fuller < SCARCE
    assert (scarce, after) == (True, False)
