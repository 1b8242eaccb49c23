"""Losses over all pairs in parts that are made again for `backward()`: the same loss, and the same gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nb_oomhelper.source.row_parts import in_row_parts
from nb_oomhelper.source.row_sources import TORCH
from nb_oomhelper.source.text_edits import read_text, write_edits

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.plain

ROWS, WIDTH = 60, 8
TABLES = {"x": (ROWS, WIDTH), "y": (ROWS, WIDTH), "v": (ROWS,), "w": (ROWS,), "d": (ROWS, ROWS)}
RANKS = """
    diff = v.unsqueeze(1) - v.unsqueeze(0)
    better = (w.unsqueeze(1) > w.unsqueeze(0)).float()
    loss = better * F.softplus(-diff)
    return loss.sum() / better.sum()
"""


def parts(body: str, line: int = 2) -> str | None:
    text = read_text(f"def f(x, y, v, w, d):{body}")
    assert text is not None
    function = text.tree.body[0]
    for axes in (3, 2):
        found = in_row_parts(
            text,
            function.body,  # type: ignore[attr-defined]
            line,
            TABLES,
            (ROWS, *(WIDTH for _ in range(axes - 1))),
            lambda _: False,
            (),
            at_top=False,
            library=TORCH,
            parts=8,
            again=True,
        )
        if found is not None and found.axes == axes:
            changed = write_edits(text, found.edits)
            return None if changed is None else changed.source
    return None


def run(source: str) -> tuple[float, list[Any]]:
    torch.manual_seed(0)
    x, y, v, w = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH), torch.randn(ROWS), torch.randn(ROWS)
    given = [one.requires_grad_() for one in (x, y, v)]
    known: dict[str, Any] = {"torch": torch, "F": torch.nn.functional, "math": math}
    exec(source, known)
    loss = known["f"](x, y, v, w, torch.cdist(x, x))
    loss.backward()
    return loss.item(), [one.grad for one in given]


@pytest.mark.parametrize(
    "body",
    [
        RANKS,
        "\n    k = torch.exp(-torch.cdist(x, y) ** 2 / 2)\n    return k.mean()\n",
        "\n    t = F.relu(d.unsqueeze(2) - d.unsqueeze(1) + 0.2)\n    return t.sum() / (t > 0).sum()\n",
        "\n    logits = x @ y.T / 0.07\n    labels = torch.arange(len(x), device=x.device)\n"
        "    return F.cross_entropy(logits, labels)\n",
        "\n    logits = x @ x.T / 0.07\n    logits = logits - logits.max(dim=1, keepdim=True).values.detach()\n"
        "    return -(logits - torch.log(torch.exp(logits).sum(1, keepdim=True))).mean()\n",
        "\n    s = x @ y.T / math.sqrt(8)\n    out = s.softmax(dim=-1) @ y\n    return out.pow(2).mean()\n",
        "\n    dist = ((x[:, None] - x[None]) ** 2).sum(-1)\n    return (1 / (dist + 0.01).sqrt()).sum() / 2\n",
        "\n    s = x @ x.T\n    return F.mse_loss(s, y @ y.T)\n",
        "\n    s = (x @ y.T).exp()\n    loss = s.sum()\n    x = y\n    return loss\n",
        "\n    s = x @ y.T\n    return F.binary_cross_entropy_with_logits(s, (y @ y.T > 0).float())\n",
    ],
)
def test_the_same_loss_and_the_same_gradients(body: str) -> None:
    changed = parts(body)
    assert changed is not None
    assert "torch.utils.checkpoint.checkpoint(of_part, part, use_reentrant=False)" in changed
    (one, gradients), (other, others) = run(f"def f(x, y, v, w, d):{body}"), run(changed)
    assert one == pytest.approx(other, rel=1e-4)
    for mine, own in zip(gradients, others, strict=True):
        assert (mine is None) == (own is None)
        assert mine is None or torch.allclose(mine, own, rtol=1e-3, atol=1e-5)


def test_each_step_has_its_own_names() -> None:
    body = "\n    loss = 0\n    for t in (0.5, 1.0, 2.0):\n        k = ((x[:, None] - y[None]) / t).tanh()\n"
    body += "        part_loss = k.mean()\n        loss = loss + part_loss\n    return loss\n"
    changed = parts(body, 4)
    assert changed is not None
    assert "def of_part(part, t=t, x=x, y=y):" in changed
    (one, gradients), (other, others) = run(f"def f(x, y, v, w, d):{body}"), run(changed)
    assert one == pytest.approx(other, rel=1e-4)
    assert torch.allclose(gradients[0], others[0], rtol=1e-3, atol=1e-5)


def test_how_it_is_written() -> None:
    assert parts(RANKS) == (
        "def f(x, y, v, w, d):\n"
        "    part_sums = []\n"
        "    part_sums_2 = []\n"
        "    for part in torch.arange(len(v)).chunk(8):\n"
        "        def of_part(part, v=v, w=w):\n"
        "            diff = v[part].unsqueeze(1) - v.unsqueeze(0)\n"
        "            better = (w[part].unsqueeze(1) > w.unsqueeze(0)).float()\n"
        "            loss = better * F.softplus(-diff)\n"
        "            return loss.sum(), better.sum()\n"
        "        part_made = torch.utils.checkpoint.checkpoint(of_part, part, use_reentrant=False)\n"
        "        part_sums = [sum(part_sums, part_made[0])]\n"
        "        part_sums_2 = [sum(part_sums_2, part_made[1])]\n"
        "    return sum(part_sums) / sum(part_sums_2)\n"
    )


@pytest.mark.parametrize(
    "body",
    [
        "\n    s = x @ y.T\n    s = s.masked_fill(torch.eye(60, dtype=torch.bool), -9.0)\n    return s.exp().sum()\n",
        "\n    s = x @ y.T\n    s = F.dropout(s)\n    return s.sum()\n",
        "\n    s = x @ y.T\n    return s.softmax(dim=0).sum()\n",
        "\n    s = (x @ y.T).exp()\n    loss = s.sum()\n    x[:] = 0\n    return loss\n",
        "\n    s = x @ y.T\n    return F.cross_entropy(s, w.long())\n",  # labels of -100 do not count
        "\n    s = x @ y.T\n    loss = F.mse_loss(s, s * 2, reduction=kind)\n    return loss.mean()\n",
        "\n    s = x @ y.T\n    part_made = s.sum()\n    return part_made\n",
    ],
)
def test_what_is_left_as_it_is(body: str) -> None:
    assert parts(body) is None
