"""The played CUDA device: PyTorch's real allocator runs on it, and a wrong scenario is told in our words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import played_cuda
from tests.conftest import ROOT, PlayDevice
from tests.nvml_stub import write_scenario
from tests.played_cuda import PYTHON, SCENARIO, UnplayableError, another_process
from tests.played_cuda.build import PROVEN

MIB, GIB = 1 << 20, 1 << 30
UUID = "GPU-{}1111111-2222-3333-4444-555555555555"
PRELUDE = """
import pynvml, torch
MIB = 1 << 20
def take(mib):
    return torch.empty(mib * MIB, dtype=torch.uint8, device="cuda")
def refused(mib):
    try:
        take(mib)
    except torch.OutOfMemoryError as error:
        return str(error)
    raise AssertionError(f"{mib} MiB were to be had")
def driver():
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    rows = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return pynvml.nvmlDeviceGetMemoryInfo(handle).free, {row.pid: row.usedGpuMemory for row in rows}
"""

pytestmark = pytest.mark.played


def run(env: dict[str, str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code after the prelude in a process of the CUDA wheel."""
    return subprocess.run([PYTHON, "-c", PRELUDE + code], env=env, capture_output=True, text=True, timeout=120)


def works(env: dict[str, str], code: str) -> str:
    """Run code whose assertions hold; returns what it prints."""
    done = run(env, code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pytorch_nvml_and_the_scenario_agree(played: PlayDevice) -> None:
    env = played("8GiB", used="1GiB", reserved="100MiB", context="300MiB", name="Played GPU")
    told = works(
        env,
        """
assert torch.version.cuda and torch.cuda.get_device_name(0) == "Played GPU"
assert driver()[1] == {}  # nothing of CUDA yet
free, whole = torch.cuda.mem_get_info()
assert driver() == (free, {__import__("os").getpid(): 300 * MIB})
print(free // MIB, whole // MIB)
""",
    )
    assert told.split() == [str(8192 - 1024 - 100 - 300), "8192"]


def test_the_allocator_is_pytorchs(played: PlayDevice) -> None:
    works(
        played("2GiB"),
        """
free, whole = torch.cuda.mem_get_info()
message = refused(whole // MIB + 1)
assert "GPU 0 has a total capacity of 2.00 GiB of which 1.71 GiB is free" in message, message
kept = take(200)
assert torch.cuda.memory_allocated() == 200 * MIB == free - torch.cuda.mem_get_info()[0]
del kept
assert torch.cuda.memory_reserved() == 200 * MIB  # its cache
assert len(torch.cuda.memory_snapshot()) == 1
torch.cuda.empty_cache()
assert torch.cuda.mem_get_info()[0] == free
torch.cuda.set_per_process_memory_fraction(0.5)
assert "1024.00 MiB allowed" in refused(1025)
""",
    )


@pytest.mark.parametrize("options", ["expandable_segments:True", "backend:cudaMallocAsync"])
@pytest.mark.thorough
def test_the_allocators_other_ways(played: PlayDevice, options: str) -> None:
    works(
        played("2GiB") | {"PYTORCH_CUDA_ALLOC_CONF": options},
        """
free, _ = torch.cuda.mem_get_info()
refused(2000)
kept = torch.ones(200 * MIB, dtype=torch.uint8, device="cuda")
assert free - torch.cuda.mem_get_info()[0] >= 200 * MIB
del kept
torch.cuda.empty_cache()
assert torch.cuda.mem_get_info()[0] == free
assert take(300).cpu().max() == 0  # what was there before is gone
""",
    )


def test_copies_and_fills_are_done(played: PlayDevice) -> None:
    works(
        played("4GiB"),
        """
assert torch.arange(9.0).to("cuda").cpu().tolist() == list(range(9))
for dtype, value in (torch.uint8, 3), (torch.float16, 1.5), (torch.int64, -7), (torch.complex128, 1 + 2j):
    for count in (5, 5_000_003):
        whole = torch.full((count,), value, dtype=dtype, device="cuda")
        assert (whole.cpu() == value).all(), (dtype, count)
        whole[3:].zero_()
        assert whole.cpu()[:3].tolist() == [value] * 3 and not whole.cpu()[3:].any()
        whole[1:].fill_(value)
        assert (whole.cpu() == value).all(), (dtype, count)
""",
    )


def test_what_is_filled_takes_no_room_on_the_host(played: PlayDevice) -> None:
    works(
        played("8GiB"),
        """
import psutil
take(1)
before = psutil.Process().memory_info().rss
ones = torch.ones(3 << 30, dtype=torch.uint8, device="cuda")
assert psutil.Process().memory_info().rss - before < 100 * MIB
""",
    )


def test_another_process_takes_of_the_same_device_and_gives_it_back(played: PlayDevice) -> None:
    env = played("4GiB")
    with another_process(env, "1GiB") as pid:
        works(
            env,
            f"""
free, held = driver()
assert held[{pid}] == 1324 * MIB
assert free == (4096 - 1324) * MIB
assert "Process {pid} has 1.29 GiB memory in use" in refused(3000)
""",
        )
    works(env, "assert driver() == (4096 * MIB, {}) and take(3000) is not None")  # it was killed


@pytest.mark.thorough
def test_several_gpus_and_the_order_that_is_asked_for(tmp_path: Path, played: PlayDevice) -> None:
    text = "".join(f"gpu {UUID.format(number)} {number + 1}GiB GPU number {number}\n" for number in range(3))
    env = played_cuda.play(tmp_path, text)
    ask = "print([torch.cuda.get_device_properties(i).total_memory >> 30 for i in range(torch.cuda.device_count())])"
    assert works(env, ask) == "[1, 2, 3]\n"
    assert works(env | {"CUDA_VISIBLE_DEVICES": "2,0"}, ask) == "[3, 1]\n"
    assert works(env | {"CUDA_VISIBLE_DEVICES": UUID.format(1)}, ask) == "[2]\n"


@pytest.mark.thorough
def test_a_context_and_cublas_that_find_no_room(tmp_path: Path, played: PlayDevice) -> None:
    env = played("1GiB", used="1GiB")
    done = run(env, "take(1)")
    assert "out of memory" in done.stderr
    write_scenario(tmp_path / SCENARIO, (tmp_path / SCENARIO).read_text().replace("used 1GiB", f"used {700 * MIB}"))
    done = run(env, "x = take(20)\nm = torch.empty(4, 4, device='cuda')\nm @ m")
    assert "CUBLAS_STATUS_ALLOC_FAILED" in done.stderr


# Bad input


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("used 5GB", "line 2: not a size: 5GB"),
        ("used nothing", "line 2: not a size: nothing"),
        ("frobnicate 3", "line 2: not understood: frobnicate 3"),
        ("used 9GiB", "line 1: more is used and reserved than there is"),
        ("gpu GPU-2222", "line 2: no uuid and capacity: GPU-2222"),
        ("gpu GPU-2222 8GiB Short", "line 2: CUDA needs a uuid of 32 hexadecimal digits: GPU-2222"),
    ],
)
@pytest.mark.thorough
def test_a_wrong_scenario_is_told_in_a_line(tmp_path: Path, played: PlayDevice, line: str, told: str) -> None:
    env = played_cuda.play(tmp_path, f"gpu {UUID.format(1)} 8GiB Played GPU\n{line}\n")
    done = run(env, "take(1)")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"scenario {tmp_path / SCENARIO}, {told}")


