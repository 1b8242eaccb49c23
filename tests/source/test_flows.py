"""Where values go, up to a model that would want them elsewhere."""

from __future__ import annotations

import ast

import pytest

from nb_oomhelper.source.flows import calls_any, given_by, meets_model, numbers_in


@pytest.mark.parametrize(
    ("code", "meets"),
    [
        ("net(x)", True),
        ("for i in r:\n    out = net(x[i:i + 8])", True),
        ("for b in DataLoader(TensorDataset(x, y)):\n    self.net(b)", True),
        ("z = x.argmax(1)\nnet.encode(z)", True),
        ("net(x[i:i + 8].to(dev))", False),
        ("for one in x:\n    parts.append(one * 2)\nnet(torch.stack(parts))", True),
        ("z = x.cuda()\nnet(z)", False),
        ("net(other[:len(x)], x.shape)", False),
        ("for i, v in enumerate(x):\n    net(i)", False),
        ("print(x.mean())\nplot(x)", False),
    ],
)
def test_a_model_gets_it_as_it_lies(code: str, meets: bool) -> None:
    assert meets_model(ast.parse(code).body, ["x"], {"net"}) is meets


def test_what_a_function_gives_back() -> None:
    assert given_by(ast.parse("a, b = t.embed(x)\nc = other(x)\nd = f(embed(y))").body, "embed") == {"a", "b", "d"}


@pytest.mark.parametrize(
    ("code", "called"),
    [
        ("best = min(kept, key=len)\nbest[3](x)", True),
        ("for score, model in kept:\n    model.predict(x)", True),
        ("best = min(kept, key=len)\nprint(best[0])", False),
        ("kept.append(model)", False),
    ],
)
def test_what_is_kept_is_called(code: str, called: bool) -> None:
    assert calls_any(ast.parse(code).body, ["kept"]) is called


def test_numbers() -> None:
    code = "a = x.item()\nb = sum(r['loss'].item() for r in rs) / len(rs)\nc = x.mean()\nd = 1\nd = x"
    assert numbers_in(ast.parse(code).body) == {"a", "b"}


def test_a_model_gets_what_a_function_gives_back_right_there() -> None:
    body = ast.parse("raw = net(encode(x)).reshape(3)").body
    assert meets_model(body, [], {"net"}, "encode")
    assert not meets_model(body, [], {"net"}, "other")
    assert not meets_model(ast.parse("raw = net(encode(x).cuda())").body, [], {"net"}, "encode")
