"""Errors that are no MemoryError, in a real kernel: each brings one panel, which says whose memory it was."""

from __future__ import annotations

import pytest

from tests.kernel.cells import LOAD, shown
from tests.kernel.conftest import SharedKernel, needs
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.kernel

SETUP = """
import os, signal
def fits(size):
    raise MemoryError
def search():
    kept = []
    for size in (8, 4):
        try:
            fits(size)
        except MemoryError as error:
            kept.append(error)
    raise ValueError("no size fits")
"""
ENGINE = (
    "Free memory on device (3.00/24.00 GiB) on startup is less than desired GPU memory utilization (0.9, 21.60 GiB)."
)
POOL = """
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(1) as pool:
    pool.submit(os._exit, 9)
    pool.submit(os.getpid).result()
"""
LOADER = """
import torch
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)
list(torch.utils.data.DataLoader(Rows(), num_workers=1))
"""
CELLS = {
    "a ValueError of an engine": (f"raise ValueError({ENGINE!r})", "CUDA out of memory"),
    "an error that took the place of others": ("search()", "Host memory exhausted"),
    "a pool whose worker is gone": (POOL, "Probably out of memory in another process: a worker of a process pool"),
    "a DataLoader's worker": (LOADER, "Probably out of memory in another process: a DataLoader's worker"),
}


@pytest.fixture
def kernel(shared: SharedKernel) -> Kernel:
    """The file's kernel of each pair, with the extension."""
    kernel = shared("recognized")
    if not kernel.eval("'search' in globals()"):
        for code in (LOAD, SETUP):
            assert kernel.execute(code).status == "ok"
    return kernel


@pytest.mark.parametrize("name", CELLS)
def test_it_brings_one_panel(kernel: Kernel, name: str) -> None:
    code, title = CELLS[name]
    if "torch" in code:
        needs(kernel, "torch")
    reply = kernel.execute(code, timeout=120)
    assert reply.status == "error"
    (panel,) = shown(reply)
    assert panel["text/plain"].lstrip().startswith(title)


def test_an_error_that_only_looks_like_one_brings_none(kernel: Kernel) -> None:
    assert shown(kernel.execute("raise KeyError('CUDA out of memory')")) == []
    assert shown(kernel.execute("class OutOfMemoryError(Exception): pass\nraise OutOfMemoryError('sold out')")) == []
