"""`%%gpumem`: what a cell took of each GPU, with allocators that are played, and of the host."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from nb_oomhelper.shell.meter import Meter
from tests.played_jax import PlayedGpu

pytestmark = pytest.mark.plain

GIB = 1 << 30


class Gpu(PlayedGpu):
    """A GPU of JAX's, whose figures a test sets."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.allocated = self.peak = 0

    def take(self, size: int) -> None:
        self.allocated += size
        self.peak = max(self.peak, self.allocated)

    def memory_stats(self) -> dict[str, int]:
        return {"bytes_in_use": self.allocated, "peak_bytes_in_use": self.peak}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    found = [Gpu(0), Gpu(1), Gpu(2)]
    bridge = SimpleNamespace(_backends={"cuda": SimpleNamespace(local_devices=lambda: found)})
    for one in found:
        one.client.local_devices = lambda: found
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", bridge)
    return found


def test_each_gpu_is_compared_with_itself(gpus: list[Gpu]) -> None:
    """The GPU with most on it is another one afterwards."""
    gpus[0].take(4 * GIB)
    with Meter() as meter:
        gpus[1].take(5 * GIB)
        lines = meter.stop("en")
    assert lines[:-1] == [
        "allocated on cuda:0, seen every 0.1 s: peak 4.00 GiB (±0), change ±0 (4.00 GiB → 4.00 GiB)",
        "allocated on cuda:1: peak 5.00 GiB (+5.00 GiB), change +5.00 GiB (0 bytes → 5.00 GiB)",
    ]
    assert lines[-1].startswith("host, seen every 0.1 s: peak ")


def test_a_peak_between_two_looks_is_the_allocators_own(gpus: list[Gpu]) -> None:
    gpus[1].take(GIB)
    with Meter() as meter:
        gpus[1].take(6 * GIB)
        gpus[1].take(-6 * GIB)
        lines = meter.stop("en")
    assert lines[:-1] == [
        "allocated on cuda:1: peak 7.00 GiB (+6.00 GiB), change ±0 (1.00 GiB → 1.00 GiB)",
    ]


def test_what_an_earlier_cell_took_is_not_this_ones(gpus: list[Gpu]) -> None:
    gpus[0].take(6 * GIB)
    gpus[0].take(-4 * GIB)
    with Meter() as meter:
        gpus[0].take(-GIB)
        (line, _) = meter.stop("en")
    assert line == ("allocated on cuda:0, seen every 0.1 s: peak 2.00 GiB (±0), change -1.00 GiB (2.00 GiB → 1.00 GiB)")


def test_a_gpu_that_the_cell_was_the_first_to_start(gpus: list[Gpu], monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = sys.modules["jax._src.xla_bridge"]
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", SimpleNamespace(_backends={}))
    with Meter() as meter:
        monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", bridge)
        gpus[2].take(GIB)
        (line, _) = meter.stop("en")
    assert line == "allocated on cuda:2: peak 1.00 GiB (+1.00 GiB), change +1.00 GiB (0 bytes → 1.00 GiB)"


def test_without_a_gpu_there_is_the_host() -> None:
    with Meter() as meter:
        (line,) = meter.stop("en")
    assert line.startswith("host, seen every 0.1 s: peak ")
