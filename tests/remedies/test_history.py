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
from nb_oomhelper.remedies.history import append, forget, measured_rates, settle

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
    at = append(path, outcome(requested=2, predicted=3, freed=-4, fits=True), EVENT, "CUDA-OOM-001")
    append(path, outcome("other", error="NameError: x", fits=False), EVENT, None)
    with sqlite3.connect(path) as connection:
        (first, second) = connection.execute("SELECT * FROM outcome ORDER BY at").fetchall()
    assert first[1:] == ("release", "CUDA-OOM-001", "pytorch", "cuda", "train", 2, 3, -4, 1, 0, None)
    assert second[1:] == ("other", None, "pytorch", "cuda", "train", None, None, None, 0, 1, 0)
    assert at == first[0] <= second[0]
    assert first[0] > 1_700_000_000


def test_rates(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    for fix, ran, error in [
        ("a", True, None),
        ("a", True, None),
        ("a", False, None),
        ("a", None, None),  # nobody knows: it counts for neither side
        ("a", None, "ValueError: it raised"),  # no fix that fails has helped
        ("a", True, "ValueError: it raised"),
        ("a", False, "KeyboardInterrupt"),  # somebody has stopped it: that tells nothing
        ("b", None, None),
        ("c", False, None),
        ("d", True, None),
    ]:
        append(path, outcome(fix, fits=True, ran=ran, error=error), EVENT, None)
    assert measured_rates(path) == {"a": (2, 5), "c": (0, 1), "d": (1, 1)}


def test_a_request_that_fits_is_no_success(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    append(path, outcome(fits=True), EVENT, None)
    append(path, outcome(fits=False), EVENT, None)
    assert measured_rates(path) == {}


def test_what_is_known_later(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    first, second, third = (append(path, outcome(fix), EVENT, None) for fix in ("a", "a", "b"))
    settle(path, second, "a", ran=True)
    assert measured_rates(path) == {"a": (1, 1)}
    settle(path, second, "a", ran=False)  # the first run after a fix counts
    settle(path, first, "b", ran=False)  # there is none
    settle(path, third, "b", ran=False)
    assert measured_rates(path) == {"a": (1, 1), "b": (0, 1)}


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "h.sqlite"
    assert forget(path) == 0
    assert not path.parent.exists()
    append(path, outcome("a-fix-to-be-forgotten", ran=True), EVENT, None)
    append(path, outcome("b", ran=True), EVENT, None)
    assert forget(path) == 2
    assert measured_rates(path) == {}
    assert b"to-be-forgotten" not in path.read_bytes()
    append(path, outcome("c", ran=False), EVENT, None)
    assert measured_rates(path) == {"c": (0, 1)}


def test_what_is_no_history_is_not_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(OomHelperError, match="cannot be used"):
        forget(path)
    assert path.read_bytes() == b"no database" * 100


def test_an_empty_file_is_a_history(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(b"")
    assert measured_rates(path) == {}
    append(path, outcome(ran=True), EVENT, None)
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
    for use in (
        lambda: append(path, outcome(), EVENT, None),
        lambda: measured_rates(path),
        lambda: settle(path, 1.0, "release", ran=True),
    ):
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
    append(path, outcome(ran=True), EVENT, None)
    script = f"""
import json
from pathlib import Path
from nb_oomhelper.remedies.history import measured_rates
print(json.dumps(measured_rates(Path({str(path)!r}))))
"""
    path.chmod(0o444)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == {"release": [1, 1]}


def test_a_disk_without_room(tmp_path: Path) -> None:
    """SQLite is told that the file may not grow; what was there is there afterwards."""
    path = tmp_path / "h.sqlite"
    append(path, outcome(ran=True), EVENT, None)
    size = path.stat().st_size
    script = f"""
import resource
import signal
from pathlib import Path
from tests.remedies.test_history import EVENT, append, outcome
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does; a write past the limit is EFBIG
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
from nb_oomhelper.errors import OomHelperError
kept = 0
try:
    for _ in range(1000):
        append(Path({str(path)!r}), outcome(ran=True), EVENT, None)
        kept += 1
except OomHelperError as error:
    print(kept, str(error))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    kept, _, said = done.stdout.strip().partition(" ")
    assert said.startswith("the history h.sqlite cannot be used: ")
    assert measured_rates(path) == {"release": (1 + int(kept), 1 + int(kept))}
    append(path, outcome(ran=True), EVENT, None)
    assert measured_rates(path) == {"release": (2 + int(kept), 2 + int(kept))}


@pytest.mark.parametrize("version", [None, 0, 1])
def test_two_kernels_share_it(tmp_path: Path, version: int | None) -> None:
    """A new file, and one that both may bring up to this version."""
    path = tmp_path / "h.sqlite"
    if version is not None:
        of_version(path, version)
    script = f"""
from pathlib import Path
from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.remedies.history import append, measured_rates, settle
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import Measure
from nb_oomhelper.records.remedy import Outcome
event = OomEvent(framework="pytorch", backend="cuda", exception_type="E", message="m", format="f")
figures = Measure(backend="cuda")
path = Path({str(path)!r})
def patient(use, *args, **more):
    # no wait is long enough for every machine: one that was too short is told, and has changed nothing
    while True:
        try:
            return use(path, *args, **more)
        except OomHelperError as error:
            assert "locked" in str(error), error
for number in range(25):
    at = patient(append, Outcome(fix="a", before=figures, after=figures, freed=1), event, None)
    patient(settle, at, "a", ran=number % 5 > 0)
    patient(measured_rates)
"""
    kernels = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for kernel in kernels:
        _, said = kernel.communicate(timeout=120)
        assert (kernel.returncode, said) == (0, "")
    assert measured_rates(path) == {"a": (40, 50)}


def test_the_file_is_not_kept_open(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    settle(path, append(path, outcome(), EVENT, None), "release", ran=True)
    measured_rates(path)
    assert [one.name for one in tmp_path.iterdir()] == ["h.sqlite"]
    folder = Path("/proc/self/fd")
    if folder.exists():
        assert path not in {Path(os.path.realpath(one)) for one in folder.iterdir()}


OLD = """CREATE TABLE outcome (at REAL NOT NULL, fix TEXT NOT NULL, entry TEXT, framework TEXT NOT NULL,
backend TEXT NOT NULL, phase TEXT NOT NULL, requested INTEGER, predicted INTEGER, freed INTEGER, fits INTEGER,
failed INTEGER NOT NULL)"""
OLD_ROW = (1.7e9, "old", "CUDA-OOM-001", "pytorch", "cuda", "train", 2, 3, -4, 1, 0)


def of_version(path: Path, version: int) -> None:
    """Write a file as earlier versions of ours did: version 1, and before it none at all."""
    with sqlite3.connect(path) as connection:
        connection.execute(OLD)
        connection.execute(f"INSERT INTO outcome VALUES ({', '.join('?' * len(OLD_ROW))})", OLD_ROW)
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


@pytest.mark.parametrize("version", [0, 1])
class TestAnOlderFile:
    def test_is_read_as_it_is(self, tmp_path: Path, version: int) -> None:
        path = tmp_path / "h.sqlite"
        of_version(path, version)
        before = path.read_bytes()
        assert measured_rates(path) == {}
        assert path.read_bytes() == before

    @pytest.mark.parametrize("first", ["append", "settle"])
    def test_is_brought_up(self, tmp_path: Path, version: int, first: str) -> None:
        path = tmp_path / "h.sqlite"
        of_version(path, version)
        if first == "settle":
            settle(path, 1.7e9, "old", ran=True)
        else:
            append(path, outcome(ran=True), EVENT, None)
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (2,)
            rows = connection.execute("SELECT * FROM outcome ORDER BY at").fetchall()
        connection.close()
        assert rows[0] == (*OLD_ROW, 1 if first == "settle" else None)
        assert measured_rates(path) == {"old" if first == "settle" else "release": (1, 1)}

    def test_stays_as_it_is_where_that_fails(self, tmp_path: Path, version: int) -> None:
        """A text with half a character cannot be written: neither is the column, nor the version."""
        path = tmp_path / "h.sqlite"
        of_version(path, version)
        before = path.read_bytes()
        with pytest.raises(OomHelperError, match="cannot be used"):
            append(path, outcome("\ud800"), EVENT, None)
        assert path.read_bytes() == before
        append(path, outcome(ran=False), EVENT, None)
        assert measured_rates(path) == {"release": (0, 1)}


def test_a_newer_table_goes_on_working(tmp_path: Path) -> None:
    """A later version may add columns, in any place; this one writes and reads those that it knows, by name."""
    path = tmp_path / "h.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE outcome (steps INTEGER, ran INTEGER, at REAL NOT NULL, fix TEXT NOT NULL, entry TEXT, "
            "failed INTEGER NOT NULL, device TEXT NOT NULL DEFAULT '')"
        )
        connection.execute("INSERT INTO outcome VALUES (9, 1, 1.7e9, 'release', NULL, 0, 'x')")
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    at = append(path, outcome(fits=False), EVENT, "CUDA-OOM-001")
    assert measured_rates(path) == {"release": (1, 1)}
    settle(path, at, "release", ran=False)
    assert measured_rates(path) == {"release": (1, 2)}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
        rows = connection.execute("SELECT * FROM outcome ORDER BY at").fetchall()
    connection.close()
    assert rows == [(9, 1, 1.7e9, "release", None, 0, "x"), (None, 0, at, "release", "CUDA-OOM-001", 0, "")]


def test_a_newer_table_without_what_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE outcome (at REAL NOT NULL, fix TEXT NOT NULL)")
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    settle(path, append(path, outcome(ran=True), EVENT, None), "release", ran=True)
    assert measured_rates(path) == {}
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT fix FROM outcome").fetchall() == [("release",)]
    connection.close()


def test_a_lock_is_not_waited_for_when_a_panel_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is told to SQLite in seconds; how long it then is depends on the machine."""
    path, waits = tmp_path / "h.sqlite", []
    append(path, outcome(ran=True), EVENT, None)
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
