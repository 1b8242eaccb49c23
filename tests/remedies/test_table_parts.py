"""`nb_oomhelper.in_parts` of a DataFrame: the same as in one go, or an error before anything else is computed."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.all_rows import in_parts
from nb_oomhelper.remedies.joined_tables import total

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
WIDE = np.arange(7.0)
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
        ({}, lambda t: t["price"].to_numpy()[:, None] - WIDE),
        ({"by": "user"}, lambda t: t.groupby("user")["price"].mean().to_numpy()),
        ({"by": "user"}, lambda t: t.merge(ITEMS, on="item").groupby("user")[["price", "weight"]].mean()),
        ({"by": "user"}, lambda t: t.groupby("user").agg({"price": ["mean", "std"], "kind": "first"}).reset_index()),
        ({"by": "user"}, lambda t: t.groupby("user")["price"].transform("mean")),
        ({"by": "user"}, lambda t: t.sort_values(["user", "price"]).groupby("user").head(3)),
        ({"by": "user"}, lambda t: t.groupby("user")["item"].apply(list)),
        ({"by": "user"}, lambda t: t.groupby("user").filter(lambda rows: len(rows) > 999)),
        ({"by": ["user", "kind"]}, lambda t: t.groupby(["kind", "user"])["price"].median()),
        ({"by": "kind"}, lambda t: t.groupby("kind")["price"].median()),
    ],
)
def test_it_is_that_of_one_go(options: dict[str, Any], function: Callable[[Any], Any]) -> None:
    _check(in_parts(function, TABLE, **options), function(TABLE))


@pytest.mark.parametrize(
    ("agg", "function"),
    [
        ("sum", lambda t: t.merge(ITEMS, on="item").groupby(["item", "kind"])[["price", "weight"]]),
        ("sum", lambda t: t.groupby("kind")["narrow"]),
        ("sum", lambda t: t[["price", "narrow", "user"]]),
        ("mean", lambda t: t.groupby("kind")[["narrow", "price"]]),
        ("mean", lambda t: t["price"]),
        ("size", lambda t: t.groupby(["kind", "user"])),
        ("max", lambda t: t.groupby("kind")),
        ("max", lambda t: pd.get_dummies(t["kind"].astype("category")).assign(user=t["user"]).groupby("user")),
        ("min", lambda t: pd.get_dummies(t["kind"].astype("category")).assign(item=t["item"]).groupby("item")),
        ("all", lambda t: t["price"] < 9),
        ("value_counts", lambda t: t["kind"]),
        ("value_counts", lambda t: t["user"] % 7),
        ("value_counts", lambda t: ("x " + t["kind"]).str.split().str[1]),
        (["count", "mean", "min"], lambda t: t.groupby("item")["price"]),
        ({"price": "mean", "user": "max"}, lambda t: t.groupby("item")),
        ({"price": ["mean", "sum"], "user": "max"}, lambda t: t.groupby(["item", "kind"])),
        ({"n": ("user", "size"), "p": ("price", "mean")}, lambda t: t.groupby("kind")),
    ],
)
def test_totals_are_those_of_one_go(agg: Any, function: Callable[[Any], Any]) -> None:
    given = function(TABLE)
    whole = getattr(given, agg)() if isinstance(agg, str) else given.agg(**agg) if "n" in agg else given.agg(agg)
    _check(in_parts(function, TABLE, agg=agg), whole)


def test_several_totals_of_one_table() -> None:
    items, kinds = in_parts(lambda t: (t.groupby("item")["price"], t.groupby("kind")["price"]), TABLE, agg="mean")
    _check(items, TABLE.groupby("item")["price"].mean())
    _check(kinds, TABLE.groupby("kind")["price"].mean())


def test_pairs_of_a_table_with_itself() -> None:
    made = in_parts(lambda t: t.merge(t, on="user").groupby(["item_x", "item_y"]), TABLE, by="user", agg="size")
    _check(made, TABLE.merge(TABLE, on="user").groupby(["item_x", "item_y"]).size())


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({}, lambda t: t.groupby("user")["price"].mean()),
        ({}, lambda t: t["price"].cumsum()),
        ({}, lambda t: t["price"].to_numpy() / t["price"].to_numpy().max()),
        ({}, lambda t: t["price"].to_numpy()[t["price"].to_numpy() > 0]),
        ({}, lambda t: t["price"] - t["price"].mean()),
        ({}, lambda t: t.drop_duplicates("item")),
        ({"agg": "sum"}, lambda t: t.groupby("item")["user"].nunique()),
        ({"agg": "mean"}, lambda t: t.assign(z=t["price"].rank()).groupby("item")["z"]),
        ({"by": "item"}, lambda t: t.groupby("user")["price"].mean()),
        ({"by": "user"}, lambda t: t["price"].rank()),
        ({"agg": "sum"}, lambda t: t.merge(t, on="kind").groupby("item_x")["price_y"]),
        ({}, lambda t: {"n": len(t)}),
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


def test_groups_stay_together_where_memory_runs_out() -> None:
    def function(rows: Any) -> Any:
        if len(rows) > 2000:
            raise MemoryError("Unable to allocate 3.00 GiB for an array with shape (3, 4) and data type float64")
        return rows.groupby("user")["price"].transform("mean")

    _check(in_parts(function, TABLE, parts=4, by="user"), TABLE.groupby("user")["price"].transform("mean"))


def _rare(**values: Any) -> Any:
    """A table with a few rows, which no try sees, that say something else."""
    table = TABLE.copy()
    for name, value in values.items():
        table.loc[[593, 9409], name] = value
    return table


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({"agg": "sum"}, lambda t: t.groupby("kind")["price"]),
        ({"agg": "mean"}, lambda t: t.assign(day=t["item"] + (1 << 61)).groupby("kind")["day"]),
        ({"agg": "sum"}, lambda t: t.assign(d=pd.to_timedelta(t["item"], unit="s")).groupby("kind")["d"]),
        ({}, lambda t: t[(t["price"] > 2) & (t.index < 17_000)]["kind"].map(lambda kind: len(kind))),
        ({}, lambda t: t.assign(d=pd.to_timedelta(t["item"], unit="s"))),
    ],
)
def test_rare_rows_come_out_as_in_one_go(options: dict[str, Any], function: Callable[[Any], Any]) -> None:
    table = _rare(kind="A")
    given = function(table)
    _check(in_parts(function, table, **options), getattr(given, options["agg"])() if options else given)


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({"agg": "max"}, lambda t: t.groupby("kind", as_index=False)["price"]),
        ({"agg": "sum"}, lambda t: t.groupby(pd.Grouper(key="day", freq="7D"))["price"]),
        ({"agg": "max"}, lambda t: t.astype({"kind": "category"}).groupby("kind", observed=False)["item"]),
        ({}, lambda t: t["kind"].str.get_dummies()),
        ({}, lambda t: t.merge(ITEMS, on="item", how="left").query("weight.isna()")),
        ({}, lambda t: t["kind"].map({"a": "x", "b": "y", "c": "z"}) if len(t) > 700 else t["price"]),
        ({"by": "user", "agg": "value_counts"}, lambda t: t.merge(t, on="user")[["user", "item_x"]]),
        ({"by": "user"}, lambda t: t["price"].map(lambda one: one + np.random.random())),
        ({"agg": "mean"}, lambda t: t.groupby("kind")["day"]),
    ],
)
def test_what_only_rare_rows_would_tell_is_refused(options: dict[str, Any], function: Callable[[Any], Any]) -> None:
    table = _rare(kind="A", item=99).assign(day=pd.Timestamp("2024-01-01"))
    with pytest.raises(RowsError):
        in_parts(function, table, **options)


def test_small_numbers_are_compared_beside_large_ones() -> None:
    table = TABLE.assign(number=1 << 60, infinite=float("inf"))
    with pytest.raises(RowsError):
        in_parts(lambda t: t.assign(price=t["price"].cumsum()), table)


def test_a_table_that_is_almost_in_order() -> None:
    table = TABLE.sort_values("user", kind="stable")
    places = np.arange(COUNT)
    places[[433, 17_000]] = [17_000, 433]
    table = table.iloc[places].reset_index(drop=True)
    with pytest.raises(RowsError):
        in_parts(lambda t: t.merge(ITEMS, on="item"), table, by="user")
    made = in_parts(lambda t: t.groupby("user")["price"].median(), table, by="user")
    _check(made, table.groupby("user")["price"].median())


def test_a_table_whose_rows_have_names_twice() -> None:
    table = TABLE.assign(user=np.r_[np.arange(10_001) % 600, np.arange(9_999) % 700])
    table.index = np.r_[0:10_001, 0:9_999]
    with pytest.raises(RowsError):
        in_parts(lambda t: t.groupby("user").head(2), table, by="user")
    _check(in_parts(lambda t: t[t["price"] > 1], table), table[table["price"] > 1])
    made = in_parts(lambda t: t.groupby("user")["price"].median(), table, by="user")
    _check(made, table.groupby("user")["price"].median())


def test_an_error_with_a_part_is_told_as_such() -> None:
    with pytest.raises(RowsError, match="KeyError"):
        in_parts(lambda t: t.drop([0]), TABLE)


def test_the_table_is_as_it_was() -> None:
    before = TABLE.copy()
    in_parts(lambda t: t.assign(price=0.0).groupby("kind")["price"], TABLE, agg="sum")
    pd.testing.assert_frame_equal(TABLE, before)


def test_random_numbers_go_on_from_where_they_were() -> None:
    np.random.seed(3)
    made = in_parts(lambda t: t["price"] + np.random.normal(size=len(t)), TABLE)
    np.random.seed(3)
    assert np.allclose(made - TABLE["price"], np.random.normal(size=COUNT))


def test_bad_options() -> None:
    wrong: list[dict[str, Any]] = [{"by": "no such"}, {"agg": "median"}, {"agg": {"price": "std"}}]
    for options in wrong:
        with pytest.raises(UsageError):
            in_parts(len, TABLE, **options)
    with pytest.raises(UsageError):
        in_parts(len, [1] * 300, by="user")


WHOLE = pd.DataFrame(_RNG.normal(size=(200_000, 20)), columns=[f"c{one}" for one in range(20)])


def _most(function: Callable[[], object]) -> float:
    """The most memory that was taken at once, as so many of the table."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = function()
        assert kept is not None
        return float(tracemalloc.get_traced_memory()[1] / WHOLE.memory_usage(index=False).sum())
    finally:
        tracemalloc.stop()


