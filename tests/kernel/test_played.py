"""A kernel on a played GPU: PyTorch's own allocator fails there, and the panel explains it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nb_oomhelper.showing.case_record import MIME
from tests.conftest import PlayDevice, StartKernel
from tests.kernel.cells import LOAD, shown
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


def test_a_forecast_above_a_cell_is_held_against_what_was_measured(played_kernel: StartKernel) -> None:
    kernel = played_kernel("8GiB")
    kernel.execute(f"{LOAD}\nimport torch\nstart = torch.empty(1, device='cuda')")
    for count, size in enumerate((1, 2), start=1):
        told = kernel.execute(f"%%gpumem --forecast\nx = torch.empty({size} << 30, dtype=torch.uint8, device='cuda')")
        assert "✓ this cell should fit on cuda:0" in told.stdout
        assert f"forecasts on this machine so far: {count} of {count} within 5%" in told.stdout
        kernel.execute("del x")
    again = kernel.execute("%%gpumem --forecast\nx = torch.empty(1 << 30, dtype=torch.uint8, device='cuda')")
    assert "an earlier peak was higher" in again.stdout
    assert "forecasts on this machine" not in again.stdout
    assert "forecast 2.00 GiB, measured 2.00 GiB: +0.0%" in told.stdout
