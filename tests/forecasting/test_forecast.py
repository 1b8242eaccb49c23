"""A call is followed on tensors without bytes, and nothing of the caller's is changed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nb_oomhelper
from nb_oomhelper.errors import UsageError
from nb_oomhelper.forecasting.forecast import follow_call, forecast_call
from nb_oomhelper.forecasting.stand_ins import Devices
from nb_oomhelper.forecasting.trace import Block, Trace

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.plain
WIDTH, ROWS = 64, 256


@pytest.fixture
def step() -> Any:
    """A training step on the host, with all that it changes as attributes."""
    model = torch.nn.Sequential(torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.ReLU(), torch.nn.Linear(4 * WIDTH, WIDTH))
    losses: list[float] = []
    optimizer = torch.optim.AdamW(model.parameters())
    data = torch.utils.data.DataLoader(torch.randn(4 * ROWS, WIDTH), batch_size=ROWS, shuffle=True)

    def run() -> None:
        for batch in data:
            loss = torch.nn.functional.dropout(model(batch)).pow(2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            print("a loss", loss.item())

    told: Any = run
    told.losses, told.model, told.optimizer = losses, model, optimizer
    return run


def follow(call: Callable[[], Any], deadline: float = 30) -> Trace:
    return follow_call(call, torch, "cpu", Devices(1), deadline)


def made(found: Trace) -> list[Block]:
    """What the call itself has made."""
    return [one for one in found.blocks if not one.address]


def state(step: Any) -> tuple[Any, ...]:
    weights = [one.clone() for one in step.model.parameters()]
    grads = [None if one.grad is None else one.grad.clone() for one in step.model.parameters()]
    return weights, grads, step.optimizer.state_dict(), list(step.losses), torch.get_rng_state(), random.getstate()


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return bool(torch.equal(first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def test_nothing_is_changed_and_nothing_is_printed(step: Any, capfd: pytest.CaptureFixture[str]) -> None:
    step()
    capfd.readouterr()
    before, versions = state(step), [one._version for one in step.model.parameters()]
    found = nb_oomhelper.forecast(step)
    assert found.ended == "returned"
    assert same(before, state(step))
    assert found.trains
    assert versions == [one._version for one in step.model.parameters()]
    assert capfd.readouterr() == ("", "")
    assert not torch.cuda.is_initialized()


def test_the_peak_is_what_the_tensors_of_a_call_take() -> None:
    """Two of 1 MiB beside each other, and then another beside one of them."""
    call = lambda: (torch.empty(1 << 20, dtype=torch.uint8) + 1).to(torch.int16)  # noqa: E731
    found = follow(call)
    assert [found.blocks[one].size if one >= 0 else -found.blocks[-one - 1].size for one in found.events][:3] == [
        1 << 20, 1 << 20, -(1 << 20)]  # fmt: skip
    assert forecast_call(call, "call").allocated.likely == 3 << 20


def test_kinds_of_a_training_step() -> None:
    def train() -> None:
        model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.Tanh(), torch.nn.Linear(512, 256))
        batch = torch.randn(64, 256)
        optimizer = torch.optim.Adam(model.parameters())
        model(batch).sum().backward()
        optimizer.step()
        train.kept = model, optimizer  # type: ignore[attr-defined]

    found = follow(train)
    assert (found.ended, found.error) == ("returned", "")
    sizes = {kind: sum(one.size for one in made(found) if one.kind == kind) for kind in ("parameters", "gradients")}
    weights = 4 * (2 * 256 * 512 + 512 + 256)
    assert sizes == {"parameters": weights, "gradients": weights}
    assert (
        sum(one.size for one in made(found) if one.kind == "optimizer") == 2 * weights + 4 * 4
    )  # and four counters of steps
    assert sum(one.size for one in made(found) if one.kind == "activations") >= 64 * 512 * 4
    assert {path for _, path in found.places} >= {"Sequential.0", "Sequential.1", "Sequential.2"}


def test_a_value_of_the_device_is_assumed_where_it_is_harmless_and_told() -> None:
    def call() -> Any:
        made = torch.randn(8)
        return made.sum().item(), bool((made > 0).all())

    found = follow(call)
    assert found.ended == "returned"
    assert [key for key, _ in found.notes] == ["assumed_zero", "assumed_false"]
    assert all(line.startswith("test_forecast.py:") for _, line in found.notes)


def test_small_values_of_constants_are_known() -> None:
    """So a loop that counts ends, also where the other half of its condition is not known."""

    def call() -> Any:
        lengths = torch.tensor([3, 5, 2])
        unknown = torch.randn(3) > 0
        steps = 0
        while not bool((unknown | (lengths <= steps)).all()):
            steps += 1
        return torch.empty(int(lengths.max()), 1 << 10), steps

    found = follow(call)
    assert (found.ended, [key for key, _ in found.notes]) == ("returned", ["assumed_false"])
    assert 5 << 12 in {one.size for one in made(found)}


@pytest.mark.parametrize(
    ("body", "ended", "told"),
    [
        ("made[made > 0]", "values", "aten::index.Tensor"),
        ("made.nonzero()", "values", "aten::nonzero"),
        ("torch.empty(int(made.argmax()))", "values", "aten::_local_scalar_dense"),
        ("made / {}", "raised", "TypeError"),
        ("[] + made.tolist", "raised", "TypeError"),
        ("exit(3)", "raised", "SystemExit"),
    ],
)
def test_how_it_ended_where_and_what_is_known_so_far(body: str, ended: str, told: str) -> None:
    names = {"torch": torch, "exit": __import__("sys").exit}
    exec(compile(f"def call():\n    made = torch.randn(1 << 20)\n    {body}", "train.py", "exec"), names)
    found = follow(names["call"])
    assert (found.ended, found.line) == (ended, "train.py:3")
    assert told in found.error
    assert made(found)[0].size == 4 << 20


def test_a_call_without_an_end_is_cut_off() -> None:
    def call() -> None:
        kept = torch.ones(1 << 20)
        while kept is not None:
            try:
                kept = kept + 1
            except Exception:
                continue

    begun = time.monotonic()
    found = follow(call, deadline=5)  # what PyTorch imports first may take some of it
    assert (found.ended, made(found)[0].size) == ("deadline", 4 << 20)
    assert found.line.startswith("test_forecast.py:")
    assert time.monotonic() - begun < 60  # it ended by itself


def test_no_copy_is_left_behind(tmp_path: Path) -> None:
    """Not even of a call that does not let itself be interrupted."""
    file = tmp_path / "number"

    def call() -> None:
        file.write_text(str(os.getpid()))
        os._exit(0)

    with pytest.raises(nb_oomhelper.forecasting.forecast.OomHelperError, match="gave no answer"):
        follow(call)
    number = int(file.read_text())
    assert number != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_what_is_no_call_is_refused() -> None:
    with pytest.raises(UsageError, match="forecast takes a function"):
        nb_oomhelper.forecast(3)  # type: ignore[arg-type]


def limited(allowance: int) -> Any:
    """How much the host may have, by an address-space limit of this process; undone by what it gives."""
    import resource

    from nb_oomhelper.memory.host import read_host
    from nb_oomhelper.memory.room import host_free

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + allowance, before[1]))
    assert (host_free(read_host()) or 0) <= allowance
    return lambda: resource.setrlimit(resource.RLIMIT_AS, before)


def grows(rows: Any, labels: Any = None, fixed: int = 0) -> Any:
    """Takes 4 MiB a row, and what is fixed."""
    return rows.new_empty(len(rows), 1 << 20), torch.empty(fixed, dtype=torch.uint8), labels


def test_the_batch_that_would_fit() -> None:
    rows = torch.zeros(400, 3)
    undo = limited(800 << 20)
    try:
        found = nb_oomhelper.forecast(grows, rows, labels={"of": [rows[:, 0]]})
        none = nb_oomhelper.forecast(grows, rows, fixed=1 << 30)
        several = nb_oomhelper.forecast(grows, rows, labels=rows[:3])
        fixed = nb_oomhelper.forecast(lambda given: torch.empty(1 << 30), rows)
    finally:
        undo()
    assert (found.verdict, found.batch, found.trains) == ("does_not", 400, False)
    assert found.room is not None
    assert found.would_fit is not None
    exact = found.room / (4 << 20)
    assert 0.9 * exact < found.would_fit <= exact
    assert (none.would_fit, several.would_fit, several.batch, fixed.would_fit) == (0, None, None, None)


def test_what_fits_is_not_made_smaller() -> None:
    found = nb_oomhelper.forecast(grows, torch.zeros(2, 3))
    assert (found.verdict, found.batch, found.would_fit) == ("fits", 2, None)


def test_a_call_that_wants_its_whole_batch_is_left_alone() -> None:
    def call(rows: Any) -> Any:
        return rows.new_empty(len(rows), 1 << 20) if len(rows) == 400 else rows / {}

    undo = limited(800 << 20)
    try:
        found = nb_oomhelper.forecast(call, torch.zeros(400, 3))
    finally:
        undo()
    assert (found.verdict, found.would_fit) == ("does_not", None)
