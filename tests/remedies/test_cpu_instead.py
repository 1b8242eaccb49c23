"""A cell on the CPU in place of the GPU: where the host has room, and what computes and trains is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.cpu_instead import find_cpu_instead
from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.places import Mistake, find_places
from tests.makers import EVENT
from tests.remedies.notebooks import LARGE, written

pytestmark = pytest.mark.plain

MIB = 1 << 20
INFER = replace(EVENT, framework="pytorch", backend="cuda", phase="infer", requested=10 * MIB)
SHORT = Shortage(needs=500 * MIB, measured=True, room=400 * MIB, host=1200 * MIB)
HELD = Holdings(
    rows=(Holding(name="users", kind="variable", backend="cuda", own=100 * MIB),), shares=(((0,), 100 * MIB),)
)
CELL = "scores = users @ items.T\ntop = scores.topk(9)\n"


def found(
    cell: str = CELL, functions: str = "", event: Any = INFER, shortage: Shortage = SHORT, **told: Any
) -> list[Mistake]:
    one = replace(written(cell, 1, functions), **told)
    return list(find_cpu_instead(one, event, HELD, shortage, find_places(one)))


def test_the_whole_cell_is_put_within() -> None:
    (one,) = found()
    assert [edit[2] for edit in one.edits] == [
        "with nb_oomhelper.on_host():\n    scores = users @ items.T\n    top = scores.topk(9)"
    ]
    assert (one.explains, one.partly) == (500 * MIB, False)


@pytest.mark.parametrize(
    "other",
    [
        {"event": replace(INFER, phase="train")},  # by whom, the notebook does not say
        {"event": replace(INFER, phase="load")},
        {"event": replace(INFER, backend="host")},
        {"shortage": replace(SHORT, host=1099 * MIB)},  # twice the cell's, and a copy of what is there
        {"shortage": replace(SHORT, host=None)},
        {"shortage": replace(SHORT, needs=None)},
        {"cell": CELL + "scores.sum().backward()\n"},  # four times what is there
        {"cell": CELL + "scores.sum().backward()\n", "functions": "def topk(x):\n    return checkpoint(f, x)\n"},
        {"functions": "def topk(x):\n    return vmap(f)(x)\n"},  # later in the cell
        {"cell": 'scores = f("""\n  a""")\n'},
        {"autograd": True, "event": replace(INFER, phase="unknown")},  # the next cell may go back through it
    ],
)
def test_where_it_is_not_offered(other: dict[str, Any]) -> None:
    assert found(**other) == []


def test_what_trains_is_trained_there() -> None:
    cell = "loss = net(x)\nloss.backward()\n"
    (one,) = found(cell, event=replace(INFER, phase="train"), autograd=True, shortage=replace(SHORT, host=1400 * MIB))
    assert (one.kind, one.explains) == ("train_on_host", 500 * MIB)
    assert [edit[2] for edit in one.edits] == [
        "with nb_oomhelper.on_host(train=True):\n    loss = net(x)\n    loss.backward()"
    ]
    assert found("w.register_hook(print)\n" + cell, shortage=replace(SHORT, host=1400 * MIB)) == []  # beside the mode
    loop = "for x in batches:\n    loss = net(x)\n    loss.backward()\n"
    assert len(found(loop, shortage=replace(SHORT, host=1400 * MIB))) == 1
    for other in (cell + "jit(net)\n", cell + "net.load_state_dict(torch.load(path))\n", "loss.backward()\n"):
        assert found(other, shortage=replace(SHORT, host=1400 * MIB)) == []  # the last has no graph of its own


@pytest.mark.parametrize(
    ("cell", "offered"), [("y = net(x)\n", 0), ("with torch.no_grad():\n    y = net(x)\n", 1), ("y = x @ x.T\n", 1)]
)
def test_a_model_on_whose_results_the_next_cell_may_train_stays(cell: str, offered: int) -> None:
    assert len(found(cell, event=replace(INFER, phase="unknown"), kept={"net._modules": Kept()})) == offered


def test_a_model_that_evaluates_makes_graphs_that_nobody_wants() -> None:
    for evaluates in (False, True):
        kept = {"net._modules": Kept(evaluates=evaluates)}
        plans = found("y = net(x)\n", autograd=True, event=replace(INFER, phase="unknown"), kept=kept)
        assert len(plans) == evaluates


def test_no_promise_where_more_comes_with_every_step_or_a_librarys_model_is_used() -> None:
    loop = "out = []\nfor x in xs:\n    out.append(net(x))\n"
    one = written(loop, 3)
    kept = {"out": Kept(call="clear", size=LARGE)}
    (mistake,) = find_cpu_instead(replace(one, kept=kept), INFER, HELD, SHORT, find_places(one))
    assert mistake.partly
    assert [each.partly for each in found("out = [f(x) for x in xs]\n")] == [True]
    owners = frozenset({"PreTrainedModel", "Module"})
    assert [each.explains for each in found(kept={"net._modules": Kept(owners=owners)})] == [None]
