"""Fixtures for more than one folder of tests: real kernels, of the oldest and the newest supported packages."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from tests.kernel.driver import Kernel

ROOT = Path(__file__).parents[1]
OLD_PYTHON = ROOT / ".venv-old" / "bin" / "python"

StartKernel = Callable[..., "Kernel"]


def missing(reason: str) -> NoReturn:
    """Skip the test for want of something; with CI=true, where all must run, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (with CI=true nothing may be skipped for that)")
    pytest.skip(reason)


@pytest.fixture(params=["old", "new"])
def kernel_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of a pair: IPython and ipykernel at their oldest supported versions, and at their newest."""
    if request.param == "new":
        return Path(sys.executable)
    if not OLD_PYTHON.exists():
        missing("The environment with the oldest IPython is not there: make old")
    return OLD_PYTHON


@pytest.fixture
def start_kernel(tmp_path: Path) -> Iterator[StartKernel]:
    """Start kernels that end with the test: `start_kernel(python=sys.executable, env=None)`."""
    from tests.kernel.driver import Kernel

    with ExitStack() as running:

        def start(python: str | Path = sys.executable, env: Mapping[str, str] | None = None) -> Kernel:
            home = tmp_path / f"kernel-{len(list(tmp_path.glob('kernel-*')))}"
            home.mkdir()
            return running.enter_context(Kernel(python, home, env))

        yield start


@pytest.fixture
def kernel(start_kernel: StartKernel, kernel_python: Path) -> Kernel:
    """A kernel of each pair."""
    return start_kernel(kernel_python)
