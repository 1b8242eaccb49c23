"""What fixes did on this machine: outcomes are appended, and read back as measured rates.

The file is opened for each call and closed again, so that several kernels can share it and none keeps it
open. A file that cannot be used is an `OomHelperError` for the caller to show: no cell depends on it.

Files of earlier versions get the columns that they lack, with nothing in them, when the next outcome is kept. Those of
a later version stay as they are: what they have of these columns is written and read, by name.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Outcome

_VERSION = 2  # PRAGMA user_version; a later one may have more columns, and these keep their names and meanings
_WAIT = 1.0  # seconds that an outcome waits for another kernel's
_GLANCE = 0.1  # seconds that a panel waits for the rates beside its fixes
_COLUMNS = {
    "at": "REAL NOT NULL",  # seconds since the epoch
    "fix": "TEXT NOT NULL",
    "entry": "TEXT",  # code of the entry that matched, or NULL
    "framework": "TEXT NOT NULL",
    "backend": "TEXT NOT NULL",
    "phase": "TEXT NOT NULL",
    "requested": "INTEGER",  # bytes
    "predicted": "INTEGER",  # bytes
    "freed": "INTEGER",  # bytes
    "fits": "INTEGER",  # 1 where the failed request would fit then, 0, or NULL for unknown
    "failed": "INTEGER NOT NULL",  # 1 where the fix itself raised an error
    "ran": "INTEGER",  # 1 where the failed cell then ran to its end, 0, or NULL for unknown; since version 2
}
_NEEDED = {"at", "fix"}  # of any version: what else would an outcome be?


def append(path: Path, outcome: Outcome, event: OomEvent, entry: str | None) -> float:
    """Add one outcome.

    Args:
        path: The history's file; it and its folder are made where they are missing.
        outcome: What a fix did.
        event: What had failed.
        entry: Code of the entry that matched, or None.

    Returns:
        Its moment, in seconds since the epoch: with that `settle` finds it again.

    Raises:
        OomHelperError: The file cannot be written or is no history.
    """
    at = time.time()
    row = {
        "at": at,
        "fix": outcome.fix,
        "entry": entry,
        "framework": event.framework,
        "backend": event.backend,
        "phase": event.phase,
        "requested": outcome.requested,
        "predicted": outcome.predicted,
        "freed": outcome.freed,
        "fits": outcome.fits,
        "failed": outcome.error is not None,
        "ran": outcome.helped,
    }
    with opened(path, _WAIT, write=True) as connection:
        known = [name for name in row if name in _brought_up(connection)]
        blanks = ", ".join(f":{name}" for name in known)
        connection.execute(f"INSERT INTO outcome ({', '.join(known)}) VALUES ({blanks})", row)
    return at


def settle(path: Path, at: float, fix: str, ran: bool) -> None:
    """Add to an outcome whether the failed cell then ran to its end, where that is not known yet.

    Args:
        path: The history's file.
        at: The outcome's moment, as `append` gave it.
        fix: Id of the fix.
        ran: Whether the cell ran to its end.

    Raises:
        OomHelperError: The file cannot be written or is no history.
    """
    with opened(path, _WAIT, write=True) as connection:
        if "ran" in _brought_up(connection):
            connection.execute("UPDATE outcome SET ran = ? WHERE at = ? AND fix = ? AND ran IS NULL", (ran, at, fix))


def measured_rates(path: Path) -> dict[str, tuple[int, int]]:
    """Count for each fix how often the failed cell ran afterwards, and of how many outcomes that is known.

    Returns:
        Fix id -> (n, m), "n of m"; empty where there is no history yet.

    Raises:
        OomHelperError: The file cannot be read or is no history.
    """
    try:
        if not path.exists():
            return {}
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise _unusable(path, error) from None
    query = "SELECT fix, SUM(ran != 0), COUNT(ran) FROM outcome WHERE ran IS NOT NULL GROUP BY fix"
    with opened(path, _GLANCE) as connection:
        if "ran" not in _columns(connection):  # an empty file, or one of an earlier version: nothing was measured
            return {}
        return {fix: (int(good), int(total)) for fix, good, total in connection.execute(query)}


def forget(path: Path) -> int:
    """Delete all outcomes; the file stays, for other kernels may be writing to it.

    Args:
        path: The history's file.

    Returns:
        How many there were.

    Raises:
        OomHelperError: The file cannot be written or is no history.
    """
    try:
        if not path.exists():
            return 0
    except OSError as error:
        raise _unusable(path, error) from None
    with opened(path, _WAIT, write=True) as connection:
        connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is not to be found in the file
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE name = 'forecast'").fetchall():
            connection.execute(f"DELETE FROM {table}")
        return connection.execute("DELETE FROM outcome").rowcount if _columns(connection) else 0


def _columns(connection: sqlite3.Connection) -> set[str]:
    """The table's columns, by name; none where there is no table."""
    found = {row[1] for row in connection.execute("PRAGMA table_info(outcome)")}
    if found and not found >= _NEEDED:
        raise sqlite3.DatabaseError("its table is another one")
    return found


def _brought_up(connection: sqlite3.Connection) -> set[str]:
    """The table's columns, once it is there and, if it is of an earlier version, has all of this one's."""
    found = _columns(connection)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if found and version >= _VERSION:
        return found
    if not found:
        connection.execute(f"CREATE TABLE outcome ({', '.join(' '.join(one) for one in _COLUMNS.items())})")
    for name in _COLUMNS.keys() - found if found else ():
        connection.execute(f"ALTER TABLE outcome ADD COLUMN {name} {_COLUMNS[name].removesuffix(' NOT NULL')}")
    connection.execute(f"PRAGMA user_version = {max(version, _VERSION)}")
    return found | _COLUMNS.keys()


@contextmanager
def opened(path: Path, wait: float, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """The file's connection; what is written through it is written in one transaction, or not at all.

    Args:
        path: The history's file.
        wait: Seconds that another kernel's transaction is waited for.
        write: Whether something is to be written.

    Raises:
        OomHelperError: The file cannot be used.
    """
    connection = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=wait, isolation_level=None)
        if write:
            connection.execute("BEGIN IMMEDIATE")
        yield connection
        if write:
            connection.execute("COMMIT")
    except (sqlite3.Error, OSError, ValueError) as error:  # ValueError: no system has such a name
        raise _unusable(path, error) from None
    finally:
        if connection is not None:
            connection.close()  # what was not committed is rolled back


def _unusable(path: Path, error: Exception) -> OomHelperError:
    return OomHelperError(f"the history {path.name} cannot be used: {error}")
