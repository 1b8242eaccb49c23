"""What is computed and never looked at is not computed."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.only_used import diagonal_alone, thin_svd
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain
np = pytest.importorskip("numpy")

SHAPES = {"A": (50, 4), "B": (4, 50), "M": (4, 4), "wide": (4, 70), "v": (4,), "many": (9, 4, 50)}


def _written(source: str, line: int = 1) -> str | None:
    text = read_text(source)
    assert text is not None
    edits = thin_svd(text, text.tree.body, line) or diagonal_alone(text, text.tree.body, line, SHAPES)
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
