"""Statements put into a `with`."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.text_edits import read_text, write_edits
from nb_oomhelper.source.within import put_within

pytestmark = pytest.mark.plain


def _written(source: str, first: int, last: int) -> str | None:
    text = read_text(source)
    assert text is not None
    edits = put_within(text, text.tree.body[first:last], "with a:")
    changed = write_edits(text, edits)
    return None if changed is None else changed.source


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("x = 1\nf(x)  # now\ny = 2", "x = 1\nwith a:\n    f(x)  # now\ny = 2"),
        (
            "x = 1\nfor i in y:\n    f(i)\n\n    g(i)\n",
            "x = 1\nwith a:\n    for i in y:\n        f(i)\n\n        g(i)\n",
        ),
        ("x = 1\nf(\n  x,\n)", "x = 1\nwith a:\n    f(\n      x,\n    )"),
        ("x = 1\n@once\ndef f():\n    g()", "x = 1\nwith a:\n    @once\n    def f():\n        g()"),
        ("x = 1; f(x)", None),
        ("x = 1\nf(x); y = 2", None),
        ('x = 1\nf("""one\ntwo""")', None),
    ],
)
def test_one_statement(source: str, written: str | None) -> None:
    assert _written(source, 1, 2) == written


def test_a_whole_cell() -> None:
    assert _written("import a\n\nx = 1; f(x)\n", 0, 3) == "with a:\n    import a\n\n    x = 1; f(x)\n"
