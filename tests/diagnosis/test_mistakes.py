"""The classic mistakes, on real models, losses and optimizers of PyTorch on the CPU."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from nb_oomhelper.diagnosis.mistakes import find_mistakes
from nb_oomhelper.frameworks import FRAMEWORKS
from nb_oomhelper.holders.scope import Scope
from nb_oomhelper.holders.search import find_holdings
from nb_oomhelper.records.diagnosis import Cause
from nb_oomhelper.records.holdings import Holdings

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.plain

SIZE = 1024  # one weight is 4 MiB
WEIGHT = 4 * SIZE * SIZE


def net() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(SIZE, SIZE, bias=False), torch.nn.ReLU())


def search(everywhere: bool = False, **variables: Any) -> Holdings:
    scope = Scope(variables=variables)
    return find_holdings(scope, FRAMEWORKS, backend="host", device=None, seconds=60, everywhere=everywhere)


def mistakes(phase: Any = "unknown", **variables: Any) -> dict[str, Cause]:
    return {cause.kind: cause for cause in find_mistakes(search(**variables), phase)}


def test_losses_that_keep_their_graphs() -> None:
    model, batch = net(), torch.ones(SIZE, SIZE)
    losses = [model(batch).sum() for _ in range(3)]
    graph = mistakes(model=model, batch=batch, losses=losses)["graph"]
    assert graph.names == ("losses",)
    assert graph.role == "list"
    assert graph.size is not None
    assert 3 * WEIGHT <= graph.size < 4 * WEIGHT  # the activations of three steps; the weight is the model's
    del losses[:2]
    assert mistakes(model=model, batch=batch, loss=losses[0])["graph"].role == "tensor"
    assert "graph" not in mistakes(model=model, batch=batch, losses=[loss.detach() for loss in losses])
    assert "graph" not in mistakes(model=model, outputs=[torch.ones(SIZE, SIZE)])


def test_a_graph_with_hooks_runs_none_of_them() -> None:
    ran: list[Any] = []

    def unpack(kept: Any) -> Any:
        ran.append(kept)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(lambda kept: kept, unpack):
        loss = net()(torch.ones(SIZE, SIZE)).sum()
    assert mistakes(loss=loss)["graph"].size is not None
    assert ran == []


def test_a_graph_that_backward_has_freed() -> None:
    model = net()
    loss = model(torch.ones(SIZE, SIZE)).sum()
    loss.backward()
    assert "graph" not in mistakes(model=model, loss=loss)


def test_two_copies_of_a_model() -> None:
    first, second = net(), net()
    found = mistakes(old=first, model=second)["copies"]
    assert set(found.names) == {"old", "model"}
    assert found.size == WEIGHT
    assert "copies" not in mistakes(model=first, same=first)
    assert "copies" not in mistakes(model=first, other=torch.nn.Linear(SIZE, SIZE))  # another class


def test_gradients_that_nobody_uses() -> None:
    model = net()
    model(torch.ones(2, SIZE)).sum().backward()
    assert mistakes("infer", model=model)["gradients"].size == WEIGHT
    assert "gradients" not in mistakes("train", model=model)  # a step needs them
    model.zero_grad(set_to_none=True)
    assert "gradients" not in mistakes("infer", model=model)


def test_an_optimizer_of_an_old_model() -> None:
    model, old = net(), net()
    optimizer = torch.optim.Adam(old.parameters())
    old(torch.ones(2, SIZE)).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    found = mistakes("train", model=model, optimizer=optimizer)["stale_optimizer"]
    assert found.names == ("optimizer",)
    assert "stale_optimizer" not in mistakes("train", model=old, optimizer=optimizer)


def test_parts_are_told_apart() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(SIZE, SIZE, bias=False), torch.nn.BatchNorm1d(SIZE))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(4, SIZE)).sum().backward()
    optimizer.step()
    rows = {row.name: dict(row.parts) for row in search(model=model, optimizer=optimizer).rows}
    vector = 4 * SIZE
    assert rows["model"] == {
        "parameters": WEIGHT + 2 * vector,
        "gradients": WEIGHT + 2 * vector,
        "buffers": 2 * vector + 8,
    }
    assert rows["optimizer"]["optimizer state"] == 2 * (WEIGHT + 2 * vector) + 3 * 4


@pytest.mark.thorough
def test_another_librarys_cache_and_what_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = ModuleType("some_library")
    library.cache = {"key": torch.ones(SIZE, SIZE)}
    monkeypatch.setitem(sys.modules, "some_library", library)
    hidden = {"cycle": torch.ones(SIZE, SIZE)}
    found = search(everywhere=True)
    causes = [cause for cause in find_mistakes(found, "unknown") if cause.kind == "module"]
    assert [cause.names for cause in causes if cause.size == WEIGHT] == [("some_library.cache",)]
    unnamed = [row for row in found.rows if row.kind == "unreachable"]
    assert unnamed
    assert unnamed[0].own >= hidden["cycle"].nbytes


def test_a_class_of_the_users_own() -> None:
    class Table:
        rows = torch.ones(SIZE, SIZE)

    Table.__module__ = "__main__"
    assert [row.own for row in search(Table=Table).rows] == [WEIGHT]
