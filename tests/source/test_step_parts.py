"""A training step of all rows: its gradients and its loss come to the same in parts."""

from __future__ import annotations

from typing import Any

import pytest

from nb_oomhelper.source.step_parts import step_in_parts
from nb_oomhelper.source.text_edits import read_text, write_edits

BEFORE = "loss_fn = nn.MSELoss()\ncriterion = nn.CrossEntropyLoss()\n"
STEP = """\
for epoch in range(3):
    out = net(X)  # all rows
    loss = loss_fn(out, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    losses.append(loss.item())
"""
AXES = {"X": 2, "y": 2, "flat": 1, "labels": 1, "bits": 2, "leaf": 2, "mask": 1}


LOSSES = {"loss_fn": "MSELoss", "criterion": "CrossEntropyLoss"}


def parts(source: str, line: int = 2, taken: tuple[str, ...] = (), *, flat: bool = False) -> str | None:
    text = read_text(source)
    assert text is not None
    found = step_in_parts(text, text.tree.body, line, {"net"}, AXES, LOSSES, taken, flat=flat, at_top=True)
    changed = None if found is None else write_edits(text, found[1])
    return None if changed is None else changed.source


@pytest.mark.parametrize(
    "source",
    [
        STEP,
        STEP.replace("out = net(X)", "out = net(X.to(dev))"),
        STEP.replace("loss_fn(out, y)", "loss_fn(out.squeeze(1), flat)"),
        STEP.replace("    out = net(X)  # all rows\n", "").replace("(out, y)", "(net(X),\n                   y)"),
        STEP.replace("loss_fn(out, y)", "loss_fn(out, flat.view(-1, 1).float())"),
        STEP.replace("loss_fn(out, y)", "F.mse_loss(torch.squeeze(out), flat)"),
        STEP.replace("net(X)", "torch.sigmoid(net(X))").replace("loss_fn(out, y)", "F.binary_cross_entropy(out, bits)"),
        STEP.replace("net(X)", "net(leaf)"),
        STEP.replace("loss_fn(out, y)", "criterion(out, labels)").replace(
            "losses.append(loss.item())", "print(loss.item())"
        ),
    ],
)
@pytest.mark.parametrize("count", [1000, 97, 7])
def test_it_learns_the_same(source: str, count: int) -> None:
    torch = pytest.importorskip("torch")
    changed = parts(source)
    assert changed is not None
    assert ".chunk(32)" in changed
    weights = []
    for code in (source, changed):
        torch.manual_seed(0)
        classes = 1 + ("criterion" in source)
        net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, classes))
        x, y = torch.randn(count, 3), torch.randn(count, 1)
        names: dict[str, Any] = {
            "net": net,
            "X": x,
            "y": y,
            "dev": "cpu",
            "flat": y[:, 0],
            "labels": (y[:, 0] > 0).long(),
            "bits": (y > 0).float(),
            "leaf": x.clone().requires_grad_(),
            "torch": torch,
            "F": torch.nn.functional,
        }
        names |= {"opt": torch.optim.SGD(net.parameters(), lr=0.5), "losses": [], "nn": torch.nn}
        exec(BEFORE + code, names)
        learned = [*net.parameters(), torch.tensor(names["losses"])]
        weights.append(
            [
                one.detach().flatten()
                for one in [*learned, *([] if names["leaf"].grad is None else [names["leaf"].grad])]
            ]
        )
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*weights, strict=True))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loss_fn(out, y)", "loss_fn(out, flat)"),  # all pairs of a column and a flat target
        ("loss_fn(out, y)", "other(out, y)"),
        ("loss_fn(out, y)", "F.mse_loss(out, y, reduction='sum')"),
        ("loss_fn(out, y)", "loss_fn(out, y) + out.abs().mean()"),
        ("loss_fn(out, y)", "criterion(out.view(-1, 9), labels)"),  # padded tokens may be left out
        ("loss_fn(out, y)", "criterion(out, y)"),  # a class for each token, of which padded ones may be left out
        ("loss_fn(out, y)", "loss_fn(out.view(-1, 1), flat)"),  # all pairs
        ("loss_fn(out, y)", "loss_fn(out.squeeze(), flat.view(-1, 1))"),
        ("loss_fn(out, y)", "loss_fn(out[mask], y[mask])"),  # the mean of other numbers in each part
        ("loss_fn(out, y)", "criterion(out[mask], labels[mask])"),
        ("loss_fn(out, y)", "loss_fn(out, y[mask])"),
        ("loss_fn(out, y)", "loss_fn(out * scale, y)"),
        ("loss_fn(out, y)", "loss_fn(near(out), y)"),
        ("loss_fn(out, y)", "loss_fn(out - out.mean(0), y)"),
        ("loss_fn(out, y)", "loss_fn(y, y)"),
        ("loss_fn(out, y)", "mse_loss(out, y)"),  # it may be the user's own
        ("loss_fn(out, y)", "self.mse_loss(out, y)"),
        ("loss_fn(out, y)", "loss_fn(out.view(1000, 1), y)"),
        ("net(X)", "net(X)[0]"),
        ("net(X)", "net(X) / 2"),
        ("    loss = ", "    total = loss = "),
        ("opt.zero_grad()", "print(loss.item())"),  # before the parts are there
        ("opt.step()", "opt.step(); print(out.shape)"),
        ("loss.item()", "loss"),
        ("loss.backward()", "loss.backward(retain_graph=True)"),
        ("    opt.zero_grad()\n", "    out = out * 2\n"),
        ("net(X)", "net(Z)"),
        ("for epoch in range(3):", "for loss_fn in others:"),
        ("for epoch in range(3):", "for net in others:"),
        ("for epoch in range(3):", "for X, y in loader:"),  # a batch, which can be smaller
        ("    out = net(X)", "    y = ys[epoch]\n    out = net(X)"),
        ("net(X)", "net(X, h)"),
    ],
)
def test_none_where_it_may_come_to_something_else(old: str, new: str) -> None:
    assert old in STEP
    source = STEP.replace(old, new)
    (line,) = (number for number, one in enumerate(source.splitlines(), 1) if "net(" in one)
    assert parts(source, line) is None


def test_only_the_step_that_was_running() -> None:
    assert parts(STEP, line=6) is None


def test_none_where_a_name_is_the_users() -> None:
    assert all(parts(STEP, taken=(name,)) is None for name in ("y_part", "loss_parts", "sum", "len", "zip"))


@pytest.mark.parametrize(
    ("loss", "offered"),
    [("loss_fn(out, y)", False), ("loss_fn(out.view(-1), flat)", True), ("criterion(out, labels)", False)],
)
def test_a_model_that_may_give_no_column(loss: str, offered: bool) -> None:
    assert (parts(STEP.replace("loss_fn(out, y)", loss), flat=True) is not None) == offered


def test_nothing_of_one_part_stays() -> None:
    changed = parts(STEP)
    assert changed is not None
    assert "    del out, X_part, y_part, loss_parts\n" in changed
