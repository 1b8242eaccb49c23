"""`nb_oomhelper.in_parts` of a file that is read in parts: the same as of the whole file, or an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.all_rows import in_parts

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.plain

COUNT, PART = 20_000, 3000
_RNG = np.random.default_rng(1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with missing values, quotes, dates, and columns that only its later parts say all of."""
    table = pd.DataFrame({"store": _RNG.integers(0, 50, COUNT), "price": _RNG.normal(size=COUNT)})
    numbers = table.index.to_series()
    table["kind"], table["number"] = _RNG.choice([*"abc"], COUNT), numbers
    table["day"] = pd.date_range("2020-01-01", periods=COUNT, freq="h")
    table["note"] = 'say "a,b"\nand more'
    table["hole"] = numbers.astype("float64").mask(numbers.between(15_000, 15_009))
    table["last"] = numbers.astype("float64").where(numbers > 12_000)
    table["late"] = pd.Series(np.where(numbers > 18_000, "x", None))
    table["early"] = pd.Series(np.where(numbers < 2000, "y", None))
    table["mixed"] = numbers.astype(object).mask(numbers > 18_500, "z")
    table["flag"] = (numbers % 2 == 0).astype(object).mask(numbers == 17_000, None)
    found = tmp_path_factory.mktemp("table") / "table.csv"
    table.to_csv(found, index=False)
    return found


FINE = ["store", "price", "kind", "number", "day", "note", "hole", "last", "late", "early"]


