"""Which sizes can be why a cell ran out, and which code keeps what each step makes."""

from __future__ import annotations

import pytest

from nb_oomhelper.remedies.on_the_way import gathers, is_read, last_line, only_counts
from nb_oomhelper.remedies.places import find_places
from tests.remedies.notebooks import MEMO, written

CLASSIFIER = """class Classifier:
    def __init__(self, batch_size):
        self.batch_size = batch_size
    def fit(self, x):
        for i in range(0, len(x), self.batch_size):
            self.step(x[i])
    def predict(self, x):
        return self.net.eval()(x)
"""
FIT = "def fit(cfg):\n    return DataLoader(ds, batch_size=cfg.batch_size)\n"


@pytest.mark.parametrize(
    ("path", "cell", "line", "functions", "expected"),
    [
        ("bs", "x = x.to(dev)\nfor b in x.split(bs):\n    net(b)", 1, "", False),
        ("bs", "x = x.to(dev)\nfor b in x.split(bs):\n    net(b)", 3, "", True),
        ("clf.batch_size", "clf.predict(x)", 1, CLASSIFIER, False),
        ("clf.batch_size", "clf.fit(x)", 1, CLASSIFIER, True),
        ("clf.batch_size", "clf = Classifier(64)", 1, CLASSIFIER, True),
        ("cfg.batch_size", "for x in loader:\n    net(x, cfg.lr)", 2, FIT, False),
        ("cfg.batch_size", "fit(cfg)", 1, FIT, True),
        ('cfg["batch_size"]', "step(cfg['batch_size'])", 1, "", True),
        ('cfg["batch_size"]', "library.fit(cfg)", 1, "", True),
        ('cfg["batch_size"]', "fit(**cfg)", 1, "def fit(batch_size): pass", True),
        ("trainer.args.batch_size", "trainer.train()", 1, "", True),  # a library's: who knows what it reads
        ("cfg.batch_size", "cfg.batch_size = 4\nnet(x)", 2, "", False),
        ("loader", "x = x.to(dev)\nfor b in loader:\n    net(b)", 1, "", False),
    ],
)
def test_a_size_is_read_on_the_way(path: str, cell: str, line: int, functions: str, expected: bool) -> None:
    assert is_read(path, written(cell, line, functions)) == expected


@pytest.mark.parametrize(
    ("cell", "functions", "expected"),
    [
        ("f(x, max_len=20)", "def f(x, max_len=9):\n    for _ in range(max_len):\n        step(x)\n", True),
        ("for _ in range(max_len):\n    step(x)", "", True),
        ("f(max_len=max_len)", "def f(max_len):\n    return [g(i) for i in range(max_len)]\n", True),
        ("f(x, max_len=20)", "def f(x, max_len):\n    return pad(x, max_len)\n", False),
        ("f(x, max_len=20)", "def f(x, max_len):\n    for _ in range(max_len):\n        x[:max_len]\n", False),
        ("f(x, max_len=20)", "def f(x, max_len):\n    return library(x)\n", False),  # nobody sees what it is for
    ],
)
def test_a_number_of_steps_is_no_size(cell: str, functions: str, expected: bool) -> None:
    assert only_counts("max_len", written(cell, 1, functions)) is expected


def test_the_statement_that_was_running() -> None:
    assert last_line(written("a = 1\nfor b in c:\n    d(b)\n    e(b)\nf()", 3)) == 4


HOOKS = "def make(name):\n    def hook(module, args, output):\n        acts[name].append(output)\n    return hook\n"
INNER = "    def hook(module, args, output):\n        acts.setdefault(0, []).append(output)\n    net(hook)\n"


@pytest.mark.parametrize(
    ("cell", "line", "functions", "kept", "local", "expected"),
    [
        ("for x in xs.split(4):\n    net(x)", 2, HOOKS, ("acts",), None, True),  # no one calls it by its name
        ("for x in xs:\n    f(x)", 2, MEMO, (), ("inner", "memo"), True),
        ("outs = layers(xs)", 1, f"def layers(xs):\n    acts = {{}}\n{INNER}", (), ("layers", "acts"), True),
        ("for x in xs:\n    outs.append(net(x))", 2, "", ("outs",), None, True),
        ("for x in xs:\n    outs += (net(x),)", 2, "", ("outs",), None, True),
        ("for x in xs:\n    outs = []\n    outs.append(net(x))", 3, "", ("outs",), None, False),
        ("for b in loader:\n    b = {k: v.cuda() for k, v in b.items()}\n    net(b)", 3, "", ("b",), None, False),
        ("for b in loader:\n    for k in b:\n        b[k] = b[k].cuda()\n    net(b)", 4, "", ("b",), None, False),
        ("for x in batches:\n    net(x)", 2, "", ("batches",), None, False),
        ("for x in xs:\n    out['x'] = net(x)", 2, "", ("out",), None, False),
        ("data = [(x.cuda(), y.cuda()) for x, y in loader]", 1, "", (), None, True),
        ("losses = [net(x).item() for x in loader]", 1, "", (), None, False),
        ("outs = [head(x) for head in heads]", 1, "", (), None, False),
    ],
)
def test_code_that_keeps_what_each_step_makes(
    cell: str, line: int, functions: str, kept: tuple[str, ...], local: tuple[str, str] | None, expected: bool
) -> None:
    one = written(cell, line, functions, kept, local)
    assert gathers(one, find_places(one), "cuda", ["loader"]) == expected
