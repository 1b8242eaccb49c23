"""The quickstart notebook, top to bottom as it stands, and what its cells must show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient

from tests.kernel.cells import VIEW
from tests.kernel.driver import OneSpec, private_env

pytestmark = pytest.mark.kernel

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The code cells after they ran; a cell that fails without saying so in its tags fails the test."""
    home = tmp_path_factory.mktemp("notebook")
    specs = OneSpec()
    specs.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager = KernelManager(kernel_spec_manager=specs, connection_file=str(home / "connection.json"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, km=manager, timeout=120, resources={"metadata": {"path": str(home)}})
    try:
        with (home / "kernel.log").open("w") as log:
            client.execute(env=private_env(home), stdout=log, stderr=log)
    finally:
        manager.shutdown_kernel(now=True)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def find(cells: list[Any], source: str) -> Any:
    (found,) = [cell for cell in cells if cell.source == source]
    return found


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_only_the_cell_that_dies_fails(cells: list[Any]) -> None:
    failed = [cell.source for cell in cells if any(output.output_type == "error" for output in cell.outputs)]
    assert failed == ["train_step(1.1)"]
    assert all(cell.execution_count for cell in cells)


def test_it_dies_with_a_panel_that_survives_without_its_kernel(cells: list[Any]) -> None:
    error, panel = find(cells, "train_step(1.1)").outputs
    assert error.ename in ("RuntimeError", "OutOfMemoryError")
    assert set(panel.data) == {VIEW, "text/html", "text/plain"}
    assert "batch" in panel.data["text/plain"]
    assert "outputs" in panel.data["text/plain"]
    assert "Release the failed cell" in panel.data["text/html"]
    assert "✓ the request fits" in panel.data["text/plain"]


def test_collecting_does_not_help_and_releasing_does(cells: list[Any]) -> None:
    (collected,) = [cell for cell in cells if "gc.collect()" in cell.source]
    assert printed(collected).startswith("still out of memory: ")
    released = printed(find(cells, "%oom fix 1"))
    assert released.startswith("Release the failed cell: freed 2.2")
    assert "would fit now" in released
    (value,) = find(cells, "train_step(0.9)").outputs
    assert value.output_type == "execute_result"


def test_the_rest_shows_what_it_says(cells: list[Any]) -> None:
    (table,) = find(cells, "%gpumem").outputs
    assert set(table.data) == {"text/plain", "text/html"}
    (metered,) = [cell for cell in cells if cell.source.startswith("%%gpumem")]
    assert "peak" in printed(metered)
    (entry,) = find(cells, "%oom entry CUDA-OOM-001").outputs
    assert entry.data["text/plain"].startswith("# CUDA-OOM-001")
