"""Code in which a row depends on how many others there are, or on those before it."""

from __future__ import annotations

import ast

import pytest

from nb_oomhelper.source.row_company import (
    calls_unknown,
    carries_on,
    decides_for_all,
    given_rows,
    looks_up_others,
    repeats_rows,
    takes_columns,
)
from nb_oomhelper.source.row_neighbors import takes_neighbors

pytestmark = pytest.mark.plain


@pytest.mark.parametrize(
    ("code", "decides"),
    [
        ("if x.max() > 1: x = x / 255", True),
        ("y = x * 2 if len(x) > 50 else x", True),
        ("if x.shape[0] > 50: pass", True),
        ("if np.isnan(x).any(): pass", True),
        ("if x.nbytes > limit: pass", True),
        ("y = [one for one in x if sum(x) > 5]", True),
        ("if x.ndim == 2: pass", False),
        ("if len(x.shape) == 2 and x.shape[-1] == 3 and x.shape[1] > 2: pass", False),
        ("if x is None or isinstance(x, list): pass", False),
        ("y = [one[:5] if len(one) > 5 else one for one in x]", False),
        ("if verbose: pass", False),
    ],
)
def test_one_decision_for_all_rows(code: str, decides: bool) -> None:
    assert decides_for_all(ast.parse(code).body, {"x"}) is decides


@pytest.mark.parametrize(
    ("code", "carries"),
    [
        ("for one in x:\n    out.append(one in seen)\n    seen.add(one)", True),
        ("for one in x:\n    total = total + one\n    out.append(total)", True),
        ("for one in x:\n    if one < 0:\n        bad = True\n    out.append(bad)", True),
        ("for i in range(1, len(x)):\n    out[i] = out[i - 1] + x[i]", True),
        ("y = [vocabulary.setdefault(one, len(vocabulary)) for one in x]", True),
        ("y = [total := total + one for one in x]", True),
        ("for one in x:\n    if len(one) > 2:\n        one = one[:2]\n    out.append(one)", False),
        ("for i, one in enumerate(x):\n    n = len(one)\n    out[i, :n] = one", False),
        ("for t in range(x.shape[1]):\n    h = cell(x[:, t], h)", False),
        ("for layer in layers:\n    x = layer(x)", False),
    ],
)
def test_what_goes_on_from_row_to_row(code: str, carries: bool) -> None:
    assert carries_on(ast.parse(code).body, {"x"}) is carries


@pytest.mark.parametrize(
    ("code", "others"),
    [
        ("y = z[x]", True),
        ("y = z @ x", True),
        ("y = x[::-1]", True),
        ("y = x[0]", True),
        ("y = z[17]", True),
        ("y = z * conj(z[:1])", True),
        ("y = z[:, 1:]", False),
        ("n = int(len(z) * 0.8)", True),
        ("n = z.shape[0] // 2", True),
        ("n = z.shape[1] // 2", False),
        ("y = z.reshape(h, w, 3)", True),
        ("y = z.reshape(len(z), -1)", False),
        ("y = z.view(z.size(0), -1) @ w", False),
        ("y = z.reshape(-1, 784)", False),
        ("y = z.reshape(3, len(z))", True),
        ("y = z[n]", False),
        ("y = x[:, 0]", False),
        ("y = x[:, None] @ w", False),
        ("x[mask] = 0", False),
    ],
)
def test_rows_that_are_looked_up(code: str, others: bool) -> None:
    assert looks_up_others(ast.parse(code).body, {"x", "z"}, {"x"}) is others


