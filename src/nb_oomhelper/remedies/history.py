"""What fixes did on this machine: outcomes are appended, and read back as measured rates.

The file is opened for each call and closed again, so that several kernels can share it and none keeps it
open. A file that cannot be used is an `OomHelperError` for the caller to show: no cell depends on it.
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

_VERSION = 1  # PRAGMA user_version; a later one may have more columns, and these keep their names and meanings
_WAIT = 1.0  # seconds that an outcome waits for another kernel's
_GLANCE = 0.1  # seconds that a panel waits for the rates beside its fixes
_SCHEMA = """
CREATE TABLE IF NOT EXISTS outcome (
    at REAL NOT NULL,            -- seconds since the epoch
    fix TEXT NOT NULL,
    entry TEXT,                  -- code of the entry that matched, or NULL
    framework TEXT NOT NULL,
    backend TEXT NOT NULL,
    phase TEXT NOT NULL,
    requested INTEGER,           -- bytes
    predicted INTEGER,           -- bytes
    freed INTEGER,               -- bytes
    fits INTEGER,                -- 1, 0 or NULL for unknown
    failed INTEGER NOT NULL      -- 1 where the fix itself raised an error
)
"""


def append(path: Path, outcome: Outcome, event: OomEvent, entry: str | None) -> None:
    """Add one outcome.

    Args:
        path: The history's file; it and its folder are made where they are missing.
        outcome: What a fix did.
        event: What had failed.
        entry: Code of the entry that matched, or None.

    Raises:
        OomHelperError: The file cannot be written or is no history.
    """
    row = {
        "at": time.time(),
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
    }
    with _open(path, _WAIT) as connection:
        if not _is_there(connection):
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        names, blanks = ", ".join(row), ", ".join(f":{name}" for name in row)
        connection.execute(f"INSERT INTO outcome ({names}) VALUES ({blanks})", row)


def measured_rates(path: Path) -> dict[str, tuple[int, int]]:
    """Count for each fix how often the request fitted afterwards, and of how many outcomes that tell.

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
    query = "SELECT fix, SUM(fits AND NOT failed), COUNT(*) FROM outcome WHERE fits IS NOT NULL OR failed GROUP BY fix"
    with _open(path, _GLANCE) as connection:
        if not _is_there(connection):  # an empty file
            return {}
        return {fix: (int(good or 0), int(total)) for fix, good, total in connection.execute(query)}


def _is_there(connection: sqlite3.Connection) -> bool:
    """Whether the table is; to ask for it takes no lock that another kernel's writing could hold for long."""
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'outcome'").fetchall())


@contextmanager
def _open(path: Path, wait: float) -> Iterator[sqlite3.Connection]:
    connection = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=wait)
        with connection:
            yield connection
    except (sqlite3.Error, OSError, ValueError) as error:  # ValueError: no system has such a name
        raise _unusable(path, error) from None
    finally:
        if connection is not None:
            connection.close()


def _unusable(path: Path, error: Exception) -> OomHelperError:
    return OomHelperError(f"the history {path.name} cannot be used: {error}")
