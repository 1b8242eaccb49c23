"""`%oom forecast` in a shell: it asks, then tells, in both languages."""

from __future__ import annotations

import pytest

from tests.shells import in_shell

pytestmark = pytest.mark.plain

CODE = """
cell("%load_ext nb_oomhelper")
cell("import torch\\nmade = []")
cell("def step(rows):\\n    made.append(torch.ones(rows, 1024).sum().item())\\n    print(made)")
asked = cell("%oom forecast step(1 << 10)")
told = cell("%oom forecast --yes step(1 << 10)")
plain = cell("%oom forecast --yes --json step(1 << 10)")
cell("rows = torch.ones(1 << 14, 3)\\ndef many(rows):\\n    return torch.empty(len(rows), 1 << 22)")
smaller = cell("%oom forecast --yes many(rows[:])")
chinese = cell("%config OOMHelper.language = 'zh'\\n%oom forecast --yes step(1 << 10)")
wrong = [cell("%oom forecast" + text) for text in ("", " step", " step(", " --yes nobody(1)")]
tell(smaller, asked, told, plain, chinese, wrong, cell("len(made)"), cell("%oom forecast --help"))
"""


@pytest.mark.thorough
def test_it_asks_tells_and_changes_nothing() -> None:
    pytest.importorskip("torch")
    smaller, asked, told, plain, chinese, wrong, count, usage = in_shell(CODE)
    assert "✗ `many(rows[:])` will not fit on host" in smaller
    assert "in place of 16384" in smaller
    assert "accumulated" not in smaller
    assert "`step(1 << 10)` itself is run" in asked
    assert "%oom forecast --yes step(1 << 10)" in asked
    assert told.startswith("✓ `step(1 << 10)` should fit on host")
    assert "4.00 MiB" in told
    assert '"likely": 419' in plain
    assert "预计放得进" in chinese
    assert all("wants a call" in text for text in wrong[:3])
    assert "NameError" in wrong[3]
    assert "0" in count
    assert "[--yes] [--json] CALL" in usage


CELL = """
cell("%load_ext nb_oomhelper")
cell("import time, torch\\nmade = []")
rounds = "for rows in range(199):\\n    kept = torch.empty(1 << 20)\\n    made.append(time.sleep(.01))"
ran = cell("%%gpumem --forecast\\n" + rounds)
count = cell("len(made)")
refused = [cell("%%gpumem --forecast\\n" + text) for text in ("%time kept", "kept +", "kept / {}")]
wrong = [cell(text) for text in ("%%gpumem --live\\n1", "%gpumem --forecast")]
cell("import sys, types\\nsys.modules['torch'] = types.ModuleType('torch')  # somebody's own torch.py")
tell(ran, count, refused, wrong, cell("%%gpumem --forecast\\nprint(6 * 7)"))
"""


def test_above_a_cell() -> None:
    """The whole cell is forecast, its loops until alike, and then run once; what cannot be followed is a line."""
    pytest.importorskip("torch")
    ran, count, refused, wrong, other = in_shell(CELL)
    assert ran.startswith("✓ this cell should fit on host")
    assert "peak expected: 8.00 MiB" in ran
    assert "a loop was followed until its rounds were alike (cell:1)" in ran
    assert "host" in ran.splitlines()[-1]  # and what was measured
    assert "199" in count
    assert "no forecast of this cell: %magics and !commands are not followed" in refused[0]
    assert "no forecast" in refused[1] or "SyntaxError" in refused[1]
    assert "TypeError" in refused[2]
    assert "takes no option but --forecast" in wrong[0]
    assert "goes above a cell" in wrong[1]
    assert other.startswith("no forecast of this cell: module 'torch' has no attribute")
    assert "\n42\n" in other  # it has run all the same
