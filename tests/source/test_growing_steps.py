"""Loops that hand another size on in each step."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.cures import function_in
from nb_oomhelper.source.growing_steps import may_grow
from nb_oomhelper.source.text_edits import read_text

MADE = "def f(n, m=3):\n    return np.zeros((n, m))\n"
SEEDED = "def f(n, m=3):\n    rng = np.random.default_rng(n)\n    return rng.normal(size=m)\n"
TAKEN = "def f(n):\n    return x[:n] * 2\n"
CHOSEN = "def f(n):\n    return x[n] * 2\n"


@pytest.mark.parametrize(
    ("functions", "source", "told"),
    [
        (MADE, "y = [f(n) for n in range(5, 65, 5)]\n", True),
        (MADE, "y = [f(n) for n in sizes]\n", True),
        (MADE, "y = {n: f(n, 2) for n in np.arange(9)}\n", True),
        (MADE, "y = [f(9, m=k * 2) for _, k in enumerate([10, 20])]\n", True),
        (MADE, "for n in tqdm(sizes): f(10 ** n)\n", True),
        (TAKEN, "y = [f(n) for n in sizes]\n", True),
        (CHOSEN, "y = [f(n) for n in range(9)]\n", False),
        (SEEDED, "y = [f(n) for n in range(9)]\n", False),
        (MADE, "y = [f(9) for n in range(9)]\n", False),
        (MADE, "y = [f(n) for n in batches]\n", False),
        (MADE, "y = f(9)\n", False),
        (MADE, "y = [g(n) for n in range(9)]\n", False),
    ],
)
def test_steps_that_may_be_larger(functions: str, source: str, told: bool) -> None:
    text, cell = read_text(functions), read_text(source)
    assert text is not None
    assert cell is not None
    assert may_grow(cell.tree.body, 1, {"sizes"}, lambda name: function_in(text, name)) is told
