"""What is computed and never looked at is not computed."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.only_used import diagonal_alone, first_words, thin_svd
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain
np = pytest.importorskip("numpy")

SHAPES = {"A": (50, 4), "B": (4, 50), "M": (4, 4), "wide": (4, 70), "v": (4,), "many": (9, 4, 50)}


def _written(source: str, line: int = 1) -> str | None:
    text = read_text(source)
    assert text is not None
    body = text.tree.body
    edits = thin_svd(text, body, line) or diagonal_alone(text, body, line, SHAPES) or first_words(text, body, line)
    changed = write_edits(text, edits) if edits else None
    return None if changed is None else changed.source


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("U, S, Vt = np.linalg.svd(X)\ny = Vt[:2]", "U, S, Vt = np.linalg.svd(X, full_matrices=False)\ny = Vt[:2]"),
        ("U, S, V = np.linalg.svd(X)\ny = U[:, :2]", "U, S, V = np.linalg.svd(X, full_matrices=False)\ny = U[:, :2]"),
        ("H = A @ B\nd = np.diag(H)", 'd = np.einsum("ij,ji->i", A, B)'),
        ("H = A @ inv(M) @ B\nd = np.diag(H) + 1", 'd = np.einsum("ij,ji->i", A @ inv(M), B) + 1'),
        ("d = np.diag(A @ B)", 'd = np.einsum("ij,ji->i", A, B)'),
        ("t = np.trace(A @ B)", 't = np.einsum("ij,ji->", A, B)'),
        ("d = (A @ B).diagonal()", 'd = np.einsum("ij,ji->i", A, B)'),
        ("p = s.str.split('-', expand=True)\nx = p[1]", "p = s.str.split('-', expand=True, n=2)\nx = p[1]"),
        ("x = s.str.split(expand=True)[[0, 2]]", "x = s.str.split(expand=True, n=3)[[0, 2]]"),
        ("p = df['a'].str.split()\nx = p.str[0]\ndel p", "p = df['a'].str.split(n=1)\nx = p.str[0]\ndel p"),
        ("x = s.str.split(',').str[1]", "x = s.str.split(',', n=2).str[1]"),
    ],
)  # fmt: skip
def test_what_is_written(source: str, written: str) -> None:
    assert _written(source) == written


@pytest.mark.parametrize(
    "source",
    [
        "U, S, Vt = np.linalg.svd(X)\ny = U @ D @ Vt",  # as wide as X was
        "U, S, Vt = np.linalg.svd(X, True)\ny = Vt[:2]",
        "H = A @ B\nd = np.diag(H)\nh = H.sum()",
        "H = A @ B\nd = np.diag(H, 1)",
        "U, S, Vt = np.linalg.svd(X)",  # nobody has cut them yet
        "U, S, Vt = np.linalg.svd(X)\nnull = Vt[5:]",
        "U, S, Vt = np.linalg.svd(X)\nnull = Vt[-1]",
        "U, S, Vt = np.linalg.svd(X)\nrows = U[:3]",
        "U, S, Vt = np.linalg.svd(X)\nleft = U[:, 5:]",
        "U, S, Vt = np.linalg.svd(X)\nU[:, :5] = 0",
        "d = np.diag(A @ wide)",  # no square
        "d = np.diag(A @ v)",
        "d = np.diag(A @ many)",
        "d = np.diag(A @ unknown)",
        "H = A @ B",
        "d = np.diag(a)",
        "p = s.str.split(' ', expand=True)\nx = p[0]\nn = p.shape",
        "p = s.str.split(' ', expand=True)\nx = p[-1]",
        "p = s.str.split(' ', expand=True)\nx = p[i]",
        "p = s.str.split(' ', expand=True)\np[0] = 1",
        "p = s.str.split(' ')\nx = p[0]",  # a row
        "p = s.str.split(' ')\nx = p.str[-1]",
        "p = s.str.split(' ')\nx = p.str.len()",
        "p = s.str.split(' ', n=3)\nx = p.str[0]",
        "p = s.str.rsplit(' ')\nx = p.str[0]",
        "p = s.split(' ')\nx = p[0]",
    ],
)
def test_what_is_left_alone(source: str) -> None:
    assert _written(source) is None


def test_tensors_stay_tensors() -> None:
    text = read_text("d = (A @ B).trace()")
    assert text is not None
    ((_, _, written),) = diagonal_alone(text, text.tree.body, 1, SHAPES, {"A"})
    assert written == 'torch.einsum("ij,ji->", A, B)'


def test_the_numbers_are_the_same() -> None:
    rng = np.random.default_rng(0)
    names = {"np": np, "A": rng.normal(size=(50, 4)), "B": rng.normal(size=(4, 50)), "X": rng.normal(size=(60, 5))}
    for source in ("d = np.diag(A @ B)", "d = np.trace(A @ B)", "_, s, vt = np.linalg.svd(X)\nd = np.abs(vt[:2])"):
        before, after = dict(names), dict(names)
        exec(source, before)
        exec(_written(source) or "", after)
        assert np.allclose(before["d"], after["d"])


def test_the_words_are_the_same() -> None:
    pd = pytest.importorskip("pandas")
    texts = pd.Series(["a b c d", " a  b c", "", "a", None, "x y z"])
    for source in (
        "d = s.str.split(' ', expand=True)[[0, 1]]",
        "d = s.str.split().str[1]",
        "d = s.str.split(' ').str[2]",
    ):
        before, after = {"s": texts}, {"s": texts}
        exec(source, before)
        exec(_written(source) or "", after)
        assert before["d"].equals(after["d"])
