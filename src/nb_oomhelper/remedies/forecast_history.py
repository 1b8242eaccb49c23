"""How near forecasts came to what was then measured on this machine: a table of its own in the history."""

from __future__ import annotations

import time
from pathlib import Path

from nb_oomhelper.records.forecast import Band
from nb_oomhelper.remedies.history import opened

_WAIT = 1.0  # seconds
_NEWEST = 100
_COLUMNS = "at REAL NOT NULL, low INTEGER, likely INTEGER, high INTEGER, real INTEGER"


def keep(path: Path, expected: Band, real: int, within: float) -> tuple[int, int, int]:
    """Add what was expected and what was measured.

    Args:
        path: The history's file.
        expected: Bytes allocated at the peak.
        real: The same, measured.
        within: A share: how near counts as near.

    Returns:
        (n, b, m): of the m newest n were as near as that, and b within their band, this one included.

    Raises:
        OomHelperError: The file cannot be used.
    """
    with opened(path, _WAIT, write=True) as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS forecast ({_COLUMNS})")
        row = (time.time(), expected.low, expected.likely, expected.high, real)
        connection.execute("INSERT INTO forecast (at, low, likely, high, real) VALUES (?, ?, ?, ?, ?)", row)
        query = "SELECT low, likely, high, real FROM forecast ORDER BY at DESC LIMIT ?"
        newest = connection.execute(query, (_NEWEST,)).fetchall()
    near = sum(abs(likely - measured) <= within * measured for _, likely, _, measured in newest)
    return near, sum(low <= measured <= high for low, _, high, measured in newest), len(newest)
