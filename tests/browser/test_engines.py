"""The notebooks about engines, top to bottom in a real JupyterLab: the panel names the worker, one click frees it, the
cell runs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import StartLab
from tests.browser.panel import PANEL, button, cut_off
from tests.conftest import ROOT

pytestmark = pytest.mark.browser

OWN = ROOT / ".venv-engines" / "bin" / "python"
PYTHON = OWN if OWN.exists() else Path(sys.executable)


@pytest.mark.parametrize(
    ("name", "module", "fails", "who"),
    [
        ("ipyparallel", "ipyparallel", "%%px\nstep({})", r"ipyparallel engine 1$"),
        pytest.param(
            "dask",
            "distributed",
            "client.submit(step, {}, workers=[worker], pure=False).result()",
            r"the Dask worker tcp://[\d.:]+ \(PID \d+ on [^)]+\)$",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_one_click_frees_the_worker_and_the_cell_runs(
    start_lab: StartLab, name: str, module: str, fails: str, who: str
) -> None:
    if subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, check=False).returncode:
        pytest.skip(f"{module} is not installed: `make engines` asks for it, and says why it is not to be had")
    notebook = ROOT / "notebooks" / f"{name}.ipynb"
    cells = ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"]]
    lab = start_lab(python=PYTHON)
    shutil.copy(notebook, lab.server.work)
    lab.open(f"{name}.ipynb")
    for at in range(cells.index(fails.format(200)) + 1):
        lab.run_cell(at)
    panel = lab.run_cell(cells.index(fails.format(100))).locator(PANEL)
    assert re.match(f"Out of memory in another process: {who}", panel.inner_text().splitlines()[0])
    assert panel.locator(".oomh-bar").count() == 0
    button(panel, "Read its memory").click()
    expect(panel.locator(".oomh-bar")).to_have_count(1, timeout=30_000)
    button(panel, "Release there").click()
    expect(panel).to_contain_text(re.compile(r"Release on the worker: freed (199|2\d\d)(\.\d)? MiB"), timeout=30_000)
    assert cut_off(panel) == []
    button(panel, "Run the cell again").click()
    expect(panel).to_contain_text("✓ Solved: Out of memory in another process", timeout=30_000)
    released, ran, _ = (lab.run_cell(at).inner_text() for at in range(len(cells) - 3, len(cells)))
    assert released.count("nothing to give back") == 2  # the click has done it
    assert re.search(r"(?m)(^|\s)2$", ran)  # before or after the peaks
    assert ran.count(" peak ") == (3 if name == "ipyparallel" else 0)
    assert "Error" not in ran
    assert lab.console_errors == []
