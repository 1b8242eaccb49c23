"""Statements about CUDA that were once false, each against PyTorch's real allocator on a played device.

Where a request is said to fit, or not to, the very request is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import played_cuda
from tests.conftest import PlayDevice, StartKernel, can_play
from tests.kernel.cells import GIB, LOAD, MIB, shown
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.played

CASE = "get_ipython()._nb_oomhelper.case"
TAKE = f"""{LOAD}
import torch
def take(mib):
    return torch.empty(int(mib * {MIB}), dtype=torch.uint8, device="cuda")
"""


def run(kernel: Kernel, cell: str) -> None:
    """Run a cell that must not fail."""
    reply = kernel.execute(cell, timeout=120)
    assert reply.status == "ok", f"{cell}\n{reply.ename}: {reply.evalue}"


def failed(kernel: Kernel, cell: str) -> str:
    """Run a cell that runs out of memory; the panel's text."""
    reply = kernel.execute(cell, timeout=120, stop_on_error=False)
    assert reply.status == "error"
    (bundle,) = shown(reply)
    return str(bundle["text/plain"])


def causes(kernel: Kernel) -> dict[str, int | None]:
    """Bytes by kind of cause, of the last case."""
    found: dict[str, int | None] = kernel.eval(f"{{one.kind: one.size for one in {CASE}.diagnosis.causes}}")
    return found


def fits(kernel: Kernel, fix: str = "release-failed-cell") -> Any:
    """Whether a fix is said to be enough for the request; None where nobody is sure, or it is not offered."""
    return kernel.eval(f"next((one.fits for one in {CASE}.plans if one.fix == {fix!r}), None)")


def came_true(kernel: Kernel, mib: float) -> bool:
    """Release, and make the request: whether it fits now."""
    run(kernel, "import nb_oomhelper; nb_oomhelper.release();")
    return kernel.execute(f"del_me = take({mib})", stop_on_error=False).status == "ok"


def test_pytorch_is_counted_once(played_kernel: StartKernel) -> None:
    kernel = played_kernel("4GiB")
    run(kernel, f"{TAKE}\nkept = take(2560)")
    assert "allocated 2.50 GiB" in failed(kernel, "take(2048)")
    assert kernel.eval(f"{CASE}.snapshot.others") == []
    assert "pool" not in causes(kernel)


def test_a_graphs_pool_is_nobody_elses(played_kernel: StartKernel) -> None:
    kernel = played_kernel("2GiB")
    capture = "graph = torch.cuda.CUDAGraph()\nwith torch.cuda.graph(graph):\n    a = take(700); b = a + 1\ndel a, b"
    run(kernel, f"{TAKE}\ntake(1); torch.cuda.empty_cache()\n{capture}")
    failed(kernel, "take(900)")
    assert causes(kernel)["private_pool"] == 1400 * MIB
    assert fits(kernel) is not True
    assert not came_true(kernel, 900)
    run(kernel, "graph.reset()")
    failed(kernel, "take(1900)")
    assert "private_pool" not in causes(kernel)
    assert came_true(kernel, 900)


def test_exact_figures_below_a_memory_fraction(played_kernel: StartKernel) -> None:
    kernel = played_kernel("4GiB", fraction=0.5)
    run(kernel, f"{TAKE}\nkept = take(2022)")
    text = failed(kernel, "take(28)")
    assert kernel.eval(f"[{CASE}.diagnosis.free, {CASE}.diagnosis.short]") == [26 * MIB, 2 * MIB]
    assert "free 26.0 MiB" in text
    assert "although" not in text
    assert fits(kernel) is not True
    assert not came_true(kernel, 28)
    assert "larger than" in failed(kernel, "take(2500)")
    assert causes(kernel)["too_large"] == pytest.approx(2500 * MIB, abs=0.005 * GIB)  # as it is printed
    assert came_true(kernel, 26)


def test_what_was_allocated_when_it_failed(played_kernel: StartKernel) -> None:
    """What a program in C++ had made on the way is free again when the error is seen."""
    kernel = played_kernel("2GiB")
    run(kernel, f"{TAKE}\nfrom nb_oomhelper.diagnosis.request import allocated_then\nkept = take(1000)")
    failed(kernel, "take(200) + take(600)")
    then = kernel.eval(f"allocated_then({CASE}.event, {CASE}.snapshot)")
    assert (then, kernel.eval(f"{CASE}.snapshot.allocated")) == (1200 * MIB, 1000 * MIB)


def test_what_came_free_on_the_way_contradicts_nothing(played_kernel: StartKernel) -> None:
    kernel = played_kernel("4GiB")
    run(kernel, f"{TAKE}\nfiller = take(3396)")
    text = failed(kernel, "take(300) + take(250)")
    assert "is cached of the" not in text
    assert fits(kernel) is not False
    assert came_true(kernel, 250)


def test_a_recorded_history_takes_no_time(played_kernel: StartKernel) -> None:
    """It was read whole, which took twelve seconds; now not one entry of it is."""
    kernel = played_kernel("2GiB")
    run(kernel, f"{TAKE}\ntorch.cuda.memory._record_memory_history(max_entries=200000)\nkept = take(1)")
    run(kernel, "asked = []; read = torch._C._cuda_memorySnapshot\nfor _ in range(100): take(1)")
    run(kernel, "torch._C._cuda_memorySnapshot = lambda *what: (asked.append(what), read(*what))[1]")
    failed(kernel, "take(4000)")
    assert kernel.eval("asked and all(what[0][-1] is False for what in asked)")