@pytest.mark.parametrize(
    ("calls", "rows"),
    [("y = f(x)", {"a"}), ("y = [f(one) for one in x]", set()), ("y = list(map(f, x))", {"a"}), ("y = g(x)", {"a"})],
)
def test_who_gets_rows(calls: str, rows: set[str]) -> None:
    function = ast.parse("def f(a): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    assert given_rows(function, [(ast.parse(calls), {"x"})]) == rows


def test_what_a_function_says_itself_is_no_rows() -> None:
    function = ast.parse("def f(a, levels=10, *, base=2): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    assert given_rows(function, [(ast.parse("y = f(x)"), {"x"})]) == {"a"}
    assert given_rows(function, [(ast.parse("y = f(x, len(x))"), {"x"})]) == {"a", "levels"}
    assert given_rows(function, [(ast.parse("y = f(x, base=len(x))"), {"x"})]) == {"a", "base"}
    assert given_rows(function, [(ast.parse("y = f(*x)"), {"x"})]) == {"a", "levels", "base"}


@pytest.mark.parametrize(
    ("code", "unknown"),
    [
        ("tree = linkage(x)", True),
        ("y = scaler.rescale(x)", True),
        ("y = hierarchy.linkage(x, 'ward')", True),
        ("y = make(3)(x)", True),
        ("y = clf.predict(x)", False),
        ("y = own(x)", False),
        ("y = torch.relu(x.view(4, -1))", False),
        ("y = own(x).reshape(*x.shape[:-1], 4)", False),
        ("mask = table.expand(len(x), 3)", False),
        ("out.append(x)", False),
        ("w = linkage(other)", False),
    ],
)
def test_what_gets_rows_and_nobody_has_read(code: str, unknown: bool) -> None:
    assert calls_unknown(ast.parse(code).body, {"x"}, {"own"}) is unknown


@pytest.mark.parametrize(
    ("code", "several"),
    [
        ("y = x.repeat(6, 1)", True),
        ("y = torch.relu(x).repeat(6, 1)", True),
        ("y = np.repeat(x, 3, axis=0)", True),
        ("m = causal.repeat(len(x), 1)", False),
    ],
)
def test_rows_that_are_repeated(code: str, several: bool) -> None:
    assert repeats_rows(ast.parse(code).body, {"x"}) is several


@pytest.mark.parametrize(
    ("code", "taken"),
    [
        ('y = f(t.lat.values, t["lon"].to_numpy())', True),
        ("y = f(x)", True),
        ("y = f(t)", False),
        ("y = f(t.lat)", False),
        ("y = f(t.lat.values, t)", False),
        ("y = f(t.values)", False),
        ("y = f(t[mask].values)", False),
    ],
)
def test_columns_as_arrays(code: str, taken: bool) -> None:
    assert takes_columns(ast.parse(code).body[0], "t") is taken


def test_functions_that_a_loop_goes_through_are_known() -> None:
    loop = "for fn in (torch.sin, {}):\n    out.append(fn(2 * x))"
    assert not calls_unknown(ast.parse(loop.format("torch.cos")).body, {"x"}, set())
    assert calls_unknown(ast.parse(loop.format("mine")).body, {"x"}, set())


@pytest.mark.parametrize(
    ("code", "beside"),
    [
        ("for i in range(len(x) - w):\n    out.append(x[i:i + w])", True),
        ("for i in range(len(x) - w):\n    y.append(x[i + w, 0])", True),
        ("for i in range(w, len(x)):\n    out.append(x[i - w:i])", True),
        ("y = [x[s:s + 512] for s in range(0, len(x), 128)]", True),
        ("for i in range(1, n):\n    d[i] = x[i] - x[i - 1]", True),
        ("for i in range(n):\n    out.append(x[:i].mean())", True),
        ("for i in range(0, len(x), batch):\n    out.append(f(x[i:i + batch]))", False),
        ("for i in range(0, len(x), 64):\n    out.append(f(x[i:min(i + 64, len(x))]))", False),
        ("for k in range(n):\n    out.append(f(x[k * b:(k + 1) * b]))", False),
        ("for i in range(n):\n    out.append(x[i])", False),
        ("for j in range(x.shape[1] - w):\n    out.append(x[:, j:j + w])", False),
        ("for i in range(n):\n    out.append(other[i:i + w])", False),
        ("y = x[start:start + w]", False),
    ],
)
def test_rows_beside_a_row(code: str, beside: bool) -> None:
    assert takes_neighbors(ast.parse(code).body, {"x"}) is beside
