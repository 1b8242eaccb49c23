"""What the code on the way to an error tells: whether a graph is trained with, and what the cell had made by then."""

from __future__ import annotations

import pytest

from nb_oomhelper.remedies.cell_phase import phase_on_way
from nb_oomhelper.remedies.cell_source import read_cell
from nb_oomhelper.remedies.elements import Step
from nb_oomhelper.remedies.written import Written


def written(source: str, line: int) -> Written:
    """A cell that failed at a line."""
    cell = read_cell(source)
    assert cell is not None
    return Written(cell=cell, steps=(Step(function="", file="cell", first=1, line=line),))


@pytest.mark.parametrize(
    ("source", "line", "phase"),
    [
        ("for x in xs:\n    loss = net(x)\n    loss.backward()", 2, "train"),
        ("for x in xs:\n    for part in x:\n        loss = net(part)\n    loss.backward()", 3, "train"),
        ("total = 0\nfor x in xs:\n    total = total + net(x)\ntotal.backward()", 3, "train"),
        ("for x in xs:\n    outs.append(net(x))\nsum(outs).backward()", 2, "train"),
        ("with autocast():\n    loss = net(x)\nscaler.scale(loss).backward()", 2, "train"),
        ("for x in xs:\n    outs.append(net(x))", 2, "infer"),
        (
            "for epoch in range(3):\n"
            "    for x in xs:\n"
            "        loss = net(x)\n"
            "        loss.backward()\n"
            "    for x in held_out:\n"
            "        loss = net(x)\n",
            6,
            "infer",
        ),
        ("outs = [net(x) for x in xs]", 1, "infer"),
        ("losses = [net(x) for x in xs]\nsum(losses).backward()", 1, "train"),
        ("out = net(x)", 1, None),  # another cell may go backward with it
    ],
)
def test_what_a_graph_is_for(source: str, line: int, phase: str | None) -> None:
    assert phase_on_way(written(source, line)) == phase


@pytest.mark.parametrize(
    ("source", "line", "made"),
    [
        ("x = load()\ny = x + 1\nz = y * 2", 3, {"x", "y"}),
        ("model = None\nmodel = Net()", 2, {"model"}),
        ("model = Net()", 1, set()),  # the name still stands for the old one
        ("h = zeros()\nfor x in xs:\n    y = f(x)\n    h = g(y, h)", 4, {"h", "y"}),
    ],
)
def test_what_the_cell_had_made(source: str, line: int, made: set[str]) -> None:
    assert written(source, line).made_names() == made
