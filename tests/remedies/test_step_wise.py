"""Whole training steps: done in parts only by models through which each row goes by itself."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import pytest

from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.elements import Kept, Step
from nb_oomhelper.remedies.places import find_places
from nb_oomhelper.remedies.step_wise import find_whole_steps
from nb_oomhelper.source.element import Element
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
NET = "def forward(self, x):\n    return {}\ndef noise(self, x):\n    return Normal(x, 1).rsample()\n"
NET += "def remember(self, x):\n    self.last = x\n    return x\n"
LOSS = frozenset({"MSELoss", "_Loss", "Module", "object"})


@pytest.mark.parametrize(
    ("computes", "apart", "rows", "phase", "offered"),
    [
        ("self.lin(x)", True, 1000, "train", True),
        ("self.lin(x)", True, 1000, "infer", False),
        ("self.lin(x)", True, 30, "train", False),  # a batch
        ("self.lin(x)", False, 1000, "train", False),  # the mean of a batch, say
        ("self.lin(x - x.mean(0))", True, 1000, "train", False),
        ("F.dropout(self.lin(x))", True, 1000, "train", False),
        ("self.noise(self.lin(x))", True, 1000, "train", False),
        ("self.lin(x).squeeze()", True, 1000, "train", False),  # all pairs, with a column
        ("self.lin(x)[:, 0]", True, 1000, "train", False),
        ("self.lin(x[:, 0])", True, 1000, "train", True),
        ("attention(x, dropout_p=0.1)", True, 1000, "train", False),
        ("self.remember(x)", True, 1000, "train", False),
    ],
)
def test_which_steps(computes: str, apart: bool, rows: int, phase: str, offered: bool) -> None:
    kept = {"net._modules": Kept(apart=apart), "loss_fn._modules": Kept(apart=True, owners=LOSS)}
    kept |= {name: Kept(shape=(rows, 3), dtype="torch.float32") for name in ("X", "y")}
    one = replace(written(CELL, 1, NET.format(computes)), kept=kept)
    found = list(find_whole_steps(one, replace(EVENT, phase=phase), HELD, SHORT, find_places(one)))  # type: ignore[arg-type]
    assert [(each.subject, each.explains) for each in found] == ([("X", 20)] if offered else [])


def test_no_promise_where_each_run_is_kept() -> None:
    cell = "runs = {}\nfor name in names:\n    net = make()\n"
    cell += textwrap.indent(CELL, "    ") + "    runs[name] = net\n"
    kept = {"net._modules": Kept(), "loss_fn._modules": Kept(apart=True, owners=LOSS)}
    kept |= {name: Kept(shape=(1000, 3), dtype="torch.float32") for name in ("X", "y")}
    kept["runs"] = Kept(call="clear", size={"cuda": 1 << 30})
    for code, partly in ((CELL, False), (cell, True)):
        one = replace(written(code, code[: code.index("out = ")].count("\n") + 1, NET.format("self.lin(x)")), kept=kept)
        found = find_whole_steps(one, replace(EVENT, phase="train"), HELD, SHORT, find_places(one))
        assert [each.partly for each in found] == [partly]


@pytest.mark.parametrize(
    "other",
    [
        {"loss_fn._modules": Kept(apart=True, owners=LOSS - {"_Loss"})},  # a class of the notebook's
        {"loss_fn._modules": Kept(apart=True, owners=LOSS | {"Mine"})},
        {"loss_fn._modules": Kept(apart=False, owners=LOSS)},  # a sum
        {"y": Kept(shape=(1000, 3), dtype="float32")},  # an array, which has no such parts
        {"X": Kept(shape=(1000, 3), dtype="torch.float32", element=Element("graph"))},  # another model's
    ],
)
def test_what_is_not_fit_for_parts(other: dict[str, Kept]) -> None:
    kept = {"net._modules": Kept(), "loss_fn._modules": Kept(owners=LOSS)}
    kept |= {name: Kept(shape=(1000, 3), dtype="torch.float32") for name in ("X", "y")}
    one = replace(written(CELL, 1, NET.format("self.lin(x)")), kept=kept)
    assert len(list(find_whole_steps(one, EVENT, HELD, SHORT, find_places(one)))) == 1
    one = replace(one, kept=kept | other)
    assert not list(find_whole_steps(one, EVENT, HELD, SHORT, find_places(one)))


@pytest.mark.parametrize(("given", "offered"), [("X, y", True), ("X, y, loss_fn", False), ("net, X, y", False)])
def test_what_a_function_is_given_may_be_another(given: str, offered: bool) -> None:
    code = NET.format("self.lin(x)") + f"def step({given}):\n" + textwrap.indent(CELL, "    ")
    one = written("step()", 1, code)
    step = next(each for each in one.definitions if each.name == "step")
    rows = {name: Kept(shape=(1000, 3), dtype="torch.float32") for name in ("X", "y")}
    steps = (*one.steps, Step(function="step", file=step.file, first=step.line, line=step.line + 1))
    kept = {"net._modules": Kept(), "loss_fn._modules": Kept(owners=LOSS)}
    one = replace(one, steps=steps, local={(step.file, step.line): rows}, kept=kept)
    assert len(list(find_whole_steps(one, EVENT, HELD, SHORT, find_places(one)))) == offered
