"""What a cell makes of a file's table, written for its parts."""

from __future__ import annotations

import ast

import pytest

from nb_oomhelper.source.reads_apart import reads_apart
from nb_oomhelper.source.table_reads import can_be_parted, find_reads
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain

READ = "df = pd.read_csv(path)\n"
READER = "def read_df():\n    return pd.read_csv(path, chunksize=5_000)\n"


def _written(code: str) -> str | None:
    text = read_text(READ + code)
    assert text is not None
    (read,) = find_reads(text.tree.body)
    found = reads_apart(text, read, 5000, {"weights"}, lambda _: None)
    changed = None if found is None else write_edits(text, found.edits)
    return None if changed is None else changed.source.removeprefix(READER)


def _parts(code: str, agg: str) -> str:
    return f"nb_oomhelper.in_parts(lambda df: {code}, read_df(){agg})"


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ('y = df.groupby("a").mean()', "y = " + _parts('df.groupby("a")', ', agg="mean"')),
        ("print(df.isna().sum().sum())", "print(" + _parts("df.isna()", ', agg="sum"') + ".sum())"),
        ('y["n"] = df.groupby("a").size()', 'y["n"] = ' + _parts('df.groupby("a")', ', agg="size"')),
        (
            'y = df.groupby("a")["b"].agg(["sum", "max"]).reset_index()',
            "y = " + _parts('df.groupby("a")["b"]', ', agg=["sum", "max"]') + ".reset_index()",
        ),
        (
            'late = df[df["b"] > 3]\nprint(late.shape)',
            "late = " + _parts('df[df["b"] > 3]', "") + "\nprint(late.shape)",
        ),
        ('top = df["a"].value_counts().head(3)', "top = " + _parts('df["a"]', ', agg="value_counts"') + ".head(3)"),
        ("print(len(df), df.shape[0])", "print(sum(map(len, read_df())), sum(map(len, read_df())))"),
        ("print(df.shape)", "print((sum(map(len, read_df())), next(read_df()).shape[1]))"),
        ('df = df.groupby("a").sum()\ndf', "df = " + _parts('df.groupby("a")', ', agg="sum"') + "\ndf"),
        (
            "print(f\"{len(df):,} {df['b'].sum():.1f}\")",
            'print(f"{sum(map(len, read_df())):,} {' + _parts("df['b']", ", agg='sum'") + ':.1f}")',
        ),
        (
            'n = 3\ndf["r"] = df["a"] * n\ndf = df[df["r"] > 0]\ny = (\n    df.groupby("b")["r"]\n    .sum()\n)\nz = n',
            'n = 3\ndef of_rows(df):\n    df["r"] = df["a"] * n\n    df = df[df["r"] > 0]\n'
            '    return df.groupby("b")["r"]\n'
            'y = (\n    nb_oomhelper.in_parts(of_rows, read_df(), agg="sum")\n)\nz = n',
        ),
    ],
)
def test_each_result_is_a_pass_over_the_file(code: str, written: str) -> None:
    found = _written(code)
    assert found is not None
    assert _plain(found) == _plain(written)


def _plain(code: str) -> str:
    """Code whose quotes are those of this Python: from 3.12 on texts may have them in their fields as well."""
    return ast.unparse(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "df.head()",
        "print(df)",
        "print(df.describe())",
        'y = df["a"].median()',
        'y = df["a"].nunique()',
        'y = df["a"] - df["a"].mean()\nprint(y.sum())',
        'y = df.sort_values("a").head(3)',
        'y = df[df["a"] > df["a"].mean()]',
        'y = df[df["a"] > weights]',
        'df["r"] = df["a"].cumsum()\ny = df["r"].sum()',
        'for k in ["a", "b"]:\n    print(df[k].sum())',
        'y = {k: df[k].sum() for k in "ab"}',
        "y = df['a'].sum() if q else 0",
        'path = "other.csv"\ny = df["a"].sum()',
        'out.append(df["a"].sum())',
        'df.groupby("a").sum().to_csv("x.csv")',
        'y = prepare(df).groupby("a").size()',
        'y = df.groupby("a").sum()\nprint(df.head())',
        'df = df[df["a"] > 0]\nprint(len(df))',
        'y = df.query("a > 1")["b"].sum()\nread_df = 3',
        "\n".join(f'y{n} = df["a"].sum()' for n in range(9)),
        "x = 1",
    ],
)
def test_what_needs_all_rows_at_once_is_left_alone(code: str) -> None:
    assert _written(code) is None


@pytest.mark.parametrize(
    ("call", "fits"),
    [
        ("pd.read_csv(path)", True),
        ('pd.read_csv(path, parse_dates=["t"])', False),
        ('pd.read_csv(path, parse_dates=["t"], date_format="%d.%m.%Y")', True),
        ('pd.read_csv(path, dtype={"a": "category"})', False),
        ('pd.read_csv(path, engine="pyarrow")', False),
        ("pd.read_parquet(path)", False),
        ("pd.read_csv(path, nrows=9)", False),
        ("pd.read_csv(path, chunksize=9)", False),
        ("pd.read_csv(path, **more)", False),
        ('pd.read_csv(path, usecols=["a", "b"], skiprows=3)', True),
    ],
)
def test_which_files_can_be_read_in_parts(call: str, fits: bool) -> None:
    (read,) = find_reads(ast.parse(f"df = {call}").body)
    assert can_be_parted(read) == fits
