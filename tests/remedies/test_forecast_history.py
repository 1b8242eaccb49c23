"""How near forecasts came is kept beside the outcomes, and forgotten with them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.records.forecast import Band
from nb_oomhelper.remedies.forecast_history import keep
from nb_oomhelper.remedies.history import forget, measured_rates

pytestmark = pytest.mark.plain


def band(likely: int) -> Band:
    return Band(low=likely - 1, likely=likely, high=likely + 1)


def test_near_is_counted_and_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    counts = [keep(path, band(size), 100, 0.05) for size in (95, 106, 101, 94)]
    assert counts == [(1, 0, 1), (1, 0, 2), (2, 1, 3), (2, 1, 4)]
    assert measured_rates(path) == {}
    assert forget(path) == 0  # outcomes; forecasts go with them
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT COUNT(*) FROM forecast").fetchone() == (0,)
    connection.close()
    assert keep(path, band(100), 100, 0.05) == (1, 1, 1)


def test_a_later_versions_table_works_on(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    keep(path, band(100), 100, 0.05)
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE forecast ADD COLUMN device TEXT")
    connection.close()
    assert keep(path, band(100), 100, 0.05) == (2, 2, 2)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_text("something else, for long enough that nobody takes it for an empty file" * 10)
    with pytest.raises(OomHelperError, match="cannot be used"):
        keep(path, band(1), 1, 0.05)
