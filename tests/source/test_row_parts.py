"""Rows computed in parts: the same numbers, and never all rows at once."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping
from typing import Any

import pytest

from nb_oomhelper.source.cures import function_in
from nb_oomhelper.source.row_functions import RowFunction
from nb_oomhelper.source.row_parts import in_row_parts
from nb_oomhelper.source.row_values import computes_elementwise
from nb_oomhelper.source.text_edits import read_text, write_edits
from nb_oomhelper.source.tree import last_name

numpy = pytest.importorskip("numpy")

REFUSED = (40, 7, 3)


def given() -> dict[str, Any]:
    rng = numpy.random.default_rng(0)
    a, b = rng.random((40, 3)), rng.random((7, 3))
    return {
        "np": numpy,
        "numpy": numpy,
        "a": a,
        "b": b,
        "v": a[:, 0],
        "u": b[:, 0],
        "w": rng.random(3),
        "s": rng.random((40, 40)),
        "listed": list(range(40)),
        "ids": rng.integers(0, 50, (40, 3)),
        "n": 40,
        "k": 2,
        "rng": numpy.random.default_rng(5),
    }


def parts(
    source: str,
    refused: tuple[int, ...] = REFUSED,
    *,
    line: int = 1,
    function: str = "",
    taken: tuple[str, ...] = (),
    known: Mapping[str, Any] | None = None,
) -> str | None:
    text = read_text(source)
    assert text is not None
    node = function_in(text, function) if function else None
    shapes = {name: thing.shape for name, thing in (known or given()).items() if isinstance(thing, numpy.ndarray)}
    shapes |= {"self.a": (40, 3)}
    body = text.tree.body if node is None else node.body

    def called(call: ast.Call) -> RowFunction | None:
        function = function_in(text, last_name(call.func) or "")
        return None if function is None else RowFunction(text=text, node=function, shapes=shapes)

    found = in_row_parts(
        text,
        body,
        line,
        shapes,
        refused,
        {"far"}.__contains__,
        taken,
        at_top=node is None,
        functions=called,
        whole={"listed"},
    )
    changed = None if found is None else write_edits(text, found.edits)
    return None if changed is None else changed.source


def run(source: str, names: Mapping[str, Any]) -> dict[str, Any]:
    known = dict(names)
    numpy.random.seed(0)
    exec(source, known)
    return known


@pytest.mark.parametrize(
    ("refused", "source"),
    [
        (REFUSED, "diff = a[:, None, :] - b[None, :, :]\nd = (diff ** 2).sum(-1).argsort(axis=1)\n"),
        (REFUSED, "d = ((a[:, None, :] - b[None]) ** 2).sum(axis=-1)\n"),
        (REFUSED, "d = np.sqrt(((a[:, None] - b) ** 2).sum(-1))\n"),
        (REFUSED, "d = np.linalg.norm(a[:, np.newaxis] - b, axis=2)\n"),
        (REFUSED, "if True:\n    e = a[:, None] - b\n    d = (e ** 2).sum(-1)\n"),
        (REFUSED, "diff = a[:, None, :] - b[None]\nd = np.einsum('ijk,ijk->ij', diff, diff)\n"),
        (REFUSED, "diff = a[:, None] - b\nd = (diff ** 2).sum(0)\n"),
        ((40, 7), "e = a @ b.T\nk = 3\ne /= np.linalg.norm(b, axis=1)\nd = np.argsort(-e, axis=1)[:, :k]\n"),
        ((40, 40), "e = v[:, None] - v[None, :]\ne[e < 0] = 0\nd = e.max(axis=1)\n"),
        ((40, 40), "e = np.outer(v, v)\nnp.fill_diagonal(e, -1)\nd = [e.argmax(1), e.sum(0), e.mean(), e.max()]\n"),
        ((40, 3), "e = np.exp(a - a.mean(0))\ne = e / e.sum(1, keepdims=True)\nd = e.argmax(1), (e * 2).mean(0)\n"),
        ((40, 7), "e = a @ b.T\nd = e.min(axis=1).mean(), np.sqrt(e.max(1)) + 1\n"),
        ((40, 3), "e = a - a.mean(axis=0)\nd = e.T @ e / (len(a) - 1)\n"),
        ((40, 3, 50), "e = np.eye(50)[ids]\nf = e.mean(axis=1)\nd = f @ np.ones((50, 9))\n"),
        ((40, 9), "e = np.cumsum(rng.choice([-1, 1], size=(n, 9)), axis=1)\nf = e[:, -1]\nd = abs(e).max(1) + f\n"),
        ((40, 7), "e = a @ b.T\nd = e.max(1) * listed\n"),
        ((40, 9, 3), "e = rng.choice(a, size=(n, 9))\nd = e.mean(axis=1)\n"),
        ((40, 7), "e = v[:, None] - u\nd = (np.cos(v)[:, None] * np.cos(u) * np.sin(e)).argmin(axis=1)\n"),
        ((40, 40), "e = np.cos(v)[:, None] * np.cos(v)\nd = e.argmax(1), (e + np.sin(v)[None, :]).min(1)\n"),
        ((40, 3), "e = np.exp(a) * np.cos(np.radians(v))[:, None]\nd = e.max(1)\n"),
        ((40, 2), "e = np.fft.rfft(a * w, axis=-1)\nd = (np.abs(e) ** 2).mean(axis=0)\n"),
        ((40, 40), "e = np.exp(-((a ** 2).sum(1)[:, None] + (a ** 2).sum(1)[None] - 2 * a @ a.T))\nd = e @ v\n"),
        ((40, 7), "e = (a ** 2).sum(1)[:, None] + (b ** 2).sum(1) - 2 * a @ b.T\nd = e.argmin(1)\n"),
        ((40, 40), "e = (a * a).sum(axis=1)[:, np.newaxis] - 2 * np.dot(a, a.T)\nd = e.sum(axis=1), e.mean()\n"),
        ((40, 9), "e = np.sort(rng.integers(0, 9, size=(n, 9)), axis=1)\nd = (np.diff(e) < 1).any(axis=1).mean()\n"),
        ((40, 2), "e = np.diff(a, axis=-1) * 2\nd = e.max(1)\n"),
    ],
)  # fmt: skip
def test_the_numbers_are_the_same(refused: tuple[int, ...], source: str) -> None:
    changed = parts(source, refused, line=2 if source.startswith("if") else 1)
    assert changed is not None
    assert " in numpy.array_split(numpy.arange(" in changed
    names = run(changed, given())
    expected = run(source, given())["d"]
    pairs = zip(names["d"], expected, strict=True) if isinstance(expected, (list, tuple)) else [(names["d"], expected)]
    assert all(numpy.allclose(one, other) for one, other in pairs)
    assert not {"part", "e", "diff"} & names.keys()


def test_a_function_returns_the_same() -> None:
    source = textwrap.dedent(
        """
        def nearest(self, b, k=2):
            d = far(self.a[:, None], b[None])
            total = d.sum(axis=-1)
            return np.argsort(total, axis=1)[:, :k], total.min(axis=1)
        """
    )
    changed = parts(source, line=3, function="nearest")
    assert changed is not None
    assert "self.a[part][:, None]" in changed
    names = given() | {"far": lambda a, b: abs(a - b), "self": type("Self", (), {"a": given()["a"]})}
    old, new = (run(one, names)["nearest"](names["self"], names["b"]) for one in (source, changed))
    assert all(numpy.array_equal(one, other) for one, other in zip(old, new, strict=True))


OTHERS = """
def exp(x):
    return np.exp(x) / np.exp(x).sum()
