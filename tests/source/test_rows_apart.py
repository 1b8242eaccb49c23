"""Statements that compute with all rows at once, as a function of some."""

from __future__ import annotations

import ast
from collections.abc import Collection

import pytest

from nb_oomhelper.source.rows_apart import is_quiet, joined_after, rows_apart
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain


def _written(source: str, line: int, tables: Collection[str], others: Collection[str] = ()) -> str | None:
    text = read_text(source)
    assert text is not None
    found = rows_apart(text, text.tree.body, line, tables, lambda _: True, others)
    changed = None if found is None else write_edits(text, found.edits)
    return None if changed is None else changed.source


@pytest.mark.parametrize(
    ("source", "tables", "written"),
    [
        ("y = clf.predict(x)", {"x"}, "y = nb_oomhelper.in_parts(clf.predict, x)"),
        ("y = f(a, b)", {"a", "b"}, "y = nb_oomhelper.in_parts(f, a, b)"),
        ("y = f(x, beam=5)", {"x"}, "y = nb_oomhelper.in_parts(lambda x: f(x, beam=5), x)"),
        ("y = f(net, x)  # all", {"x"}, "y = nb_oomhelper.in_parts(lambda x: f(net, x), x)  # all"),
        ("y, z = f(x)", {"x"}, "y, z = nb_oomhelper.in_parts(f, x)"),
        ("with torch.no_grad():\n    y = f(x)", {"x"}, "with torch.no_grad():\n    y = nb_oomhelper.in_parts(f, x)"),
        ("y = make(3)(x)", {"x"}, "y = nb_oomhelper.in_parts(lambda x: make(3)(x), x)"),
    ],
)
def test_one_statement(source: str, tables: Collection[str], written: str) -> None:
    assert _written(source, len(source.split("\n")), tables) == written


def test_statements_that_belong_together() -> None:
    source = "n = 4\nmask = make(lengths)\nx = embed(docs)\nout = attention(x, mask)\nprint(out.shape)"
    for line in (2, 3, 4):
        assert _written(source, line, {"docs", "lengths"}) == (
            "n = 4\ndef of_rows(lengths, docs):\n    mask = make(lengths)\n    x = embed(docs)\n"
            "    out = attention(x, mask)\n    return out\n"
            "out = nb_oomhelper.in_parts(of_rows, lengths, docs)\nprint(out.shape)"
        )


def test_what_a_function_gives_back_is_made_in_parts_as_well() -> None:
    source = "def score(h, e):\n    query = h + 1\n    diff = query[:, None] - e\n    return norm(diff, dim=2)"
    text = read_text(source)
    assert text is not None
    function = text.tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    found = rows_apart(text, function.body, 3, {"h"}, lambda _: True)
    assert found is not None
    changed = write_edits(text, found.edits)
    assert changed is not None
    assert changed.source == (
        "def score(h, e):\n    def of_rows(h):\n        query = h + 1\n        diff = query[:, None] - e\n"
        "        return norm(diff, dim=2)\n    return nb_oomhelper.in_parts(of_rows, h)"
    )


def test_what_is_read_later_is_given_back() -> None:
    source = "a = f(x)\nb = g(a)\nprint(a, b)"
    assert _written(source, 2, {"x"}) == (
        "def of_rows(x):\n    a = f(x)\n    b = g(a)\n    return a, b\n"
        "a, b = nb_oomhelper.in_parts(of_rows, x)\nprint(a, b)"
    )


def test_what_a_model_gave_stays_though_the_cell_reads_it_no_more() -> None:
    text = read_text("scores = net(x)\nbest = scores.argmax(1)\nprint(best)")
    assert text is not None
    found = rows_apart(text, text.tree.body, 1, {"x"}, lambda _: True, results_of={"net"})
    assert found is not None
    assert (found.kept, found.gone) == (("scores", "best"), frozenset())
    assert "    return scores, best\nscores, best = nb_oomhelper.in_parts(of_rows, x)" in found.edits[0][2]


