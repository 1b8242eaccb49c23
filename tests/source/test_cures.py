"""The classic mistakes, mended in the text where they are written."""

from __future__ import annotations

import ast
import textwrap

import pytest

from nb_oomhelper.source.cures import (
    add_number,
    append_detached,
    backward_once,
    in_float32,
    old_first,
    without_grad,
)
from nb_oomhelper.source.source_text import SourceText
from nb_oomhelper.source.text_edits import read_text


def text_of(source: str) -> SourceText:
    text = read_text(source)
    assert text is not None
    return text


TRAIN = """\
losses = []
for x, y in loader:  # noqa
    loss = criterion(model(x), y)
    loss.backward()
    losses.append(loss)   # for the plot
"""
TRAINER = """\
class Trainer:
    def __init__(self):
        self.outputs = []

    def fit(self, n):
        for _ in range(n):
            out = self.net(torch.randn(4096, 512))
            self.outputs.append(out)
            others.append(out)
"""


def test_only_the_appended_loss_is_changed() -> None:
    cure = append_detached("losses", text_of(TRAIN))
    assert cure is not None
    assert cure.changed.source == TRAIN.replace("losses.append(loss)", "losses.append(loss.item())")
    assert (cure.kind, cure.changed.line) == ("append_item", 5)
    assert cure.changed.before == "losses.append(loss)   # for the plot"
    assert cure.changed.after == "losses.append(loss.item())   # for the plot"


def test_in_a_method_the_attribute_counts() -> None:
    cure = append_detached("trainer.outputs", text_of(TRAINER), within="fit")
    assert cure is not None
    assert cure.changed.source == TRAINER.replace("self.outputs.append(out)", "self.outputs.append(out.detach())")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("losses.append(model(x))", "losses.append(model(x).detach())"),
        ("losses.append(F.mse_loss(model(x), y))", "losses.append(F.mse_loss(model(x), y).detach())"),
        ("losses += [loss]", "losses += [loss.detach()]"),
        ("losses[step] = out", "losses[step] = out.detach()"),
        ("losses = [net(x) for x in xs]", "losses = [net(x).detach() for x in xs]"),
        (
            'out = net(x)\nlosses.append((step, {"out": out}))',
            'out = net(x)\nlosses.append((step, {"out": out.detach()}))',
        ),
        ("losses.append((step, name))", None),
        ("losses.append(é if é else loss)", None),
        ("losses.append(float(loss))", None),
        ("losses.append(loss.item())", None),
        ("losses.append(loss.detach().cpu())", None),
        ("other.append(loss)", None),
        ("x.losses.append(loss)", None),
    ],
)
def test_what_is_appended(before: str, after: str | None) -> None:
    cure = append_detached("losses", text_of(before))
    assert (cure.changed.source if cure else None) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("total += loss", "total += loss.item()"),
        ("total = total + loss", "total = total + loss.item()"),
        ("total = criterion(model(x), y) + total", "total = criterion(model(x), y).item() + total"),
        ("total += loss.item()", None),
        ("total += loss * 2", None),
        ("count += 1", None),
    ],
)
def test_what_is_added_up(before: str, after: str | None) -> None:
    cure = add_number("total", text_of(f"for x in xs:\n    {before}\n"))
    assert (cure.changed.source if cure else None) == (f"for x in xs:\n    {after}\n" if after else None)


def test_a_function_that_evaluates() -> None:
    source = "import torch\n\n    \ndef evaluate(net, data):\n    return [net(x) for x in data]\n"
    cure = without_grad(text_of(source), "evaluate")
    assert cure is not None
    assert cure.changed.source == source.replace("def evaluate", "@torch.no_grad()\ndef evaluate")
    assert (cure.changed.before, cure.changed.after) == (
        "def evaluate(net, data):",
        "@torch.no_grad()\ndef evaluate(net, data):",
    )


@pytest.mark.parametrize("line", ["loss.backward()", "with torch.no_grad(): pass", "opt.step()"])
def test_a_function_that_trains_or_has_it(line: str) -> None:
    assert without_grad(text_of(f"def evaluate(net):\n    {line}\n"), "evaluate") is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("loss.backward(retain_graph=True)", "loss.backward()"),
        ("loss.backward(g, retain_graph=True)", "loss.backward(g, retain_graph=False)"),
        ("loss.backward(retain_graph=True); more.backward()", None),
        ("loss.backward()", None),
        ("loss.backward(retain_graph=keep)", None),
    ],
)
def test_a_graph_that_is_kept(before: str, after: str | None) -> None:
    cure = backward_once(text_of(before))
    assert (cure.changed.source if cure else None) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1\nmodel = Net()\nmodel.eval()\n", "x = 1\nmodel = None\nmodel = Net()\nmodel.eval()\n"),
        ("print(model)\nmodel = Net()\n", None),
        ("model = Net(model)\n", None),
        ("x = 1; model = Net()\n", None),
        ("if True:\n    model = Net()\n", None),
    ],
)
def test_the_old_one_first(before: str, after: str | None) -> None:
    cure = old_first(text_of(before), "model")
    assert (cure.changed.source if cure else None) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = np.zeros((4, 5))", "x = np.zeros((4, 5), dtype=np.float32)"),
        ("x = np.full((4, 5), 1.5)", "x = np.full((4, 5), 1.5, dtype=np.float32)"),
        ("x = np.zeros((4, 5), dtype=np.float64)", "x = np.zeros((4, 5), dtype=np.float32)"),
        ('x = y.astype("float64")', 'x = y.astype("float32")'),
        ("x = y.astype(np.float64)", "x = y.astype(np.float32)"),
        ("x = np.zeros((4, 5), int)", None),
        ("x = np.zeros((4, 5), **more)", None),
        ("x = torch.zeros((4, 5))", None),
    ],
)
def test_half_the_bytes(before: str, after: str | None) -> None:
    cure = in_float32(text_of(before))
    assert (cure.changed.source if cure else None) == after


def test_text_that_is_wide() -> None:
    source = textwrap.dedent("""
        名前 = "é"; losses.append(損失)  # ü
        """)
    cure = append_detached("losses", text_of(source))
    assert cure is not None
    assert cure.changed.source == source.replace("(損失)", "(損失.detach())")
    assert ast.parse(cure.changed.source)


def test_what_is_no_python() -> None:
    assert read_text("%%time\nx = (") is None
