"""`nb_oomhelper.in_parts` of a DataFrame: the same as in one go, or an error before anything else is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.all_rows import in_parts

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.plain

_RNG = np.random.default_rng(0)
COUNT = 20_000
TABLE = pd.DataFrame(
    {
        "user": _RNG.integers(0, 700, COUNT),
        "item": _RNG.integers(0, 60, COUNT),
        "price": _RNG.normal(size=COUNT),
        "narrow": _RNG.normal(size=COUNT).astype("float32"),
        "kind": _RNG.choice([*"abc"], COUNT),
    }
)
ITEMS = pd.DataFrame({"item": np.arange(60), "weight": _RNG.random(60)})


def _check(made: Any, whole: Any) -> None:
    if isinstance(whole, pd.DataFrame):
        pd.testing.assert_frame_equal(made, whole, rtol=1e-4)
    elif isinstance(whole, pd.Series):
        pd.testing.assert_series_equal(made, whole, rtol=1e-4)
    else:
        assert type(made) is type(whole)
        assert np.allclose(made, whole)


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({}, lambda t: t.merge(ITEMS, on="item")),
        ({}, lambda t: t[t["price"] > 1][["user"]]),
        ({}, lambda t: t.set_index("kind")["price"] * 2),
        ({"by": "user"}, lambda t: t.merge(ITEMS, on="item").groupby("user")[["price", "weight"]].mean()),
        ({"by": "user"}, lambda t: t.groupby("user").agg({"price": ["mean", "std"], "kind": "first"}).reset_index()),
        ({"by": "user"}, lambda t: t.groupby("user")["price"].transform("mean")),
        ({"by": "user"}, lambda t: t.sort_values(["user", "price"]).groupby("user").head(3)),
        ({"by": "user"}, lambda t: t.groupby("user")["item"].apply(list)),
        ({"by": ["user", "kind"]}, lambda t: t.groupby(["kind", "user"])["price"].median()),
        ({"by": "kind"}, lambda t: t.groupby("kind")["price"].median()),
        ({"join": "sum"}, lambda t: t.merge(ITEMS, on="item").groupby(["item", "kind"])[["price", "weight"]].sum()),
        ({"join": "sum"}, lambda t: t.groupby("kind")["narrow"].sum()),
        ({"join": "sum"}, lambda t: t[["price", "narrow", "user"]].sum()),
        ({"join": "sum"}, lambda t: len(t[t["price"] > 0])),
        ({"join": "max"}, lambda t: t.groupby("kind").max()),
        ({"join": "min"}, lambda t: (t["price"] < 9).all()),
        ({"by": "user", "join": "sum"}, lambda t: t.merge(t, on="user").groupby(["item_x", "item_y"]).size()),
    ],
)
def test_it_is_that_of_one_go(options: dict[str, Any], function: Callable[[Any], Any]) -> None:
    _check(in_parts(function, TABLE, **options), function(TABLE))


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({}, lambda t: t.groupby("user")["price"].mean()),
        ({}, lambda t: t["price"].cumsum()),
        ({}, lambda t: t["price"] - t["price"].mean()),
        ({}, lambda t: t.drop_duplicates("item")),
        ({"join": "sum"}, lambda t: t.groupby("item")["user"].nunique()),
        ({"join": "sum"}, lambda t: t.groupby("kind")["price"].mean()),
        ({"by": "item"}, lambda t: t.groupby("user")["price"].mean()),
        ({"by": "user"}, lambda t: t["price"].rank()),
        ({"join": "sum"}, lambda t: {"n": len(t)}),
    ],
)
def test_rows_that_depend_on_each_other_are_refused(options: dict[str, Any], function: Callable[[Any], Any]) -> None:
    with pytest.raises(RowsError):
        in_parts(function, TABLE, **options)


def test_a_row_that_two_parts_give_is_refused() -> None:
    table = pd.DataFrame({"key": np.arange(COUNT) // 2, "value": 1.0})
    with pytest.raises(RowsError):
        in_parts(lambda t: t.groupby("key")["value"].sum(), table, parts=3)


def test_missing_keys_are_a_group() -> None:
    table = TABLE.assign(user=TABLE["user"].where(TABLE["user"] > 99))
    function: Callable[[Any], Any] = lambda t: t.groupby("user", dropna=False)["price"].mean()  # noqa: E731
    _check(in_parts(function, table, by="user"), function(table))


def test_smaller_parts_where_memory_runs_out() -> None:
    sizes = []

    def function(rows: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 400:
            raise MemoryError("Unable to allocate 3.00 GiB for an array with shape (3, 4) and data type float64")
        return rows["price"] * 2

    _check(in_parts(function, TABLE, parts=4), TABLE["price"] * 2)
    assert max(sizes) == COUNT // 2


def test_the_table_is_as_it_was() -> None:
    before = TABLE.copy()
    in_parts(lambda t: t.assign(price=0.0).groupby("kind")["price"].sum(), TABLE, join="sum")
    pd.testing.assert_frame_equal(TABLE, before)


def test_random_numbers_go_on_from_where_they_were() -> None:
    np.random.seed(3)
    made = in_parts(lambda t: t["price"] + np.random.normal(size=len(t)), TABLE)
    np.random.seed(3)
    assert np.allclose(made - TABLE["price"], np.random.normal(size=COUNT))


def test_bad_options() -> None:
    wrong: list[dict[str, Any]] = [{"by": "no such"}, {"join": "mean"}]
    for options in wrong:
        with pytest.raises(UsageError):
            in_parts(len, TABLE, **options)
    with pytest.raises(UsageError):
        in_parts(len, [1] * 300, by="user")
