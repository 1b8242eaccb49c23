"""What is made of a table's rows with pandas, as a function of a part of them."""

from __future__ import annotations

import ast
import re

import pytest

from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.frames_apart import frames_apart, with_totals_first
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain

COLUMNS = ("user", "item", "price", "day")


def _written(source: str, line: int = 1, functions: str = "", barred: tuple[str, ...] = ()) -> str | None:
    text = read_text(source)
    assert text is not None
    known = {one.name: one for one in ast.walk(ast.parse(functions)) if isinstance(one, Function)}
    found = frames_apart(text, text.tree.body, line, "df", COLUMNS, barred, known.get)
    changed = None if found is None else write_edits(text, found.edits)
    return None if changed is None else changed.source


@pytest.mark.parametrize(
    ("made", "total", "options"),
    [
        ('df.merge(items, on="item").groupby("user")["w"].median()', "", 'by="user"'),
        ('df.merge(items, on="item").groupby("kind")["w"]', ".sum()", 'agg="sum"'),
        ('df.merge(items, on="item").groupby("kind")[["w", "price"]]', ".mean()", 'agg="mean"'),
        ('df.merge(items, on="item").groupby("kind")', '.agg({"w": "max"})', 'agg={"w": "max"}'),
        ('df.merge(items, on="item").groupby("kind")["w"]', '.agg(["max", "mean"])', 'agg=["max", "mean"]'),
        ('df.merge(w, on="item").groupby("k")', '.agg(n=("w", "sum"))', 'agg={"n": ("w", "sum")}'),
        ('df.merge(df, on="user").groupby(["item_x", "item_y"])', ".size()", 'by="user", agg="size"'),
        ('df.assign(total=df["price"] * 2).groupby(["user", "day"])["total"].std()', "", 'by="day"'),
        ('df.sort_values("day").drop_duplicates("user").merge(w, on="item")["w"]', ".sum()", 'by="user", agg="sum"'),
        ('df.assign(gap=df.groupby("user")["day"].diff()).groupby("user")["gap"].median()', "", 'by="user"'),
        ('pd.merge(df, items, on="item").groupby("kind")', ".size()", 'agg="size"'),
        ('items.merge(df, on="item").groupby("kind")', ".size()", 'agg="size"'),
        ('df["item"].str.split(" ").str[-2].str.lower()', ".value_counts()", 'agg="value_counts"'),
        ('df.melt(id_vars=["user"]).merge(days, on="variable").groupby("week")["value"]', ".mean()", 'agg="mean"'),
        ('df.assign(w=df["item"].str.split()).explode("w").groupby("w")["price"]', ".mean()", 'agg="mean"'),
    ],
)
def test_rows_are_kept_together_and_put_together_as_is_needed(made: str, total: str, options: str) -> None:
    assert _written(f"y = {made}{total}") == f"y = nb_oomhelper.in_parts(lambda df: {made}, df, {options})"


def test_a_function_that_names_columns_anew_gets_whole_groups() -> None:
    body = """def prepare(t):
    numbers = [c for c in t if c.startswith("p")]
    shares = t[numbers].div(t.groupby("user")[numbers].transform("sum"))
    shares.columns = [c + "_share" for c in numbers]
    return pd.concat([t, shares], axis=1).groupby("user").agg(["mean", "std"])"""
    assert _written("y = prepare(df)\nprint(y)", functions=body) == (
        'y = nb_oomhelper.in_parts(prepare, df, by="user")\nprint(y)'
    )
    for other in ('[c if c else "user" for c in numbers]', "others", "reversed(numbers)", "[c for c in numbers]"):
        again = body.replace('[c + "_share" for c in numbers]', other)
        assert _written("y = prepare(df)\nprint(y)", functions=again) is None


def test_what_follows_a_total_is_done_with_all_of_it() -> None:
    assert _written('top = df.merge(df, on="user").groupby("item_x").size().sort_values().tail(9)') == (
        'top = nb_oomhelper.in_parts(lambda df: df.merge(df, on="user").groupby("item_x"), df, '
        'by="user", agg="size").sort_values().tail(9)'
    )


