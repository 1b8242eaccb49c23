"""Data that is made ready on a device, though only batches are used: made ready on the host, and moved by batches."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.moving import where_used
from nb_oomhelper.source.moving_computed import where_computed
from nb_oomhelper.source.text_edits import read_text, write_edits

READY = "X = torch.tensor(a).to(dev)\nm = X.mean(0)\nX = torch.cat([X - m, X ** 2], 1)\n"
LOOP = "for i in range(0, len(X), 8):\n    fit(net(X[i:i + 8]{0}), y[i:i + 8])\n"


def changed(code: str, line: int) -> str | None:
    text = read_text(code)
    assert text is not None
    found = where_computed(text, text.tree.body, line, {"net", "mask"})
    made = None if found is None else write_edits(text, found[1])
    return None if made is None else made.source


@pytest.mark.parametrize("line", [1, 2, 3])
def test_what_is_computed_of_it_is_computed_in_host_memory(line: int) -> None:
    after = READY.replace(".to(dev)", "") + LOOP.format(".to(dev)")
    assert changed(READY + LOOP.format(""), line) == after


@pytest.mark.parametrize(
    "code",
    [
        READY + LOOP.format("").replace("y[", "m * y["),  # the mean would meet a batch
        READY,  # no batch is taken
        READY + "net(X)\n",
        READY.replace("X ** 2", "net(X)") + LOOP.format(""),
        READY.replace("X ** 2", "mask") + LOOP.format(""),
        READY.replace("X ** 2", "torch.randn_like(X)") + LOOP.format(""),
        READY.replace("X ** 2", "torch.ones(9, 1, device=dev)") + LOOP.format(""),
        READY + "X -= 1\n" + LOOP.format(""),  # `a` may share its memory then
        READY + "def f():\n    return X\n" + LOOP.format(""),
        READY.replace("X ** 2", "X ** 2, b.cuda()") + LOOP.format(""),
        "X = a.float()\nX = X / 2\n" + LOOP.format(""),
    ],
)
def test_what_would_come_out_differently_or_meet_the_device_stays(code: str) -> None:
    assert changed(code, 3) is None


@pytest.mark.parametrize(
    ("code", "after"),
    [
        (
            "X = a.cuda()\nfor x in X.split(8):\n    net(x)\n",
            "X = a\nfor x in X.split(8):\n    x = x.cuda()\n    net(x)\n",
        ),
        (
            "X = a.cuda()\nfor x, z in zip(X.split(8), y.split(8)):\n    net(x, z)\n",
            "X = a\nfor x, z in zip(X.split(8), y.split(8)):\n    x = x.cuda()\n    net(x, z)\n",
        ),
        (
            "X = a.cuda()\nds = TensorDataset(X, y)\ndl = DataLoader(ds, 8)\nfor x, z in dl:\n    net(x, z)\nlen(ds)\n",
            "X = a\nds = TensorDataset(X, y)\ndl = DataLoader(ds, 8)\nfor x, z in dl:\n"
            "    x = x.cuda()\n    net(x, z)\nlen(ds)\n",
        ),
        ("X = a.cuda()\ndl = DataLoader(TensorDataset(X, y), 8)\nfit(net, dl)\n", None),
        ("X = a.cuda()\ndl = DataLoader(TensorDataset(X, y), 8)\nfor pair in dl:\n    net(*pair)\n", None),
        ("X = a.cuda()\nparts = X.split(8)\nnet(parts[0])\n", None),
    ],
)
def test_batches_that_loops_take_by_themselves(code: str, after: str | None) -> None:
    text = read_text(code)
    assert text is not None
    found = where_used(text, text.tree.body, 1)
    made = None if found is None else write_edits(text, found[1])
    assert (None if made is None else made.source) == after