@pytest.mark.thorough
def test_no_scenario_is_told(played: PlayDevice) -> None:
    env = played()
    done = run(env | {"NVML_STUB": "/nowhere"}, "assert not torch.cuda.is_available()")
    assert done.returncode == 0
    assert "played CUDA: no GPU in the scenario NVML_STUB=/nowhere" in done.stderr


@pytest.mark.thorough
def test_a_ledger_of_a_killed_process_and_a_broken_one_count_for_nothing(tmp_path: Path, played: PlayDevice) -> None:
    env = played("2GiB")
    run(env, "kept = take(1000)\n__import__('os').kill(__import__('os').getpid(), 9)")
    ledger = tmp_path / f"{SCENARIO}.ledger"
    assert any(ledger.read_bytes())  # it was left as it was
    works(env, "assert driver() == (2048 * MIB, {})\ntake(1700)")
    for rest in (os.urandom(ledger.stat().st_size), b"short"):
        ledger.write_bytes(rest)
        works(env, "assert driver() == (2048 * MIB, {})\ntake(1700)")


@pytest.mark.thorough
def test_a_ledger_that_cannot_be_written_is_told(tmp_path: Path, played: PlayDevice) -> None:
    env = played()
    (tmp_path / f"{SCENARIO}.ledger").mkdir()
    assert f"played CUDA: {tmp_path / SCENARIO}: its ledger cannot be written" in run(env, "take(1)").stderr


def test_two_tests_on_one_scenario_are_refused(played: PlayDevice) -> None:
    played()
    with pytest.raises(UnplayableError, match="one scenario is one machine"):
        played()


def package(site: Path, version: str, needs: str) -> Path:
    """Write the folder of a wheel, as far as it is looked at."""
    (site / "torch" / "lib").mkdir(parents=True)
    (site / "torch" / "lib" / "libtorch_cuda.so").touch()
    folder = site / f"torch-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: torch\nVersion: {version}\nRequires-Dist: {needs}\n"
    )
    return site / "torch"


@pytest.mark.parametrize(
    ("version", "needs", "told"),
    [
        ("2.13.0", "nvidia-cudnn-cu13==9.24.0.43", "this is 2.13.0, a build for CUDA 13"),
        ("2.14.1", "nvidia-cudnn-cu12==9.24.0.43", "this is 2.14.1, no build for CUDA 13"),
        ("2.14.1+cpu", "filelock", r"this is 2.14.1\+cpu, no build for CUDA 13"),
    ],
)
def test_a_wheel_of_another_version_is_refused(
    tmp_path: Path, played: PlayDevice, version: str, needs: str, told: str
) -> None:
    with pytest.raises(UnplayableError, match=told):
        played_cuda.check(package(tmp_path, version, needs))
    with pytest.raises(UnplayableError, match="There is no PyTorch"):
        played_cuda.check(tmp_path / "nowhere" / "torch")


def test_the_makefile_installs_what_is_proven() -> None:
    (version,) = re.findall(r"^CUDA_TORCH := torch==(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert version.startswith(PROVEN)


def test_a_program_runs_on_a_gpu_of_its_own(played: PlayDevice) -> None:
    words = ["--capacity", "4GiB", "--other", "1GiB", "--", str(PYTHON), "-c", f"{PRELUDE}print(driver()[0] // MIB)"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.played_cuda", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{4096 - 1324}\n"


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_without_a_compiler_it_is_skipped_but_not_where_all_must_run(ci: str, status: int) -> None:
    env = dict(os.environ) | {"PATH": "/nowhere", "CI": ci}
    command = [sys.executable, "-m", "tests.played_cuda", "--or-skip", "--", "true"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == status
    assert "CUDA cannot be played without gcc" in done.stderr