def test_several_totals_of_one_table() -> None:
    source = (
        'long = df.melt(id_vars="user").merge(days, on="variable")\n'
        'a = long.groupby("user")["value"].mean().unstack()\nb = long.groupby("week")["value"].mean()\nprint(a, b)'
    )
    for line in (1, 2, 3):
        assert _written(source, line) == (
            'def of_rows(df):\n    long = df.melt(id_vars="user").merge(days, on="variable")\n'
            '    return long.groupby("user")["value"], long.groupby("week")["value"]\n'
            'a, b = nb_oomhelper.in_parts(of_rows, df, agg="mean")\na = a.unstack()\nprint(a, b)'
        )
    assert _written(source.replace('["value"].mean()\nprint', '["value"].max()\nprint')) is None


def test_predictions_for_a_table_go_into_it() -> None:
    assert _written('df["y"] = model.predict(df[["price", "day"]])') == (
        'df["y"] = nb_oomhelper.in_parts(lambda df: model.predict(df[["price", "day"]]), df)'
    )
    assert _written("y = prepare(df)\nprint(y)", functions="def prepare(t):\n    return t.merge(items)") == (
        "y = nb_oomhelper.in_parts(prepare, df)\nprint(y)"
    )


def test_statements_up_to_where_little_is_left() -> None:
    source = (
        'n = 3\nwide = df.merge(items, how="cross")\nwide["d"] = (wide["price"] - wide["w"]).abs()\n'
        'top = (\n    wide.sort_values(["user", "d"])\n    .groupby("user")\n    .head(n)\n)\n'
        'picks = top.groupby("user")["item_x"].apply(list)\nprint(picks)'
    )
    for line in (2, 3, 5):
        assert _written(source, line) == (
            'n = 3\ndef of_rows(df):\n    wide = df.merge(items, how="cross")\n'
            '    wide["d"] = (wide["price"] - wide["w"]).abs()\n'
            '    top = (\n        wide.sort_values(["user", "d"])\n        .groupby("user")\n        .head(n)\n    )\n'
            '    return top.groupby("user")["item_x"].apply(list)\n'
            'picks = nb_oomhelper.in_parts(of_rows, df, by="user")\nprint(picks)'
        )


def test_lines_that_stood_in_brackets_stand_in_some_again() -> None:
    source = 'pairs = df.merge(df, on="user")\nmeans = (\n    pairs.groupby("user")\n    .mean()\n    .reset_index()\n)'
    assert _written(source) == (
        'def of_rows(df):\n    pairs = df.merge(df, on="user")\n    return (pairs.groupby("user")\n        .mean())\n'
        'means = (nb_oomhelper.in_parts(of_rows, df, by="user")\n    .reset_index())'
    )


def test_functions_of_the_notebook_are_read() -> None:
    function = (
        'def prepare(rows, items):\n    "One row each."\n    names = [c for c in rows if c != "day"]\n'
        '    wide = rows[names].merge(items, on="item")\n    shares = wide / wide.groupby("user").transform("sum")\n'
        '    full = pd.concat([wide, shares], axis=1)\n    return full.groupby("user").mean()'
    )
    written = 'table = nb_oomhelper.in_parts(lambda df: prepare(df, items), df, by="user")'
    assert _written("table = prepare(df, items)", functions=function) == written
    assert _written("table = prepare(df, items)", functions=function.replace("user", "w")) is None


