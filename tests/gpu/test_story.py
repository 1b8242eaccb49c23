"""A real torch.OutOfMemoryError in a real kernel, on a CUDA device of which PyTorch may use four GiB.

Nothing here runs without a device. The figures that are compared are the driver's, PyTorch's and ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.memory.processes import sees_driver_pids
from nb_oomhelper.records.memory import DeviceMemory
from nb_oomhelper.showing.case_record import MIME
from nb_oomhelper.units import format_bytes
from tests.conftest import StartKernel
from tests.kernel.cells import LOAD, VIEW, Panel, run_of, shown
from tests.kernel.driver import Kernel, Reply

pytestmark = pytest.mark.gpu

MIB = 1 << 20
GIB = 1 << 30
CARD = 4 * GIB  # what PyTorch may use
MODEL = GIB // 2
PINNED = 2 * GIB  # `batch` and `outputs`: what the failed cell keeps
REQUESTED = 2 * GIB
CONTEXT = 100 * MIB  # a CUDA context takes more than that on every card

CASE = "get_ipython()._nb_oomhelper.case"
SMALL_CARD = f"""
import torch
GIB = 1 << 30
def take(size):
    return torch.ones(size, dtype=torch.uint8, device="cuda")
torch.cuda.set_per_process_memory_fraction({CARD} / torch.cuda.get_device_properties(0).total_memory, 0)
model = take({MODEL})
def train_step():
    batch = take(GIB)
    outputs = batch + 1
    return take({REQUESTED})
