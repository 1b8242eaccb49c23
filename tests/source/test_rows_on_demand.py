"""Which arrays are written so that their rows are computed when they are read."""

from __future__ import annotations

import ast
import textwrap

import pytest

from nb_oomhelper.source.row_functions import RowFunction
from nb_oomhelper.source.rows_on_demand import Known, OnDemand, rows_on_demand
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain

DEFINED = """
def kernel(A, B, gamma=0.5):
    return np.exp(-gamma * cdist(A, B, "sqeuclidean"))

def centered(A):
    return A - A.mean(axis=0)
"""
SHAPES = {"x": (5000, 16), "y": (5000, 16), "few": (5, 16), "images": (6000, 64, 64, 3), "labels": (5000,)}


def find(code: str, line: int = 1, **shapes: tuple[int, ...]) -> tuple[OnDemand | None, str]:
    """What is written for some code that failed in a line, and the code anew."""
    text, defined = read_text(textwrap.dedent(code)), read_text(DEFINED)
    assert text is not None
    assert defined is not None
    functions = {
        node.name: RowFunction(text=defined, node=node)
        for node in defined.tree.body
        if isinstance(node, ast.FunctionDef)
    }
    known = Known(
        shapes={**SHAPES, **shapes},
        lists={"frames": 900},
        sparse={"tfidf": (12_000, 4000)},
        elementwise=lambda _: False,
        functions=lambda call: functions.get(getattr(call.func, "id", "")),
        find={one.name: one for one in text.tree.body if isinstance(one, ast.FunctionDef)}.get,
    )
    found = rows_on_demand(text, text.tree.body, line, known)
    changed = None if found is None else write_edits(text, found.edits)
    return found, "" if changed is None else changed.source


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("d = cdist(x, y)", "d = nb_oomhelper.on_demand(lambda part: cdist(x[part], y), len(x))"),
        ("d = cosine_similarity(x)", "d = nb_oomhelper.on_demand(lambda part: cosine_similarity(x[part], x), len(x))"),
        (
            "d = linear_kernel(tfidf, tfidf)",
            "d = nb_oomhelper.on_demand(lambda part: linear_kernel(tfidf[part], tfidf), tfidf.shape[0])",
        ),
        ("d = tfidf.toarray()", "d = nb_oomhelper.on_demand(lambda part: tfidf[part].toarray(), tfidf.shape[0])"),
        ("d = kernel(x, x)", "d = nb_oomhelper.on_demand(lambda part: kernel(x[part], x), len(x))"),
        ("d = kernel(x, y, gamma=2)", "d = nb_oomhelper.on_demand(lambda part: kernel(x[part], y, gamma=2), len(x))"),
        ("d = x @ x.T", "d = nb_oomhelper.on_demand(lambda part: x[part] @ x.T, len(x))"),
        (
            "d = images.astype(np.float32) / 255",
            "d = nb_oomhelper.on_demand(lambda part: images[part].astype(np.float32) / 255, len(images))",
        ),
        (
            "d = np.stack(frames).astype('f4') / 255",
            "d = nb_oomhelper.on_demand("
            "lambda part: np.stack([frames[at] for at in part]).astype('f4') / 255, len(frames))",
        ),
        (
            "d = np.abs(x[:, None, :] - y[None, :, :])",
            "d = nb_oomhelper.on_demand(lambda part: np.abs(x[part][:, None, :] - y[None, :, :]), len(x))",
        ),
    ],
)
def test_it_is_written(code: str, written: str) -> None:
    assert find(code)[1] == written


def test_what_is_reduced_of_all_rows_is_computed_once() -> None:
    found, written = find("for i in steps:\n    z = (x - x.mean(axis=0)) / (x.std(0) + few.std(0))", 2, x=(200_000, 16))
    assert found is not None
    assert written.splitlines()[1:] == [
        "    x_mean = x.mean(axis=0)",
        "    x_std = x.std(0)",
        "    z = nb_oomhelper.on_demand(lambda part: (x[part] - x_mean) / (x_std + few.std(0)), len(x))",
    ]
    by_row = find("z = x - x.mean(axis=1, keepdims=True)", x=(200_000, 16))[1]
    assert by_row == "z = nb_oomhelper.on_demand(lambda part: x[part] - x[part].mean(axis=1, keepdims=True), len(x))"
    assert find("a = 1; z = x - x.mean(axis=0)", x=(200_000, 16))[0] is None


