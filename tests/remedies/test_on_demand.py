"""Arrays whose rows are computed when they are read: what comes out is what comes out of NumPy's."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nb_oomhelper
from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies import demanded, on_demand

pytestmark = pytest.mark.plain

READ = """
D.sum(); D.mean(); D.max(); D.min(); D.any(); D.all(); D.std(); D.var(ddof=1); D.prod(); np.sum(D, axis=0)
D.mean(axis=0); D.std(0); D.max(0); D.min(0, keepdims=True); D.sum(axis=-1); D.mean(axis=1); D.std(1)
np.median(D, axis=0); np.median(D, axis=1); np.percentile(D, [5, 50], axis=0); np.quantile(D, 0.3, axis=0); np.median(D)
D.argmax(); D.argmin(); D.argmax(0); D.argmin(axis=0); D.argmax(axis=1); np.argsort(D, axis=1); D.argsort()[:, ::-1]
np.sort(D, axis=-1); np.cumsum(D, axis=1); D.cumsum(0); D.cumsum(); np.partition(D, 2, axis=1); D.argpartition(2)
D * 2; 1 - D; D / 3; D ** 2; -D; abs(D); D > 0; D + B; B - D; D * v; v / D; D - c; D @ M; L @ D; D.dot(M); np.dot(L, D)
np.exp(D); np.where(D > 0, D, 0); np.where(D > 0); np.nonzero(D > 1); np.argwhere(D > 1); (D > 1).sum(); ~(D > 1)
D[D > 1]; D[B > 0]; D[0]; D[-1]; D[3:9]; D[::-1]; D[::3][1:4]; D[5:2]; D[i]; D[i][2:5]; D[i, j]; D[[1, 2], 1:3]
D[:, 2]; D[:, 1:3]; D[2, 1]; D[..., 0]; D[None]; D[:, None]; D[3, ...]; D[:, [0, 2]]; D[[1, 2], 0]; D[B[..., 0] > 0]
D.T; D.shape; D.ndim; D.size; len(D); D.dtype; D.nbytes; np.shape(D); np.size(D); D.reshape(-1); D.ravel(); D.tolist()
D.astype(np.float32); D.copy(); D.round(1); np.round(D, 2); np.clip(D, -1, 1); D.clip(0); np.isnan(D).any(); D.conj()
np.trace(D); D.trace(); np.diag(D); D.diagonal(); np.triu(D); np.triu(D, 1); np.tril(D, -1); np.nan_to_num(D)
np.linalg.norm(D, axis=1); np.linalg.norm(D); D / np.linalg.norm(D, axis=1, keepdims=True); (D - D.mean(0)) / D.std(0)
np.concatenate([D, D]); np.unique(D); sum(D); list(D)[3]; np.array(D); np.asarray(D, dtype=np.float32); D @ D.T
D[np.triu_indices(len(D), 1)]; np.allclose(D, D); D == D; np.ptp(D, axis=1); np.nanmean(D, axis=0); np.nanmax(D, axis=0)
np.maximum(D, B); np.add.reduce(D); np.add.outer(D, [1, 2]); np.count_nonzero(D, axis=0); D.min(axis=(0, 1)); D.item(3)
D.sum(axis=(0, -1)); D.mean(axis=(1, 2)); np.histogram(D)[0]; np.unravel_index(D.argmin(), D.shape); D.real; 3 in D
np.concatenate([D, B], axis=-1); np.stack([D, 2 * D], axis=1); np.stack([D, B])
D[np.arange(len(D)), ...]; D[[1, 2], None]; D[()]; D[...]; D[None, :2]; D[:, 0, [1, 2]]; D[[2], ..., 0]; D[True].shape
D.astype("f4", copy=False); D.copy("C"); np.trace(D, 1); np.diag(D, k=1); D.diagonal(1); np.size(D, 0); np.sum(a=D)
np.percentile(D, [5, 50], axis=1); np.percentile(D, [50], axis=-1)
np.quantile(D, q=[0.1, 0.9], axis=1); D.sum(initial=5)
np.clip(D, 0, a_max=1); np.clip(D, a_min=c, a_max=1)
D.clip(min=0); D.clip(0, max=1); np.median(D.copy(), 1, overwrite_input=True)
D.sum(axis=1, where=B > 0); D.sum(axis=1, where=D > 0)
np.exp(D, where=D > 0, out=np.zeros(D.shape)); np.sum(D, where=D > 0)
np.std(D, axis=1, mean=D.mean(1, keepdims=True)); np.stack(D)
np.concatenate(D); np.concatenate([D, B], axis=1, dtype="c16")
D == None; D != "a"; D << 1; D * tuple(range(D.shape[-1])); (L > 0) @ D; (L[0] > 0) @ D; pickle.loads(pickle.dumps(D))
copy.copy(D); copy.deepcopy(D); D.astype(object).shape
D - mm; mm * D; D * np.matrix(B[0])
np.fft.rfft(D, axis=1); np.fft.ifft(D); np.fft.fft(D, 4, 1); np.fft.fftshift(D, axes=1); np.fft.fftshift(D)
D & D; D | (D > 0); D // 2; D % 2; D.nonzero(); np.squeeze(D); D.mean(axis=5); D.nothing; D[99]; D[0, 0, 0, 0]
"""
TYPES = ["float64", "float32", "int64", "bool", "complex128"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small arrays are computed in parts, too."""
    monkeypatch.setattr(on_demand, "_SMALL", 0)
    monkeypatch.setattr(demanded, "_BLOCK", 2000)


