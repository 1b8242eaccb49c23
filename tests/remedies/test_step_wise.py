"""Whole training steps: done in parts only by models through which each row goes by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.places import find_places
from nb_oomhelper.remedies.step_wise import find_whole_steps
from tests.makers import EVENT
from tests.remedies.notebooks import written

SHORT = Shortage(needs=100, measured=True, room=60)
HELD = Holdings(
    rows=(
        Holding(name="net", kind="variable", backend="cuda", role="model", own=10, parts=(("parameters", 10),)),
        Holding(
            name="opt", kind="variable", backend="cuda", role="optimizer", type_name="Adam", parts=(("parameters", 10),)
        ),
    )
)
CELL = "out = net(X)\nloss = loss_fn(out, y)\nopt.zero_grad()\nloss.backward()\nopt.step()\n"
NET = "loss_fn = nn.MSELoss()\ndef forward(self, x):\n    return {}\n"


@pytest.mark.parametrize(
    ("computes", "apart", "rows", "phase", "offered"),
    [
        ("self.lin(x)", True, 1000, "train", True),
        ("self.lin(x)", True, 1000, "infer", False),
        ("self.lin(x)", True, 30, "train", False),  # a batch
        ("self.lin(x)", False, 1000, "train", False),  # the mean of a batch, say
        ("self.lin(x - x.mean(0))", True, 1000, "train", False),
        ("F.dropout(self.lin(x))", True, 1000, "train", False),
    ],
)
def test_which_steps(computes: str, apart: bool, rows: int, phase: str, offered: bool) -> None:
    kept = {"net._modules": Kept(apart=apart), "loss_fn._modules": Kept(apart=True)}
    kept |= {name: Kept(shape=(rows, 3)) for name in ("X", "y")}
    one = replace(written(CELL, 1, NET.format(computes)), kept=kept)
    found = list(find_whole_steps(one, replace(EVENT, phase=phase), HELD, SHORT, find_places(one)))  # type: ignore[arg-type]
    assert [(each.subject, each.explains) for each in found] == ([("X", 20)] if offered else [])