def test_correlations_are_products_of_standardized_rows() -> None:
    found = find("corr = np.corrcoef(x)\nprint((abs(corr) > 0.7).sum(axis=1))")
    assert found[0] is not None
    assert found[0].read
    numpy = pytest.importorskip("numpy")
    x = numpy.random.default_rng(0).normal(size=(50, 20))
    names = {"np": numpy, "x": x, "nb_oomhelper": __import__("nb_oomhelper")}
    exec(found[1].partition("\nprint")[0], names)
    assert numpy.allclose(numpy.asarray(names["corr"]), numpy.corrcoef(x))


def test_large_ones_that_were_made_before_are_written_as_well() -> None:
    code = (
        "k = kernel(x, x)\nl = kernel(y, y)\nm = kernel(x, y)\nn = len(x)\nprint(k.sum() + np.trace(l) - 2 * m.mean())"
    )
    found, written = find(code, line=2, k=(5000, 5000))
    assert found is not None
    assert found.names == ("k", "l", "m")
    assert found.read
    assert written.count("on_demand") == 3


def test_what_failed_may_only_read_it() -> None:
    found, written = find("d = cdist(x, y)\nnear = np.exp(-d) > 0.5\nprint(near.sum())", line=2, d=(5000, 5000))
    assert found is not None
    assert found.read
    assert "near = np.exp(-d) > 0.5" in written


@pytest.mark.parametrize(
    "code",
    [
        "d.argmin(axis=1)",
        "d[7]",
        "for row in d: print(row.max())",
        "top = d.argsort(axis=1)[:, :5]",
        "d[d < 0.1] = 0\nprint(d.sum())",
        "np.fill_diagonal(d, 0)\nd.max()",
        "e = 1 - d\ni, j = np.unravel_index(e.argmax(), e.shape)",
        "def nearest(i, d=d):\n    return sorted(enumerate(d[i]))",
        "print(d.shape, len(d))",
        "d",
        "np.fill_diagonal(d, np.inf)\nfor row in d: print(row.min())",
        "tops = [row.max() for row in d]\nd /= d.max()",
        "n = x.shape[0]\nn += 1\nbest = d.argmin(1)\nbest[0] = n",
        "plt.scatter(x, y)\nmodel.fit(x, y)\nprint(d.sum())",
    ],
)
def test_that_few_rows_are_read_at_a_time_is_seen(code: str) -> None:
    found = find(f"d = cdist(x, y)\n{code}")[0]
    assert found is not None
    assert found.read


@pytest.mark.parametrize(
    "code",
    [
        "model.fit(d)",
        "t = d.T",
        "frame = pd.DataFrame(d)",
        "e = 1 - d\nplt.imshow(e)",
        "np.save('d.npy', d)",
        "half = d[:2500]\nf(half)",
        "np.median(d)",
        "np.percentile(d, 5)",
        "np.sort(d, axis=0)[0]",
        "np.sort(d, axis=None)[0]",
        "d.argsort(axis=None)[0]",
        "d.cumsum()[-1]",
        "e = d @ d\nprint(e[0])",
        "np.nan_to_num(d, copy=False)",
        "np.sum(d, where=d > 1)",
        "rows = [row for row in d]",
        "type(d)",
        "row = d[0]\nd += 1\nprint(row)",  # a view would change
        "for row in d: print(row.max())\nd /= d.max()",
        "for i in range(9):\n    d /= 2\n    row = d[i]",
        "row = d[3]\nrow[0] = 1",  # it cannot be written to
        "for i, row in enumerate(d):\n    row[i] = np.inf",
        "for row in d:\n    row /= row.sum()",
        "for row in d:\n    row.sort()",
        "for row in d:\n    change(row)",
        "e = d.copy()\ne[0] = 1",
        "e = 1 - d\ne[3] = 0",
    ],
)
def test_that_all_may_be_needed_is_seen(code: str) -> None:
    found = find(f"d = cdist(x, y)\n{code}")[0]
    assert found is not None
    assert not found.read


