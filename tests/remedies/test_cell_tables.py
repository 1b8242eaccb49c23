"""The tables that a cell's names stand for."""

from __future__ import annotations

import pytest

from nb_oomhelper.remedies.cell_tables import find_complete

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.plain
FITS = "y = scaler.fit_transform(x)"


def test_tables_in_which_no_number_is_missing() -> None:
    pd = pytest.importorskip("pandas")
    gap = np.ones((50, 3))
    gap[:20, 1] = np.nan  # a sensor that begins late
    names = {
        "whole": np.ones((50, 3)),
        "gap": gap,
        "counts": np.ones(9, int),
        "texts": np.array(["a"]),
        "none": gap[:0],
    }
    names |= {
        "table": pd.DataFrame(names["whole"]),
        "table_gap": pd.DataFrame(gap),
        "named": pd.DataFrame({"a": ["x"]}),
    }
    assert find_complete(names, FITS) == {"whole", "counts", "table"}
    assert find_complete(names, "y = x.sum()") == frozenset()
