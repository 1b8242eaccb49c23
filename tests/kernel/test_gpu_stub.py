"""Kernels on a machine with GPUs, as far as the driver can be played; the CUDA error is PyTorch's own class."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import StartKernel, missing
from tests.kernel.cells import GIB, LOAD, VIEW, Panel, shown, wait_for
from tests.kernel.conftest import SharedKernel
from tests.kernel.driver import Kernel
from tests.nvml_stub import build, environment, write_scenario
from tests.nvml_stub.build import compiler

pytestmark = pytest.mark.kernel

TWO_GPUS = """
driver 580.65.06
gpu GPU-1111 8GiB NVIDIA H200
used 7.5GiB
process self 1GiB
process 4711 6.5GiB
gpu GPU-2222 80GiB NVIDIA <A100>
used 2GiB
process 4712 2GiB
"""
MESSAGE = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 512.00 MiB is "
    "free. Process 4711 has 6.50 GiB memory in use. Including non-PyTorch memory, this process has 1.00 GiB memory "
    "in use. Of the allocated memory 600.00 MiB is allocated by PyTorch, and 24.00 MiB is reserved by PyTorch but "
    "unallocated."
)
LOADING = f"""
import torch
class _BaseAutoModelClass:
    @classmethod
    def from_pretrained(cls, name, **options):
        weights = torch.ones(1 << 20)
        raise torch.OutOfMemoryError({MESSAGE!r})
class AutoModelForCausalLM(_BaseAutoModelClass):
    pass
"""
PLANS = "[[plan.fix, plan.number, plan.code] for plan in get_ipython()._nb_oomhelper.case.plans]"

Play = Callable[[str], None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiler() is None:
        missing("There is no C compiler to build the NVML stub")
    folder = tmp_path_factory.mktemp("nvml")
    build(folder)
    return folder


@pytest.fixture
def scenario(library: Path) -> Path:
    return write_scenario(library / "scenario.txt", TWO_GPUS)


@pytest.fixture
def variables(library: Path, scenario: Path) -> dict[str, str]:
    """What a kernel needs to see the two GPUs; without an order nobody could tell which of them is cuda:0."""
    stub = environment(scenario, library) | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {name: stub[name] for name in ("NVML_STUB", "LD_LIBRARY_PATH", "CUDA_DEVICE_ORDER")}


@pytest.fixture
def kernel(shared: SharedKernel, variables: dict[str, str]) -> Kernel:
    """The file's kernel of each pair, with two GPUs."""
    pytest.importorskip("torch")
    kernel = shared("gpus", variables)
    if not kernel.eval("'torch' in globals()"):
        cells = [
            LOAD,
            "%config OOMHelper.refresh_seconds = 0.2",
            "import importlib, os, sys, torch\nfrom pathlib import Path",
            f"Path('transformers').mkdir()\n_ = Path('transformers/__init__.py').write_text({LOADING!r})",
            "sys.path.insert(0, '')\nimport transformers",
        ]
        for cell in cells:
            assert kernel.execute(cell).status == "ok"
    kernel.execute("importlib.reload(transformers)\nfrom transformers import AutoModelForCausalLM")
    kernel.execute("os.environ['CUDA_DEVICE_ORDER'] = 'PCI_BUS_ID'")
    return kernel


def test_table_of_two_gpus(kernel: Kernel) -> None:
    (row,) = kernel.execute("%gpumem").displays
    text, markup = row["data"]["text/plain"], row["data"]["text/html"]
    for part in ("GPU 0", "GPU 1", "NVIDIA H200", "NVIDIA <A100>", "8.00 GiB", "80.0 GiB", "process 4711", "6.50 GiB"):
        assert part in text
    assert "<A100>" not in markup
    assert "&lt;A100&gt;" in markup
    (only,) = kernel.execute("%gpumem -i 1").mime("text/plain")
    assert "GPU 1" in only
    assert "GPU 0" not in only
    assert "driver: 2 devices" in kernel.execute("%oom status").stdout