"""
HOLD = """
import sys, torch
held = torch.ones(int(sys.argv[1]), dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def device() -> None:
    """Skip all of this where PyTorch finds no device. Asking for one creates no context."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if torch.version.cuda is None:
        pytest.skip("this build of PyTorch has no CUDA")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no CUDA device here")


@pytest.fixture
def gpu_kernel(start_kernel: StartKernel) -> Kernel:
    """A kernel of this interpreter's with the extension, and nothing of CUDA yet."""
    kernel = start_kernel()
    ok(kernel, LOAD)
    return kernel


@pytest.fixture
def failed(gpu_kernel: Kernel) -> tuple[Kernel, Reply]:
    """The kernel after the cell that ran out of memory, and its reply."""
    ok(gpu_kernel, SMALL_CARD)
    reply = gpu_kernel.execute("train_step()\nmodel.numel()", timeout=120, stop_on_error=False)  # it needs the model
    assert reply.status == "error"
    return gpu_kernel, reply


def ok(kernel: Kernel, code: str) -> Reply:
    """Run a cell that must not fail."""
    reply = kernel.execute(code, timeout=120)
    assert reply.status == "ok", f"{code}\n{reply.ename}: {reply.evalue}"
    return reply


def fact(kernel: Kernel, path: str) -> Any:
    """Read an attribute of the last case."""
    return kernel.eval(f"{CASE}.{path}")


def allocated(kernel: Kernel) -> int:
    return int(kernel.eval("torch.cuda.memory_allocated()"))


def causes(kernel: Kernel, kind: str) -> list[dict[str, Any]]:
    """Give the causes of one kind, each as a dict."""
    rows = kernel.eval(f"[__import__('dataclasses').asdict(cause) for cause in {CASE}.diagnosis.causes]")
    return [row for row in rows if row["kind"] == kind]


def near(size: int, percent: float = 5) -> Any:
    """Compare with a size, give or take so many percent of it."""
    return pytest.approx(size, rel=percent / 100)


@contextmanager
def driver_row() -> Iterator[Any]:
    """Read the first device that CUDA shows, from this process, which has no context of its own."""
    driver = Driver()

    def read() -> DeviceMemory:
        rows = driver.read().devices
        return next((row for row in rows if row.device == 0), rows[0])

    try:
        yield read
    finally:
        driver.close()


@contextmanager
def another_process(size: int) -> Iterator[int]:
    """Hold memory of the device in a second process; gives its pid."""
    command = [sys.executable, "-c", HOLD, str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "holding"
        try:
            yield process.pid
        finally:
            process.kill()


def test_the_panel_tells_device_capacity_and_request(failed: tuple[Kernel, Reply]) -> None:
    kernel, reply = failed
    assert reply.ename == "OutOfMemoryError"
    assert [error["ename"] for error in reply.errors] == ["OutOfMemoryError"]
    (bundle,) = shown(reply)
    assert set(bundle) == {VIEW, "text/html", "text/plain", MIME}
    whole, name = kernel.eval("[torch.cuda.get_device_properties(0).total_memory, torch.cuda.get_device_name(0)]")
    assert fact(kernel, "event.framework") == "pytorch"
    assert fact(kernel, "event.backend") == "cuda"
    assert fact(kernel, "event.device") == 0
    assert fact(kernel, "event.requested") == REQUESTED
    assert fact(kernel, "diagnosis.capacity") == near(whole, 1)
    assert fact(kernel, "snapshot.allocator.limit") == near(CARD, 1)
    assert fact(kernel, "snapshot.device.name") == name
    for text in (bundle["text/plain"], bundle["text/html"], Panel(kernel, reply).text):
        assert "CUDA out of memory" in text
        assert "cuda:0" in text
        assert name in text
        assert format_bytes(fact(kernel, "diagnosis.capacity")) in text
        assert format_bytes(REQUESTED) in text


def test_the_failed_cell_is_named_with_its_bytes(failed: tuple[Kernel, Reply]) -> None:
    kernel, _ = failed
    (cell,) = causes(kernel, "failed_cell")
    assert set(cell["names"]) == {"batch", "outputs"}
    assert cell["function"] == "train_step"
    assert cell["size"] == near(PINNED)
    (variable,) = causes(kernel, "variable")
    assert variable["names"] == ["model"]
    assert variable["size"] == near(MODEL)
    assert [cause["size"] for cause in causes(kernel, "limit")] == [near(CARD, 1)]


def test_collecting_and_emptying_the_cache_is_no_cure(failed: tuple[Kernel, Reply]) -> None:
    kernel, _ = failed
    assert allocated(kernel) == near(MODEL + PINNED)
    ok(kernel, "import gc\ngc.collect()\ntorch.cuda.empty_cache()")
    assert allocated(kernel) == near(MODEL + PINNED)
    again = kernel.execute(f"again = take({REQUESTED})", stop_on_error=False)
    assert again.ename == "OutOfMemoryError"


def test_a_click_gives_the_memory_back_and_the_request_fits(failed: tuple[Kernel, Reply]) -> None:
    kernel, reply = failed
    plans = kernel.eval(f"[[plan.fix, plan.fits, plan.predicted] for plan in {CASE}.plans]")
    ((fits, predicted),) = [rest for fix, *rest in plans if fix == "release-failed-cell"]
    assert fits is True
    panel = Panel(kernel, reply)
    with driver_row() as read:
        before = read().used
        panel.only(run_of(panel, "release-failed-cell"))
        after = read().used
    assert allocated(kernel) == near(MODEL)
    outcome = kernel.eval(f"__import__('dataclasses').asdict({CASE}.outcomes[-1])")
    assert outcome["error"] is None
    assert outcome["freed"] == near(PINNED)
    assert outcome["freed"] == near(predicted)
    assert outcome["fits"] is True
    assert outcome["before"]["device_used"] - outcome["after"]["device_used"] == near(PINNED)
    assert before is not None
    assert before - after == near(PINNED)
    assert format_bytes(outcome["freed"]) in Panel(kernel, reply).text
    ok(kernel, f"again = take({REQUESTED})")


def test_the_first_click_makes_the_cell_run(failed: tuple[Kernel, Reply]) -> None:
    """The cell needs 4.5 GiB of 4; without `batch` and `outputs`, which nothing reads then, 2.5 GiB."""
    kernel, reply = failed
    assert kernel.eval(f"[{CASE}.plans[0].fix, {CASE}.plans[0].verdict]") == ["let-go", "runs"]
    panel = Panel(kernel, reply)
    assert panel.click("Fix and run").errors == []
    assert "✓ The cell finished without an error" in panel.text
    assert kernel.eval("torch.cuda.max_memory_allocated()") == near(MODEL + REQUESTED)
    assert kernel.eval("model.numel()") == MODEL


def test_release_as_a_function(failed: tuple[Kernel, Reply]) -> None:
    kernel, _ = failed
    ok(kernel, "import nb_oomhelper\noutcome = nb_oomhelper.release()")
    assert kernel.eval("outcome.before.backend") == "cuda"
    assert kernel.eval("outcome.freed") == near(PINNED)
    assert allocated(kernel) == near(MODEL)
    assert kernel.eval("model.numel()") == MODEL  # the user's variable is still there


def test_another_process_is_told_with_its_bytes(gpu_kernel: Kernel) -> None:
    """In a container the driver may number processes as the host does, or tell nothing of them: then we say so."""
    with another_process(GIB) as pid:
        ok(gpu_kernel, SMALL_CARD)
        reply = gpu_kernel.execute("train_step()\nmodel.numel()", timeout=120, stop_on_error=False)
        assert reply.ename == "OutOfMemoryError"
        text = shown(reply)[-1]["text/plain"]
        told = [row for row in causes(gpu_kernel, "other_process") if row["size"]]
    parts = gpu_kernel.eval(
        "[[part.kind, part.size] for part in"
        f" __import__('nb_oomhelper.memory.segments').memory.segments.segments({CASE}.snapshot, 'cuda')]"
    )
    sizes = dict(parts)
    if told and sees_driver_pids():
        row = next(row for row in told if row["pid"] == pid)
        assert "python" in row["process"]
        assert GIB <= row["size"] <= 2 * GIB  # with its context
        assert f"process {pid}" in text
    elif told:
        assert any(GIB <= row["size"] <= 2 * GIB for row in told)
        assert "whose name cannot be seen from here" in text
    else:
        assert sizes["elsewhere"] >= GIB
        assert "outside this allocator" in text


def test_reading_creates_no_context(start_kernel: StartKernel) -> None:
    with driver_row() as read:
        kernel = start_kernel()
        before = read()
        ok(kernel, LOAD)
        ok(kernel, "%gpumem")
        assert kernel.eval("'torch' in __import__('sys').modules") is False
        ok(kernel, "import torch")
        for cell in ("%gpumem", "%gpumem --json", "%%gpumem\n1 + 1", "%oom status", "%gpumem --live"):
            ok(kernel, cell)
        kernel.poll(2)  # the live readout goes on reading
        after = read()
    assert kernel.eval("torch.cuda.is_initialized()") is False
    assert kernel.eval("bool(torch._C._cuda_hasPrimaryContext(0))") is False
    assert before.used is not None
    assert after.used - before.used < CONTEXT
    if sees_driver_pids() and after.processes is not None:
        assert kernel.pid not in [row.pid for row in after.processes]


def test_gpumem_agrees_with_pytorch(gpu_kernel: Kernel) -> None:
    ok(gpu_kernel, SMALL_CARD + "kept = take(GIB)\ngone = take(GIB)\ndel gone")
    (row,) = [row for row in usages(gpu_kernel) if row["ordinal"] == "cuda:0"]
    free, whole = gpu_kernel.eval("torch.cuda.mem_get_info()")
    reserved = gpu_kernel.eval("torch.cuda.memory_reserved()")
    assert row["capacity"] == near(whole, 1)
    assert row["free"] == pytest.approx(free, abs=whole / 100)
    assert row["allocated"] == allocated(gpu_kernel)
    assert row["cached"] == reserved - allocated(gpu_kernel)
    assert row["cached"] >= GIB


def usages(kernel: Kernel) -> list[dict[str, Any]]:
    """Give the rows of `%gpumem --json`."""
    rows: list[dict[str, Any]] = json.loads(ok(kernel, "%gpumem --json").stdout)["devices"]
    return rows


def test_the_peak_of_a_cell_is_pytorchs(gpu_kernel: Kernel) -> None:
    ok(gpu_kernel, SMALL_CARD)
    reply = ok(gpu_kernel, "%%gpumem\nstep = take(GIB)\ntwice = step + 1\ndel step, twice")
    peak = gpu_kernel.eval("torch.cuda.max_memory_allocated()")
    assert peak == near(MODEL + PINNED)
    (line,) = [line for line in reply.stdout.splitlines() if line.startswith("allocated on cuda:0: ")]
    assert f"peak {format_bytes(peak)} (+" in line
    assert "change ±0" in line
