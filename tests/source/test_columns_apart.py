"""What is computed of a table's columns, as a function of some of them."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from nb_oomhelper.source.columns_apart import columns_apart
from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.scaled_in_parts import scaled_in_parts
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain


def _found(
    source: str,
    line: int = 1,
    kind: Any = "frame",
    barred: tuple[str, ...] = (),
    lists: tuple[str, ...] = (),
    functions: str = "",
) -> Any:
    text = read_text(source)
    assert text is not None
    known = {one.name: one for one in ast.walk(ast.parse(functions)) if isinstance(one, Function)}
    found = columns_apart(text, text.tree.body, line, "df", kind, barred, lists, known.get)
    changed = None if found is None else write_edits(text, found.edits)
    return None if changed is None else (changed.source, found)


def _written(source: str, *given: Any, **options: Any) -> str | None:
    found = _found(source, *given, **options)
    return None if found is None else found[0]


@pytest.mark.parametrize(
    "value",
    [
        "(df - df.min()) / (df.max() - df.min())",
        "df.rank(pct=True)",
        "df.fillna(df.median())",
        "df.clip(df.quantile(0.01), df.quantile(0.99), axis=1)",
        "np.log(df / df.shift(1)).dropna()",
        "df.pct_change().iloc[1:]",
        "df.rolling(7, min_periods=1).mean()",
        "df.ewm(span=9).mean()",
        'df.interpolate().resample("1h").mean()',
        "df.apply(lambda s: (s - s.mean()) / s.std())",
        "df.apply(winsorize)",
        "np.log1p(df.astype(float)) / np.log(2)",
        "df[df > 0].fillna(0)",
        "stats.zscore(df)",
        "minmax(df)",
        "StandardScaler().fit_transform(df)",
        "pd.DataFrame(RobustScaler().fit_transform(df), columns=df.columns, index=df.index)",
    ],
)
def test_columns_by_themselves(value: str) -> None:
    functions = "def minmax(t):\n    low = t.min()\n    return (t - low) / (t.max() - low)"
    assert _written(f"y = {value}", functions=functions) == f"y = nb_oomhelper.in_parts(lambda df: {value}, df, axis=1)"


@pytest.mark.parametrize(
    "value",
    [
        "df.div(df.sum(axis=1), axis=0)",
        "df / df.values.max()",
        "df.T - df.mean()",
        "df @ df",
        "df.dropna()",
        "df.fillna(0).dropna()",
        "df.sample(frac=0.5).rank()",
        "df + np.random.normal(size=df.shape)",
        "df.corr()",
        "df.sort_values('a')",
        "df * weights",
        "df.apply(lambda row: row.sum(), axis=1)",
        "df[df['a'] > 0]",
        "df.apply(lambda s: s - df['a'])",
        "PCA().fit_transform(df)",
        "scaler.fit_transform(df)",
        "df - low",
        "df.where(df > 0, inplace=True)",
        "minmax(df)",
        "df + df.mean(numeric_only=True)",
        "df.resample('1D', on='date').mean()",
        "df.rolling('7h', on='date').mean()",
        "df.astype({'z': 'float32'})",
        "df.cumsum(1)",
        "df.diff(1, 1)",
    ],
)
def test_columns_that_may_depend_on_others(value: str) -> None:
    functions = "def minmax(t):\n    return t / t.to_numpy().max()"
    assert _written(f"low = df.iloc[0]\ny = {value}", 2, barred=("weights",), functions=functions) is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("(df - df.mean(axis=0)) / df.std(axis=0)", True),
        ("(df - df.mean(0)) / df.std(0)", True),
        ("np.where(np.isnan(df), np.nanmean(df, axis=0), df)", True),
        ("df / np.linalg.norm(df, axis=0)", True),
        ("(df - df.mean()) / df.std()", False),
        ("df / np.linalg.norm(df, axis=1, keepdims=True)", False),
        ("np.sort(df)", False),
    ],
)
def test_of_an_array_along_its_first_axis(value: str, kind: bool) -> None:
    assert (_written(f"y = {value}", kind="array") is not None) is kind


def test_some_columns() -> None:
    made = "nb_oomhelper.in_parts(lambda df: (df - df.mean()) / df.std(), df, axis=1, columns=num)"
    value = "(df[num] - df[num].mean()) / df[num].std()"
    assert _written(f"z = {value}") == f"z = {made}"
    assert _written(f"df[num] = {value}") == f"df[num] = {made}"
    assert _written(f"z = {value}", barred=("num",)) is None
    assert _written(f"z = {value}", barred=("num",), lists=("num",)) == f"z = {made}"
    assert _written("z = df * num", barred=("num",), lists=("num",)) is None


def test_what_it_is_computed_with_goes_along() -> None:
    source = "low = df.min()\nhigh = df.max()\ny = (df - low) / (high - low)\nprint(y.shape)"
    for line in (1, 3):
        assert _written(source, line) == (
            "def of_columns(df):\n    low = df.min()\n    high = df.max()\n    y = (df - low) / (high - low)\n"
            "    return y\ny = nb_oomhelper.in_parts(of_columns, df, axis=1)\nprint(y.shape)"
        )
    assert "return low, y\nlow, y = " in (_written(source + "\nprint(low)", 3) or "")


def test_tables_on_the_way_are_not_all_there() -> None:
    source = "r = df.rank()\nr = (r / r.max() - 0.5) * 2\ng = r.clip(-1, 1)\nprint(g.head())"
    written, found = _found(source)
    assert "return g\ng = nb_oomhelper.in_parts(of_columns, df, axis=1)" in written
    assert (found.tables, found.gone, found.more) == (1, {"r"}, False)
    assert _found("y = df.diff()\nz = y.abs()\nw = y + z")[1].more is False
    assert _found("y = df.diff()\nprint(y.abs().max())")[1].more is True


def test_totals_of_rows() -> None:
    source = "z = stats.zscore(df)\nclean = df[(np.abs(z) < 3).all(axis=1)]\nprint(len(clean))"
    assert _written(source) == (
        "def of_columns(df):\n    z = stats.zscore(df)\n    return np.abs(z) < 3\n"
        'clean = df[nb_oomhelper.in_parts(of_columns, df, axis=1, agg="all")]\nprint(len(clean))'
    )
    assert _written("m = np.any(df.abs() > 3, axis=1)") == (
        'm = nb_oomhelper.in_parts(lambda df: df.abs() > 3, df, axis=1, agg="any")'
    )
    kept = _found(source + "\nprint(z.shape)")
    assert kept is not None
    assert "agg" not in kept[0]


SCALER = "scaler = StandardScaler()\n"
PARTS = "for start in range(0, len(df), 9):\n    scaler.partial_fit("


@pytest.mark.parametrize(
    ("value", "frame", "rows", "written"),
    [
        (
            "y = scaler.fit_transform(df)",
            False,
            "df[start : start + 9]",
            "y = nb_oomhelper.in_parts(scaler.transform, df)",
        ),
        (
            "y = pd.DataFrame(scaler.fit_transform(df), columns=df.columns)",
            True,
            "df.iloc[start : start + 9]",
            "y = pd.DataFrame(nb_oomhelper.in_parts(scaler.transform, df), copy=False, columns=df.columns)",
        ),
        (
            "df[num] = scaler.fit_transform(df[num])",
            True,
            "df.iloc[start : start + 9][num]",
            "df[num] = nb_oomhelper.in_parts(lambda df: scaler.transform(df[num]), df)",
        ),
    ],
)
def test_scalers_learn_in_parts(value: str, frame: bool, rows: str, written: str) -> None:
    text = read_text(SCALER + value)
    assert text is not None
    changed = write_edits(text, scaled_in_parts(text, text.tree.body, 2, "df", 9, frame=frame))
    assert changed is not None
    assert changed.source == f"{SCALER}{PARTS}{rows})\n{written}"


@pytest.mark.parametrize("made", ["scaler = RobustScaler()\n", "scaler = load()\n", "", SCALER + "scaler.fit(x)\n"])
def test_other_scalers_do_not(made: str) -> None:
    text = read_text(made + "y = scaler.fit_transform(df)")
    assert text is not None
    assert scaled_in_parts(text, text.tree.body, made.count("\n") + 1, "df", 9, frame=True) == []
