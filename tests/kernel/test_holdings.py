"""Who keeps memory, told in a real kernel; and releasing without a panel."""

from __future__ import annotations

import json
import re

import pytest

from tests.kernel.cells import LOAD, SETUP, Panel, shown
from tests.kernel.driver import Kernel

pytest.importorskip("torch")

pytestmark = pytest.mark.kernel

THINGS = """
import torch
model = torch.nn.Linear(1024, 1024, bias=False)
batch = torch.ones(1024, 1024)
losses = [model(batch).relu().sum() for _ in range(2)]
weights = model.weight
torch.ones(2, 1024, 1024)
"""
MIB = 1 << 20


def test_by_variable(kernel: Kernel) -> None:
    for cell in (LOAD, SETUP, THINGS, "limit(1 << 30)"):
        assert kernel.execute(cell).status == "ok"
    assert kernel.execute("train_step(400 << 20)").status == "error"
    rows = {row["name"]: row for row in json.loads(kernel.execute("%gpumem --by-variable --json").stdout)}
    failed = next(row for row in rows.values() if row["kind"] == "failed_cell")
    assert (failed["name"], failed["function"], failed["own"]) == ("batch, outputs", "train_step", 800 * MIB)
    assert rows["Out[3]"]["own"] == 8 * MIB
    assert rows["model"]["shared"] == 4 * MIB  # with `weights` and the graphs
    # each has kept the result of its relu; `batch`, which it has kept as well, has a name of its own
    assert dict(rows["losses"]["parts"])["graph"] == 8 * MIB
    assert rows["batch"]["role"] == "tensor"
    text = kernel.execute("%gpumem --by-variable").mime("text/plain")[0]
    assert "failed cell, train_step line" in text
    assert "autograd graph of losses[…]" in text


def test_release_by_magic(kernel: Kernel) -> None:
    for cell in (LOAD, SETUP, THINGS, "limit(1 << 30)"):
        assert kernel.execute(cell).status == "ok"
    kernel.execute("train_step(400 << 20)")
    before = kernel.eval("resident()")
    told = kernel.execute("%oom release").stdout
    assert before - kernel.eval("resident()") > 760 * MIB
    assert "Still held" in told
    # what each step gave back
    assert re.search(r"- local names of \d finished frames cleared \([78]\d\d MiB\)", told), told
    assert "no variable called nothing_like_it" in kernel.execute("%oom release nothing_like_it losses").stdout
    assert kernel.eval("'losses' in globals()")
    kernel.execute("%oom release --history losses")
    assert not kernel.eval("'losses' in globals()")
    assert kernel.eval("len(Out)") == 0
    assert "%oom release [--deep]" in kernel.execute("%oom release --everything").stdout


def test_auto_release(kernel: Kernel) -> None:
    for cell in (LOAD, SETUP, "%config OOMHelper.auto_release = True", "train_step(1 << 20)", "limit(1 << 30)"):
        assert kernel.execute(cell).status == "ok"
    before = kernel.eval("resident()")
    reply = kernel.execute("train_step(400 << 20)")
    assert reply.status == "error"
    assert "MemoryError" in "\n".join(reply.traceback)
    assert len(shown(reply)) == 1
    assert kernel.eval("resident()") - before < 200 * MIB  # the panel's own modules, and none of the 800 MiB
    assert "Release the failed cell: freed" in Panel(kernel, reply).text
    assert kernel.execute("%tb").status == "ok"


def test_what_finds_no_room_costs_itself_alone(kernel: Kernel) -> None:
    """To follow a list takes a list as long."""
    for cell in (LOAD, SETUP, "batch = numpy.ones(2 << 20, numpy.uint8)", "crowd = [batch[:1]] * (20 << 20)"):
        assert kernel.execute(cell).status == "ok"
    kernel.execute("huge()")  # all is imported then
    kernel.execute("limit(16 << 20)")  # for an error there is more
    kernel.execute("import nb_oomhelper.case\nnb_oomhelper.case.DEADLINE = 60")  # it is not time that is up
    panel = Panel(kernel, kernel.execute("huge()"))
    assert "your variable batch" in panel.text
    found = re.search(r"lacked memory; it got through (\d+) of (\d+) names", panel.text)
    assert found is not None
    assert int(found[1]) == int(found[2]) - 1
