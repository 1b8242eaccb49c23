"""Tables that a cell reads from files: what is offered, from what the file's beginning tells."""

from __future__ import annotations

import ast
import os
from dataclasses import replace
from pathlib import Path

import pytest

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.cell_source import read_cell
from nb_oomhelper.remedies.places import find_places
from nb_oomhelper.remedies.table_files import path_of, read_head
from nb_oomhelper.remedies.tables_read import find_tables_read
from nb_oomhelper.source.table_reads import Layout
from nb_oomhelper.source.text_edits import write_edits
from tests.remedies.notebooks import written

pytestmark = pytest.mark.plain
pytest.importorskip("pandas")

MIB = 1 << 20
PLAIN = Layout(separator=",", skipped=0, names=(), has_header=True, encoding="utf-8-sig")
EVENT = OomEvent(
    framework="numpy", backend="host", exception_type="MemoryError", message="", format="numpy.array", certainty="sure"
)
LINES = "a,b,c,d,e\n" + '1,2.5,x,"long, and quoted",5\n' * 4000


def _found(cell: str, path: Path, shortage: Shortage, line: int = 1) -> dict[str, tuple[str, int | None]]:
    """What is offered, by its kind: the changed cell, and what is explained."""
    read = replace(written(cell, line), paths={"path": str(path)})
    found = find_tables_read(read, EVENT, shortage, find_places(read))
    changed = {one.kind: (write_edits(one.place.text, one.edits), one.explains) for one in found}
    return {kind: ("" if one is None else one.source, explains) for kind, (one, explains) in changed.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of 4000 rows."""
    found = tmp_path / "table.csv"
    found.write_text(LINES, encoding="utf-8-sig")
    return found


SHORTAGE = Shortage(needs=300 * MIB, measured=True, room=200 * MIB)


def test_columns_are_written_in_the_order_of_the_file(path: Path) -> None:
    cell = 'df = pd.read_csv(path)\nprint(df["e"].mean(), df["b"].max())'
    changed, explains = _found(cell, path, SHORTAGE)["read_columns"]
    assert changed.startswith('df = pd.read_csv(path, usecols=["b", "e"])\n')
    assert explains is not None
    assert 290 * MIB < explains < 300 * MIB
    assert _found(cell, path, SHORTAGE, line=2)["read_columns"][0] == changed
    assert "read_columns" not in _found("x = 1\n" + cell, path, SHORTAGE, line=1)  # it came later


def test_where_the_file_cannot_be_read_names_are_trusted_and_nothing_is_promised(tmp_path: Path) -> None:
    cell = 'df = pd.read_csv(path)\nprint(df["e"].mean(), df["b"].max())'
    assert _found(cell, tmp_path / "none.csv.gz", SHORTAGE) == {
        "read_columns": (cell.replace("path)", 'path, usecols=["b", "e"])', 1), None),
        "read_in_parts": (_found(cell, tmp_path / "none.csv.gz", SHORTAGE)["read_in_parts"][0], None),
    }


@pytest.mark.parametrize(
    "lines",
    [LINES.replace("a,b,c,d,e", "b,c,d,e"), LINES.replace("a,b", "b,b"), LINES + "1,2,3,4,5,6\n", "a,b,c,d,e\n1,2\n"],
    ids=["rows with names", "twice the same", "late", "short"],
)
def test_a_file_of_another_form_is_left_alone(path: Path, lines: str) -> None:
    path.write_text(lines)
    odd = lines.count("\n") < 4000 or not lines.endswith("6\n")
    assert bool(_found('df = pd.read_csv(path)\nprint(df["e"].mean())', path, SHORTAGE)) != odd


def test_what_is_open_goes_on_where_it_stands(path: Path) -> None:
    cell = 'df = pd.read_csv(path)\nx = df.groupby("a").size()'
    assert len(_found(cell, path, SHORTAGE)) == 2
    assert not _found(cell.replace("path", "handle"), path, SHORTAGE)
    assert "read_columns" not in _found(cell + '\npath = "other.csv"', path, SHORTAGE)


def test_a_mark_before_the_first_column_is_none_of_its_name(path: Path) -> None:
    cell = 'df = pd.read_csv(path, encoding="utf-8", index_col=0)\nx = df["e"].mean()'
    assert 'usecols=["a", "e"]' in _found(cell, path, SHORTAGE)["read_columns"][0]


def test_what_is_nearly_all_of_the_table_is_not_worth_it(path: Path) -> None:
    cell = 'df = pd.read_csv(path)\nx = df["c"].max(), df["d"].max(), df["a"].max()'
    assert "read_columns" not in _found(cell, path, SHORTAGE)


def test_parts_are_as_large_as_there_is_room_for(path: Path) -> None:
    path.write_text(LINES * 60)
    cell = 'df = pd.read_csv(path)\nx = df.groupby("a").size()'
    sizes = {}
    for room in (1000, 100, 30, 1):
        found = _found(cell, path, replace(SHORTAGE, room=room * MIB)).get("read_in_parts", ("", None))
        sizes[room] = found[0].partition("chunksize=")[2].partition(")")[0]
    assert sizes == {1000: "100_000", 100: "50_000", 30: "20_000", 1: ""}


def test_lines_are_counted_as_ipython_does_from_the_first_that_is_not_empty() -> None:
    cell = read_cell("\n  \ndf = 1\n\nx = 2")
    assert cell is not None
    assert [one.lineno for one in cell.tree.body] == [1, 3]


def test_a_name_that_something_else_has_is_left_alone(path: Path) -> None:
    cell = 'df = pd.read_csv(path)\nx = df.groupby("a").size()'
    for names in ({"df"}, {"read_df"}):
        read = replace(written(cell, 1), paths={"path": str(path)}, names=frozenset(names))
        found = find_tables_read(read, EVENT, SHORTAGE, find_places(read))
        assert "read_in_parts" not in {one.kind for one in found}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("'a/b.csv'", "a/b.csv"),
        ("path", "data/x.csv"),
        ("folder / 'b.csv'", "data/b.csv"),
        ("f'{folder}/b.csv'", "data/b.csv"),
        ("folder + '/b.csv'", "data/b.csv"),
        ("os.path.join(folder, 'a', 'b.csv')", "data/a/b.csv"),
        ("Path(folder) / 'b.csv'", "data/b.csv"),
        ("files[0]", None),
        ("folder / name", None),
        ("'https://example.com/b.csv'", None),
        ("find(folder)", None),
        ("f'{folder:>9}/b.csv'", None),
        ("'~nobody-of-that-name/b.csv'", None),
        ("'//server/share/b.csv'", None),
        (r"'\\\\server\\share\\b.csv'", None),
    ],
)
def test_which_file_is_meant(code: str, told: str | None) -> None:
    found = path_of(ast.parse(code, mode="eval").body, {"path": "data/x.csv", "folder": "data"})
    assert found == (None if told is None else str(Path(told)))


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path, path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert read_head(str(tmp_path / "pipe.csv"), PLAIN) is None
    assert read_head(str(tmp_path), PLAIN) is None
    assert read_head(str(path) + ".gz", PLAIN) is None
    assert read_head(str(path), replace(PLAIN, encoding="none")) is None
    head = read_head(str(path), PLAIN)
    assert head is not None
    assert head.columns == tuple("abcde")
    assert 3000 < head.rows < 5000


@pytest.mark.parametrize("brackets", ["[]", "()"])
def test_columns_of_each_of_several_files(path: Path, brackets: str) -> None:
    read = "pd.read_csv(f) for f in files"
    cell = (
        f'df = pd.concat({brackets[0]}{read}{brackets[1]})\ndf["x"] = df["b"] * 2\nprint(df.groupby("e")["x"].mean())'
    )
    assert _found(cell, path, SHORTAGE) == {"read_columns": (cell.replace("(f)", '(f, usecols=["b", "e"])'), None)}
    assert _found(cell.replace("print(", "print(df.shape, "), path, SHORTAGE) == {}
    assert _found(cell.replace(")\ndf", ", keys=names)\ndf", 1), path, SHORTAGE) == {}
    assert _found(cell.replace("files", "files for k in (1, 2)"), path, SHORTAGE) == {}