def test_it_begins_after_the_table_is_made() -> None:
    source = "w = torch.from_numpy(v).unfold(1, 9, 1)\nw = w - w.mean(dim=-1, keepdim=True)\np = net(w)\nprint(p)"
    assert _written(source, 3, {"w"}) == (
        "w = torch.from_numpy(v).unfold(1, 9, 1)\n"
        "def of_rows(w):\n    w = w - w.mean(dim=-1, keepdim=True)\n    p = net(w)\n    return w, p\n"
        "w, p = nb_oomhelper.in_parts(of_rows, w)\nprint(p)"
    )


def test_a_number_of_all_rows_is_not_made_in_parts() -> None:
    for total in ("l1_loss(y, z).item()", "F.mse_loss(y, z)", "float(dist(y, z))", "roc_auc_score(z, y)"):
        assert _written(f"y = net(x)\ntotal = {total}\nprint(y)", 1, {"x", "z"}) == (
            f"y = nb_oomhelper.in_parts(net, x)\ntotal = {total}\nprint(y)"
        )
        assert _written(f"total = {total.replace('y', 'x')}", 1, {"x", "z"}) is None
    assert _written("y = one_hot(x, k).float()", 1, {"x"}) is not None
    assert _written("y = f(x).sum(axis=1) / len(z)", 1, {"x"}) is not None
    assert _written("y = f(x).sum() / len(x)", 1, {"x"}) is None


@pytest.mark.parametrize(
    ("source", "given"),
    [
        ("x = f(x)\nb = g(x)", "x, b"),  # what has taken the place of a table
        ("a = f(x)\nb = g(a)\nc = h(a)", "b, c"),
        ("a = f(x)\nb = g(a)\ndel a", "a, b"),
        ("a = f(x)\nb = g(a)\nc = h(b)\nprint(a)", "a, c"),
    ],
)
def test_no_result_is_lost(source: str, given: str) -> None:
    written = _written(source, 1, {"x"})
    assert written is not None
    assert f"return {given}\n{given} = nb" in written


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("for x in loader:\n    y = f(x)", 2),  # in parts already
        ("y[0] = f(x)", 1),
        ("self.y = f(x)", 1),
        ("y = [(z := f(x))]", 1),
        ("x += f(x)", 1),
        ("y = f(z)", 1),  # of no table
        ("y = f(x); z = 1\nw = y", 1),
        ("y = super().f(x)", 1),
    ],
)
def test_what_is_left_alone(source: str, line: int) -> None:
    assert _written(source, line, {"x"}) is None


def test_what_is_known_to_have_other_rows_is_no_result() -> None:
    assert _written("y = f(x)", 1, {"x"}, {"y"}) is None


def test_a_text_of_several_lines_is_not_indented() -> None:
    source = 'a = f(x, """one\ntwo""")\nb = g(a)'
    assert _written(source, 3, {"x"}) is None


@pytest.mark.parametrize(
    ("source", "quiet"),
    [
        ("out = []\nout.append(x)", True),
        ("out = {}\nout['a'] = x", True),
        ("seen.append(x)", False),
        ("seen['a'] = x", False),
        ("self.n = 1", False),
        ("global n", False),
        ("x += 1", False),
        ("y = x + 1\ny += 1", True),
        ("x.mul_(2)", False),
        ("y = torch.zeros(3)\ny.add_(x)", True),
        ("scaler.fit_transform(x)", False),
        ("SummaryWriter('log').add('z', x)", False),
        ("DataFrame(x).to_csv(path)", False),
        ("df.to_csv('a')", False),
        ("np.random.shuffle(x)", False),
        ("x.sort()", False),
        ("y = open('a')", False),
    ],
)
def test_code_that_changes_only_what_it_makes(source: str, quiet: bool) -> None:
    assert is_quiet(ast.parse(source).body, {"x"}) is quiet


def test_what_is_put_together_later() -> None:
    body = ast.parse("y = f(x)\nz = np.concatenate([x, y])\nw = g(y)").body
    assert joined_after(body, 1, ["y"])
    assert not joined_after(body, 2, ["y"])
    assert not joined_after(body, 1, ["v"])
