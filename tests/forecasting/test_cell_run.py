"""A whole cell is followed: its loops until they are alike, after what a failed cell kept; and what is no operation."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import nb_oomhelper
from nb_oomhelper.errors import OomHelperError, UsageError
from nb_oomhelper.forecasting.cell_run import CellRun
from nb_oomhelper.forecasting.forecast import follow_call, forecast_call
from nb_oomhelper.forecasting.stand_ins import Devices

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.plain

MIB = 1 << 20
NAMES = {"torch": torch, "time": time}


def peak(source: str, **names: Any) -> tuple[int, set[str]]:
    """What a cell takes, in whole MiB, and what is told of it."""
    found = forecast_call(CellRun(source, NAMES | names), "")
    assert (found.ended, found.error) == ("returned", "")
    return found.allocated.likely // MIB, {one.key for one in found.notes}


def test_a_loop_ends_once_its_rounds_are_alike() -> None:
    took, told = peak("for _ in range(10000):\n    kept = torch.empty(1 << 20)\n    time.sleep(0.05)")
    assert took == 8
    assert "forecast.rounds" in told


def test_a_quick_loop_and_one_that_keeps_more_and_more_are_followed_to_the_end() -> None:
    assert peak("kept = []\nfor _ in range(50):\n    kept.append(torch.empty(1 << 18))\n    time.sleep(0.02)")[0] == 50
    freezes = "for one in model.parameters():\n    one.requires_grad_(False)\nloss = model(torch.ones(1 << 10, 256))"
    model = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(12)))
    assert peak(freezes, model=model)[0] < 4  # no output of a layer is kept for a backward pass


def test_training_is_followed_until_the_optimizer_has_its_state() -> None:
    """Also where it takes a step every eighth round only, from a loader in a function; its workers are not begun."""
    model = torch.nn.Linear(1024, 1024, bias=False)
    optimizer = torch.optim.AdamW(model.parameters())
    data = torch.utils.data.TensorDataset(torch.ones(4000, 1024))
    loader = torch.utils.data.DataLoader(data, batch_size=1, num_workers=2)

    def train() -> int:
        for number, (rows,) in enumerate(loader, start=1):
            model(rows).sum().backward()
            time.sleep(0.03)
            if number % 8 == 0:
                optimizer.step()
                optimizer.zero_grad()
        return number

    took, told = peak("train()", train=train)
    assert took >= 4 + 2 * 4  # gradients, two moments
    assert "forecast.rounds" in told
    assert loader.num_workers == 2
    assert not optimizer.state


def test_what_failed_is_let_go_of_first() -> None:
    """The figures begin then: on the host the bytes that come back are room."""
    kept = [torch.ones(64 << 18)]
    cell = CellRun("made = torch.empty(1 << 18)", NAMES | {"kept": kept}, kept.clear)
    trace = follow_call(cell, torch, "cpu", Devices(1), 60)
    freed = [trace.blocks[-one - 1].size for one in trace.events[: trace.begins] if one < 0]
    assert 64 << 20 in freed
    assert forecast_call(cell, "").allocated.likely == MIB
    assert len(kept) == 1


def test_a_cell_with_magics_is_refused() -> None:
    with pytest.raises(UsageError, match="not followed"):
        CellRun("get_ipython().run_line_magic('time', 'x')", {})


def by_hand() -> None:
    layer = torch.nn.Linear(512, 512)
    for _ in range(3):
        layer(torch.ones(4, 512)).sum().backward()
        for one in layer.parameters():
            one.data = one.data - 0.1 * one.grad
            one.grad = None


def on_threads() -> Any:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda _: torch.ones(1 << 20), range(4)))


def as_array() -> Any:
    return (torch.randn(1 << 20) + 1).cpu().numpy().sum()


def saved() -> None:
    torch.save(torch.ones(1 << 20), "never")


def compiled() -> Any:
    return torch.compile(torch.nn.Linear(512, 512))(torch.ones(512, 512))


@pytest.mark.parametrize(
    ("call", "least", "told"),
    [(by_hand, 1, ""), (on_threads, 16, ""), (as_array, 8, "assumed_zero"), (saved, 4, ""), (compiled, 1, "compiled")],
)
def test_what_is_no_operation_is_followed_too(
    call: Callable[[], Any], least: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = nb_oomhelper.forecast(call)
    assert (found.ended, found.error) == ("returned", "")
    assert found.allocated.likely >= least * MIB
    assert {one.key for one in found.notes} == {"forecast.kernels", *([f"forecast.{told}"] if told else [])}
    assert not list(tmp_path.iterdir())


async def later() -> None: ...


def one_by_one() -> Any:
    yield torch.ones(1)


@pytest.mark.parametrize("call", [later, one_by_one])
def test_what_has_not_run_is_told(call: Callable[[], Any]) -> None:
    found = nb_oomhelper.forecast(call)
    assert found.ended == "raised"
    assert "of which nothing has run yet" in found.error


def test_an_error_of_several_lines_is_one() -> None:
    def call() -> None:
        raise ValueError("one\ntwo")

    assert nb_oomhelper.forecast(call).error == "ValueError: one two"


def test_a_copy_that_crashes_is_told() -> None:
    with pytest.raises(OomHelperError, match=r"gave no answer \(SIGKILL in the call"):
        nb_oomhelper.forecast(lambda: os.kill(os.getpid(), signal.SIGKILL))
