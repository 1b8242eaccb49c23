"""Whether a fix has helped: the failed cell, run again by hand or by a click, tells."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import LOAD, Panel, run_of
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.kernel

SETUP = """
import numpy
room = 0
def step():
    return numpy.ones(1 << (20 if room else 50), numpy.uint8)[0]
def stop():
    raise KeyboardInterrupt
"""
CELL = "step()"


class Notebook:
    """A kernel with a history of its own, and what that has."""

    def __init__(self, kernel: Kernel, path: Path) -> None:
        self.kernel, self._path = kernel, path
        for cell in (LOAD, f"%config OOMHelper.history_path = {str(path)!r}", SETUP):
            assert kernel.execute(cell).status == "ok"

    def run(self, *cells: str) -> None:
        for cell in cells:
            self.kernel.execute(cell)

    def ran(self) -> list[int | None]:
        """What is known of each outcome, oldest first."""
        with sqlite3.connect(self._path) as connection:
            found = [row[0] for row in connection.execute("SELECT ran FROM outcome ORDER BY at")]
        connection.close()
        return found


@pytest.fixture
def notebook(start_kernel: StartKernel, kernel_python: Path, tmp_path: Path) -> Notebook:
    return Notebook(start_kernel(kernel_python, {}), tmp_path / "h.sqlite")


def test_the_next_run_of_the_same_cell_by_hand(notebook: Notebook) -> None:
    notebook.run(CELL, "%oom fix 1", "room = 1", "step(); 1", "1 / 0")
    notebook.kernel.execute(CELL, silent=True)
    assert notebook.ran() == [None]  # these were other cells, and a front end's own request
    notebook.run(CELL)
    assert notebook.ran() == [1]
    notebook.run("room = 0", CELL, "%oom fix 1", CELL)
    assert notebook.ran() == [1, 0]
    assert "history: 1 of 2 cells ran after a fix" in notebook.kernel.execute("%oom status").stdout
    panel = Panel(notebook.kernel, notebook.kernel.execute(CELL))
    panel.unfold()
    assert "here 1 of 2 cells ran" in panel.text
    notebook.run("%oom fix 1", "%oom fix 1", "room = 1", CELL, CELL)
    assert notebook.ran() == [1, 0, None, 1]  # of two fixes the last one, and of two runs the first


def test_another_error_is_no_run_and_a_stop_tells_nothing(notebook: Notebook) -> None:
    notebook.run(CELL, "%oom fix 1", "numpy.ones = lambda *_: stop()", CELL)
    assert notebook.ran() == [None]
    notebook.run("numpy.ones = lambda *_: 1 / 0", CELL)
    assert notebook.ran() == [0]


def test_a_fix_that_runs_while_the_cell_does_waits_for_the_next_run(notebook: Notebook) -> None:
    """It would else be judged by the very failure that it was run for."""
    notebook.run("%config OOMHelper.auto_release = True", CELL)
    assert notebook.ran() == [None]
    notebook.run(CELL)
    assert notebook.ran() == [0, None]
    notebook.run("room = 1", CELL)
    assert notebook.ran() == [0, 1]


def test_a_fix_within_the_run_leaves_open_which_has_helped(notebook: Notebook) -> None:
    cell = "if room:\n    get_ipython().run_line_magic('oom', 'fix 1')\nstep()"
    notebook.run(cell, "%oom fix 1", "room = 1", cell)
    assert notebook.ran() == [None, None]
    notebook.run("%oom fix 1", "room = 1", "get_ipython().run_line_magic = lambda *_: None", cell)
    assert notebook.ran() == [None, None, 1]


def test_a_cell_that_awaits(notebook: Notebook) -> None:
    cell = "import asyncio\nawait asyncio.sleep(0)\nstep()"
    notebook.run(cell, "%oom fix 1", cell)
    assert notebook.ran() == [0]
    notebook.run("%oom fix 1", "room = 1", cell)
    assert notebook.ran() == [0, 1]


def test_the_cell_again_by_a_click(notebook: Notebook) -> None:
    panel = Panel(notebook.kernel, notebook.kernel.execute(CELL))
    panel.only(run_of(panel, "release-failed-cell"))
    assert notebook.ran() == [None]
    notebook.run("room = 1")
    panel.click("Run the cell again")
    assert notebook.ran() == [1]


def test_unloaded_it_measures_no_more(notebook: Notebook) -> None:
    notebook.run(CELL, "%oom fix 1", "room = 1", "%unload_ext nb_oomhelper", CELL)
    assert notebook.ran() == [None]
