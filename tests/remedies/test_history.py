"""What fixes did on this machine: kept in a file, read back as rates, and never in the way of a cell."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import Measure
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.remedies.history import append, measured_rates

pytestmark = pytest.mark.plain

EVENT = OomEvent(
    framework="pytorch", backend="cuda", exception_type="E", message="m", format="pt.cuda.capacity", phase="train"
)
FIGURES = Measure(backend="cuda")


def outcome(fix: str = "release", **facts: Any) -> Outcome:
    return Outcome(**{"fix": fix, "before": FIGURES, "after": FIGURES, "freed": None, **facts})


def test_there_is_no_file_until_something_was_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "history.sqlite"
    assert measured_rates(path) == {}
    assert not path.parent.exists()
    append(path, outcome(), EVENT, None)
    assert path.exists()


def test_every_fact_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    append(path, outcome(requested=2, predicted=3, freed=-4, fits=True), EVENT, "CUDA-OOM-001")
    append(path, outcome("other", error="NameError: x", fits=False), EVENT, None)
    with sqlite3.connect(path) as connection:
        (first, second) = connection.execute("SELECT * FROM outcome ORDER BY at").fetchall()
    assert first[1:] == ("release", "CUDA-OOM-001", "pytorch", "cuda", "train", 2, 3, -4, 1, 0)
    assert second[1:] == ("other", None, "pytorch", "cuda", "train", None, None, None, 0, 1)
    assert first[0] <= second[0]
    assert first[0] > 1_700_000_000


def test_rates(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    for fix, fits, error in [
        ("a", True, None),
        ("a", True, None),
        ("a", False, None),
        ("a", None, None),  # nobody knows: it counts for neither side
        ("a", None, "it raised"),
        ("a", True, "it raised"),  # what fits after an error is not the fix's merit
        ("b", None, None),
        ("c", False, None),
        ("d", True, None),
    ]:
        append(path, outcome(fix, fits=fits, error=error), EVENT, None)
    assert measured_rates(path) == {"a": (2, 5), "c": (0, 1), "d": (1, 1)}


def test_an_empty_file_is_a_history(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(b"")
    assert measured_rates(path) == {}
    append(path, outcome(fits=True), EVENT, None)
    assert measured_rates(path) == {"release": (1, 1)}


def other_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE outcome (x)")
    connection.close()


BROKEN = {
    "no database": lambda path: path.write_bytes(b"this is no database, and long enough to be taken for one" * 50),
    "another table": other_table,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_history_is_one_plain_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "h.sqlite"
    BROKEN[kind](path)
    for use in (lambda: append(path, outcome(), EVENT, None), lambda: measured_rates(path)):
        with pytest.raises(OomHelperError, match=r"^the history h\.sqlite cannot be used: ") as caught:
            use()
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("name", ["a\0b.sqlite", "n" * 300 + ".sqlite", "file/h.sqlite"])
def test_a_place_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OomHelperError, match="cannot be used"):
        append(tmp_path / name, outcome(), EVENT, None)


def test_reading_from_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert measured_rates(tmp_path / "file" / "h.sqlite") == {}
    with pytest.raises(OomHelperError, match="cannot be used"):
        measured_rates(tmp_path / ("n" * 300))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OomHelperError, match="cannot be used"):
        append(tmp_path / "h.sqlite", outcome(), EVENT, None)
    tmp_path.chmod(0o000)
    with pytest.raises(OomHelperError, match="cannot be used"):
        measured_rates(tmp_path / "h.sqlite")
    tmp_path.chmod(0o700)


def test_a_file_that_can_only_be_read(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    append(path, outcome(fits=True), EVENT, None)
    script = f"""
import json
from pathlib import Path
from nb_oomhelper.remedies.history import measured_rates
print(json.dumps(measured_rates(Path({str(path)!r}))))
"""
    path.chmod(0o444)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == {"release": [1, 1]}


def test_two_kernels_share_it(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    script = f"""
from pathlib import Path
from nb_oomhelper.remedies.history import append, measured_rates
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import Measure
from nb_oomhelper.records.remedy import Outcome
event = OomEvent(framework="pytorch", backend="cuda", exception_type="E", message="m", format="f")
figures = Measure(backend="cuda")
for number in range(25):
    append(Path({str(path)!r}), Outcome(fix="a", before=figures, after=figures, freed=1, fits=True), event, None)
    measured_rates(Path({str(path)!r}))
"""
    kernels = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for kernel in kernels:
        _, said = kernel.communicate(timeout=120)
        assert (kernel.returncode, said) == (0, "")
    assert measured_rates(path) == {"a": (50, 50)}


def test_the_file_is_not_kept_open(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    append(path, outcome(fits=True), EVENT, None)
    measured_rates(path)
    assert [one.name for one in tmp_path.iterdir()] == ["h.sqlite"]
    folder = Path("/proc/self/fd")
    if folder.exists():
        assert path not in {Path(os.path.realpath(one)) for one in folder.iterdir()}


def test_a_newer_table_goes_on_working(tmp_path: Path) -> None:
    """A later version may add columns, in any place; this one writes and reads those that it knows, by name."""
    path = tmp_path / "h.sqlite"
    append(path, outcome(fits=True), EVENT, None)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        rows = connection.execute("SELECT * FROM outcome").fetchall()
        connection.execute("DROP TABLE outcome")
        connection.execute(
            "CREATE TABLE outcome (ran INTEGER, at REAL NOT NULL, fix TEXT NOT NULL, entry TEXT, framework TEXT, "
            "backend TEXT, phase TEXT, requested INTEGER, predicted INTEGER, freed INTEGER, fits INTEGER, "
            "failed INTEGER NOT NULL, device TEXT NOT NULL DEFAULT '')"
        )
        connection.execute(f"INSERT INTO outcome VALUES (1, {', '.join('?' * len(rows[0]))}, 'x')", rows[0])
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    append(path, outcome(fits=False), EVENT, "CUDA-OOM-001")
    assert measured_rates(path) == {"release": (1, 2)}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
        assert connection.execute("SELECT entry, ran FROM outcome ORDER BY at").fetchall()[1] == ("CUDA-OOM-001", None)
    connection.close()


def test_a_lock_is_not_waited_for_when_a_panel_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is told to SQLite in seconds; how long it then is depends on the machine."""
    path, waits = tmp_path / "h.sqlite", []
    append(path, outcome(fits=True), EVENT, None)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        connect = sqlite3.connect

        def watched(*args: Any, **facts: Any) -> sqlite3.Connection:
            waits.append(facts["timeout"])
            connection: sqlite3.Connection = connect(*args, **facts)
            return connection

        monkeypatch.setattr(sqlite3, "connect", watched)
        with pytest.raises(OomHelperError, match="locked"):
            measured_rates(path)
        other.execute("ROLLBACK")
    other.close()
    assert waits == [0.1]
    assert measured_rates(path) == {"release": (1, 1)}
