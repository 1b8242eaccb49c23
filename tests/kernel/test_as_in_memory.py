"""Cells that run on disk, by columns or part by part after the first fix: with the same result."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import CASE, LOAD
from tests.kernel.conftest import needs
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.kernel

SETUP = """
import resource
import numpy as np
def limit(room):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (room << 20) if room else -1, resource.RLIM_INFINITY))
"""
FILM = """
u = np.arange(4_000_000.0)
film = []
for t in range(12):
    u = u * 0.5 + t
    film.append(u)
film = np.array(film)
means = film.mean(axis=1)
last = film[-1, :3]
"""
COLUMNS_SETUP = """
import pandas as pd
df = pd.DataFrame(np.random.default_rng(0).normal(size=(500_000, 40)), columns=[f"c{i}" for i in range(40)])
"""
COLUMNS = "z = (df - df.mean()) / df.std()"
RANKS_SETUP = """
import torch
import torch.nn.functional as F
torch.manual_seed(0)
torch.set_num_threads(1)
x, grades = torch.randn(4000, 8), torch.randint(0, 5, (4000,))
net = torch.nn.Linear(8, 1)
def pairwise_loss(scores, grades):
    diff = scores.unsqueeze(1) - scores.unsqueeze(0)
    better = (grades.unsqueeze(1) > grades.unsqueeze(0)).float()
    loss = better * F.softplus(-diff)
    return loss.sum() / better.sum()
pairwise_loss(net(x[:50]).squeeze(1), grades[:50]).backward()
"""
RANKS = """
net.zero_grad()
loss = pairwise_loss(net(x).squeeze(1), grades)
loss.backward()
"""


@pytest.mark.parametrize(
    ("package", "setup", "room", "cell", "fix", "check"),
    [
        ("numpy", "", 330, FILM, "on-disk", "[np.asarray(means).tolist(), np.asarray(last).tolist()]"),
        (
            "pandas",
            COLUMNS_SETUP,
            330,
            COLUMNS,
            "columns-apart",
            "[z.iloc[::99_999].round(9).to_numpy().tolist(), list(z), z.shape]",
        ),
        (
            "torch",
            RANKS_SETUP,
            220,
            RANKS,
            "loss-in-parts",
            "[round(loss.item(), 5), net.weight.grad.round(decimals=4).tolist()]",
        ),
    ],
    ids=["on disk", "by columns", "with checkpoints"],
)
def test_the_cell_runs_with_the_same_result(
    start_kernel: StartKernel,
    kernel_python: Path,
    package: str,
    setup: str,
    room: int,
    cell: str,
    fix: str,
    check: str,
) -> None:
    kernel: Kernel = start_kernel(kernel_python)
    needs(kernel, package)
    kernel.execute(SETUP + setup, timeout=120)
    kernel.execute(LOAD)
    kernel.poll(2.5)
    kernel.execute(f"limit({room})")
    assert kernel.execute(cell, timeout=120).status == "error"
    assert kernel.eval(f"[plan.fix for plan in {CASE}.plans]")[0] == fix
    reply = kernel.execute("%oom fix 1 --yes", timeout=300)
    assert reply.status == "ok", reply
    print(reply.stdout)
    cured = kernel.eval(check)
    kernel.execute("limit(0)")
    if package == "torch":
        kernel.execute(setup)
    assert kernel.execute(cell, timeout=120).status == "ok"
    assert kernel.eval(check) == cured