def array(kind: str, shape: tuple[int, ...]) -> Any:
    numbers = np.random.default_rng(0).normal(size=shape) * 3
    if kind == "bool":
        return numbers > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (numbers + 1j * numbers[::-1]).astype(kind)


def demand(of: Any) -> Any:
    made = nb_oomhelper.on_demand(lambda part: of[part], len(of))
    assert isinstance(made, on_demand.OnDemand)
    return made


def outcome(code: str, names: dict[str, Any]) -> Any:
    """What an expression gives, or which error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return eval(code, {"np": np, "copy": copy, "pickle": pickle}, names)
    except Exception as error:
        return type(error)


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(other, on_demand.OnDemand):
        other = np.array(other)
    if not isinstance(one, (np.ndarray, np.generic)):
        return bool(one == other)
    alike = type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape
    exact = 1e-4 if one.dtype in (np.float32, np.complex64) else 1e-9
    return alike and bool(np.allclose(one, other, rtol=exact, equal_nan=True))


@pytest.mark.parametrize("shape", [(37, 11), (50, 50), (40, 5, 3), (60,)], ids=str)
@pytest.mark.parametrize("kind", TYPES)
def test_what_is_read_is_what_numpy_gives(kind: str, shape: tuple[int, ...]) -> None:
    of, random = array(kind, shape), np.random.default_rng(1)
    names = {
        "B": random.normal(size=shape),
        "v": random.normal(size=shape[1:]),
        "c": random.normal(size=(shape[0], *(1 for _ in shape[1:]))),
        "M": random.normal(size=(shape[-1], 4)),
        "L": random.normal(size=(3, shape[0])),
        "i": random.integers(-shape[0], shape[0], 9),
        "j": random.integers(0, shape[-1], 9),
        "mm": random.normal(size=shape).view(np.memmap),
    }
    lazy, wrong = demand(of), list[Any]()
    for code in READ.replace("\n", ";").split(";"):
        expected = outcome(code.strip() or "0", {**names, "D": of})
        found = outcome(code.strip() or "0", {**names, "D": lazy})
        if not is_same(expected, found):
            wrong.append((code.strip(), expected, found))
    assert wrong == []


CHANGES = [
    "np.fill_diagonal(D, 7)",
    "D *= 2",
    "D -= D.mean(axis=0)",
    "D /= 3",
    "D **= 2",
    "D[D < 0] = 5",
    "D[~(D < 0)] = 1",
    "D[B > 0] = -1",
    "D[np.arange(20), np.arange(20)] = 9",
    "D[[3, 3, 5], [1, 2, -1]] = 4",
    "E = D * 2; D += 1; D = E - D",
    "E = D; D += 1; D = E",
    "E = D[[1, 2]]; F = D[D > 0]; D += 1; E[0] = 1; F[0] = 2; D *= E[0, 0] + F[0]",
    "E = [row.max() for row in D]; D[D > 1] = E[0]",
    "at = np.arange(10); E = D[:, at]; at[:] = 0; D *= E.sum()",
    "D = D.astype(float, copy=False); D /= 2",
    "E = copy.deepcopy(D); E += 1; D -= E",
    "D /= D.sum(axis=1, keepdims=True)",
    "for _ in range(20): D *= 1.5",
    "for _ in range(200): D = D * 1.01",
]


@pytest.mark.parametrize("code", CHANGES)
@pytest.mark.parametrize("shape", [(40, 40), (40, 25)], ids=str)
def test_what_is_changed_is_changed_as_in_an_array(code: str, shape: tuple[int, int]) -> None:
    of, other = array("float64", shape), np.random.default_rng(2).normal(size=shape)
    plain, lazy = ({"np": np, "copy": copy, "B": other, "D": one} for one in (of.copy(), demand(of)))
    exec(code, plain)
    exec(code, lazy)
    assert is_same(plain["D"], lazy["D"])
    assert is_same(plain["D"][5:20][::2], lazy["D"][5:20][::2])
    assert is_same(plain["D"][[7, 7, 0]], lazy["D"][[7, 7, 0]])


@pytest.mark.parametrize(
    "code",
    [
        "D[0] = 1",
        "D[:, 0] = 1",
        "D[2:4] += 1",
        "D[0][0] = 1",
        "D[D > 0] = D[D > 0]",
        "D.sort()",
        "D.fill(0)",
        "D.T[0] = 1",
        "D.flat[0] = 1",
        "D.ravel()[0] = 1",
        "np.add(D, 1, out=D[:])",
        "np.copyto(D, 0)",
        "D.shape = (-1,)",
        "D //= 1j",
        "D += np.ones((3, 40, 40))",
        "np.random.shuffle(D)",
        "D[1:3][0, 0] = 2",
        "(D[:30]).__imul__(2)",
        "next(iter(D))[0] = 2",
        "D[3, 3] = 0",
        "D[range(9), range(9)] = 0",
        "np.fill_diagonal(D, np.arange(40))",
        "np.nan_to_num(D, copy=False)",
        "np.clip(D, 0, 1, out=D)",
        "D @= np.eye(40)",
        "for _ in range(500): D += 0",
        "D[np.ones((40, 40))[:, :, None][..., 0].astype(bool)] = D",
    ],
)
def test_what_would_change_nothing_fails(code: str) -> None:
    lazy = demand(array("float64", (40, 40)))
    before = lazy.sum()
    with pytest.raises((TypeError, ValueError, AttributeError)):
        exec(code, {"np": np, "D": lazy})
    assert lazy.sum() == before


@pytest.mark.parametrize(
    "read",
    [
        "D[5:]",
        "D[5:][2:]",
        "D[0]",
        "D[0][1:3]",
        "D[:, 2]",
        "D[2:4, 2:4]",
        "D[None]",
        "D.T",
        "D.reshape(-1)",
        "D.diagonal()",
        "np.diag(D)",
        "np.real(D)",
        "np.asarray(D)",
        "list(D)",
        "next(iter(D))",
    ],
)
@pytest.mark.parametrize("change", ["D += 1", "D[D > 0] = 1", "np.fill_diagonal(D, 1)"])
def test_what_would_change_with_it_is_seen(read: str, change: str) -> None:
    names = {"np": np, "D": demand(array("float64", (40, 40)))}
    exec(f"E = {read}", names)
    with pytest.raises(TypeError, match="still in use"):
        exec(change, names)
    exec(f"del E\n{change}", names)


@pytest.mark.parametrize("change", ["D[D > 0] = np.nan", "D[[5], [5]] = np.nan", "np.fill_diagonal(D, np.nan)"])
def test_a_number_that_does_not_fit_is_an_error_at_once(change: str) -> None:
    with pytest.raises(ValueError, match="NaN"):
        exec(change, {"np": np, "D": demand(array("int64", (40, 40)))})


def test_a_mask_that_is_too_large_is_a_clear_error() -> None:
    lazy = demand(array("float32", (40, 40)))
    with pytest.raises(TypeError, match="cannot be changed"):
        lazy[np.ones((40, 40), bool)] = 0


def test_an_axis_that_goes_before_the_rows_is_seen() -> None:
    of = array("float64", (40, 5, 6, 3))
    for code in ("D[:, 0, :, [1, 2]]", "D[:, [0], :, 1]", "D[3, :, [1, 2]]", "D[..., [0, 1]]", "D[:, [0, 1]]"):
        assert is_same(outcome(code, {"D": of}), outcome(code, {"D": demand(of)}))


def test_names_that_are_bound_anew_change_nothing() -> None:
    names: dict[str, Any] = {"x": array("float64", (60, 30)), "nb_oomhelper": nb_oomhelper}
    exec("y = nb_oomhelper.on_demand(lambda part: x[part] @ x.T, len(x))", names)
    expected = names["x"] @ names["x"].T
    exec("x = None", names)
    assert np.allclose(names["y"], expected)


def test_what_is_bound_anew_in_a_function_changes_nothing() -> None:
    def make() -> tuple[Any, Any]:
        x: Any = array("float64", (60, 30))
        lazy, expected = nb_oomhelper.on_demand(lambda part: x[part] * 2, len(x)), x * 2
        x = np.zeros(1)
        return lazy, expected

    lazy, expected = make()
    assert np.allclose(lazy, expected)


@pytest.mark.parametrize("read", [np.sum, lambda lazy: lazy[7], lambda lazy: lazy[[7, 9]], list])
@pytest.mark.parametrize("function", [lambda x: lambda part: x[part] @ x.T, lambda x: lambda part: x[part] * 2])
def test_it_sees_when_what_it_reads_is_changed(function: Callable[..., Any], read: Callable[..., Any]) -> None:
    x = array("float64", (60, 30))
    lazy = nb_oomhelper.on_demand(function(x), len(x))
    x[7] = 0
    with pytest.raises(RowsError, match="has changed since"):
        read(lazy)


def test_a_list_may_be_changed_later_and_not_its_arrays() -> None:
    frames = list(array("float64", (60, 30)))
    lazy = nb_oomhelper.on_demand(lambda part: np.stack([frames[at] for at in part]), len(frames))
    expected, first = np.array(lazy), frames[0]
    frames.reverse()
    del frames[7:]
    assert is_same(expected, lazy)
    first[3] = 0
    with pytest.raises(RowsError, match="has changed since"):
        lazy.sum()


def test_what_is_made_of_another_one_stays_where_that_is_changed() -> None:
    of = array("float64", (60, 30))
    first = demand(of)
    second = nb_oomhelper.on_demand(lambda part: first[part] * 2, len(first))
    first[first > 1] = 0
    assert is_same(of * 2, second)


def test_rows_of_another_form_are_seen() -> None:
    lazy = nb_oomhelper.on_demand(lambda part: np.ones((len(part), 3), "f8" if 71 not in part else "c16"), 90)
    with pytest.raises(RowsError, match="another form"):
        lazy.sum()


def test_arrays_that_go_into_it_may_be_changed_later() -> None:
    x, weights = array("float64", (600, 30)), np.ones(30)
    lazy = demand(x) * weights
    weights[:] = 0
    assert is_same(x, lazy)


def not_rows() -> Iterator[tuple[Callable[[Any], Any], str]]:
    x = array("float64", (60, 30))
    yield lambda part: x[part] - x[part].mean(), "depend on each other"
    yield lambda part: x[part].sum(axis=0), "depend on each other|no array"
    yield lambda part: x[part].tolist(), "list"
    yield lambda part: x[part][:1], "depend on each other"
    yield lambda part: np.random.default_rng(0).normal(size=(len(part), 3)) + x[part, :3], "depend on each other"
    yield lambda part: np.random.normal(size=(len(part), 3)), "random numbers"
    yield lambda part: x[part].astype(object), "no array|object"


@pytest.mark.parametrize(("function", "message"), list(not_rows()), ids=[str(one) for one in range(7)])
def test_what_is_not_computed_row_by_row_is_refused(function: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(RowsError, match=message):
        nb_oomhelper.on_demand(function, 60)


@pytest.mark.parametrize("rows", [-1, 2.5, None, True, "7"])
def test_it_wants_a_number_of_rows(rows: Any) -> None:
    with pytest.raises(UsageError):
        nb_oomhelper.on_demand(lambda part: np.zeros((len(part), 2)), rows)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_few_rows_are_an_array(rows: int) -> None:
    made = nb_oomhelper.on_demand(lambda part: part[:, None] * np.ones(3), rows)
    assert type(made) is np.ndarray
    assert made.shape == (rows, 3)


def test_what_is_small_is_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "_SMALL", 1 << 20)
    assert type(nb_oomhelper.on_demand(lambda part: part[:, None] * np.ones(3), 60)) is np.ndarray


@pytest.mark.parametrize(
    "code",
    [
        "D.sum()",
        "D.std(axis=0)",
        "np.median(D, axis=0)",
        "D.argsort(axis=1)[:, :5]",
        "D[D > 3.5]",
        "np.trace(D)",
        "((D - D.mean(0)) / D.std(0)).max()",
        "np.exp(-D).sum(axis=1)",
        "D[::7].max()",
        "(D > 3).sum(axis=1)",
    ],
)
def test_it_takes_little_memory(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demanded, "_BLOCK", 1 << 16)
    x = np.random.default_rng(0).normal(size=(1500, 4))
    lazy = nb_oomhelper.on_demand(lambda part: x[part] @ x[:1000].T, len(x))
    tracemalloc.start()
    try:
        eval(code, {"np": np, "D": lazy})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < lazy.nbytes / 2


def test_it_says_what_it_is() -> None:
    assert repr(demand(array("float64", (40, 30)))) == "<40 × 30 of float64, computed when they are read>"
    with pytest.raises(ValueError, match=r"x\.any\(\)"):
        bool(demand(array("float64", (40, 30))))
