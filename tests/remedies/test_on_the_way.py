"""Which sizes can be why a cell ran out, and which code keeps what each step makes."""

from __future__ import annotations

import ast

import pytest

from nb_oomhelper.remedies.cell_source import read_cell
from nb_oomhelper.remedies.definitions import Definition
from nb_oomhelper.remedies.elements import Kept, Step
from nb_oomhelper.remedies.on_the_way import gathers, is_read, last_line
from nb_oomhelper.remedies.places import find_places
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.cures import first_line

LARGE = {"cuda": 100 << 20}


def written(
    cell: str,
    line: int,
    functions: str = "",
    kept: tuple[str, ...] = (),
    local: tuple[str, str] | None = None,
    called: bool = True,
) -> Written:
    """A cell that failed in a line, the cell above with its functions, and what is kept on the device."""
    read, tree = read_cell(cell), ast.parse(functions)
    assert read is not None
    owners = {id(part): one.name for one in tree.body if isinstance(one, ast.ClassDef) for part in one.body}
    definitions = tuple(
        Definition(
            name=one.name,
            owner=owners.get(id(one), ""),
            file="<above>",
            line=first_line(one),
            source=functions,
            cell=1,
            called=called,
        )
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef)
    )
    names = {
        (one.file, one.line): {local[1]: Kept(size=LARGE)} for one in definitions if local and one.name == local[0]
    }
    return Written(
        cell=read,
        definitions=definitions,
        steps=(Step(function="", file="<cell>", first=1, line=line),),
        kept={path: Kept(call="clear", size=LARGE) for path in kept},
        local=names,
    )


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


def test_the_statement_that_was_running() -> None:
    assert last_line(written("a = 1\nfor b in c:\n    d(b)\n    e(b)\nf()", 3)) == 4


HOOKS = "def make(name):\n    def hook(module, args, output):\n        acts[name].append(output)\n    return hook\n"
INNER = "    def hook(module, args, output):\n        acts.setdefault(0, []).append(output)\n    net(hook)\n"
MEMO = "def memoize(f):\n    memo = {}\n    def inner(x):\n        memo[x] = f(x)\n        return memo[x]\n"


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