def test_json(kernel: Kernel) -> None:
    told = json.loads(kernel.execute("%gpumem --json").stdout)
    assert told["note"] is None
    first, second, host = told["devices"]
    assert [row["device"] for row in told["devices"]] == ["GPU 0", "GPU 1", "host"]
    assert (first["capacity"], first["free"]) == (8 * GIB, GIB // 2)
    assert first["others"] == 6.5 * GIB
    assert [(row["pid"], row["bytes"]) for row in first["by_process"]] == [(4711, 6.5 * GIB)]
    assert [(row["pid"], row["bytes"]) for row in second["by_process"]] == [(4712, 2 * GIB)]
    assert host["capacity"] > 0


@pytest.mark.parametrize("ordered", [True, False])
def test_readings_follow_the_driver_and_survive_its_failures(kernel: Kernel, scenario: Path, ordered: bool) -> None:
    if not ordered:  # of two different GPUs nobody can tell which is cuda:0 then; their bars are drawn all the same
        kernel.execute("del os.environ['CUDA_DEVICE_ORDER']")
    reply = kernel.execute("%gpumem --live")
    model_id = reply.displays[0]["data"][VIEW]["model_id"]
    assert "512 MiB" in kernel.widgets[model_id]["value"]
    write_scenario(scenario, TWO_GPUS.replace("used 7.5GiB", "used 7GiB"))
    wait_for(kernel, lambda: "1.00 GiB" in kernel.widgets[model_id]["value"])
    for fault in (
        "error nvmlDeviceGetMemoryInfo 15\nerror nvmlDeviceGetMemoryInfo_v2 15",
        "error nvmlDeviceGetCount_v2 999",
    ):
        write_scenario(scenario, f"{TWO_GPUS}\n{fault}\n")
        reply = kernel.execute("%gpumem")
        assert (reply.status, reply.stderr) == ("ok", "")
        assert "unknown" in reply.mime("text/plain")[0]
        kernel.poll(0.6)
    write_scenario(scenario, TWO_GPUS)
    wait_for(kernel, lambda: "512 MiB" in kernel.widgets[model_id]["value"])


@pytest.mark.parametrize(
    "fault",
    [
        "error nvmlInitWithFlags 9",
        "error nvmlInitWithFlags 18",
        "missing nvmlInitWithFlags\nmissing nvmlInit_v2",
        "missing nvmlDeviceGetMemoryInfo_v2\nmissing nvmlDeviceGetComputeRunningProcesses_v3",
    ],
)
def test_driver_that_does_not_work(
    start_kernel: StartKernel, kernel_python: Path, variables: dict[str, str], scenario: Path, fault: str
) -> None:
    write_scenario(scenario, f"{TWO_GPUS}\n{fault}\n")
    kernel = start_kernel(kernel_python, variables)
    kernel.execute(LOAD)
    reply = kernel.execute("%gpumem")
    assert (reply.status, reply.stderr) == ("ok", "")
    assert "host" in reply.mime("text/plain")[0]
    assert json.loads(kernel.execute("%gpumem --json").stdout)["devices"][-1]["device"] == "host"
    assert kernel.execute("%oom status").status == "ok"
    kernel.execute("class OutOfMemoryError(RuntimeError):\n    pass")
    reply = kernel.execute("raise OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')")
    assert len(shown(reply)) == 1
    assert "could not" not in reply.stderr


LATE = "GPU memory is unknown: the NVIDIA driver does not answer"


@pytest.mark.parametrize(
    ("slow", "live"),
    [pytest.param("nvmlInitWithFlags", False, marks=pytest.mark.thorough), ("nvmlDeviceGetCount_v2", True)],
)
def test_driver_that_hangs(
    start_kernel: StartKernel, kernel_python: Path, variables: dict[str, str], tmp_path: Path, slow: str, live: bool
) -> None:
    """It hangs for an hour, at each call: whoever waits for one of them is ended by the limit of a cell."""
    scenario = write_scenario(tmp_path / "hangs.txt", TWO_GPUS)  # its own: the file's kernel must not hang with it
    kernel = start_kernel(kernel_python, variables | {"NVML_STUB": str(scenario)})
    kernel.execute(LOAD)
    kernel.execute("import nb_oomhelper\n%config OOMHelper.refresh_seconds = 0.2")
    bars = kernel.execute("%gpumem --live").displays[0]["data"][VIEW]["model_id"] if live else None
    write_scenario(scenario, f"{TWO_GPUS}\nslow {slow} 3600000\n")
    if live:  # from now on the readout hangs there
        kernel.poll(1.0)
    kernel.execute("class OutOfMemoryError(RuntimeError):\n    pass")
    fail = f"raise OutOfMemoryError({MESSAGE!r})"
    panels = [Panel(kernel, kernel.execute(fail)) for _ in range(2)]
    if bars is not None:
        assert "stopped at" in kernel.widgets[bars]["value"]
        assert "512 MiB" in kernel.widgets[bars]["value"]  # the last reading, from before
    assert "6.50 GiB" in panels[1].text  # the message still tells
    panels[1].only()
    assert "Release the failed cell: done" in panels[1].text or "Release the failed cell: freed" in panels[1].text
    assert LATE in kernel.execute("%gpumem").mime("text/plain")[0]
    for cell in (
        "%oom status",
        "nb_oomhelper.release();",
        "%%gpumem\nvalue = 1",
        "%oom release",
        "%gpumem --live",
        fail,
    ):
        reply = kernel.execute(cell)
        assert "could not" not in reply.stderr, cell
    assert kernel.execute("%unload_ext nb_oomhelper").status == "ok"
    assert kernel.execute(LOAD).status == "ok"
    assert LATE in kernel.execute("%gpumem").mime("text/plain")[0]
    kernel.start("exit")
    wait_for(kernel, lambda: not kernel.alive)


class TestCudaError:
    """The real class of PyTorch; nothing of CUDA is started to explain it."""

    def test_while_a_model_loads(self, kernel: Kernel) -> None:
        reply = kernel.execute("model = AutoModelForCausalLM.from_pretrained('gpt2-xl')")
        assert reply.ename == "OutOfMemoryError"
        assert len(reply.errors) == len(shown(reply)) == 1
        panel = Panel(kernel, reply)
        for part in (
            "CUDA out of memory",
            "cuda:0 · NVIDIA H200 · 8.00 GiB",
            "The cell asked for 2.00 GiB; 512 MiB was free: 1.50 GiB too little.",
            "process 4711",
            "6.50 GiB",
            "a smaller batch: the error came while a model was loading",
            "CUDA-OOM-001 A Hugging Face model does not fit on the GPU",
            "fix rate 88 % · confidence 90 % · evidence: 1 · first seen 2023-12-01 · claimed by entry CUDA-OOM-001",
        ):
            assert part in panel.text, part
        panel.unfold()
        for nth in range(panel.buttons.count("Code")):
            panel.click("Code", nth)
        assert "claimed 95 % (CUDA-OOM-001)" in panel.text
        plans = {fix: code for fix, _, code in kernel.eval(PLANS)}
        statement = plans["reload-offload"].splitlines()[-1]
        assert statement.startswith("model = AutoModelForCausalLM.from_pretrained('gpt2-xl', ")
        assert 'device_map="auto", max_memory={0: "' in statement
        assert "stop-other-process" not in plans  # there is no process 4711 to be seen from here
        assert kernel.eval("torch.cuda.is_initialized()") is False
        wait_for(kernel, lambda: "live, every 0.2 s" in panel.text)
        panel.click("▸ Entry")
        panel.click("JSON")
        assert json.loads(panel.page[0]["data"]["text/plain"])["code"] == "CUDA-OOM-001"
        outcome = kernel.execute("%oom fix 1")
        assert outcome.status == "ok"
        assert kernel.eval("torch.cuda.is_initialized()") is False

    def test_reloading_fix_runs_what_it_shows(self, kernel: Kernel) -> None:
        kernel.execute("model = AutoModelForCausalLM.from_pretrained('gpt2-xl')")
        kernel.execute("calls = []\nload = lambda *args, **options: calls.append([args, options]) or 'the model'")
        kernel.execute("AutoModelForCausalLM.from_pretrained = load")
        number = next(number for fix, number, _ in kernel.eval(PLANS) if fix == "reload-half")
        reply = kernel.execute(f"%oom fix {number}")  # nothing of that name is there to lose
        assert "The code raised" not in reply.stdout
        assert kernel.eval("[model, calls[0][0], sorted(calls[0][1])]") == [
            "the model",
            ["gpt2-xl"],
            ["dtype"],  # of a transformers that is not installed the newest spelling
        ] or kernel.eval("sorted(calls[0][1])") == ["torch_dtype"]

    def test_while_training(self, kernel: Kernel) -> None:
        kernel.execute(f"def train_step(batch):\n    raise torch.OutOfMemoryError({MESSAGE!r})")
        panel = Panel(kernel, kernel.execute("train_step(8)"))
        assert "CUDA-OOM-015 Another process holds the memory" in panel.text
        assert "CUDA-OOM-001" not in panel.text
        assert "a smaller batch" not in panel.text
        assert "reload-offload" not in [fix for fix, _, _ in kernel.eval(PLANS)]
        assert kernel.eval("torch.cuda.is_initialized()") is False

    @pytest.mark.parametrize("ordered", [True, False])
    def test_processes_of_the_message(self, kernel: Kernel, scenario: Path, ordered: bool) -> None:
        """Where the driver tells nothing of them, or it is unknown which of its devices is meant."""
        if ordered:
            write_scenario(scenario, "error nvmlInitWithFlags 9\n")
        else:
            kernel.execute("del os.environ['CUDA_DEVICE_ORDER']")
        panel = Panel(kernel, kernel.execute(f"raise torch.OutOfMemoryError({MESSAGE!r})"))
        assert "process 4711" in panel.text
        assert "6.50 GiB" in panel.text

    def test_host_error_of_torch_beside_gpus(self, kernel: Kernel) -> None:
        panel = Panel(kernel, kernel.execute("torch.ones(1 << 50)"))
        assert "Host memory exhausted" in panel.text
        assert "NVIDIA" not in panel.text