@pytest.mark.parametrize(
    "source",
    [
        'y = df["price"] - df["price"].mean()',
        'y = df.groupby("kind")["price"].median()',
        'y = df.groupby("item")["user"].nunique().sum() + df.price.sum()',
        'y = df.sort_values("price").head(10)',
        'y = df["price"].cumsum()',
        'y = df["price"].rolling(7).mean().max()',
        'y = df.merge(items, on="item", how="outer").groupby("kind").size()',
        'y = items.merge(df, on="item", how="left").groupby("item").size()',  # all items come with each part
        'y = df.merge(df, on="kind").groupby("item_x").size()',
        'y = df.drop_duplicates().groupby("kind").size()',
        'y = df[df["price"] > df["price"].median()].groupby("user").size()',
        'y = df[df["item"].isin(df["day"])].groupby("user").size()',
        'y = df.fillna(method="ffill").groupby("kind").size()',
        'y = df.assign(z=lambda d: d.price / d.price.sum()).groupby("user").sum()',
        'y = df["item"].astype("category").to_frame().groupby("item").sum()',
        'y = df.query("price > price.mean()").groupby("kind").size()',
        'y = df[mask].groupby("kind").size()',
        'y = df.groupby("kind").agg({"price": "sum", "day": "std"})',
        'y = df.groupby("kind").agg(["sum", "max"])',
        'y = df.apply(lambda c: c.sum()).groupby("kind").size()',
        'y = df.iloc[::2].groupby("kind").size()',
        'y = df.rename(columns={"item": "user"}).groupby("user").median()',
        'df["z"] = df["price"] * 2',
        'y = df.groupby("kind", as_index=False)["price"].max()',
        'y = df.groupby("user", sort=False)["price"].median()',
        'y = df.groupby(["kind", pd.Grouper(key="day", freq="7D")])["price"].sum()',
        'y = df.merge(items, "outer", "item").groupby("kind").size()',
        'y = items.merge(df, "left").groupby("kind").size()',
        'wide = items.merge(df, how="cross")\nx = wide[wide["w"] > 1]',
        'late = df.sort_values("day")\nx = late[late["price"] > 1]',
        'tags = df["item"].str.get_dummies()\nx = tags[tags["a"] > 0]',
        'y = df["item"].str.split(" ", expand=True).sum()',
        'y = df["item"].cat.remove_unused_categories().value_counts()',
        'full = df.dropna(axis=1)\nx = full[full["price"] > 1]',
        'x = df.drop([0, 5])[["price"]]\ny = x.sum()',
        'y = df["price"].fillna(0, limit=3).sum()',
        'y = (df["price"] - df["price"].values[0]).sum()',
        'y = pd.to_datetime(df["day"], errors="coerce").value_counts()',
        'y = df.groupby(pd.cut(df["price"], bins)).size()',
        'wide = df.merge(items, on="item")\nz = wide["w"] / wide.name.nunique()\nx = z[z > 1]',
        'y = df.round(0).groupby("user")["price"].median()',
        'wide = df[["item", "price"]]\nwide.columns = ["user", "price"]\ny = wide.groupby("user")["price"].median()',
        'y = df["item"].map(lambda v: seen.setdefault(v, len(seen))).max()',
        'y = df.merge(items, on=(key := "item")).groupby("kind").size()',
        "print(f\"{df['price'].sum()}\")",
    ],
)
def test_what_looks_at_other_rows_is_left(source: str) -> None:
    assert _written(source, barred=("mask",)) is None


def test_what_belongs_to_the_rows_is_made_of_a_part_of_them() -> None:
    source = 'mask = df["price"] > 0\ny = df[mask].merge(items, on="item").groupby("kind").size()'
    assert _written(source, 2, barred=("mask",)) == (
        'def of_rows(df):\n    mask = df["price"] > 0\n'
        '    return df[mask].merge(items, on="item").groupby("kind")\n'
        'y = nb_oomhelper.in_parts(of_rows, df, agg="size")'
    )


def test_what_is_read_later_is_not_thrown_away() -> None:
    source = 'wide = df.merge(items, on="item")\ny = wide.groupby("user").mean()\nprint(wide.shape)'
    assert _written(source) is None


@pytest.mark.parametrize(
    "after",
    [
        "k = 1\ny = wide.groupby('kind').size().nlargest(k)",
        "y = wide.groupby('kind').size()\ndel wide",
        "y = wide.groupby('kind').size()\nz = items.query('item in @wide.item')",
        "y = wide.groupby('kind').size()\nprint(locals())",
        "a = wide.groupby('kind')['w'].mean()\nb = wide[wide['w'] > a.max()].groupby('week')['w'].mean()",
        "a = wide.groupby('kind')['w'].mean().head(2)\na = wide.groupby('week')['w'].mean()",
        "items = wide[wide['w'] > 1]",
    ],
)
def test_names_are_what_they_were(after: str) -> None:
    assert _written(f'wide = df.merge(items, on="item")\n{after}') is None


def test_functions_that_change_something_are_left() -> None:
    function = 'def f(v):\n    seen.append(v)\n    return v\ndef g(t):\n    items["w"] = 1\n    return t.merge(items)'
    assert _written('y = df["price"].map(f).sum()', functions=function) is None
    assert _written("y = g(df)", functions=function) is None


