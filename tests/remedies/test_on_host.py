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

TRAINING = """
from nb_oomhelper.errors import UsageError
import copy
import torch, torch.nn as nn, torch.nn.functional as F
import nb_oomhelper
torch.backends.cudnn.enabled = False
torch.manual_seed(0)
device = torch.device("cuda")
data, target = torch.randn(64, 32), torch.randint(0, 4, (64,))
plain = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))

def train(net, optimizer, device):
    said = []
    for _ in range(3):
        x, y = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(net.train()(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            said += [loss.item(), net.eval()(x).sum().item()]
    return said

def kinds(net, optimizer):
    kept = [one for state in optimizer.state.values() for one in state.values() if one.ndim]
    return {one.device.type for one in [*net.parameters(), *net.buffers(), *(p.grad for p in net.parameters()), *kept]}

for make in (lambda them: torch.optim.SGD(them, lr=0.1, momentum=0.9), torch.optim.Adam,
             lambda them: torch.optim.AdamW(them, fused=True)):
    host, net = copy.deepcopy(plain), copy.deepcopy(plain).cuda()
    on_host, optimizer = make(host.parameters()), make(net.parameters())
    wanted = train(host, on_host, "cpu")
    there = [one.data_ptr() for one in net.parameters()]
    with nb_oomhelper.on_host(train=True):
        assert train(net, optimizer, device) == wanted
    assert kinds(net, optimizer) == {"cuda"} and there == [one.data_ptr() for one in net.parameters()]
    for one, other in zip(host.state_dict().values(), net.state_dict().values()):
        assert torch.equal(one, other.cpu())
    train(net, optimizer, device)  # on the GPU, again
    with nb_oomhelper.on_host(train=True):
        new = copy.deepcopy(plain).to(device)
        optimizer = make(new.parameters())
        train(new, optimizer, device)
    assert kinds(new, optimizer) == {"cuda"}
    train(new, optimizer, device)

ahead = torch.ones(4).cuda()
net = nn.Linear(4, 4).cuda()
average = net.weight.detach().clone()
with nb_oomhelper.on_host(train=True):
    with torch.no_grad():
        before = net(ahead)  # without gradients first
        net.weight.mul_(2)
    net(ahead).sum().backward()
    ahead.requires_grad_()
    (ahead * 3).sum().backward()
assert (net.weight.cpu() == 2 * average.cpu()).all() and (net.weight.grad.cpu() == 1).all()
assert ahead.is_cuda and (ahead.grad.cpu() == 3).all()

with nb_oomhelper.on_host(train=True):
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    twin = copy.deepcopy(net)
    new = nn.ModuleList([nn.Linear(4, 4, device=where), nn.BatchNorm1d(4).to(where)])
    new[1](new[0](ahead.expand(2, 4))).sum().backward()
there = [*twin.parameters(), *new.parameters(), *new.buffers()]
assert where.type == "cuda" and {one.device.type for one in there} == {"cuda"}
with nb_oomhelper.on_host(train=True):
    net(ahead).sum().backward()
    net.double()
    twin.cpu()
assert {(one.device.type, one.dtype) for one in net.parameters()} == {("cuda", torch.float64)}
assert {one.device.type for one in twin.parameters()} == {"cpu"}
one, other = nn.Linear(4, 4).cuda(), nn.Linear(4, 4).cuda()
one.weight.data = other.weight.data  # the same memory
graph = other(ahead.detach())
with nb_oomhelper.on_host(train=True):
    try:
        (graph * 2).sum().backward()
    except UsageError as error:
        assert "a graph of an earlier cell" in str(error)
    else:
        raise AssertionError("the gradients went nowhere")
    other(ahead.detach()).sum().backward()
    with torch.no_grad():
        one.weight.add_(1)
    with torch.inference_mode():
        other(ahead)
assert torch.equal(one.weight.cpu(), other.weight.cpu()) and one.weight.data_ptr() == other.weight.data_ptr()

import warnings
full = torch.empty(int(torch.cuda.mem_get_info()[0] - (48 << 20)), dtype=torch.uint8, device=device)
with warnings.catch_warnings(record=True) as told, nb_oomhelper.on_host(train=True):
    warnings.simplefilter("always")
    wide = nn.Linear(4096, 4096).to(device)
    optimizer = torch.optim.Adam(wide.parameters())
    wide(torch.ones(1, 4096, device=device)).sum().backward()
    optimizer.step()
assert {one.device.type for one in wide.parameters()} == {"cpu"}, told
assert "the GPU has no room for models that were made or changed here" in str(told[-1].message), told
"""


def test_what_is_trained_on_the_cpu_is_on_the_gpu_in_the_end(played: PlayDevice) -> None:
    done = subprocess.run([PYTHON, "-c", TRAINING], env=played("2GiB"), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def test_results_and_changes_are_those_of_the_cpu(played: PlayDevice) -> None:
    done = subprocess.run([PYTHON, "-c", SCRIPT], env=played("2GiB"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
