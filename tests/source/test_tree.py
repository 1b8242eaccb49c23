"""What is asked of a syntax tree."""

from __future__ import annotations

import ast

import pytest

from nb_oomhelper.source.tree import names_left

pytestmark = pytest.mark.plain


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("a = f()\nb, (c, *d) = g(a)", {"a", "b", "c", "d"}),
        ("a = f()\nb = a\ndel a", {"b"}),
        ("for i in x:\n    y = i\n    del y", {"i"}),
        ("def f(t):\n    u = t\n    return u\nv = f(1)", {"v"}),
        ("a = [b for b in c]\nd = lambda e: e", {"a", "d"}),
        ("a.b = c\na[0] = d\nwith o() as f:\n    g += 1", {"f", "g"}),
        ("del a\na = 1", {"a"}),
        ("if x:\n    def f(t):\n        u = t\n    v = f(1)", {"v"}),
        ("for _ in x:\n    y = 1", {"y"}),
    ],
)
def test_names_that_are_bound_in_the_end(code: str, left: set[str]) -> None:
    assert names_left(ast.parse(code).body) == left
