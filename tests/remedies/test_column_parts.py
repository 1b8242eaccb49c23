"""`nb_oomhelper.in_parts` of some columns at a time: the same as in one go, or an error before it is computed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.all_rows import in_parts

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.plain

_RNG = np.random.default_rng(0)
COUNT = 1000
ARRAY = _RNG.normal(size=(COUNT, 40))
NAMES = [f"c{number}" for number in range(40)]
TABLE = pd.DataFrame(ARRAY, columns=NAMES, index=pd.RangeIndex(5, COUNT + 5, name="day"))
TABLE["whole"] = _RNG.integers(0, 9, COUNT)
TABLE["text"] = "x"
NUMBERS = [*NAMES, "whole"]
GAPS = TABLE[NAMES].mask(TABLE[NAMES] > 1)


def _check(made: Any, whole: Any) -> None:
    if isinstance(whole, tuple):
        for one, other in zip(made, whole, strict=True):
            _check(one, other)
    elif isinstance(whole, pd.DataFrame):
        pd.testing.assert_frame_equal(made, whole)
    elif isinstance(whole, pd.Series):
        pd.testing.assert_series_equal(made, whole)
    else:
        assert type(made) is type(whole)
        assert made.dtype == whole.dtype
        assert np.allclose(made, whole)
        assert made.flags.c_contiguous == whole.flags.c_contiguous


@pytest.mark.parametrize(
    "function",
    [
        lambda t: (t - t.mean()) / t.std(),
        lambda t: t.rank(pct=True),
        lambda t: t.diff().dropna(),
        lambda t: t.quantile([0.1, 0.9]),
        lambda t: t.add_suffix("_n").astype("float32"),
        lambda t: t.max(),
        lambda t: t.apply(lambda column: column.nunique()),
        lambda t: t.isna(),
        lambda t: (t.mean(), t * 2, t.max()),
    ],
)
def test_it_is_that_of_one_go(function: Callable[[Any], Any]) -> None:
    _check(in_parts(function, TABLE, axis=1, columns=NUMBERS), function(TABLE[NUMBERS]))
    if function(TABLE[NAMES]) is not None:
        _check(in_parts(function, TABLE[NAMES], axis=1), function(TABLE[NAMES]))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x - x.mean(axis=0)) / x.std(axis=0),
        lambda x: (x.min(axis=0), np.sort(x, axis=0)),
        lambda x: np.where(x > 0, x, 0).astype("float32"),
    ],
)
def test_of_an_array(function: Callable[[Any], Any]) -> None:
    _check(in_parts(function, ARRAY, axis=1), function(ARRAY))


def test_columns_of_several_kinds() -> None:
    made = in_parts(lambda t: t.fillna(0).astype({"text": "category"} if "text" in t else {}), TABLE, axis=1)
    pd.testing.assert_frame_equal(made, TABLE.astype({"text": "category"}))


def test_columns_of_objects_stay_such() -> None:
    table = TABLE[NAMES].assign(mixed=["x", None] * (COUNT // 2))
    table["mixed"] = table["mixed"].astype(object)
    pd.testing.assert_frame_equal(in_parts(lambda t: t.where(t.notna()), table, axis=1), table.where(table.notna()))


def test_columns_that_come_in_another_order() -> None:
    table = TABLE[[*NAMES[:20], "text", *NAMES[20:]]]
    with pytest.raises(RowsError):
        in_parts(lambda t: t + t.mean(numeric_only=True), table, axis=1)


def test_without_pandas() -> None:
    code = "import numpy as np, nb_oomhelper, sys; x = np.random.rand(3000, 20); "
    code += "assert np.array_equal(nb_oomhelper.in_parts(lambda x: x ** 2, x, axis=1), x ** 2); "
    code += "assert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("agg", ["any", "all", "sum", "min", "max"])
def test_totals_of_rows(agg: str) -> None:
    function = (lambda t: abs(t) > 2) if agg in ("any", "all") else (lambda t: t * 2)
    _check(in_parts(function, GAPS, axis=1, agg=agg), getattr(function(GAPS), agg)(axis=1))
    _check(in_parts(function, ARRAY, axis=1, agg=agg), getattr(function(ARRAY), agg)(axis=1))


@pytest.mark.parametrize(
    "function",
    [
        lambda t: t.div(t.sum(axis=1), axis=0),
        lambda t: t.sample(10),
        lambda t: t + np.random.normal(size=t.shape),
        lambda t: float(t.to_numpy().sum()),
        lambda t: t[t > 0].dropna(),
        lambda t: t.corr(),
        lambda t: t.T,
    ],
)
def test_columns_that_depend_on_each_other(function: Callable[[Any], Any]) -> None:
    with pytest.raises(RowsError):
        in_parts(function, GAPS, axis=1)


def test_rows_that_a_later_part_lacks() -> None:
    table = TABLE[NAMES].copy()
    table.iloc[7, 20] = None
    with pytest.raises(RowsError):
        in_parts(lambda t: t.dropna(), table, axis=1)


@pytest.mark.parametrize(
    "options", [{"columns": ["c1", "c2", "no"]}, {"columns": "c1"}, {"agg": "mean"}, {"by": "c1"}, {"agg": ["any"]}]
)
def test_what_it_does_not_take(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        in_parts(lambda t: t, TABLE[NAMES], axis=1, **options)
    with pytest.raises(UsageError):
        in_parts(lambda t: t, TABLE, columns=NAMES)
