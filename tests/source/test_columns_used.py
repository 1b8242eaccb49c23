"""Which columns of a table a cell reads, as its code says."""

from __future__ import annotations

import ast

import pytest

from nb_oomhelper.source.columns_used import columns_used
from nb_oomhelper.source.table_reads import columns_told, find_reads, layout_of, option_for_columns

pytestmark = pytest.mark.plain
pd = pytest.importorskip("pandas")

COLUMNS = ("a", "b", "c", "d", "e")


def _used(code: str, known: tuple[str, ...] = COLUMNS) -> str | None:
    found = columns_used(ast.parse(code).body, "df", known, dir(pd.DataFrame))
    return None if found is None else "".join(sorted(found))


@pytest.mark.parametrize(
    ("code", "columns"),
    [
        ('print(df["a"].mean(), len(df), df.shape[0])', "a"),
        ("print(f\"{df.shape[0]:,} {df['a'].sum()}\")", "a"),
        ('x = df[df["a"] > 1].copy()\nprint(x.groupby("b")["c"].sum())', "abc"),
        ('df["n"] = df.a + df["b"]\nprint(df["n"].sum())', "ab"),
        ('keep = (df["a"] > 1) & df["b"].notna()\ny = df[~keep]\nz = y["c"]', "abc"),
        ('df.sort_values("a", inplace=True)\nprint(df["b"].head())', "ab"),
        ('names = ["a", "b"]\nX = df[names].to_numpy()', "ab"),
        ('df = df.dropna(subset=["a"])\nprint(df["b"])', "ab"),
        ('top = df.drop_duplicates(subset=["a", "b"]).nlargest(3, "c")["d"]', "abcd"),
        ('s = pd.crosstab(df["a"], df["b"])', "ab"),
        ('g = df.groupby(df["a"].dt.date)\nprint(g["b"].sum(), g.size())', "ab"),
        ('n = df.groupby(["a", pd.Grouper(key="b", freq="D")]).agg(n=("c", "sum"))', "abc"),
        ('df.groupby("a").apply(lambda g: g["b"].sum())', "ab"),
        ('df.groupby("a").agg({"b": "mean"}).plot()', "ab"),
        ('x = df.groupby("a").agg({"b": lambda s: (s * df.loc[s.index, "c"]).sum()})', "abc"),
        ('x = df.sort_values("a", key=lambda s: s + df["b"])["c"]', "abc"),
        ("for name, g in df.groupby('a'):\n    print(name, g['b'].mean())", "ab"),
        ("for row in df.itertuples():\n    print(row.a)", "a"),
        ('x = df.loc[df["a"] > 0, "b"]\ny = df.loc[df["c"] == 1]\nz = y["d"]', "abcd"),
        ('del df["a"]\nprint(df.b)', "ab"),
        ('p = df.pivot_table(index="a", values="b", aggfunc="sum")', "ab"),
    ],
)
def test_columns_are_read_by_their_names(code: str, columns: str) -> None:
    assert _used(code) == columns
    assert _used(code, ()) == columns  # where nobody knows which there are


@pytest.mark.parametrize(
    ("code", "columns"),
    [
        ('x = df.query("b > 2 and `e` < @limit")["a"]', "abe"),
        ('t = df.merge(shops, on="a")\nprint(t.groupby("town")["b_x"].sum())', "ab"),
        ('df = df.rename(columns={"a": "k"})\nprint(df["k"])', "a"),
        ('x = df.assign(k=lambda d: d["a"] * 2).groupby("k").size()', "a"),
        ('sns.boxplot(data=df, x="a", y="b")', "ab"),
        ('df.plot(kind="scatter", x="a", y="b", c="e")', "abe"),
        ('if log:\n    df["a"] = 1\nprint(df["b"])', "ab"),
        ('late = df[df["a"] > 1]\nlate["b"] = 0\nprint(df["b"])', "ab"),
    ],
)
def test_with_the_header_more_can_be_told(code: str, columns: str) -> None:
    assert _used(code) == columns
    assert _used(code, ()) is None


