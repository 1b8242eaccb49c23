"""Kernels that the tests of one file share, where their state allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.driver import Kernel

SharedKernel = Callable[..., Kernel]


def needs(kernel: Kernel, module: str) -> None:
    """Skip the test where the packages of a kernel's pair are without one that they need not have."""
    if not kernel.can_import(module):
        pytest.skip(f"{module} is not installed beside these packages")


@pytest.fixture(scope="module")
def shared(kernel_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedKernel]:
    """Give the file's kernel of a name, of each pair: `shared("name", env=None)` starts it if it is not there."""
    kernels: dict[str, Kernel] = {}
    with ExitStack() as running:

        def kernel(name: str, env: Mapping[str, str] | None = None) -> Kernel:
            if name not in kernels:
                home = tmp_path_factory.mktemp(name)
                kernels[name] = running.enter_context(Kernel(kernel_python, home, env))
            return kernels[name]

        yield kernel


@pytest.fixture
def go_on(tmp_path: Path) -> Iterator[Path]:
    """Give the file that ends a cell of `start_busy`; at the latest it is there when the test ends."""
    yield tmp_path / "go"
    (tmp_path / "go").touch()
