"""Tensors computed in parts of their rows: the same numbers, and never all rows at once."""

from __future__ import annotations

from typing import Any

import pytest

from nb_oomhelper.source.row_parts import in_row_parts
from nb_oomhelper.source.row_sources import TORCH
from nb_oomhelper.source.text_edits import read_text, write_edits

torch = pytest.importorskip("torch")


def given() -> dict[str, Any]:
    torch.manual_seed(0)
    a, b = torch.rand(40, 3), torch.rand(7, 3)
    c = torch.randint(0, 2, (40, 3))
    return {
        "torch": torch,
        "nn": torch.nn,
        "F": torch.nn.functional,
        "a": a,
        "b": b,
        "c": c,
        "v": a[:, 0].clone(),
        "u": b[:, 0].clone(),
        "w": torch.rand(3),
        "s": torch.rand(40, 40),
        "k": 2,
        "n": 40,
    }


def parts(source: str, axes: int, line: int = 1) -> str | None:
    text = read_text(source)
    assert text is not None
    known = run("\n".join(source.splitlines()[: line - 1])) if line > 1 and source[0] != "i" else given()
    shapes = {name: tuple(thing.shape) for name, thing in known.items() if isinstance(thing, torch.Tensor)}
    refused = (40, *(3 for _ in range(axes - 1)))
    found = in_row_parts(
        text, text.tree.body, line, shapes, refused, lambda _name: False, (), at_top=True, library=TORCH
    )
    if found is None or found.axes != axes:
        return None
    changed = write_edits(text, found.edits)
    return None if changed is None else changed.source


def run(source: str) -> dict[str, Any]:
    known = given()
    exec(source, known)
    return known


def same(one: Any, other: Any) -> bool:
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if not isinstance(one, torch.Tensor):
        return bool(one == other)
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and bool(torch.allclose(one.double(), other.double(), atol=1e-4))


@pytest.mark.parametrize(
    ("axes", "source"),
    [
        (3, "d = F.cosine_similarity(a.unsqueeze(1), a.unsqueeze(0), dim=-1)\nd.fill_diagonal_(-1)\n"),
        (3, "d = torch.cosine_similarity(a[:, None], a[None], dim=2)\n"),
        (3, "d = F.cosine_similarity(a[:, None].float(), a[None], -1)\n"),
        (3, "d = torch.norm(a[:, None] - b[None], dim=-1)\n"),
        (3, "d = torch.norm(a[:, None] - b[None], p=1, dim=-1)\n"),
        (3, "d = torch.linalg.norm(a[:, None, :] - b, dim=2)\n"),
        (3, "d = ((a[:, None] - b[None]) ** 2).sum(-1)\n"),
        (3, "d = (a.unsqueeze(1) - b.unsqueeze(0)).pow(2).sum(2).sqrt()\n"),
        (3, "d = (a.unsqueeze(-2) * b.unsqueeze(0)).sum(-1)\n"),
        (3, "d = (c[:, None, :] == c[None, :, :]).all(-1)\n"),
        (3, "d = (c[:, None] != c[None]).float().mean(dim=-1)\n"),
        (3, "e = a[:, None] - b\nd = e.abs().amax(dim=-1)\n"),
        (3, "e = (a[:, None] - b).norm(dim=-1)\nd = e.min(dim=1).values, e.min(1)[1], e.argmin(dim=1)\n"),
        (3, "e = a.unsqueeze(1) - b\ne = e.square().sum(-1)\nbest, at = e.topk(2, dim=1)\nd = best, at\n"),
        (3, "e = torch.exp(-(a[:, None] - a[None]).pow(2).sum(-1))\nd = e @ v\n"),
        (2, "e = torch.exp(-((a ** 2).sum(1)[:, None] + (a ** 2).sum(1)[None] - 2 * a @ a.T))\nd = e @ v\n"),
        (2, "q = (a ** 2).sum(1)\ne = q[:, None] + q[None, :] - 2 * a @ a.t()\nd = e.clamp(min=0).sqrt().argmin(1)\n"),
        (2, "e = torch.mm(a, b.t())\nd = e.softmax(dim=1).max(1)[0]\n"),
        (2, "e = torch.cdist(a, b)\nbest, at = torch.topk(e, k, dim=1, largest=False)\nd = best, at\n"),
        (2, "e = torch.cdist(a, a)\ne.fill_diagonal_(9)\nd = e.min(dim=1).values\n"),
        (2, "e = v[:, None] - u[None]\ne.clamp_(min=0)\ne[e > 0.3] = 1\nd = e.sum(dim=1), e.mean(), e.sum(0)\n"),
        (2, "e = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T\nd = e.topk(k, dim=1).indices\n"),
        (2, "e = torch.outer(v, u)\nd = e.sum(1)\nf = nn.Softmax(dim=1)(a), (lambda x: x)(a)\n"),
        (2, "e = torch.outer(v, u)\nd = torch.sort(e, dim=1)[0][:, :2]\n"),
        (2, "e = v.cos()[:, None] * u.cos()\nd = torch.logsumexp(e, dim=1)\n"),
        (2, "if True:\n    e = a.matmul(b.t())\n    d = torch.where(e > 1, e, 0.0).std(dim=1)\n"),
    ],
)  # fmt: skip
def test_the_numbers_are_the_same(axes: int, source: str) -> None:
    changed = parts(source, axes, line=2 if source.startswith(("if", "q")) else 1)
    assert changed is not None
    assert "in torch.arange(len(" in changed
    names = run(changed)
    assert same(names["d"], run(source)["d"])
    assert not {"part", "d_parts"} & names.keys()
    assert axes == 3 or "e" not in names


