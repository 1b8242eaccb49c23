"""Every scenario of the recovery suite on a real CUDA device, made small by a memory fraction."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarks.recovery import scenario

from tests.recovery import Trials, check, start

pytestmark = pytest.mark.gpu

NAMES = [one.name for one in scenario.load_all().values() if not one.host_only]


@pytest.fixture(scope="module")
def release(request: pytest.FixtureRequest) -> Iterator[Trials]:
    """The trials on a device; skipped where PyTorch finds none. Asking for one creates no context."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    yield from start(request, "cuda")


@pytest.mark.parametrize("name", NAMES)
def test_release_gives_all_of_it_back(release: Trials, name: str) -> None:
    check(release, name)
