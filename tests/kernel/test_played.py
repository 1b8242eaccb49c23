"""A kernel on a played GPU: PyTorch's own allocator fails there, and the panel explains it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nb_oomhelper.showing.case_record import MIME
from tests.conftest import PlayDevice, StartKernel
from tests.kernel.cells import LOAD, Panel, shown
from tests.kernel.notebooks import find, printed, run
from tests.played_cuda import PYTHON, another_process

pytestmark = pytest.mark.played


def test_a_real_out_of_memory_error_is_explained(played_kernel: StartKernel) -> None:
    kernel = played_kernel("8GiB", used="2GiB", processes={4711: "2GiB"})
    assert kernel.execute(f"{LOAD}\nimport torch").status == "ok"
    reply = kernel.execute("x = torch.empty(7 << 30, dtype=torch.uint8, device='cuda')", stop_on_error=False)
    assert reply.ename == "OutOfMemoryError"
    assert "GPU 0 has a total capacity of 8.00 GiB of which 5.71 GiB is free" in reply.evalue
    (bundle,) = shown(reply)
    assert "process 4711" in bundle["text/plain"]


def test_the_quickstart_is_the_cuda_story(played: PlayDevice, tmp_path: Path) -> None:
    """As `make demo GPU=played` shows it: 8 GiB, of which another process holds 3."""
    env = played("8GiB")
    with another_process(env, "3GiB") as pid:
        cells = run("quickstart", tmp_path, PYTHON, env)
    (bundle,) = [output.data for output in find(cells, "train_step(1.1)").outputs if MIME in output.get("data", {})]
    assert "CUDA out of memory · cuda:0 · Played GPU · 8.00 GiB" in bundle["text/plain"]
    assert f"process {pid}" in bundle["text/plain"]
    assert "freed 2.2" in printed(find(cells, "%oom fix 1"))
    assert not any(output.output_type == "error" for output in find(cells, "train_step(0.8)").outputs)


@pytest.mark.thorough
def test_a_forecast_above_a_cell_is_held_against_what_was_measured(played_kernel: StartKernel) -> None:
    kernel = played_kernel("8GiB")
    kernel.execute(f"{LOAD}\nimport torch\nstart = torch.empty(1, device='cuda')")
    for count, size in enumerate((1, 2), start=1):
        told = kernel.execute(f"%%gpumem --forecast\nx = torch.empty({size} << 30, dtype=torch.uint8, device='cuda')")
        assert "✓ this cell should fit on cuda:0" in told.stdout
        assert f"forecasts on this machine so far: {count} of {count} within 5%, {count} of {count}" in told.stdout
        kernel.execute("del x")
    again = kernel.execute("%%gpumem --forecast\nx = torch.empty(1 << 30, dtype=torch.uint8, device='cuda')")
    assert "an earlier peak was higher" in again.stdout
    assert "forecasts on this machine" not in again.stdout
    assert "forecast 2.00 GiB, measured 2.00 GiB: +0.0%" in told.stdout


TRAINING = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 4096), nn.GELU(), nn.Linear(4096, 64)).cuda()
optimizer = torch.optim.AdamW(model.parameters())
loader = torch.utils.data.DataLoader(torch.randn(40000, 1024), batch_size=32768)
seen = []"""
STEPS = """
for rows in loader:
    loss = model(rows.cuda()).pow(2).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    seen.append(1)"""


@pytest.mark.thorough
def test_after_an_error_a_forecast_finds_the_batch_that_runs(played_kernel: StartKernel) -> None:
    """A larger one than the linear rule takes; it is asked before the cell is followed, and nothing is changed then."""
    kernel = played_kernel("2500MiB")
    kernel.execute(LOAD + TRAINING)
    panel = Panel(kernel, kernel.execute(STEPS, stop_on_error=False))
    held = kernel.eval("[torch.cuda.memory_allocated(), torch.cuda.memory_reserved()]")
    assert "32768 → 10922" in panel.text
    panel.click("Find what fits")
    assert "in copies of this process" in panel.text
    panel.click("Cancel")
    panel.click("Find what fits")
    panel.click("Forecast")
    assert "✓ forecast: peak" in panel.text
    assert "32768 → 16384" in panel.text
    assert "Find what fits" not in panel.buttons
    assert kernel.eval("[torch.cuda.memory_allocated(), torch.cuda.memory_reserved()]") == held
    assert kernel.eval("[len(seen), loader.batch_size]") == [0, 32768]
    panel.click("Fix and run")
    panel.click("Run anyway")
    assert kernel.eval("len(seen)") > 1
    assert "✓ The cell finished without an error" in panel.text
