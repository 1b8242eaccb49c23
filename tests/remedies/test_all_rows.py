"""`nb_oomhelper.in_parts`: the same as in one go, or an error before anything else is computed."""

from __future__ import annotations

import random
from collections import defaultdict, namedtuple
from typing import Any

import pytest

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.all_rows import in_parts

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.plain

Pair = namedtuple("Pair", "low high")
ROWS = np.random.default_rng(0).normal(size=(1001, 6))
WEIGHTS = np.random.default_rng(1).normal(size=(6, 3))


def test_arrays_are_those_of_one_go() -> None:
    assert np.allclose(in_parts(lambda rows: np.tanh(rows @ WEIGHTS), ROWS), np.tanh(ROWS @ WEIGHTS))


def test_several_tables_are_cut_together() -> None:
    first, second = in_parts(lambda a, b: (a - b, [str(one) for one in b]), ROWS[:, 0], ROWS[:, 1])
    assert np.array_equal(first, ROWS[:, 0] - ROWS[:, 1])
    assert second == [str(one) for one in ROWS[:, 1]]


def test_results_keep_their_form() -> None:
    made = in_parts(lambda rows: {"pair": Pair(rows.min(1), rows.max(1)), "n": [len(one) for one in rows]}, ROWS)
    assert isinstance(made["pair"], Pair)
    assert np.array_equal(made["pair"].high, ROWS.max(1))
    assert made["n"] == [6] * 1001


def test_dicts_keep_what_they_make_of_missing_keys() -> None:
    made = in_parts(lambda rows: defaultdict(list, low=rows.min(1)), ROWS)
    assert made["other"] == []
    assert np.array_equal(made["low"], ROWS.min(1))


def test_texts_in_a_list() -> None:
    assert in_parts(lambda texts: [one.upper() for one in texts], ["a", "b", "c"] * 50) == ["A", "B", "C"] * 50


@pytest.mark.parametrize(
    "function",
    [
        lambda rows: rows - rows.mean(0),
        lambda rows: np.cumsum(rows, 0),
        lambda rows: rows @ rows.T,
        lambda rows: np.sort(rows, 0),
        lambda rows: rows.sum(),
        lambda rows: rows[rows[:, 0] > 0],
        lambda rows: [number for number, _ in enumerate(rows)],
        lambda rows: "text",
    ],
)
def test_rows_that_depend_on_each_other_are_refused_after_the_first(function: Any) -> None:
    seen: list[int] = []

    def counted(rows: Any) -> Any:
        seen.append(len(rows))
        return function(rows)

    with pytest.raises(RowsError):
        in_parts(counted, ROWS)
    assert max(seen) <= 64


ALIKE = np.r_[np.zeros((8, 2)), ROWS[:, :2]]  # the first rows tell nothing
LATER = np.where(np.arange(1000) == 700, np.nan, 1.0)


@pytest.mark.parametrize(
    ("function", "rows"),
    [
        (lambda rows: rows - rows.mean(0), ALIKE),
        (lambda rows: np.cumsum(rows, 0), ALIKE),
        (lambda rows: np.roll(rows, 1, 0), ALIKE),
        (lambda rows: rows / 255 if rows.max() > 1 else rows, np.repeat([0.5, 100.0], 500)),
        (lambda rows: np.nan_to_num(rows) + 1 if np.isnan(rows).any() else rows, LATER),
        (lambda rows: [one.ljust(max(map(len, rows))) for one in rows], ["ab"] * 900 + ["abcdef"]),
        (lambda rows: [number % 4 for number, _ in enumerate(rows)], ALIKE),
        (lambda rows: [len(set(rows)) > 1 or one for one in rows], [0] * 700 + [1] * 300),
    ],
)
def test_rows_whose_first_tell_nothing_are_refused_where_they_depend_on_others(function: Any, rows: Any) -> None:
    with pytest.raises(RowsError):
        in_parts(function, rows)


def test_no_part_has_one_row_that_a_squeeze_would_take() -> None:
    rows = np.arange(131.0).reshape(131, 1)  # 26 parts of 5 and one more row
    assert np.array_equal(in_parts(lambda part: part.squeeze() + 1, rows), np.arange(131.0) + 1)