def test_a_function_that_gives_a_total_is_left() -> None:
    function = 'def f(t):\n    return t.merge(items).groupby("kind")["w"].sum()'
    assert _written("y = f(df)", functions=function) is None


def test_columns_are_written_as_they_are_named() -> None:
    text = read_text("y = df.groupby(\"user's\")['price'].median()")
    assert text is not None
    found = frames_apart(text, text.tree.body, 1, "df", ["user's"], (), lambda _: None)
    changed = None if found is None else write_edits(text, found.edits)
    assert changed is not None
    assert changed.source.endswith('by="user\'s")')


def test_a_changed_table_is_taken_as_it_is_then() -> None:
    source = 'df["z"] = df["price"] * 2\ny = df.merge(items, on="item").groupby("kind").size()'
    assert _written(source, 2) == (
        'df["z"] = df["price"] * 2\n'
        'y = nb_oomhelper.in_parts(lambda df: df.merge(items, on="item").groupby("kind"), df, agg="size")'
    )


def test_a_long_cell_is_read_in_few_steps() -> None:
    lines = [f'a{at} = joined(df).groupby("k{at % 9}")["x"].transform("mean")' for at in range(300)]
    text = read_text("\n".join(lines))
    assert text is not None
    joined = ast.parse("def joined(t):\n    return t.merge(items)").body[0]
    assert isinstance(joined, ast.FunctionDef)
    asked = []

    def function(name: str) -> Function | None:
        asked.append(name)
        return joined if name == "joined" else None

    frames_apart(text, text.tree.body, 150, "df", [f"k{at}" for at in range(9)], (), function)
    assert 100 < len(asked) < 5000


def test_what_stands_far_above_is_not_moved() -> None:
    source = 'a = df.merge(items, on="item")\n' + "n = 3\n" * 40 + 'y = a.groupby("kind").size()'
    assert _written(source, 42) is None


def test_a_table_as_long_is_joined_by_a_key() -> None:
    source = 'm = df.merge(other, on="user")\nres = m.groupby("user").apply(lambda g: (g["price"] * g["y"]).mean())\n'
    for line in (1, 2):
        assert _written(source, line, barred=("other",)) == (
            'def of_rows(df):\n    m = df.merge(other, on="user")\n'
            '    return m.groupby("user").apply(lambda g: (g["price"] * g["y"]).mean())\n'
            'res = nb_oomhelper.in_parts(of_rows, df, by="user")\n'
        )
    for joined in ("df.merge(other, left_index=True, right_index=True)", 'df.merge(other * 2, on="user")'):
        assert _written(source.replace('df.merge(other, on="user")', joined), barred=("other",)) is None


SPANS = """
per = df.set_index("day").groupby("user")["price"].resample("1s").mean()
per = per.interpolate().reset_index()
res = per[per["price"] > 3].groupby("user")["price"].count()
"""


def test_what_is_filled_between_spans_of_time_of_groups() -> None:
    assert (
        _written(SPANS, 3)
        == """
def of_rows(df):
    per = df.set_index("day").groupby("user")["price"].resample("1s").mean()
    assert per.iloc[[0, -1]].notna().all()
    per = per.interpolate().reset_index()
    return per[per["price"] > 3].groupby("user")["price"].count()
res = nb_oomhelper.in_parts(of_rows, df, by="user")
"""
    )
    for old, new in [
        ("interpolate()", 'interpolate(method="time")'),
        ('.resample("1s").mean()', ".rolling(3).mean()"),
        ("per.interpolate()", "per.shift().interpolate()"),
        ('"day").groupby("user")["price"]', '"day")["price"]'),
        (".resample", ".ffill().resample"),
    ]:
        changed = _written(SPANS.replace(old, new), 3)
        assert changed is None or "interpolate" not in changed.split("in_parts")[0]


TOTALS = """
z = (df - df.mean()) / df.std(ddof=0)
out = df[(z.abs() < 3).all(axis=1)]
print(len(out))
"""


