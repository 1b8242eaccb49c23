"""What the notebook's code collects on a GPU, and whether it may lie in host memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.elements import Kept, find_kept
from nb_oomhelper.remedies.in_one_go import find_in_one_go
from nb_oomhelper.remedies.kept_on_device import find_kept_by_hooks, find_remembered
from nb_oomhelper.remedies.may_move import may_lie_on_host
from nb_oomhelper.remedies.model_weights import goes_row_by_row
from nb_oomhelper.remedies.places import find_places
from nb_oomhelper.source.element import Element
from tests.remedies.notebooks import LARGE, MEMO, written

EVENT = OomEvent(
    framework="pytorch",
    backend="cuda",
    message="out of memory",
    exception_type="OutOfMemoryError",
    format="",
    requested=1 << 20,
    phase="infer",
)
TENSOR = Kept(call="clear", size=LARGE, element=Element("other", on_device=True))
LOOP = "for x in xs:\n    f(x)"


def test_what_only_a_closure_knows_is_emptied_by_the_names_of_what_was_made() -> None:
    one = written(LOOP, 2, MEMO, (), ("inner", "memo"))
    definitions = tuple(replace(each, bound=("f", "g")) if each.name == "inner" else each for each in one.definitions)
    one = replace(one, definitions=definitions, local={key: {"memo": TENSOR} for key in one.local})
    (mistake,) = find_remembered(one, EVENT, find_places(one))
    assert [new for _, _, new in mistake.edits] == [".cpu()", ".cuda()"]
    assert [line[:13] for line in mistake.clear.splitlines()] == ["f.__closure__", "g.__closure__"]

    def memoize() -> object:
        memo = {1: 2}
        return lambda: memo

    made = memoize()
    exec(mistake.clear.splitlines()[0], {"f": made})
    assert made() == {}  # type: ignore[operator]


@pytest.mark.parametrize(("phase", "device"), [("train", 0), ("infer", 1)])
def test_a_cache_stays_where_training_or_another_device_wants_it(phase: str, device: int) -> None:
    one = written("cache[k] = net(k)\nprint(cache[k])", 1)
    one = replace(one, kept={"cache": TENSOR})
    assert list(find_remembered(one, EVENT, find_places(one)))
    other = replace(EVENT, phase=phase, device=device)  # type: ignore[arg-type]
    assert list(find_remembered(one, other, find_places(one))) == []


@pytest.mark.parametrize(
    ("rows", "cell", "explains"),
    [
        (1000, "out = net(x.cuda())", [50]),
        (None, "out = net(x.cuda())", []),  # it may be no tensor
        (1, "out = net(x.cuda())", []),  # one large image: it cannot go in parts
    ],
)
def test_rows_go_through_a_model_in_parts(rows: int | None, cell: str, explains: list[int | None]) -> None:
    kept = {"net._modules": Kept(), "x": Kept(element=Element("other"), shape=None if rows is None else (rows, 8))}
    one = replace(written(cell, 1), kept=kept, autograd=False)
    shortage = Shortage(needs=100, measured=True, room=60)
    assert [each.explains for each in find_in_one_go(one, EVENT, shortage, find_places(one))] == explains


@pytest.mark.parametrize(
    ("more", "offered"),
    [
        ("net.eval()\n", True),
        ("", False),  # the next cell may go backward
        ("net.eval()\nopt.zero_grad()\n", False),
        ("net.eval()\nx.requires_grad_()\n", False),
    ],
)
def test_a_graph_that_nobody_needs_goes_with_the_parts(more: str, offered: bool) -> None:
    kept = {"net._modules": Kept(apart=True), "x": Kept(element=Element("other"), shape=(1000, 8))}
    cell = f"{more}out = net(x.cuda())"
    one = replace(written(cell, len(cell.splitlines())), kept=kept, autograd=True)
    shortage = Shortage(needs=100, measured=True, room=60)
    found = list(find_in_one_go(one, replace(EVENT, phase="unknown"), shortage, find_places(one)))
    assert [".detach()" in edit[2] for each in found for edit in each.edits] == ([True] if offered else [])


def test_what_looks_at_a_whole_batch_does_not_go_in_parts() -> None:
    nn = pytest.importorskip("torch").nn
    norm = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert not goes_row_by_row(norm)
    assert goes_row_by_row(norm.eval())
    assert not goes_row_by_row(nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    assert not goes_row_by_row(nn.ModuleList([nn.LSTM(2, 2)]).eval())  # its rows are steps in time
    assert goes_row_by_row(nn.LSTM(2, 2, batch_first=True))
    assert not goes_row_by_row(nn.LSTM(2, 2, 2, batch_first=True, dropout=0.1))
    hooked, normed = nn.Linear(2, 2), nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
    hooked.weight.register_hook(lambda gradient: gradient.clamp(-1, 1))  # of each part, and not of all
    assert not goes_row_by_row(hooked)
    assert not goes_row_by_row(nn.Embedding(9, 2, scale_grad_by_freq=True))
    assert not goes_row_by_row(nn.InstanceNorm1d(2, track_running_stats=True))
    assert goes_row_by_row(nn.InstanceNorm1d(2))
    assert not goes_row_by_row(normed)  # one step nearer to the norm each time
    losses = (
        nn.MSELoss(reduction="sum"),
        nn.CrossEntropyLoss(nn.Parameter(hooked.bias)),
        nn.CrossEntropyLoss(ignore_index=0),
    )
    assert not any(map(goes_row_by_row, losses))
    assert all(map(goes_row_by_row, (nn.MSELoss(), nn.CrossEntropyLoss())))
    net = nn.Linear(2, 2)
    assert find_kept({"net": net})["net._modules"].apart
    assert not find_kept({"net": net})["net._modules"].evaluates
    assert find_kept({"net": net.eval()})["net._modules"].evaluates
    net.register_forward_hook(lambda *_: None)  # it would see the last part alone
    kept = {**find_kept({"net": net}), "x": Kept(element=Element("other"), shape=(1000, 8))}
    one = replace(written("out = net(x.cuda())", 1), kept=kept, autograd=False)
    shortage = Shortage(needs=100, measured=True, room=60)
    assert list(find_in_one_go(one, EVENT, shortage, find_places(one))) == []


@pytest.mark.parametrize(
    ("gives", "rows", "offered"),
    [
        ("x.squeeze()", 1000, True),
        ("x.squeeze()", 993, False),  # 31 parts of 32 rows, and one of one
        ("x.squeeze()", 20, False),
        ("x.squeeze(1)", 20, True),
        ("self.keep(x)", 1000, False),
    ],
)
def test_a_model_that_takes_axes_away_or_remembers(gives: str, rows: int, offered: bool) -> None:
    code = f"def forward(self, x):\n    return {gives}\ndef keep(self, x):\n    self.seen.append(x)\n    return x\n"
    kept = {"net._modules": Kept(), "x": Kept(shape=(rows, 8))}
    one = replace(written("out = net(x.cuda())", 1, code), kept=kept, autograd=False)
    shortage = Shortage(needs=100, measured=True, room=60)
    assert len(list(find_in_one_go(one, EVENT, shortage, find_places(one)))) == offered


HOOK = "def make(name):\n    def hook(module, args, output):\n        acts.append(output)\n    return hook\n"


@pytest.mark.parametrize(
    ("cell", "offered"),
    [("for x in xs:\n    f(x)\nprint(len(acts))", True), ("for x in xs:\n    f(x)\n    f(acts[-1])", False)],
)
def test_what_hooks_keep(cell: str, offered: bool) -> None:
    one = replace(written(cell, 2, HOOK, called=False), kept={"acts": TENSOR})
    found = list(find_kept_by_hooks(one, EVENT, find_places(one)))
    assert [edit[2].strip() for each in found for edit in each.edits] == (
        ["acts[:] = [one.cpu() for one in acts]"] if offered else []
    )


@pytest.mark.parametrize(
    ("cell", "may"),
    [
        ("x, y = gather(xs)\nprint(x.shape)", True),
        ("x, y = gather(xs)\nnet(x[:8])", False),
        ("x, y = gather(xs)\nnet(x[:8].cuda())", True),
        ("x = outer(xs)\nnet(x)", False),
    ],
)
def test_what_a_function_gives_back_may_go_through_a_model(cell: str, may: bool) -> None:
    functions = (
        "def gather(xs):\n    outs = []\n    return outs, 1\ndef outer(xs):\n    a, b = gather(xs)\n    return a\n"
    )
    one = replace(written(cell, 1, functions), kept={"net._modules": Kept()})
    places = find_places(one)
    (place,) = (each for each in places if each.definition and each.definition.name == "gather")
    assert may_lie_on_host(one, places, place, ["outs"]) is may
