"""What is done at once, done in parts."""

from __future__ import annotations

import ast

import pytest

from nb_oomhelper.source.in_parts import joins_rows, model_in_parts, pairs_in_parts
from nb_oomhelper.source.text_edits import read_text, write_edits


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("out = net(x.cuda())", "out = torch.cat([net(part.cuda()) for part in x.chunk(32)])"),
        (
            "out = self.net(torch.from_numpy(X).to(dev)).softmax(1)",
            "out = torch.cat([self.net(part.to(dev)) for part in torch.from_numpy(X).chunk(32)]).softmax(1)",
        ),
        ("out = net(x)\nprint(out.shape)", "out = torch.cat([net(part) for part in x.chunk(32)])\nprint(out.shape)"),
        ("out = net(x)\nloss = out.loss", None),
        ("out = net(x)\nfirst = out[0]", None),
        ("a, b = net(x)", None),
        ("out = other(x)", None),
        ("out = net(x, mask)", None),
        ("out = net(x).logits", None),
        ("outs = [net(x) for x in xs]", None),
        ("part = 1\nout = net(x)", None),
    ],
)
def test_a_model(before: str, after: str | None) -> None:
    text = read_text(before)
    assert text is not None
    line = next(at for at, one in enumerate(before.splitlines(), 1) if "x" in one.lower())
    found = model_in_parts(text, text.tree.body, line, {"net"})
    changed = None if found is None else write_edits(text, found[1])
    assert (changed and changed.source) == after


def test_of_a_model_without_graphs() -> None:
    text = read_text("out = net(x.cuda())\n")
    assert text is not None
    found = model_in_parts(text, text.tree.body, 1, {"net"}, ".detach()")
    changed = None if found is None else write_edits(text, found[1])
    assert changed is not None
    assert changed.source == "out = torch.cat([net(part.cuda()).detach() for part in x.chunk(32)])\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "sim = emb @ emb.T\ntop = sim.topk(5, dim=1).indices",
            "top = torch.cat([(part @ emb.T).topk(5, dim=1).indices for part in emb.chunk(32)])",
        ),
        (
            "d = torch.cdist(q, g)\nv, i = d.topk(k, dim=1, largest=False)",
            "v, i = map(torch.cat, zip(*[torch.cdist(part, g).topk(k, dim=1, largest=False) for part in q.chunk(32)]))",
        ),
        (
            "best = (q @ g.T).argmax(dim=-1)",
            "best = torch.cat([(part @ g.T).argmax(dim=-1) for part in q.chunk(32)])",
        ),
        (
            "d = torch.cdist(q, g)\ni = torch.topk(d, 5, dim=1)[1]",
            "i = torch.cat([torch.topk(torch.cdist(part, g), 5, dim=1)[1] for part in q.chunk(32)])",
        ),
        ("sim = emb @ emb.T\ntop = sim.topk(5, dim=0).indices", None),
        ("sim = emb @ emb.T\nsim.fill_diagonal_(0)\ntop = sim.topk(5, dim=1).indices", None),
        ("sim = emb @ emb.T", None),
        (
            "d = torch.cdist(q, g)\ni = d.argmin(1)\ndel d",
            "i = torch.cat([torch.cdist(part, g).argmin(1) for part in q.chunk(32)])\npass",
        ),
        ("best = (q @ g.T).argmax(1)[0]", "best = torch.cat([(part @ g.T).argmax(1) for part in q.chunk(32)])[0]"),
        ("sim = q @ g.T\nsim /= 0.1\ntop = sim.topk(5).indices", None),
        ("sim = q @ g.T\nq = None\ntop = sim.topk(5).indices", None),
        ("sim = q @ g.T\ng.mul_(2)\ntop = sim.topk(5).indices", None),
        ("sim = q @ g.T\nfor k in ks:\n    top = sim.topk(k).indices", None),
        ("sim = q @ g.T\ntop = sim.topk(5).indices\ndel sim, q", None),
        ("best = (q @ net(g).T).argmax(1)", None),  # `net` would run for each part
        ("y = x @ w\nbest = y.argmax(dim=1)", None),
    ],
)
def test_all_with_all(before: str, after: str | None) -> None:
    text = read_text(before)
    assert text is not None
    found = pairs_in_parts(text, text.tree.body, 1)
    changed = None if found is None else write_edits(text, found[1])
    assert (changed and changed.source) == after


@pytest.mark.parametrize(
    ("forward", "joins"),
    [
        ("return self.fc(x.view(x.size(0), -1)).softmax(dim=1)", False),
        ("return self.fc(self.conv(x).relu().mean(dim=[2, 3]))", False),
        ("return q @ k.transpose(-2, -1)", False),
        ("return x.unsqueeze(0)", False),
        ("return x - x.mean(0)", True),
        ("x = torch.unsqueeze(x, dim=0)\n    return x - x.mean(dim=0)", True),
        ("return x - torch.mean(x, dim=0)", True),
        ("return self.fc(x) @ self.fc(x).T", True),
        ("return x / x.std()", True),
        ("return x + torch.randn_like(x)", True),
        ("return x / torch.max(x)", True),
        ("return torch.max(x, y)", False),
        ("return self.norm(x)", False),
        ("return x - x.mean(dim=(0, 2, 3))", True),
        ("return x.mean((2, 3))", False),
        ("return x.softmax(0)", True),
        ("return F.softmax(x, 0)", True),
        ("return F.softmax(x, 1)", False),
        ("return torch.cat([x, y], 1)", False),
        ("return torch.cat([x, y], 0)", True),
        ("return torch.cat([x, y])", True),
        ("return torch.stack([x, y], dim=1)", False),
        ("return q @ k.transpose(0, 1)", True),
        ("return x.permute(0, 2, 1)", False),
        ("q, k, v = x.permute(2, 0, 3, 1, 4)\n    return q @ k.transpose(-2, -1)", False),
        ("return x @ x.permute(1, 0)", True),
        ("self.last = x\n    return x", True),
        ("self.seen[0] = x\n    return x", True),
        ("self.total += x.shape[0]\n    return x", True),
        ("self.counts.add_(1)\n    return x", True),
        ("x[:, 0] = 0\n    return F.relu_(x)", False),
    ],
)
def test_a_model_that_looks_at_several_rows(forward: str, joins: bool) -> None:
    assert joins_rows(ast.parse(f"def forward(self, x):\n    {forward}")) is joins


def test_the_parts_give_the_same() -> None:
    torch = pytest.importorskip("torch")
    names = {"torch": torch, "q": torch.randn(100, 8), "g": torch.randn(50, 8), "k": 3, "net": torch.nn.Linear(8, 2)}
    for source in (
        "d = torch.cdist(q, g)\na, b = d.topk(k, dim=1, largest=False)",
        "a = (q @ g.T).argmax(dim=-1)\nb = 0",
        "a = net(q)\nb = 0",
    ):
        text = read_text(source)
        assert text is not None
        found = pairs_in_parts(text, text.tree.body, 1) or model_in_parts(text, text.tree.body, 1, {"net"})
        assert found is not None
        changed = write_edits(text, found[1])
        assert changed is not None
        one, two = dict(names), dict(names)
        exec(source, one)
        exec(changed.source, two)
        assert torch.allclose(one["a"].float(), two["a"].float(), atol=1e-5)
        assert one["b"] is two["b"] or torch.equal(one["b"], two["b"])
