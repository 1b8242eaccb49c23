"""What an outcome costs to keep: `python -m benchmarks.history`, beside a plain INSERT by sqlite3 in the same run.

Both write to files with 100,000 rows, in turn, each in a connection of its own, and in a transaction that is on disk
when it ends. Times are medians, in milliseconds.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import Measure
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.remedies import history

ROWS, REPEATS = 100_000, 200
_EVENT = OomEvent(framework="pytorch", backend="cuda", exception_type="E", message="m", format="pt.cuda.capacity")
_FIGURES = Measure(backend="cuda")
_OUTCOME = Outcome(fix="release-failed-cell", before=_FIGURES, after=_FIGURES, freed=1 << 30, ran=True)


def main() -> None:
    """Measure, and print one line each."""
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = (_filled(Path(folder) / name) for name in ("ours.sqlite", "plain.sqlite"))
        uses: dict[str, Callable[[], object]] = {
            "history.append": lambda: history.append(ours, _OUTCOME, _EVENT, None),
            "plain INSERT": lambda: _insert(plain),
            "history.measured_rates": lambda: history.measured_rates(ours),
        }
        took: dict[str, list[float]] = {name: [] for name in uses}
        for _ in range(REPEATS):
            for name, use in uses.items():
                started = time.perf_counter()
                use()
                took[name].append(1000 * (time.perf_counter() - started))
    print(f"{ROWS} rows, {REPEATS} times, SQLite {sqlite3.sqlite_version}")
    for name, times in took.items():
        print(f"{name:<24}{statistics.median(times):8.2f} ms")


def _filled(path: Path) -> Path:
    history.append(path, _OUTCOME, _EVENT, None)
    with closing(sqlite3.connect(path)) as connection, connection:
        row = connection.execute("SELECT * FROM outcome").fetchone()
        blanks = ", ".join("?" * len(row))
        connection.executemany(f"INSERT INTO outcome VALUES ({blanks})", (row for _ in range(ROWS - 1)))
    return path


def _insert(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO outcome (at, fix, framework, backend, phase, failed) VALUES (?, ?, ?, ?, ?, ?)",
            (time.time(), "release-failed-cell", "pytorch", "cuda", "unknown", 0),
        )


if __name__ == "__main__":
    main()
