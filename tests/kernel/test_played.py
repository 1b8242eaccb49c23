"""A kernel on a played GPU: PyTorch's own allocator fails there, and the panel explains it."""

from __future__ import annotations

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import LOAD, shown

pytestmark = pytest.mark.played


def test_a_real_out_of_memory_error_is_explained(played_kernel: StartKernel) -> None:
    kernel = played_kernel("8GiB", used="2GiB", processes={4711: "2GiB"})
    assert kernel.execute(f"{LOAD}\nimport torch").status == "ok"
    reply = kernel.execute("x = torch.empty(7 << 30, dtype=torch.uint8, device='cuda')", stop_on_error=False)
    assert reply.ename == "OutOfMemoryError"
    assert "GPU 0 has a total capacity of 8.00 GiB of which 5.71 GiB is free" in reply.evalue
    (bundle,) = shown(reply)
    assert "process 4711" in bundle["text/plain"]