@pytest.mark.parametrize(
    ("axes", "source"),
    [
        (2, "e = a @ b.T\nd = e.max(1)\n"),  # values and indices
        (2, "e = a @ b.T\nd = torch.min(e, 1)\n"),
        (2, "e = a @ b.T\nd = torch.where(e > 1)\n"),
        (2, "e = a @ b.T\nd = e.softmax(dim=0).argmax(1)\n"),
        (2, "e = a @ b.T\nd = F.normalize(e, dim=0).argmax(1)\n"),
        (3, "d = F.cosine_similarity(a[:, None], b[None], dim=0)\n"),
        (3, "d = F.cosine_similarity(a.unsqueeze(0), a.unsqueeze(1), dim=0)\n"),
        (3, "d = (a[:, None] - b).norm()\n"),
        (2, "e = torch.rand(40, 5)\nd = e.max(1).values\n"),
        (2, "e = torch.randint(0, 9, (40, 5))\nd = e.sum(1)\n"),
        (2, "e = F.dropout(a @ b.T)\nd = e.sum(1)\n"),
        (2, "e = a @ b.T\nprint(e)\nd = e.sum(1)\n"),
        (2, "e = unknown(a)[:, None] - u\nd = e.sum(1)\n"),
        (2, "e = nn.Softmax(dim=0)(a @ b.T)\nd = e.sum(1)\n"),
        (2, "e = a @ b.T\ne.t_()\nd = e.sum(1)\n"),
        (2, "e = a.view(20, 6) * 2\nd = e.sum(1)\n"),
        (2, "e = a.flip(0) - a\nd = e.sum(1)\n"),
    ],
)
def test_what_stays(axes: int, source: str) -> None:
    assert parts(source, axes) is None


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    "source",
    [
        "e = a.float()\ne *= 2\nd = e.sum(1)\nz = a.sum()\n",  # the same tensor
        "e = a.to(torch.float32)\ne.mul_(2)\nd = e.sum(1)\nz = a.sum()\n",
        "e = a.detach()\ne.clamp_(max=0.1)\nd = (e[:, None] - b).sum(-1)\nz = a.sum()\n",
        "e = v[:, None] - v\nd = (e + e.T).sum(1)\n",
        "e = v[:, None] - v\nd = e.transpose(0, 1).sum(1)\n",
        "e = v.unsqueeze(1) - v.unsqueeze(-1)\nd = e.sum(1)\n",
        "e = v.unsqueeze(0) - v.unsqueeze(1)\nd = e.sum(1), e.sum(0), e.sum()\n",
        "e = s * v\nd = e.sum(1)\n",
        "e = s.t() * 2\nd = e.sum(1)\n",
        "e = s - s.mean(0)\nd = e.amax(1)\n",
        "e = s - s.mean(1)\nd = e.amax(1)\n",
        "e = s - s.mean(1, keepdim=True)\nd = e.amax(1)\n",
        "e = s.clamp(min=v[:, None])\nd = e.sum(1)\n",
        "e = s.clamp(min=v)\nd = e.sum(1)\n",
        "e = s.cumsum(0)\nd = e.amax(1)\n",
        "e = s.sort(0)[0]\nd = e.amax(1)\n",
        "e = s.sort()[0]\nd = e.amax(1)\n",
        "e = s.argsort(1, True)\nd = e.amax(1)\n",
        "e = torch.max(s, s.T)\nd = e.amax(1)\n",
        "e = torch.maximum(s, s.T)\nd = e.amax(1)\n",
        "e = s[s[:, 0].argsort()]\nd = e.amax(1)\n",
        "e = s / s.max()\nd = e.amax(1)\n",
        "e = s / s.norm()\nd = e.amax(1), e.max(), e.min()\n",
        "e = a[:, None] - b\nd = e.norm(2, 0)\n",
        "e = (a[:, None] - b).norm(2, -1)\nd = e\nd[0] = 5\n",
        "e = (a[:, None] - b).norm(2, -1)\nd = e.t()\n",
        "e = s @ s\nd = e.diagonal()\n",
        "e = s @ s\nd = e.trace()\n",
        "e = s @ s\nd = e[:5].sum(1)\n",
        "e = s @ s\nd = torch.linalg.solve(e + torch.eye(n), v)\n",
        "e = s @ s + torch.eye(n)\nd = e.sum(1)\n",
        "e = s @ s\nd = e.sum(1).cumsum(0)\n",
        "e = s @ s\nd = e.sum(1) / e.sum()\n",
        "e = s @ s\nq = e.sum(1)\nd = e / q\nd = d.sum(1)\n",
        "e = s @ s\nq = e.sum(1, keepdim=True)\nd = (e / q).amax(1)\n",
        "e = s @ s\ne -= e.mean(0)\nd = e.amax(1)\n",
        "e = s @ s\nd = torch.median(e)\n",
        "e = s @ s\nd = e.median(1).values, e.kthvalue(2, 1).values, torch.kthvalue(e, 2, 1)[0]\n",
        "e = s @ s\nd, e = e.topk(2)\n",
        "e = s @ s\nd = e.topk(2, 0)[0]\n",
        "e = s @ s\nd = e.quantile(0.5, 1), e.quantile(0.5)\n",
        "e = s @ s\nd = e.std(1, False), e.var(), e.any(), e.all(1)\n",
        "e = torch.einsum('ij,kj->ik', a, b)\nd = e.sum(1)\n",
        "e = torch.einsum('ij,kj->ki', a, b)\nd = e.sum(1)\n",
        "e = torch.einsum('ij,ik->jk', a, a)\nd = e.sum(1)\n",
        "e = F.pairwise_distance(a, a + 1)\nd = e * 2\n",
        "e = F.pairwise_distance(a[:, None], b)\nd = e.amin(1)\n",
        "e = F.pairwise_distance(a[:, None], b, keepdim=True)\nd = e.amin(1)\n",
        "F = s\ne = F.relu() - F.T\nd = e.amin(1)\n",
        "e = torch.diff(s, 1, 0)\nd = e.amin(1)\n",
        "e = torch.diff(s)\nd = e.amin(1)\n",
        "e = s * 2\ne = e.fill_diagonal_(0)\nd = e.amin(1)\n",
        "x = s\ne = x * 2\nx.mul_(2)\nd = (e + x).amin(1)\n",
        "e = s * 2\ns.zero_()\nd = e.amin(1)\n",
        "e = s * 2\nfor i in range(3): e = e + s\nd = e.amin(1)\n",
        "e = c[:, None] * b\nd = e.sum((1, 2)), e.sum(dim=(0, 1))\n",
        "e = a[c.bool()[:, 0]]\nd = e.sum(1)\n",
        "e = w[c]\nd = e.sum(1)\n",
        "e = s.masked_fill(s > 0.5, -1)\nd = e.argmax(1)\n",
        "e = s.masked_fill(torch.eye(n).bool(), -1)\nd = e.argmax(1)\n",
        "e = torch.cdist(a, a) + v\nd = e.argmin(1)\n",
        "e = torch.cdist(a, a) + v[:, None]\nd = e.argmin(1)\n",
    ],
)
def test_either_it_stays_or_all_is_the_same(source: str, axes: int) -> None:
    lines = source.splitlines()
    expected = run(source)
    for line in range(1, len(lines) + 1):
        changed = parts(source, axes, line)
        if changed is None:
            continue
        names = run(changed)
        there = {name for name in expected if name in names}
        assert same(names["d"], expected["d"]), changed
        tensors = [name for name in there if isinstance(expected[name], torch.Tensor)]
        assert all(same(names[name], expected[name]) for name in tensors), changed