@pytest.mark.parametrize(
    "code",
    [
        "print(df.shape)",
        "df.head()",
        "df.describe()",
        "print(df.isna().sum())",
        'print(df["a"])\ndf',
        "X = df.drop(columns=['a'])\nmodel.fit(X, df['a'])",
        'df.groupby("a").mean()',
        "df.dropna()\nx = df['a']",
        "y = df.dropna()\nx = y['a']",
        "x = df.drop_duplicates()['a']",
        "prepare(df)",
        "X = df[columns()]",
        "cols = columns()\nX = df[cols]",
        "X = df[df.columns[:2]]",
        "x = df.iloc[:, 0]",
        "x = df.iloc[0]['a']",
        'x = df.loc[:, "a":"c"]',
        'for i, row in df.iterrows():\n    print(row["a"])',
        'x = df.apply(lambda r: r["a"], axis=1)',
        'def total():\n    return df["a"].sum()',
        'df.to_csv("x.csv")\nprint(df["a"])',
        'x = duckdb.sql("select a from df")\nprint(df["a"])',
        'frames = [df]\nprint(df["a"])',
        'x = eval("df")\nprint(df["a"])',
        'print(df["z"])',
        'sns.pairplot(df, hue="a")',
        'df.columns = names\nprint(df["a"])',
        'x = df * 2\ny = x["a"]',
        'x = df.merge(shops)\nprint(x["a"])',
        'x = shops.merge(df, on="a")\nprint(x["b"])',
        'x = df.eval("z = a + b")\nprint(x["z"])',
        'cols = ["a"]\ncols.append("b")\nx = df[cols]',
        'cols = ["a"]\ncols += ["b"]\nx = df[cols]',
        'cols = ["a"]\nif more:\n    cols = ["a", "b"]\nx = df[cols]',
        'cols = ["a"]\nextend(cols)\nx = df[cols]',
        "y = z = None\nfor i in range(3):\n    if y is not None:\n        print(y.shape)\n    y = z\n    z = df",
        'y = None\nfor i in range(2):\n    if y is not None:\n        print(y.shape)\n    y = df\nx = df["a"]',
        'if large:\n    y = df\nelse:\n    y = df["a"]\nprint(y.sum())',
        "if large:\n    del df\nprint(df.shape)",
        'x = df.ffill(axis=1)["a"]',
        'x = df.sample(3, axis=1)\ny = df["a"]',
        'x = df.sample(3, weights="b")["a"]',
        'x = df.dropna(subset=["a"], thresh=len(df.columns))["a"]',
        'x = df.query("a > @df.shape[1]")["b"]',
        'sns.scatterplot(data=df, x="a", y="b", hue=kind)',
    ],
)
def test_what_looks_at_the_whole_table_or_cannot_be_told_is_left_alone(code: str) -> None:
    assert _used(code) is None


@pytest.mark.parametrize(
    ("call", "option", "told"),
    [
        ("pd.read_csv(path)", "usecols", ""),
        ('pd.read_csv(path, sep=";", dtype={"a": "str"})', "usecols", ""),
        ('pd.read_csv(path, parse_dates=["b"], index_col="c")', "usecols", "bc"),
        ("pd.read_csv(path, index_col=0)", "usecols", "a"),
        ("pd.read_parquet(path)", "columns", ""),
        ("pd.read_csv(path, index_col=2)", "", None),
        ("pd.read_csv(path, header=[0, 1])", "", None),
        ("pd.read_csv(path, parse_dates=[0])", "", None),
        ('pd.read_csv(path, usecols=["a"])', "", None),
        ('pd.read_csv(path, on_bad_lines="skip")', "", None),
        ("pd.read_csv(path, **options)", "", None),
        ("pd.read_csv(path, chunksize=9)", "", None),
    ],
)
def test_what_the_read_itself_needs(call: str, option: str, told: str | None) -> None:
    (read,) = find_reads(ast.parse(f"df = {call}").body)
    assert option_for_columns(read) == option
    if option:
        assert "".join(sorted(columns_told(read, COLUMNS) or ())) == told


def test_how_a_file_is_laid_out() -> None:
    def of(call: str) -> tuple[str, int, tuple[str, ...], bool] | None:
        (read,) = find_reads(ast.parse(f"df = {call}").body)
        found = layout_of(read)
        return None if found is None else (found.separator, found.skipped, found.names, found.has_header)

    assert of("pd.read_csv(path)") == (",", 0, (), True)
    assert of('pd.read_table(path, skiprows=2, encoding="latin-1")') == ("\t", 2, (), True)
    assert of('pd.read_csv(path, header=None, names=["a", "b"])') == (",", 0, ("a", "b"), False)
    assert of('pd.read_csv(path, header=0, names=["a", "b"])') == (",", 0, ("a", "b"), True)
    for call in ("path, header=None", "path, sep=None", 'path, sep="a+"', "path, skiprows=rows", "path, comment='/'"):
        assert of(f"pd.read_csv({call})") is None
    for call in ("path, names=[first, second]", "path, names=[*names]", 'path, header=0, names=["a", prefix + "b"]'):
        assert of(f"pd.read_csv({call})") is None


def test_loops_within_loops_are_soon_read() -> None:
    depth = 14
    code = "\n".join(f"{'    ' * i}for i{i} in range(2):" for i in range(depth))
    assert _used(f'{code}\n{"    " * depth}print(df["a"].sum())\nx = df["b"]') == "ab"
