"""The notebooks, top to bottom as they stand, and what their cells must show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nb_oomhelper.showing.case_record import MIME
from tests.kernel.cells import VIEW
from tests.kernel.models import need_models
from tests.kernel.notebooks import NOTEBOOKS, find, printed, run

pytestmark = pytest.mark.kernel

LOAD = "model = AutoModelForCausalLM.from_pretrained("


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The quickstart's code cells after they ran."""
    pytest.importorskip("torch")
    return run("quickstart", tmp_path_factory.mktemp("notebook"))


@pytest.fixture(scope="module")
def reload_cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Those of the notebook about loading a model."""
    need_models()
    return run("reload", tmp_path_factory.mktemp("notebook"))


def test_only_the_cell_that_dies_fails(cells: list[Any]) -> None:
    failed = [cell.source for cell in cells if any(output.output_type == "error" for output in cell.outputs)]
    assert failed == ["train_step(1.1)"]
    assert all(cell.execution_count for cell in cells)


def test_it_dies_with_a_panel_that_survives_without_its_kernel(cells: list[Any]) -> None:
    error, panel, view = find(cells, "train_step(1.1)").outputs
    assert error.ename in ("RuntimeError", "OutOfMemoryError")
    assert list(panel.data) == ["text/html", "text/plain", MIME]
    assert list(view.data) == [VIEW]
    assert panel.data[MIME]["event"]["backend"] == "host"
    assert "batch" in panel.data["text/plain"]
    assert "outputs" in panel.data["text/plain"]
    assert "Release the failed cell" in panel.data["text/html"]
    assert "Nothing here makes this cell run. It needs at least" in panel.data["text/plain"]
    assert "✗ Unchanged, the cell needs at least" in panel.data["text/plain"]  # the report is kept up to date


def test_collecting_does_not_help_and_releasing_does(cells: list[Any]) -> None:
    (collected,) = [cell for cell in cells if "gc.collect()" in cell.source]
    assert printed(collected).startswith("still out of memory: ")
    released = printed(find(cells, "%oom fix 1"))
    assert released.startswith("Release the failed cell: freed 2.2")
    assert "enough for the failed request" in released
    (value,) = find(cells, "train_step(0.8)").outputs
    assert value.output_type == "execute_result"


def test_the_rest_shows_what_it_says(cells: list[Any]) -> None:
    (table,) = find(cells, "%gpumem").outputs
    assert set(table.data) == {"text/plain", "text/html"}
    (metered,) = [cell for cell in cells if cell.source.startswith("%%gpumem")]
    assert "peak" in printed(metered)
    (entry,) = find(cells, "%oom entry CUDA-OOM-001").outputs
    assert entry.data["text/plain"].startswith("# CUDA-OOM-001")


class TestReload:
    def test_only_the_load_fails(self, reload_cells: list[Any]) -> None:
        failed = [cell for cell in reload_cells if any(output.output_type == "error" for output in cell.outputs)]
        assert [cell.source.startswith(LOAD) for cell in failed] == [True]
        (error,) = [output for output in failed[0].outputs if output.output_type == "error"]
        assert error.ename in ("RuntimeError", "OutOfMemoryError")
        panel = next(
            output for output in failed[0].outputs if "text/html" in output.get("data", {})
        )  # not its progress
        changed = re.escape("\n".join(f"       | {line}" for line in failed[0].source.splitlines()))
        assert re.search(changed.replace("float64", "b?float16"), panel.data["text/plain"])

    def test_the_first_fix_loads_it(self, reload_cells: list[Any]) -> None:
        told = printed(find(reload_cells, "%oom fix 1 --yes"))
        assert "in 16 bits: freed" in told
        assert re.search(r"`model` is placed on: (host|GPU) 493\sMiB \(planned: \1 493\sMiB\)\.", told)
        (used,) = [cell for cell in reload_cells if cell.source.startswith("with torch.no_grad()")]
        assert printed(used).endswith("float16 (1, 3, 8000) [0.91, 0.93]\n")

    def test_nothing_is_stored(self) -> None:
        for path in NOTEBOOKS.glob("*.ipynb"):
            cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
            assert [cell for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.thorough
def test_the_batch_that_a_forecast_names_runs(tmp_path: Path) -> None:
    need_models()
    cells = run("forecast", tmp_path)
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    before = printed(find(cells, "%oom forecast --yes train_step(batch)"))
    assert before.startswith("✗ `train_step(batch)` will not fit on ")
    assert re.search(r"a batch of \d+ would fit, in place of 262144", before)
    (ran,) = [cell for cell in cells if "found.would_fit" in cell.source]
    assert re.match(r"does_not 262144 → \d+\n", printed(ran))
    (above,) = [cell for cell in cells if cell.source.startswith("%%gpumem --forecast")]
    assert "✓ this cell should fit on " in printed(above)
    (plan,) = find(cells, "%oom plan FOLDER --dtype auto --context 8192 --batch 4").outputs
    kept = "22 layers × 512 values × 2048 tokens × 2 bytes + 4 layers × 512 values × 32768 tokens × 2 bytes"
    assert kept in plan.data["text/plain"]
