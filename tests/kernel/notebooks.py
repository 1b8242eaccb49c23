"""A notebook of the project, run from top to bottom in a kernel of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.kernel.driver import manage, private_env
from tests.kernel.models import SYNC

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def run(
    name: str, home: Path, python: str | Path = sys.executable, env: Mapping[str, str] = MappingProxyType({})
) -> list[Any]:
    """Run a notebook; a cell that fails without saying so in its tags fails the test."""
    manager = manage(python, home)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, km=manager, timeout=120, resources={"metadata": {"path": str(home)}})
    try:
        with (home / "kernel.log").open("w") as log:
            client.execute(env=private_env(home, {**SYNC, **env}), stdout=log, stderr=log)
    finally:
        manager.shutdown_kernel(now=True)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def find(cells: list[Any], source: str) -> Any:
    (found,) = [cell for cell in cells if cell.source == source]
    return found


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")