@pytest.mark.parametrize("line", [2, 3])
def test_totals_of_all_rows_are_had_before(line: int) -> None:
    text = read_text(TOTALS)
    assert text is not None
    assert frames_apart(text, text.tree.body, line, "df", COLUMNS, (), lambda _: None) is None
    first = with_totals_first(text, text.tree.body, line, "df", {"df_std"})
    assert first is not None
    found = frames_apart(first[0], first[0].tree.body, first[1], "df", COLUMNS, (), lambda _: None)
    assert found is not None
    assert (
        first[0].edited(found.edits)
        == """
df_mean = df.apply(lambda column: column.mean())
df_std_ = df.apply(lambda column: column.std(ddof=0))
def of_rows(df):
    z = (df - df_mean) / df_std_
    return (z.abs() < 3).all(axis=1)
out = df[nb_oomhelper.in_parts(of_rows, df)]
print(len(out))
"""
    )


@pytest.mark.parametrize(
    "source",
    [
        "z = df - other.mean()",
        "z = df - df.mean(axis=1)",
        "z = df - df.head(5).mean()",
        "z = df.mean()",
        "z = df - df.quantile([0.1, 0.9])",
        "z = model.fit(df) - df.mean()",
    ],
)
def test_other_totals_stay(source: str) -> None:
    text = read_text(source)
    assert text is not None
    assert with_totals_first(text, text.tree.body, 1, "df", ()) is None


@pytest.mark.parametrize(
    "source",
    [
        'df["z"] = {(df["price"] - low) / (high - low) + 0.1 * df["day"]}',
        'df["clean"] = {df["item"].str.lower().str.replace(",", "").str.strip()}',
        "df[num] = {(df[num] - low) / spread}",
        "scaled = {(df[num] - low) / spread}\nprint(scaled.shape)",
        "df = {(df - low).clip(0, 1)}",
    ],
)
def test_steps_that_make_rows_of_the_table_anew_are_done_in_parts(source: str) -> None:
    before, steps, after = re.split("[{}]", source)
    assert _written(before + steps + after) == f"{before}nb_oomhelper.in_parts(lambda df: {steps}, df){after}"


@pytest.mark.parametrize(
    "source",
    [
        "z = df * 2",  # there is nothing but the result
        'df["z"] = df["price"].str.lower()',
        'df["z"] = (df["price"] - df["price"].shift(1)) * 2',  # of the row before
        'df["z"] = df[df["price"] > 0]["day"] * 2 + 1',  # of other rows than the table's
        'df[df["price"] > 0] = (df - low) / spread',
        'other["z"] = (df["price"] - low) / spread',
        'long = df.melt(id_vars="user").merge(days, on="variable")',  # it is larger than all before
    ],
)
def test_other_steps_stay(source: str) -> None:
    assert _written(source) is None


def test_steps_up_to_a_column_of_the_table() -> None:
    source = 'd = np.sin(df["day"] - 3)\na = d**2 + np.cos(df["price"])\ndf["km"] = 2 * np.sqrt(a)\nprint(df)'
    written = (
        'def of_rows(df):\n    d = np.sin(df["day"] - 3)\n    a = d**2 + np.cos(df["price"])\n'
        "    return 2 * np.sqrt(a)\n"
        'df["km"] = nb_oomhelper.in_parts(of_rows, df)\nprint(df)'
    )
    assert {_written(source, line) for line in (1, 2, 3)} == {written}
    kept = _written(f"{source}\nprint(a)", 2)
    assert kept is not None
    assert "a = nb_oomhelper.in_parts(of_rows, df)\ndf" in kept


def test_totals_of_chosen_columns_are_had_before() -> None:
    text = read_text("z = (df[num] - df[num].mean()) / 2")
    assert text is not None
    found = with_totals_first(text, text.tree.body, 1, "df", ())
    assert found is not None
    assert found[0].text == "df_num_mean = df[num].mean()\nz = (df[num] - df_num_mean) / 2"
    found = with_totals_first(text, text.tree.body, 1, "df", (), ["num"])
    assert found is not None
    assert found[0].text.startswith("df_num_mean = df[num].apply(lambda column: column.mean())\n")
    text = read_text("num = names(df)\nz = (df[num] - df[num].mean()) / 2")
    assert text is not None
    assert with_totals_first(text, text.tree.body, 2, "df", ()) is None  # which columns is told after that


def test_windows_of_all_rows_are_no_windows_of_some() -> None:
    source = "weeks = df.rolling(7)\nz = (df - weeks.mean()) / weeks.std()\nprint(z.abs().max())"
    assert _written(source, 2) is None