@pytest.mark.parametrize(
    "give",
    [
        lambda rows: [{"label": "a", "score": float(one)} for one in (rows @ WEIGHTS)[:, 0]],
        lambda rows: (rows @ WEIGHTS).tolist(),
        lambda rows: [one if one > 0 else float("nan") for one in rows[:, 0].tolist()],
        lambda rows: (rows @ WEIGHTS).astype(np.complex64) * (1 + 1j),
    ],
)
def test_numbers_are_the_same_but_for_how_they_are_rounded(give: Any) -> None:
    assert len(in_parts(lambda rows: give(rows * (1 + 1e-8 * len(rows))), ROWS)) == 1001


def test_what_lies_in_a_list_is_changed_once() -> None:
    rows = [{"n": 1} for _ in range(100)]

    def counted(part: Any) -> Any:
        for one in part:
            one["n"] += 1
        return [one["n"] for one in part]

    assert in_parts(counted, rows) == [2] * 100
    assert rows == [{"n": 2}] * 100


def test_a_part_that_loses_rows_later_is_refused() -> None:
    rows = np.arange(1000.0)
    with pytest.raises(RowsError):
        in_parts(lambda part: part[part != 500], rows)


def test_smaller_parts_where_one_runs_out() -> None:
    sizes: list[int] = []

    def narrow(rows: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 8:
            raise MemoryError
        return rows + 1

    assert np.array_equal(in_parts(narrow, ROWS, parts=10), ROWS + 1)
    assert sizes[-1] == 7
    assert sizes.count(101) == 1


def test_one_row_that_does_not_fit_is_the_users_error() -> None:
    def none_fits(rows: Any) -> Any:
        if rows[0] >= 8:  # those of the check do
            raise MemoryError
        return rows

    with pytest.raises(MemoryError):
        in_parts(none_fits, np.arange(200.0))


def test_other_errors_are_the_users_own() -> None:
    with pytest.raises(ZeroDivisionError):
        in_parts(lambda rows: 1 // 0, ROWS)


def test_random_numbers_go_on_from_where_they_were() -> None:
    np.random.seed(3)
    random.seed(3)
    expected = (np.random.rand(), random.random())
    np.random.seed(3)
    random.seed(3)
    drawn: list[float] = []

    def noisy(rows: Any) -> Any:
        drawn.append(len(rows))
        return rows + np.random.normal(size=rows.shape)

    made = in_parts(noisy, ROWS, parts=1)
    np.random.seed(3)
    assert np.array_equal(made, ROWS + np.random.normal(size=ROWS.shape))
    np.random.seed(3)
    assert (np.random.rand(), random.random()) == expected


def test_what_it_is_given_is_changed_by_nobody_else() -> None:
    rows = np.ones((100, 2))

    def in_place(part: Any) -> Any:
        part *= 2
        return part.copy()

    assert np.array_equal(in_parts(in_place, rows), np.full((100, 2), 2.0))
    assert np.array_equal(rows, np.full((100, 2), 2.0))


@pytest.mark.parametrize("tables", [(), (ROWS, ROWS[:5]), (3,)])
def test_tables_that_are_none(tables: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError):
        in_parts(lambda *rows: rows[0], *tables)


def test_tensors_come_without_gradients_and_are_as_in_one_go() -> None:
    torch = pytest.importorskip("torch")
    net, rows = torch.nn.Linear(5, 2), torch.randn(300, 5)
    made = in_parts(net, rows)
    assert not made.requires_grad
    assert torch.allclose(made, net(rows), atol=1e-6)


def test_batch_norm_in_training_is_refused() -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.BatchNorm1d(5)
    with pytest.raises(RowsError):
        in_parts(net, torch.randn(300, 5))


def test_sparse_tensors_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RowsError):
        in_parts(lambda rows: rows.relu().to_sparse(), torch.randn(300, 5))


def test_a_generator_of_the_notebook_goes_on_from_where_it_was() -> None:
    rng, same = np.random.default_rng(5), np.random.default_rng(5)
    made = in_parts(lambda rows: rows + rng.normal(size=rows.shape), ROWS, parts=1)
    assert np.array_equal(made, ROWS + same.normal(size=ROWS.shape))
    assert rng.bit_generator.state == same.bit_generator.state
