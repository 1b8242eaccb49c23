"""What was predicted and what was measured: the kept run, the table in the documents, and how a row is judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.prediction import report
from benchmarks.prediction.situations import MACHINES, SITUATIONS

pytestmark = pytest.mark.plain

ROOT = Path(__file__).parents[1]
(RESULT,) = sorted((ROOT / "benchmarks" / "prediction" / "results").glob("*-played.json"))[-1:]
ROWS = json.loads(RESULT.read_text("utf-8"))["rows"]
MIB = 1 << 20
ROW = {
    "fits": True,
    "measured_fits": True,
    "freed": 5 * MIB,
    "measured_freed": 5 * MIB,
    "driver": 0,
    "measured_driver": 0,
}


def test_the_kept_run_is_whole_and_no_verdict_in_it_was_false() -> None:
    assert {row["machine"] for row in ROWS} == set(MACHINES)
    assert {row["situation"] for row in ROWS if row["machine"] == "2 GiB"} == set(SITUATIONS)
    assert len({(row["machine"], row["situation"]) for row in ROWS}) >= 40
    false = {(row["machine"], row["situation"], what) for row in ROWS for what in report.judge(row)}
    assert false <= {
        ("cudaMallocAsync", "odd sizes", what) for what in ("bytes", "driver's bytes")
    }  # whole pages there
    assert "/home/" not in RESULT.read_text("utf-8")


def test_the_documents_table_is_that_of_the_kept_run() -> None:
    assert report.table(ROWS) in (ROOT / "docs" / "predictions.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("changes", "false"),
    [
        ({}, []),
        ({"measured_fits": False}, ["false ✓"]),
        ({"fits": False}, ["false ✗"]),
        ({"fits": None, "measured_fits": False}, []),
        ({"measured_freed": 7 * MIB}, []),
        ({"measured_freed": 7 * MIB + 1}, ["bytes"]),
        ({"freed": None, "driver": 9 * MIB}, []),
        ({"driver": 1000 * MIB, "measured_driver": 1009 * MIB}, []),
        ({"driver": 1000 * MIB, "measured_driver": 990 * MIB}, ["driver's bytes"]),
    ],
)
def test_what_is_false_of_a_row(changes: dict[str, Any], false: list[str]) -> None:
    assert report.judge(ROW | changes) == false