def _both(path: Path, function: Callable[[Any], Any], agg: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    whole = function(pd.read_csv(path, **options))
    if isinstance(agg, str):
        whole = getattr(whole, agg)()
    elif agg is not None:
        whole = whole.agg(agg)
    return in_parts(function, pd.read_csv(path, chunksize=PART, **options), agg=agg), whole


@pytest.mark.parametrize(
    ("function", "agg", "options"),
    [
        (lambda t: t.groupby("store")[["price", "number", "hole", "last"]], "mean", {}),
        (lambda t: t.groupby("hole")["number"], "sum", {}),
        (lambda t: t.groupby(["store", "kind"]), "size", {}),
        (lambda t: t.groupby("kind")["price"], ["sum", "count"], {}),
        (lambda t: t.isna(), "sum", {}),
        (lambda t: t["kind"], "value_counts", {}),
        (lambda t: t["late"], "value_counts", {}),
        (lambda t: t["early"], "value_counts", {}),
        (lambda t: t["note"].str.len(), "max", {}),
        (lambda t: t["price"], "mean", {}),
        (lambda t: t["hole"].astype(str).str.len(), "sum", {}),
        (lambda t: t["price"].to_numpy(), "mean", {}),
        (lambda t: t["kind"], "max", {}),
        (lambda t: t["kind"] + t["note"], "min", {}),
        (lambda t: t[t["number"] > 19_000]["number"], "max", {}),
        (lambda t: t[t["number"] > 19_000]["price"], "mean", {}),
        (lambda t: t[t["number"] < 10], None, {}),
        (lambda t: t[t["number"] < 0], None, {}),
        (lambda t: t[t["number"] % 9 == 2].reset_index(drop=True), None, {}),
        (lambda t: t["late"].astype(object).fillna("none"), "value_counts", {}),
        (lambda t: t.groupby("store"), "max", {}),
        (lambda t: t[t["number"].isin([11, 13_000])][["store", "hole", "last"]], None, {}),
        (lambda t: t.loc[t["kind"] == "a", ["number", "hole"]], None, {}),
        (lambda t: t["price"].to_numpy() * 2, None, {}),
        (lambda t: t[t["price"] > 2], None, {"usecols": ["number", "price"], "index_col": "number"}),
        (lambda t: t[t["number"] % 9 == 2], None, {"usecols": ["number", "kind"], "index_col": "kind"}),
        (lambda t: t[t["number"] % 9 == 2], None, {"usecols": ["number", "kind"], "skiprows": range(1, 100)}),
        (
            lambda t: t.groupby(t["day"].dt.hour)["price"],
            "mean",
            {"usecols": ["day", "price"], "parse_dates": ["day"], "date_format": "%Y-%m-%d %H:%M:%S"},
        ),
        (lambda t: t.groupby(t[0])[1], "sum", {"usecols": [0, 1], "header": None, "skiprows": 1}),
    ],
)
def test_it_is_that_of_the_whole_file(path: Path, function: Any, agg: Any, options: dict[str, Any]) -> None:
    made, whole = _both(path, function, agg, {"usecols": FINE, **options})
    if isinstance(whole, pd.DataFrame):
        pd.testing.assert_frame_equal(made, whole)
    elif isinstance(whole, pd.Series):
        pd.testing.assert_series_equal(made, whole)
    elif isinstance(whole, str):
        assert made == whole
    else:
        assert np.allclose(made, whole)


def test_what_is_done_to_a_part_is_done_once(path: Path) -> None:
    def doubled(table: Any) -> Any:
        table["price"] *= 2
        table["number"] = table["number"] + 1
        return table.groupby("kind")[["price", "number"]]

    made, whole = _both(path, doubled, "sum", {"usecols": FINE})
    pd.testing.assert_frame_equal(made, whole)


def test_a_file_of_one_part_is_done_in_one_go(path: Path) -> None:
    reader = pd.read_csv(path, chunksize=10**6, usecols=FINE)
    assert in_parts(lambda t: t["price"].median(), reader) == pd.read_csv(path)["price"].median()
    assert in_parts(lambda t: t["number"], pd.read_csv(path, chunksize=10**6, usecols=FINE), agg="max") == COUNT - 1


@pytest.mark.parametrize(
    ("function", "agg"),
    [
        (lambda t: t[t["price"] > t["price"].mean()], None),
        (lambda t: t.sort_values("price").head(), None),
        (lambda t: t["price"].cumsum(), None),
        (lambda t: t.drop_duplicates("store")["price"], "sum"),
        (lambda t: t["hole"].to_numpy(), "sum"),
    ],
)
def test_rows_that_depend_on_each_other_are_refused(path: Path, function: Any, agg: Any) -> None:
    with pytest.raises(RowsError):
        _both(path, function, agg, {"usecols": FINE})


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a column of whole numbers that has others from some row on, and sums too large for one of 64 bits."""
    numbers = pd.Series(np.arange(COUNT))
    texts = numbers.astype(str).where(numbers < 15_000, numbers.astype(str) + ".5")
    found = tmp_path_factory.mktemp("later") / "later.csv"
    pd.DataFrame({"a": texts, "b": 1.5, "large": 2**62 // 4000 + numbers}).to_csv(found, index=False)
    return found


@pytest.mark.parametrize(
    ("function", "agg"),
    [
        (lambda t: t["a"], "sum"),
        (lambda t: t["a"], "max"),
        (lambda t: t[t["b"] > 9]["a"], "sum"),
        (lambda t: t[t["a"] < 5], None),
        (lambda t: t[["b", "large"]], "mean"),
        (lambda t: t["large"].to_numpy(), "mean"),
    ],
)
def test_whole_numbers_that_turn_out_to_be_others(later: Path, function: Any, agg: Any) -> None:
    made, whole = _both(later, function, agg, {})
    if isinstance(whole, float):
        assert (made, type(made)) == (pytest.approx(whole), type(whole))
    else:
        (pd.testing.assert_frame_equal if whole.ndim == 2 else pd.testing.assert_series_equal)(made, whole)


@pytest.mark.parametrize("name", ["mixed", "flag"])
def test_values_of_several_kinds_are_refused(path: Path, name: str) -> None:
    with pytest.raises(RowsError, match=f"values of several kinds in '{name}'"):
        _both(path, lambda t: t["price"], "sum", {"usecols": ["price", name]})


def test_what_is_no_reader_of_tables_is_told() -> None:
    small = pd.DataFrame({"a": [1, 2]})
    for given, told in ((iter([1, 2]), "DataFrames"), (iter([]), "nothing"), (iter([small, small]), "128 rows")):
        with pytest.raises(UsageError, match=told):
            in_parts(len, given)
    with pytest.raises(UsageError, match="one DataFrame"):
        in_parts(len, iter([small]), by="a")
