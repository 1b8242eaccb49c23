"""What code keeps though nothing reads it: names, collections, copies of an array that grows, zeros."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from nb_oomhelper.source.growing_in_place import grow_in_place
from nb_oomhelper.source.letting_go import dead_later, dead_names, let_go, more_to_come, unread
from nb_oomhelper.source.source_text import SourceText
from nb_oomhelper.source.text_edits import read_text, write_edits


def read(source: str) -> SourceText:
    text = read_text(source)
    assert text is not None
    return text


def changed(text: SourceText, edits: list[Any]) -> str | None:
    found = write_edits(text, edits) if edits else None
    return None if found is None else found.source


class TestDeadNames:
    def dead(self, source: str, line: int) -> list[str]:
        return dead_names(read(source).tree.body, line)[0]

    def test_what_is_not_read_again_may_go(self) -> None:
        assert self.dead("a = f()\nb = g(a)\nc = h(b)\nprint(b)\n", 3) == ["a"]

    @pytest.mark.parametrize(
        ("source", "line"),
        [
            ("a = f()\nb = g(a)\nprint(a)\n", 2),
            ("a = f()\nh = lambda: a\nb = g(h)\n", 3),
            ("a = f()\nb = (x * a for x in y)\nc = g(b)\n", 3),
            ("a = f()\nb = g(locals())\n", 2),
            ("a = f()\ndel a\nb = g()\n", 3),
            ("global a\na = f()\nb = g()\n", 3),
            ("for x in y:\n    print(a)\n    a = f()\n    b = g()\n", 4),
            ("with o() as f:\n    a = load(f)\n    b = h(a)\n    c = g(b)\nprint(a)\n", 4),
            ("try:\n    a = load(f)\n    b = h(a)\n    c = g(b)\nexcept E:\n    print(a)\n", 4),
            ("try:\n    a = load(f)\n    b = h(a)\n    c = g(b)\nfinally:\n    print(a)\n", 4),
            ("for x in y:\n    a = f(x)\n    b = h(a)\n    c = g(b)\nprint(a)\n", 4),
            ("a = f()\nb = a\nc = g(b)\na += 1\n", 3),
            ("a = f()\nb = g(a)\nc = h(b)\nd = c.query('x > @a')\n", 3),
            ("a = f()\nb = g(a)\nc = h(b)\nd = duckdb.sql('select * from a')\n", 3),
            ("a = f()\nb = a.ctypes.data\nc = h(b)\n", 3),
            ("a = f()\nb = weakref.ref(a)\nc = h(b)\n", 3),
            ("a = TemporaryDirectory()\nb = a.name\nc = h(b)\n", 3),  # the folder would go with it
            ("a = open(p)\nb = g(a)\nc = h(b)\n", 3),
        ],
    )
    def test_what_may_be_read_stays(self, source: str, line: int) -> None:
        assert self.dead(source, line) == []

    def test_in_a_loop_what_the_step_itself_bound(self) -> None:
        source = "for x in y:\n    a = f(x)\n    b = g(a)\n    c = h(b)\n    out.append(c)\n"
        text = read(source)
        names, node = dead_names(text.tree.body, 4)
        assert names == ["a"]
        assert node is not None
        assert changed(text, let_go(text, names, node)) == source.replace("    c =", "    del a\n    c =")


class TestDeadLater:
    @pytest.mark.parametrize(
        ("source", "found"),
        [
            ("a = f()\nb = g(a)\nc = b.cumsum()\nd = c.T.rolling(9).mean().T\n", [(["b"], 4)]),
            ("a = f()\nb = g(a)\nc = b * 2\nd = c + 1\ne = h(d)\n", [(["b"], 4), (["c"], 5)]),
            ("a = f()\nb = g(a)\nc = b * 2\nd = c + b\nprint(d)\n", [([], 4)]),
            ("a = f()\nb = g(a)\nc = b * 2\nd = c.mean()\ne = c[:9]\nn = len(c)\n", []),
            ("a = f()\nb = g(a)\nc = b * 2\nd = h(a)\n", []),  # of what is there
            ("a = f()\nm = a.mean()\nc = a - m\nd = c / c.std()\n", [([], 4)]),  # a number may stay
            ("a = f()\nb = g(a)\nfor x in y:\n    c = b * x\nd = h(c)\n", []),  # `more_to_come` tells
        ],
    )
    def test_what_computes_more_of_it(self, source: str, found: list[tuple[list[str], int]]) -> None:
        made = dead_later(read(source).tree.body, 3, ["a"])
        assert [(names, node.lineno) for names, node in made] == found


class TestUnread:
    def taken_out(self, source: str, path: str = "p.kept") -> str | None:
        text = read(source)
        return changed(text, unread(text, text.tree.body, path, [text.tree.body]))

    def test_a_collection_that_nobody_looks_at(self) -> None:
        source = "self.kept = []\nfor x in y:\n    self.kept.append(x.copy())\n    go(x)\nself.kept.clear()\n"
        assert self.taken_out(source) == source.replace("    self.kept.append(x.copy())\n", "")
        assert self.taken_out("for x in y:\n    self.kept[x.name] = x.copy()\n") == "for x in y:\n    pass\n"

    @pytest.mark.parametrize(
        "source",
        [
            "self.kept.append(x)\nprint(len(self.kept))\n",
            "self.kept.append(step(x))\n",  # which may do something
            "x.other.append(x)\n",
            "self.kept[0].append(x)\n",
            "self.kept.append((y := x))\n",
        ],
    )
    def test_what_stays(self, source: str) -> None:
        assert self.taken_out(source) is None


class TestGrowInPlace:
    def grown(self, source: str, line: int = 3) -> str | None:
        text = read(source)
        return changed(text, grow_in_place(text, text.tree.body, line))

    @pytest.mark.parametrize(
        "source",
        [
            "x = np.array([])\nfor i in range(4):\n    x = np.append(x, np.arange(i))\n",
            "x = np.empty(0)\nfor i in range(4):\n    x = np.concatenate([x, np.ones(i)])\n",
            "x = np.zeros((0,))\nfor i in range(4):\n    x = np.hstack((x, i * np.ones(2)))\n",
        ],
    )
    def test_the_numbers_are_the_same(self, source: str) -> None:
        numpy = pytest.importorskip("numpy")
        new = self.grown(source)
        assert new is not None
        assert ".resize(" in new
        before: dict[str, Any] = {"np": numpy}
        after: dict[str, Any] = {"np": numpy, "numpy": numpy}
        exec(source, before)
        exec(new, after)
        assert numpy.array_equal(before["x"], after["x"])

    @pytest.mark.parametrize(
        "source",
        [
            "x = np.array([])\nfor i in y:\n    x = np.append(x, i)\n    all.append(x)\n",
            "x = np.array([], dtype=int)\nfor i in y:\n    x = np.append(x, i)\n",
            "x = np.empty((0, 3))\nfor i in y:\n    x = np.append(x, i, axis=0)\n",
            "x = start\nfor i in y:\n    x = np.append(x, i)\n",
            "x = np.array([])\nz = x\nfor i in y: x = np.append(x, i)\n",
        ],
    )
    def test_what_stays(self, source: str) -> None:
        assert self.grown(source) is None


@pytest.mark.parametrize(
    ("source", "line", "more"),
    [
        ("for x in y:\n    a = f(x)\n    b = g(a)", 2, True),
        ("for x in y:\n    a = f(x)\n    b = g(a)", 3, False),
        ("a = f(x)\nb = g(a)", 1, False),
        ("a = f(x)\nb = np.concatenate([x, a])", 1, True),
        ("b = np.concatenate([x, a])\nc = f(b)", 1, False),
        ("for x in y:\n    a = f(x)\n    print(a)", 2, False),
    ],
)
def test_a_step_that_goes_on_computing(source: str, line: int, more: bool) -> None:
    assert more_to_come(ast.parse(source).body, line) is more


@pytest.mark.parametrize("value", ["x.size(0)", "len(x)", "x.shape[1] * 2", "loss.item()", "0.5", 'f"{x}"'])
def test_numbers_need_not_go(value: str) -> None:
    source = f"b = {value}\ny = f(x)\nz = y + 1"
    assert dead_names(ast.parse(source).body, 2)[0] == []
