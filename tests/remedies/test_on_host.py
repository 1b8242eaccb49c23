"""`nb_oomhelper.on_host`: what is asked of the GPU comes out of the CPU, and what was there is as it would be."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import PlayDevice
from tests.played_cuda import PYTHON

pytestmark = pytest.mark.played

# The played device copies what it is told to, and computes nothing: what comes out right was computed on the CPU.
SCRIPT = """
import copy
import torch, torch.nn as nn, torch.nn.functional as F
import nb_oomhelper
torch.backends.cudnn.enabled = False
torch.manual_seed(0)
device = torch.device("cuda")
data = torch.randn(64, 32)
x = data.cuda()
view = x[:10]
nets = [nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)),
        nn.TransformerEncoderLayer(32, 4, batch_first=True).eval(), nn.LSTM(32, 8, batch_first=True)]
net, layer, lstm = (copy.deepcopy(one).cuda() for one in nets)
with nb_oomhelper.on_host(), torch.no_grad():
    made = net(x), layer(x[None]), lstm(x[None])[0], F.one_hot(torch.tensor([1, 2]).to(device), 4), x.new_ones(2)
    new = [torch.zeros(2, device=device), torch.rand(2, device="cuda:0"), torch.cat([x, view]), x.topk(3).indices]
    assert (x.device.type, x.is_cuda, x.shape) == ("cpu", False, (64, 32))
    assert x.to(device) is x and x.mul_(1) is x
    host = x.cpu()
    host.zero_()  # a copy, as that of a tensor on the GPU
    view[0] = 7
    assert x[0].sum() == 7 * 32
    frames = []
    grid = torch.zeros(3, device=device)
    for step in range(3):
        grid += 1
        frames.append(grid.cpu())
    x.mul_(2)
    net[3].weight.data[0] = 1
    net[0].weight.data = torch.zeros(16, 32)
    batch = torch.ones(2)
    batch.to(device).zero_()
with torch.no_grad():
    wanted = [nets[0](data), nets[1](data[None]), nets[2](data[None])[0]]
    wanted += [F.one_hot(torch.tensor([1, 2]), 4), torch.ones(2)]
assert all(one.device.type == "cpu" and torch.allclose(one, two, atol=1e-5) for one, two in zip(made, wanted))
assert {one.device.type for one in new} == {"cpu"}
assert [int(one[0]) for one in frames] == [1, 2, 3] and batch.sum() == 2
data[0] = 7
assert x.is_cuda and torch.equal(x.cpu(), data * 2) and torch.equal(view.cpu(), data[:10] * 2)
assert torch.allclose(net[1].running_mean.cpu(), nets[0][1].running_mean)
assert int(net[1].num_batches_tracked) == 1
assert all(one.is_cuda for one in [*net.parameters(), *net.buffers()])
assert (net[3].weight.detach().cpu()[0] == 1).all() and (net[0].weight.detach().cpu() == 0).all()
try:
    with nb_oomhelper.on_host():
        x.add_(1)
        raise KeyError
except KeyError:
    pass
assert torch.equal(x.cpu(), data * 2 + 1)
"""


def test_results_and_changes_are_those_of_the_cpu(played: PlayDevice) -> None:
    done = subprocess.run([PYTHON, "-c", SCRIPT], env=played("2GiB"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