@pytest.mark.parametrize(
    "code",
    [
        "d = centered(x)",  # of all rows
        "d = x.mean(axis=1)",  # little
        "d = cdist(few, few)",
        "d = np.random.normal(size=(5000, 5000))",
        "d = x",
        "d = unknown(x)",
        "d = cdist(x, y)\nd[0] = 1",  # it cannot be written to
        "d = cdist(x, y)\nx += 1",  # what it reads is changed
        "d, e = cdist(x, y), 1",
        "part = 1\nd = cdist(x, y)",
        "d = cdist(x, y)\nprint(locals())",
        "d = cdist(x, y)\nz = x\nz[7] = 0",
        "d = cdist(x, y)\nscale_in_place(x)",
        "d = cdist(x, y)\nrng.shuffle(x)",
        "d = cdist(x, y)\nx.sort()",
        "d = cdist(x, y)\nnp.fill_diagonal(x, 0)",
        "d = cdist(x, y)\nfile.readinto(x)",
        "d = cdist(x, y)\nnp.multiply(x, 2, out=x)",
        "d = cdist(x, y)\nx.T[0] = 1",
        "d = tfidf.toarray()\ntfidf.data[:] = 1",
        "d = cdist(x, y)\nd.sort(axis=1)",
        "d = cdist(x, y)\nd[-1] = 0",
        "d = cdist(x, y)\nd[labels == 1] = 0",  # of rows
        "d = cdist(x, y)\nd[d > 1] = d.T[d > 1]",
        "d = cdist(x, y)\nd[d > 1] += 1",
        "d = cdist(x, y) / cdist(x, y).max()",  # the whole for each part
    ],
)
def test_what_cannot_be_written_is_left(code: str) -> None:
    line = 1 + code.startswith("part")
    assert find(code, line)[0] is None


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("if a:\n    d = cdist(x, y)\nx[3] = 1", 2),
        ("z = x\nd = cdist(x, y)\nz[7] = 0", 2),
        ("z = x\nw = z\nd = cdist(x, y)\nw[7] = 0", 3),
        ("z = x.reshape(-1)\nd = cdist(x, y)\nz[7] = 0", 2),
        ("x = z[:5000]\nd = cdist(x, y)\nz[7] = 0", 2),
        ("a, b = x.T\nd = cdist(x, y)\na[7] = 0", 2),
        ("z = x.values\nd = cdist(x, y)\nz[7] = 0", 2),
        ("if a:\n    d = cdist(x, y)\nd[0] = 1", 2),
        ("for i in range(9):\n    if i:\n        d[0] = 1\n    d = cdist(x, y)", 4),
        ("def change():\n    d[0] = 1\nd = cdist(x, y)\nchange()", 3),
        ("def change():\n    x[0] = 1\nd = cdist(x, y)\nchange()", 3),
    ],
)
def test_what_is_changed_elsewhere_is_left(code: str, line: int) -> None:
    assert find(code, line)[0] is None


def test_all_that_comes_later_is_followed() -> None:
    found = find("if a:\n    d = cdist(x, y)\nprint(d.T)", 2)[0]
    assert found is not None
    assert not found.read


@pytest.mark.parametrize("code", ["euclidean_distances(x)", "euclidean_distances(x, x)", "cosine_distances(x)"])
def test_distances_that_are_rounded_otherwise_are_not_the_same(code: str) -> None:
    found = find(f"d = {code}\nprint(d.max())")[0]
    assert found is not None
    assert not found.read


def test_what_each_turn_of_a_loop_makes_of_the_last_is_left() -> None:
    code = "for i in range(9):\n    d = cdist(x, y)\n    x = x + d.mean()"
    assert find(code, 2)[0] is None


def test_what_would_be_as_large_beside_it_is_written_as_well() -> None:
    code = "inter = x @ x.T\nunion = counts[:, None] + counts[None, :] - inter\nnear = inter / union\nnear.max(1)"
    found, written = find(code, line=2, inter=(5000, 5000), counts=(5000,))
    assert found is not None
    assert found.read
    assert written.splitlines()[1:3] == [
        "union = nb_oomhelper.on_demand("
        "lambda part: counts[part][:, None] + counts[None, :] - inter[part], len(counts))",
        "near = inter / union",
    ]


@pytest.mark.parametrize(
    ("line", "few"), [("return (a / 2).argmax(1)", True), ("return a[0]", True), ("return a.T", False)]
)
def test_functions_are_followed(line: str, few: bool) -> None:
    found = find(f"def best(a):\n    {line}\nd = cdist(x, y)\nprint(best(d))", line=3)[0]
    assert found is not None
    assert found.read is few


def test_it_parses() -> None:
    ast.parse(find("if True:\n    corr = np.corrcoef(x)\n    print(corr[0])", 2)[1])


def test_of_a_long_cell_only_what_is_near_is_read() -> None:
    lines = [f"d{number} = cdist(x, y) / {number + 1}" for number in range(300)]
    found = find("\n".join(lines))[0]
    assert found is not None
    assert found.names == tuple(f"d{number}" for number in range(20))
