"""An evaluation between training steps runs without a graph."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.evaluations import without_graph
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain

TRAINS = "net.train()\nloss = f(net(x))\nloss.backward()\n"


def _written(source: str, line: int) -> str | None:
    text = read_text(source)
    assert text is not None
    changed = write_edits(text, without_graph(text, text.tree.body, line))
    return None if changed is None else changed.source


def test_a_statement() -> None:
    assert _written(f"{TRAINS}net.eval()\nval = f(net(v))\nprint(val.item())", 5) == (
        f"{TRAINS}net.eval()\nwith torch.no_grad():\n    val = f(net(v))\nprint(val.item())"
    )


def test_a_loop() -> None:
    source = (
        "net.eval()\nfor v in loader:\n    val = f(net(v))\n    total += val.item()\nnet.train()\nf(net(x)).backward()"
    )
    changed = _written(source, 3)
    assert changed is not None
    assert changed.startswith("net.eval()\nwith torch.no_grad():\n    for v in loader:\n        val = f(net(v))")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("net.eval()\nloss = f(net(v))\nloss.backward()", 2),  # with batch norm switched off, on purpose
        ("net.eval()\nnet.train()\nval = f(net(v))", 3),
        ("val = f(net(v))", 1),
        ("net.eval()\nval = f(other(v))", 2),
        ("net.eval()\nwith torch.no_grad():\n    val = f(net(v))", 3),
        ("for x in xs:\n    net.eval()\n    loss = f(net(x))\n    net.train()\n    loss.backward()", 3),
        ("net.eval()\nx.requires_grad_(True)\nsaliency = f(net(x))", 3),
    ],
)
def test_what_is_left_alone(source: str, line: int) -> None:
    assert _written(source, line) is None
