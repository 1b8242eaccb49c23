"""What the backward pass needs, in host memory: where a step trains, and the host has room for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.graph_on_host import find_graph_on_host
from nb_oomhelper.remedies.places import find_places
from tests.makers import EVENT
from tests.remedies.notebooks import written

MIB = 1 << 20
TRAIN = replace(EVENT, framework="pytorch", backend="cuda", phase="train", requested=10 * MIB)
SHORT = Shortage(needs=500 * MIB, measured=True, room=400 * MIB, host=4000 * MIB)
CELL = "for x in xs:\n    loss = net(x)\n    loss.backward()\n"


def held(graph: int = 300 * MIB) -> Holdings:
    return Holdings(rows=(Holding(name="x, h", kind="failed_cell", backend="cuda", parts=(("graph", graph),)),))


def explained(
    cell: str = CELL,
    line: int = 2,
    functions: str = "",
    event: Any = TRAIN,
    keeps: Holdings | None = None,
    shortage: Shortage = SHORT,
) -> list[int | None]:
    one = written(cell, line, functions)
    found = find_graph_on_host(one, event, held() if keeps is None else keeps, shortage, find_places(one))
    return [each.explains for each in found]


def test_half_of_the_graph_is_spared_but_for_what_comes_back_at_once() -> None:
    assert explained() == [140 * MIB]


def test_a_small_graph_is_no_promise() -> None:
    assert explained(keeps=held(15 * MIB), shortage=replace(SHORT, room=490 * MIB)) == [None]


@pytest.mark.parametrize(
    ("phase", "cell", "offered"),
    [("infer", "y = net(x)\ny = net(x)", False), ("unknown", CELL, True), ("unknown", "y = net(x)\ny = f(x)", False)],
)
def test_only_what_trains(phase: str, cell: str, offered: bool) -> None:
    assert bool(explained(cell, event=replace(TRAIN, phase=phase))) is offered  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        {"event": replace(TRAIN, backend="host")},
        {"event": replace(TRAIN, stage="optimizer")},
        {"keeps": held(0)},
        {"keeps": held(90 * MIB)},  # less than is missing
        {"shortage": replace(SHORT, host=2400 * MIB)},  # four times as much may come, and twice the copies
        {"shortage": replace(SHORT, host=None)},
        {"functions": "def loss():\n    with torch.autograd.graph.save_on_cpu():\n        pass\n"},
        {"functions": "def backward():\n    return checkpoint(net)\n"},
        {"cell": CELL.replace("loss.backward()", '"""\n"""; loss.backward()')},
    ],
)
def test_where_it_is_not_offered(other: dict[str, Any]) -> None:
    assert explained(**other) == []


def test_a_backward_pass_saves_no_more_than_there_is() -> None:
    shortage = replace(SHORT, host=1000 * MIB)
    assert explained(event=replace(TRAIN, stage="backward"), shortage=shortage) == [140 * MIB]
