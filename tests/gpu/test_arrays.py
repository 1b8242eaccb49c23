"""JAX's and CuPy's memory on a CUDA device, where they are installed with their CUDA parts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import LOAD
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.gpu

MIB = 1 << 20
SIZE = 256 * MIB
READ = """
from nb_oomhelper.frameworks import {module} as framework
from nb_oomhelper.memory.snapshot import read_measure
from nb_oomhelper.memory.nvml import Driver
import nb_oomhelper
def figures():
    found = framework.allocator("cuda", 0)
    return [found.allocated, found.cached, read_measure(Driver(), "cuda", 0).device_used]
def keeps(name):
    return [row.own for row in nb_oomhelper.holdings(0) if row.name == name]
"""


def start(start_kernel: StartKernel, library: str, probe: str) -> Kernel:
    """A kernel with the extension; skips where the library sees no GPU."""
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=120, check=False)
    if found.returncode:
        pytest.skip(f"{library} is not installed here, or sees no CUDA device")
    kernel = start_kernel()
    for cell in (LOAD, READ.format(module=f"_{library}")):
        assert kernel.execute(cell).status == "ok"
    return kernel


def test_a_release_gives_cupys_pool_back(start_kernel: StartKernel) -> None:
    kernel = start(start_kernel, "cupy", "import cupy; assert cupy.cuda.runtime.getDeviceCount()")
    assert kernel.eval("framework.allocator('cuda', 0)") is None  # nothing of CUDA yet, and asking starts nothing
    assert kernel.execute(f"import cupy\nx = cupy.zeros({SIZE}, 'u1')\nview = x[1:]").status == "ok"
    assert kernel.eval("figures()")[:2] == [SIZE, 0]
    assert kernel.eval("[sum(keeps('x')), sum(keeps('view'))]") == [0, 0]  # they share it
    kernel.execute("del view")
    assert kernel.eval("keeps('x')") == [SIZE]
    kernel.execute("del x")
    allocated, cached, used = kernel.eval("figures()")
    assert (allocated, cached) == (0, SIZE)
    kernel.execute("nb_oomhelper.release();")
    allocated, cached, after = kernel.eval("figures()")
    assert (allocated, cached) == (0, 0)
    assert used - after > 0.9 * SIZE
    # a small array in a large block: the rest of it is cached, and stays
    kernel.execute(f"x = cupy.zeros({SIZE}, 'u1')\ndel x\ny = cupy.zeros(10, 'u1')\nnb_oomhelper.release();")
    allocated, cached, _ = kernel.eval("figures()")
    assert allocated < 1 << 20
    assert cached > 0.9 * SIZE
    assert kernel.eval("framework.allocator('cuda', 0).releasable") is None


def test_jaxs_pool_is_told_from_its_arrays(start_kernel: StartKernel) -> None:
    kernel = start(start_kernel, "jax", "import jax; assert jax.devices('gpu')")
    assert kernel.eval("framework.allocator('cuda', 0)") is None
    assert kernel.execute(f"import jax.numpy as jnp\nx = jnp.zeros({SIZE}, 'uint8').block_until_ready()").status == "ok"
    allocated, cached, used = kernel.eval("figures()")
    assert SIZE <= allocated < 1.1 * SIZE
    assert used > allocated + cached  # and the CUDA context
    assert kernel.eval("keeps('x')") == [SIZE]
    kernel.execute("del x")
    assert kernel.eval("figures()")[0] < 0.1 * SIZE
    kernel.execute("nb_oomhelper.release();")
    assert kernel.eval("figures()")[1] >= cached  # it gives nothing back