def euclidean_distances(x, y):
    return x @ y.T / x.max()
def f(x, y):
    return x @ y.T
def apply(x, y, f):
    return f(x, y)
def with_default(x, y, old=a):
    return (x * old) @ y.T
"""
RBF = """
def kernel(x, y, gamma=0.5):
    'Of all with all.'
    sq = (x ** 2).sum(1)[:, None] + (y ** 2).sum(axis=1)[None, :] - 2 * x @ y.T
    return np.exp(-gamma * sq)
"""


@pytest.mark.parametrize("call", ["kernel(a, b)", "kernel(a, y=b, gamma=k)", "np.sqrt(kernel(a * 2, b))"])
def test_a_function_of_the_notebooks_computes_row_by_row(call: str) -> None:
    source = f"{RBF}def predict(a, b, w):\n    return {call}.sum(axis=1)\n"
    changed = parts(source, (40, 7), line=7, function="predict")
    assert changed is not None
    assert "for part in" in changed
    old, new = (run(one, given())["predict"](*map(given().get, "abw")) for one in (source, changed))
    assert numpy.allclose(old, new)


@pytest.mark.parametrize(
    "body",
    [
        "return x - x.mean(axis=0)",
        "x = x @ y.T\n    return x / x.max()",
        "x *= 2\n    return x @ y.T",  # the caller's array changes
        "global seen\n    seen = x\n    return x @ y.T",
        "return kernel(y, x).T",
        "return (x + a) @ y.T",  # `a` would be all rows
        "return x @ y.T * len(x)",
        "return np.sort(x @ y.T, axis=0)",
        "for one in y:\n        x = x + one\n    return x",
        "return kernel(x, y)",
        "return exp(x @ y.T)",  # the notebook's own
        "return euclidean_distances(x, y)",
        "return apply(x, y, other)",
        "return with_default(x, y)",
    ],
)
def test_a_function_that_may_need_other_rows(body: str) -> None:
    source = f"{OTHERS}def kernel(x, y):\n    {body}\ndef predict(z, b):\n    return kernel(z, b).sum(axis=1)\n"
    assert (
        parts(source, (40, 7), line=len(source.splitlines()), function="predict", known=given() | {"z": given()["a"]})
        is None
    )


@pytest.mark.parametrize("before", ["", "    f = np.linalg.solve\n"])
def test_a_name_that_may_stand_for_another_function(before: str) -> None:
    source = f"{OTHERS}def predict(z, b{'' if before else ', f'}):\n{before}    return f(z, b).sum(axis=1)\n"
    line = len(source.splitlines())
    assert parts(source, (40, 7), line=line, function="predict", known=given() | {"z": given()["a"]}) is None


@pytest.mark.parametrize("name", ["mean", "max", "sum"])
def test_the_notebooks_own_totals(name: str) -> None:
    source = (
        f"def {name}(x):\n    return np.median(x)\ndef total(a, b):\n    e = a[:, None] - b\n    return {name}(e)\n"
    )
    assert parts(source, line=4, function="total") is None


def test_a_name_of_the_users_for_what_is_called() -> None:
    assert parts("e = a @ b.T\nd = e.sum(0)\n", (40, 7), taken=("sum",)) is None  # of `from numpy import *`


def test_few_that_a_function_has_chosen_are_no_view_of_all() -> None:
    changed = parts("def top(x):\n    return x[:, :k]\nd = top(a @ b.T)\n", (40, 7), line=3)
    assert changed is not None
    assert "d_parts.append(d.copy())" in changed


def test_repetitions_are_drawn_in_parts() -> None:
    source = "i = rng.integers(0, 40, size=(n, 9))\nd = v[i].mean(axis=1)\n"
    changed = parts(source, (40, 9))
    assert changed is not None
    assert "size=(len(part), 9)" in changed
    rng = numpy.random.default_rng
    assert run(changed, given() | {"rng": rng(1)})["d"].shape == (40,)


def test_what_few_were_chosen_of_does_not_stay() -> None:
    changed = parts("e = a @ b.T\nd = e[:, :k]\n", (40, 7))
    assert changed is not None
    assert run(changed, given())["d"].base is None
    assert "d_parts.append(d.copy())" in changed


@pytest.mark.parametrize(
    ("refused", "source"),
    [
        (REFUSED, "diff = a[:, None] - b\nd = (diff ** 2).sum(-1)\nprint(diff)\n"),  # wanted as a whole
        (REFUSED, "diff = a[:, None] - b\nd = (diff - diff.mean()).sum(-1)\n"),
        (REFUSED, "diff = a[:, None] - b\nd = np.sort(diff, axis=0)[0]\n"),
        (REFUSED, "diff = a[:, None] - b\nd = diff.reshape(-1).std()\n"),
        (REFUSED, "d = ((f()[:, None] - b) ** 2).sum(-1)\n"),  # called for each part
        ((40, 7), "e = np.cos(lat)[:, None] * u\nd = e.max(1)\n"),  # it may be a list
        ((40, 7), "e = np.outer(series, u)\nd = e.max(1)\n"),
        ((40, 7), "e = (a @ b.T) * listed\nd = e.max(1)\n"),
        ((40, 7), "sum = np.max\ne = a @ b.T\nd = e.sum(0)\n"),
        (REFUSED, "d = (a - b).sum(-1)\n"),
        (REFUSED, "e = near(a[:, None], b)\nd = e.sum(-1)\n"),  # nobody knows what it does with rows
        ((40, 40), "e = a @ a.T\nd = e[::-1].max(axis=1)\n"),
        ((40, 40), "e = a @ a.T\nd = (e + e.T).max(axis=1)\n"),
        ((40, 40), "e = v[:, None] - v\nd = np.cumsum(e)[-1]\n"),
        ((40, 3), "e = a - a.mean(axis=0)\n"),
        ((40, 3), "e = a - np.roll(a, 1, axis=0)\nd = e.max(axis=1)\n"),  # neighbours of other parts
        ((40, 3), "e = a * 2\nprint(e.mean())\n"),  # it is the result
        ((40, 3), "e = np.diff(a, axis=0)\nd = e.max(axis=1)\n"),
        ((40, 7), "e = a @ b.T\nd = np.diff(e, prepend=v[:, None]).max(1)\nz = e[:2]\n"),
        ((39, 3), "e = np.diff(a, 1, 0)\nd = e.max(axis=1)\n"),
    ],
)
def test_what_stays(refused: tuple[int, ...], source: str) -> None:
    assert parts(source, refused) is None


@pytest.mark.parametrize(
    ("refused", "source"),
    [
        ((40, 5), "e = a @ np.random.randn(3, 5)\nd = e.argmax(axis=1)\n"),  # drawn once
        ((40, 5), "e = a @ rng.normal(size=(3, 5))\nd = e.max(axis=1)\n"),
        ((40, 40), "e = v[:, None] - v\ne[e < 0] = rng.random()\nd = e.sum(1)\n"),
        ((40, 9), "x = rng.random(size=(n, 9))\ny = rng.random(size=(n, 9))\nd = (x < y).mean(axis=1)\n"),
        ((40, 9), "x = rng.normal(size=(n, 9))\nc = rng.random(9)\nd = (x * c).sum(axis=1)\n"),
        ((40, 9), "x = rng.choice(999, size=(n, 9), replace=False)\nd = x.max(axis=1)\n"),
        ((40, 9), "x = rng.integers(0, 9, size=(n, 9), dtype=np.int8)\nd = x.sum(axis=1)\n"),
        ((40, 40), "x = rng.normal(size=(3, 50))\ne = v[:, None] - v\nd = e.sum(1)\nz = x.mean(1)\n"),
        ((40, 3), "a = a - a.mean(axis=0)\nd = a.max(axis=1)\n"),  # the next part would read this one
        (REFUSED, "e = a\ne -= a.mean(axis=0)\nf = e[:, None] - b\nd = f.sum(-1).min(1)\n"),  # `a` changes, too
        (REFUSED, "e = a[:, None] - b\nq = a[:, :2]\nq *= 2\nd = e.sum(-1).min(1) + q.sum(1)\n"),
        ((40, 3), "e = np.real(a)\ne *= 2\nd = e.sum(1)\n"),
        ((40, 40), "e = v[:, None] - v\nd = e.sum(1)\nc = d\nc[0] = 5\n"),
        ((40, 1), "e = v[:, None] * k\nk = 3\nd = (e * k).sum(1)\n"),  # another `k`
        ((40, 40), "e = v[:, None] - v\ns = np.linspace(0, 1, n)[:, None]\nd = (e * s).sum(1)\n"),
        ((40, 3), "e = np.exp(a)\nw.sort()\nd = (e * w).sum(axis=1)\n"),
        ((40, 7), "e = a @ b.T\nt = 0.5\nd = (e > t).sum(), e.max()\n"),
        ((40, 7), "e = a @ b.T\nd = [(e > t).sum() for t in (0.1, 0.2)]\n"),
        ((40, 7), "e = a @ b.T\nt = [0.5]\nt.append(1)\nd = (e > t[-1]).sum()\n"),
        ((40, 7), "e = a @ b.T\nd = e.max(1)\ne = b\nz = e.mean()\n"),
        ((40, 40), "e = a @ a.T\nd = (e * np.eye(n)).sum(1)\n"),
        ((40, 40), "e = a @ a.T\nd = np.maximum(e, s.T).sum(1)\n"),
        ((40, 7), "e = a @ b.T\nd = np.sort(e, 0)[:, :2]\n"),
        ((40, 7), "e = a @ b.T\nd = e.argsort(0)[:, :2]\n"),
        ((40, 7), "e = a @ b.T\nd = np.linalg.norm(e, 1)\n"),
        ((40, 7), "e = a @ b.T\nd = e.max(1)\nz = eval('e.max()')\n"),
        ((40, 7), "e = a @ b.T\nd = e.max(1)\nz = locals()['e'].shape\n"),
        ((40, 3), "e = np.exp(a) * a[None]\nd = e.max(1)\n"),  # has an axis more
        ((40, 3), "e = np.exp(a)\nd = e.max(1) @ s\n"),  # takes all rows
        ((40, 3), "e = np.exp(a)\nd = e.max(1) - s.T.max(1)\n"),
        ((40, 7), "e = a @ b.T\nd = e.argmin(1)\nd += np.arange(n)\n"),
        ((40, 3), "e = np.exp(a)\nd = (e - a[None].mean(axis=0)).max(1)\n"),
        ((40, 40), "e = s * 2\nd = (e + np.cos(s).T).max(1)\n"),
        ((40, 40), "v = np.cos(v)\ne = v[:, None] * np.sin(v)\nd = e.max(1)\n"),
        ((40, 3), "e = np.exp(a)\nd = (e * np.cos(v)[:3]).max(1)\n"),
        ((40, 7), "e = v[:, None] - u\nd = (e * np.cos(a)[:, :1]).max(1)\n"),
        ((40, 7), "e = np.multiply(a, 2, out=a) @ b.T\nd = e.max(1)\n"),
        ((40, 40), "e = (a - a.mean(0)).sum(1)[:, None] + v\nd = e.max(1)\n"),
        ((40, 40), "e = (a / a.sum()).sum(1)[:, None] - v[None]\nd = e.max(1)\n"),
        ((40, 40), "e = a.sum(1)[:, None] - a.sum(1)\nd = e.max(1)\n"),
        ((40, 40), "e = (v ** 2)[:, None] - v\nd = e.max(1)\n"),
        ((40, 40), "e = (v / v.max())[:, None] - v\nd = e.max(1)\n"),
        ((40, 40), "e = (s @ v)[:, None] - v\nd = e.max(1)\n"),
        ((40, 40), "e = np.clip(s * 2, a_min=v[:, None], a_max=9)\nd = e.max(1)\n"),
        ((40, 40), "e = (s * 2).clip(v[:, None], 9)\nd = e.max(1)\n"),
        ((40, 40), "e = (s * 2).clip(min=v, max=9).astype(np.float32)\nd = e.max(1).round(2)\n"),
        ((40, 40), "e = (s + v)[:, None].sum(1)[:, None] - v\nd = e.max(1)\n"),
        ((40, 40), "e = (s - v[:, None]).sum(1)[:, None] - v\nd = e.max(1)\n"),
        ((40, 40), "e = s.sum(0)[:, None] - s.sum(1)[None]\nd = e.max(1)\n"),
        ((40, 40), "q = a.sum(1)[:, None]\ne = q + q.T\nd = e.max(1)\n"),
        ((40, 40), "e = a.sum(1, keepdims=True) + a.sum(1)\nd = e.max(1)\n"),
        ((40, 40), "q = a.sum(1)\ne = q[:, None] + q - 2 * a @ a.T\nd = np.sqrt(np.maximum(e, 0)).argmin(1)\n"),
        ((40, 40), "q = a.sum(1)\ne = np.add.outer(q, q) - 2 * a @ a.T\nd = (e < 1).sum(1)\n"),
    ],
)
def test_either_it_stays_or_all_is_the_same(refused: tuple[int, ...], source: str) -> None:
    lines = source.splitlines()
    for line in range(1, len(lines) + 1):
        known = run("\n".join(lines[: line - 1]), given())
        if (changed := parts(source, refused, line=line, known=known)) is not None:
            before, after = run(source, given()), run(changed, given())
            gone = {name for name in before.keys() - after.keys() if name not in given()}
            assert gone <= {"e", "f", "x", "y", "i"}
            for name in before.keys() - gone - {"__builtins__"}:
                one, other = before[name], after[name]
                if isinstance(one, numpy.random.Generator):
                    one, other = one.random(), other.random()
                assert numpy.allclose(one, other) if not callable(one) and name not in ("np", "numpy") else True, name


def test_a_function_may_get_fewer_rows_than_there_are_parts() -> None:
    source = "def near(a, b):\n    e = a @ b.T\n    return e.min(axis=1)\n"
    changed = parts(source, (40, 7), line=2, function="near")
    assert changed is not None
    a, b = given()["a"], given()["b"]
    for rows in (0, 5, 40):
        assert numpy.allclose(run(changed, given())["near"](a[:rows], b), (a[:rows] @ b.T).min(axis=1))
    total = parts("def near(a, b):\n    e = a @ b.T\n    return e.mean(), e.max(0)\n", (40, 7), line=2, function="near")
    assert total is not None
    assert numpy.allclose(run(total, given())["near"](a[:5], b)[0], (a[:5] @ b.T).mean())


def test_what_takes_all_rows_may_be_what_failed() -> None:
    source = "e = a @ b.T\nd = (e > 1).any(axis=1).mean()\n"
    changed = parts(source, (40, 7), line=2, known={**given(), "e": numpy.zeros((40, 7))})
    assert changed is not None
    assert run(changed, given())["d"] == run(source, given())["d"]


def test_names_of_the_users_stay() -> None:
    source = "e = v[:, None] - v\nd = e.max(axis=1)\n"
    changed = parts(source, (40, 40), taken=("part",))
    assert changed is not None
    assert "for rows in" in changed
    changed = parts(source, (40, 40), taken=("d_parts",))
    assert changed is not None
    assert "d_parts" not in changed
    assert parts(source, (40, 40), taken=("part", "rows", "part_rows")) is None


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ("d = np.radians(a - b)\n    return np.sin(d) ** 2", True),
        ("a, b = map(np.radians, (a, b))\n    return a * b", True),
        ("return (a - b).sum(-1)", False),
        ("return a[0] - b", False),
        ("return other(a)", False),
        ("return a @ b", False),
        ("for x in a:\n        b = b + x\n    return b", False),
    ],
)
def test_functions_that_compute_element_by_element(body: str, fits: bool) -> None:
    text = read_text(f"def f(a, b):\n    {body}\n")
    assert text is not None
    node = function_in(text, "f")
    assert node is not None
    assert computes_elementwise(node) is fits
