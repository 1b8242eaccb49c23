"""What a statement depends on."""

from __future__ import annotations

import ast

import pytest

from nb_oomhelper.source.sources_of import sources_of

pytestmark = pytest.mark.plain

FIT = """
def fit(model, c):
    for epoch in range(c.epochs):
        perm = torch.randperm(n)
        for i in range(0, n, c.batch):
            idx = perm[i:i + c.batch]
            loss = crit(model(x[idx]), y[idx])
            loss.backward()
        val_loss = crit(model(x_val), y_val)
"""
BANK = """
bank = []
for data, target in train_loader:
    feature = net(data)
    bank.append(feature)
bank = torch.cat(bank)
for data, target in test_loader:
    feature = net(data.cuda())
    pred = knn(feature, bank)
"""


def _words(source: str, line: int, *, function: bool = False) -> set[str]:
    body = ast.parse(source).body
    found = sources_of(body[0].body if function else body, line)  # type: ignore[attr-defined]
    assert found is not None
    nodes = [one for node in found for one in ast.walk(node)]
    return {one.id for one in nodes if isinstance(one, ast.Name)} | {
        one.attr for one in nodes if isinstance(one, ast.Attribute)
    }


def test_a_training_step_depends_on_its_batch() -> None:
    assert "batch" in _words(FIT, 7, function=True)


def test_what_comes_after_the_batches_does_not() -> None:
    words = _words(FIT, 9, function=True)
    assert "batch" not in words
    assert {"epochs", "x_val"} <= words


def test_what_was_collected_before_does_not_tell_in_what_portions() -> None:
    words = _words(BANK, 9)
    assert "test_loader" in words
    assert "train_loader" not in words


def test_what_one_step_leaves_for_the_next() -> None:
    assert "start" in _words("h = start\nfor x in xs:\n    y = f(x, h)\n    h = g(y)", 3)
    assert "g" in _words("h = start\nfor x in xs:\n    y = f(x, h)\n    h = g(y)", 3)


def test_no_statement_on_that_line() -> None:
    assert sources_of(ast.parse("a = 1\n\nb = 2").body, 2) is None
