"""CUDA as a person meets it: JupyterLab on a played GPU, PyTorch's own out-of-memory error, one click."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import StartLab
from tests.browser.lab import write_notebook
from tests.browser.panel import LOAD, PANEL, button, cut_off, picture
from tests.conftest import PlayDevice
from tests.played_cuda import PYTHON, another_process

pytestmark = [pytest.mark.browser, pytest.mark.played]

SET_UP = """\
import torch
from torch import nn

layers = [nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 10)]
model = nn.Sequential(*layers).to("cuda")
"""
VALIDATE = """\
val_losses = []
for step in range(80):
    x = torch.randn(2048, 1024, device="cuda")
    y = torch.zeros(2048, dtype=torch.long, device="cuda")
    loss = nn.functional.cross_entropy(model(x), y)
    val_losses.append(loss)
print(f"validated on {len(val_losses)} batches")
"""


@pytest.mark.thorough
def test_a_validation_loop_runs_after_one_click(start_lab: StartLab, played: PlayDevice, tmp_path: Path) -> None:
    env = played("8GiB")
    with another_process(env, "3GiB"):
        lab = start_lab(python=PYTHON, env=env)
        write_notebook(lab.server.work / "played.ipynb", [LOAD, SET_UP, VALIDATE])
        lab.viewport(1280, 2400)
        lab.open("played.ipynb")
        for index in range(3):
            lab.run_cell(index)
        output = lab.output(2)
        expect(output).to_contain_text("OutOfMemoryError: CUDA out of memory")
        panel = output.locator(PANEL).first
        expect(panel).to_contain_text("val_losses")
        assert cut_off(panel) == []
        picture(lab, panel, "panel-cuda.png", tmp_path)
        button(panel, "Fix and run").first.click()
        expect(output).to_contain_text("validated on 80 batches", timeout=60_000)
        expect(panel).to_contain_text("The cell finished without an error")
        picture(lab, panel, "panel-cuda-solved.png", tmp_path)
        assert lab.console_errors == []
