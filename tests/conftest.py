"""Fixtures for more than one folder of tests: real kernels, of every set of packages that we answer for."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests import played_cuda

if TYPE_CHECKING:
    from tests.kernel.driver import Kernel

ROOT = Path(__file__).parents[1]
# The sets of IPython, ipykernel and ipywidgets: their newest, which this interpreter has, and those of `make old`, …
PAIRS = {"new": Path(sys.executable)} | {
    name: ROOT / f".venv-{name}" / "bin" / "python" for name in ("old", "colab", "kaggle")
}

StartKernel = Callable[..., "Kernel"]
PlayDevice = Callable[..., dict[str, str]]


def missing(reason: str) -> NoReturn:
    """Skip the test for want of something; with CI=true, where all must run, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (with CI=true nothing may be skipped for that)")
    pytest.skip(reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    known = ", ".join(PAIRS)
    parser.addoption("--pairs", default="colab,old,new", help=f"whose kernels are driven, of {known}: %(default)s")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what starts kernels and browsers first: the short files at the end fill all processes evenly."""
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("kernel", "browser")))


def pytest_collection() -> None:
    """Leave the garbage collector out of what only makes objects that stay."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what the thousands of tests themselves are made of, as in a small process."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel_python" in metafunc.fixturenames:
        metafunc.parametrize("kernel_python", metafunc.config.getoption("pairs").split(","), indirect=True)


@pytest.fixture(scope="module")
def kernel_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of a pair: IPython and ipykernel as Colab has them, at their oldest, and at their newest."""
    python = PAIRS[request.param]
    if not python.exists():
        missing(f"The environment of {request.param} is not there: make {request.param}")
    return python


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


@pytest.fixture
def played(tmp_path: Path) -> PlayDevice:
    """Make the test's own machine with a played GPU: `played("8GiB", used="2GiB")`, see `played_cuda.device`.

    Gives the environment of the processes that see it; they run `played_cuda.PYTHON`.
    """
    can_play()
    return partial(played_cuda.device, tmp_path)


@pytest.fixture
def played_kernel(played: PlayDevice, start_kernel: StartKernel) -> StartKernel:
    """Start a kernel on the test's own played GPU: `played_kernel("8GiB", used="2GiB")`, as `played`."""
    return lambda *args, **options: start_kernel(played_cuda.PYTHON, played(*args, **options))


def can_play() -> None:
    """Skip the test where CUDA cannot be played; with CI=true, fail it."""
    try:
        played_cuda.check(played_cuda.wheel())
    except played_cuda.UnplayableError as error:
        missing(str(error))