def test_rows_that_stay_take_no_more_than_they_are() -> None:
    low, high = WHOLE.min(), WHOLE.max()

    def scaled(t: Any) -> Any:
        return (t - low) / (high - low)

    _check(in_parts(scaled, WHOLE), scaled(WHOLE))
    assert _most(lambda: scaled(WHOLE)) > 1.9
    assert _most(lambda: in_parts(scaled, WHOLE)) < 1.3


@pytest.mark.parametrize(
    "function",
    [
        lambda t: t.assign(twice=t["price"] * 2),  # numbers and texts
        lambda t: t["kind"].str.upper(),
        lambda t: t[["price", "item", "price"]],
        lambda t: t.assign(day=pd.Timestamp("2026-01-01") + pd.to_timedelta(t["item"], unit="D")),
        lambda t: t.assign(some=t["item"].astype("Int64"), which=t["kind"].astype("category")),
        lambda t: t.rename(columns=str.upper).set_index("USER"),
        lambda t: t["price"].where(t["item"] > 0),
    ],
)
def test_columns_of_all_kinds_are_those_of_one_go(function: Callable[[Any], Any]) -> None:
    table = TABLE.set_index(np.arange(5, 5 + len(TABLE)))
    whole = function(table)
    made = in_parts(function, table)
    _check(made, whole)
    assert made.index.identical(whole.index)


def test_a_later_part_of_another_kind_is_put_behind() -> None:
    table = pd.DataFrame({"n": np.arange(20_000)})
    made = in_parts(lambda t: t["n"] if t["n"].iloc[0] < 9_000 else t["n"] / 1, table)
    _check(made, table["n"].astype(float))
    made = in_parts(lambda t: t[(t["n"] < 9_000) | (t["n"] % 2 == 0)], table)
    _check(made, table[(table["n"] < 9_000) | (table["n"] % 2 == 0)])


def test_flags_of_which_some_are_missing_in_a_later_part() -> None:
    shares = [
        pd.DataFrame({"x": [True, False]}, index=["a", "b"]),
        pd.DataFrame({"x": pd.Series([None, True], dtype=object).to_numpy()}, index=["c", "b"]),
    ]
    whole = pd.concat(shares).groupby(level=0, sort=False).max()
    pd.testing.assert_frame_equal(total(shares, "max"), whole)