@pytest.mark.parametrize("options", ["", "expandable_segments:True"])
def test_every_other_piece_of_a_cache(played: PlayDevice, start_kernel: StartKernel, options: str) -> None:
    kernel = start_kernel(played_cuda.PYTHON, played("2GiB") | {"PYTORCH_CUDA_ALLOC_CONF": options})
    run(kernel, f"{TAKE}\npieces = [take(30) for _ in range(20)]\nfrom nb_oomhelper.memory.nvml import Driver")
    read = 'take_snapshot(Driver(), backend="cuda", device=0, blocks=True)'
    run(kernel, f"from nb_oomhelper.memory.snapshot import take_snapshot\ndel pieces[::2]\nbefore = {read}")
    run(kernel, f"torch.cuda.empty_cache()\nafter = {read}")
    promised, came = kernel.eval("[before.releasable, before.reserved - after.reserved]")
    assert promised == came == (200 if options else 300) * MIB
    assert kernel.eval("after.device.free - before.device.free") == came


def test_tensors_that_share_segments_make_no_piece(played_kernel: StartKernel) -> None:
    """All that the failed cell keeps was once added up, as if it lay together."""
    kernel = played_kernel("2GiB")
    run(kernel, f"{TAKE}\nkept = []")
    cell = (
        "def step():\n    mine = []\n    for _ in range(60): kept.append(take(8)); mine.append(take(8))\n    take(800)"
    )
    failed(kernel, f"{cell}\nstep()")
    assert fits(kernel) is False
    assert not came_true(kernel, 800)
    run(kernel, "kept.clear()")
    assert came_true(kernel, 800)


def test_those_of_one_kind_are_one_row(played_kernel: StartKernel) -> None:
    kernel = played_kernel("4GiB", processes=dict.fromkeys(range(4711, 4726), "200MiB"))
    run(kernel, TAKE)
    text = failed(kernel, "take(3000)")
    assert "15 processes whose names cannot be seen from here" in text
    assert "kill" not in text


def machine(folder: Path, *lines: str) -> dict[str, str]:
    can_play()
    gpu = "gpu GPU-11111111-2222-3333-4444-555555555555 4GiB Played GPU"
    return played_cuda.play(folder, "\n".join([gpu, "context 300MiB", *lines, ""]))


def test_a_driver_that_hides_processes(tmp_path: Path, start_kernel: StartKernel) -> None:
    missing = [f"missing nvmlDeviceGetComputeRunningProcesses_v{version}" for version in (3, 2)]
    kernel = start_kernel(played_cuda.PYTHON, machine(tmp_path, *missing, "used 1200MiB"))
    run(kernel, f"{TAKE}\nkept = take(1000)")
    assert "outside this process's allocator" in failed(kernel, "take(2000)")
    assert causes(kernel)["elsewhere"] == 1500 * MIB


def test_without_nvml_the_runtime_tells(tmp_path: Path, start_kernel: StartKernel) -> None:
    kernel = start_kernel(
        played_cuda.PYTHON, machine(tmp_path, "error nvmlInitWithFlags 9", "error nvmlInit_v2 9", "used 1200MiB")
    )
    run(kernel, f"{TAKE}\nkept = take(1000)")
    failed(kernel, "take(2000)")
    found = kernel.eval(f"[{CASE}.diagnosis.free, {CASE}.diagnosis.capacity]")
    assert found == [(4096 - 1200 - 300 - 1000) * MIB, 4 * GIB]
    assert causes(kernel)["elsewhere"] == 1500 * MIB


def test_who_holds_a_gpu_before_cuda_starts(played_kernel: StartKernel) -> None:
    kernel = played_kernel("4GiB", processes={4711: "2GiB"})
    reply = kernel.execute(f"{TAKE}\n%gpumem")
    text = "".join(str(row["data"].get("text/plain", "")) for row in reply.displays) + reply.stdout
    assert "4711" in text
    assert "cannot be told here" not in text


def test_a_context_that_finds_no_room(played_kernel: StartKernel) -> None:
    kernel = played_kernel("4GiB", processes={4711: "3900MiB"})
    run(kernel, TAKE)
    assert "the CUDA context of this process found no room" in failed(kernel, "take(1)")
    assert set(causes(kernel)) == {"context", "other_process"}


def test_cublas_that_finds_no_room(played_kernel: StartKernel) -> None:
    kernel = played_kernel("2GiB")
    run(kernel, f"{TAKE}\na = torch.empty(16, 16, device='cuda')\nkept = take(2048 - 300 - 2 - 2)")
    text = failed(kernel, "a @ a")
    assert "handle" in causes(kernel)
    assert "CUDA_LAUNCH_BLOCKING" not in text


def test_pinned_memory_that_is_refused(played_kernel: StartKernel) -> None:
    kernel = played_kernel("2GiB")
    limit = "import resource, psutil\nsize = psutil.Process().memory_info().vms + (600 << 20)"
    run(kernel, f"{TAKE}\nkept = take(1)\n{limit}\nresource.setrlimit(resource.RLIMIT_AS, (size, -1))")
    reply = kernel.execute("torch.empty(1 << 30, dtype=torch.uint8, pin_memory=True)", stop_on_error=False)
    assert "pin_memory" in str(shown(reply)[-1])
    assert "pinned_refused" in causes(kernel)


def test_the_users_own_line_and_cublas_workspace(played_kernel: StartKernel) -> None:
    kernel = played_kernel("2GiB")
    run(kernel, f"{TAKE}\nmodel = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(9)]).cuda()")
    run(kernel, "x = torch.empty(60 << 10, 1024, device='cuda'); y = model[0](x[:8]); del y")
    text = failed(kernel, "# one line\nmodel(x)")
    assert "from your line 2 on" in text
    assert "torch.nn.modules" in text
    assert causes(kernel)["workspace"] == kernel.eval("torch._C._cuda_getCublasWorkspaceSize()")
    assert "unnamed" not in causes(kernel)
