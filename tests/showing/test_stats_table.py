"""`%oom stats`: claimed, suites, here, never mixed."""

from __future__ import annotations

import json

import pytest

from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.showing.stats_table import below, table, to_json

pytestmark = pytest.mark.plain

CATALOG = load_catalog()
HERE = {"delete-variable": (3, 4), "gone-since": (0, 1)}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_figure_has_its_column(language: str) -> None:
    columns, rows = table(CATALOG, HERE, language)  # type: ignore[arg-type]
    assert {len(row) for row in rows} == {len(columns)}
    by_fix = {row[0]: row[1:] for row in rows}
    assert "3" in by_fix["delete-variable"][-1]
    assert "(30–95 %)" in by_fix["delete-variable"][-1].replace("（", "(").replace("）", ")")
    assert by_fix["gone-since"][:-1] == ("–",) * (len(columns) - 2)
    assert any("95 % (CUDA-OOM-001)" in claimed for claimed, *_ in by_fix.values())
    assert len(below(language)) == len(columns) - 2  # type: ignore[arg-type]


def test_for_programs() -> None:
    rows = {row["fix"]: row for row in json.loads(to_json(CATALOG, HERE))["fixes"]}
    assert rows["delete-variable"]["here"] == {"ran": 3, "n": 4, "low": 0.3006, "high": 0.9544}
    assert rows["reload-offload"]["claimed"] == [{"entry": "CUDA-OOM-001", "rate": 0.95}]
    assert rows["gone-since"] == {"fix": "gone-since", "claimed": [], "suites": [], "here": rows["gone-since"]["here"]}
    assert {one["suite"] for one in rows["release-failed-cell"]["suites"]} == {"advice", "recovery"}
