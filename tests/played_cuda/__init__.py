"""Play a CUDA device below PyTorch's unmodified CUDA wheel, on a machine without a GPU.

PyTorch's caching allocator, its statistics and its `torch.OutOfMemoryError` are its own; NVIDIA's libraries below it are
played by one library of ours, found by LD_LIBRARY_PATH. README.md beside this file says what is real and what is not.

    env = device(tmp_path, "8GiB", used="2GiB")
    subprocess.run([PYTHON, "-c", "import torch; torch.ones(1 << 30, device='cuda')"], env=env)

One folder is one machine: processes with the same environment share its devices, so a test takes a folder of its own.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.nvml_stub import environment, write_scenario

from .build import UnplayableError, build, check

__all__ = ["PYTHON", "SCENARIO", "UnplayableError", "check", "device", "library", "play", "wheel"]

ENVIRONMENT = Path(__file__).parents[2] / ".venv-cuda"
PYTHON = ENVIRONMENT / "bin" / "python"  # has the CUDA wheel; everything else is that of `.venv`
SCENARIO = "gpus.txt"
UUID = "GPU-11111111-2222-3333-4444-555555555555"
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def device(
    folder: Path,
    capacity: str = "8GiB",
    *,
    used: str | None = None,
    processes: Mapping[int, str] | None = None,
    context: str = "300MiB",
    reserved: str = "0",
    fraction: float | None = None,
    name: str = "Played GPU",
) -> dict[str, str]:
    """Make a machine with one GPU; sizes are as in a scenario: "8GiB", "512MiB" or bytes.

    Args:
        folder: Where its scenario and its ledger come, as `SCENARIO`; the test's own.
        capacity: Of the GPU.
        used: What others hold who do not run here; as much as `processes` where it is None.
        processes: What NVML tells of them: bytes by process id. They need not exist.
        context: What each process takes that runs here and uses the GPU at all.
        reserved: The driver's own share.
        fraction: The share of the capacity that PyTorch's allocator may use in each process; all where it is None.
        name: The GPU's name.

    Returns:
        The whole environment of a process that is to see it.

    Raises:
        UnplayableError: CUDA cannot be played here, or the folder is a machine already.
    """
    rows = dict(processes or {})
    taken = str(sum(map(_bytes, rows.values()))) if used is None else used
    lines = [f"gpu {UUID} {capacity} {name}", f"used {taken}", f"reserved {reserved}", f"context {context}"]
    env = play(folder, "\n".join([*lines, *(f"process {pid} {size}" for pid, size in rows.items()), ""]))
    return env if fraction is None else env | {"PYTORCH_CUDA_ALLOC_CONF": f"per_process_memory_fraction:{fraction}"}


def play(folder: Path, scenario: str) -> dict[str, str]:
    """Make a machine from the text of a scenario, such as one of several GPUs, with uuids in full; see nvml_stub.

    Returns:
        The whole environment of a process that is to see it.

    Raises:
        UnplayableError: CUDA cannot be played here, or the folder is a machine already.
    """
    path = folder / SCENARIO
    if path.exists():
        raise UnplayableError(
            f"{path} is played already: one scenario is one machine, so give each test a folder of its own"
        )
    return environment(write_scenario(path, scenario), library())


@functools.cache
def library() -> Path:
    """Compile the library, once in a process; returns its folder, which goes with the process."""
    keep = tempfile.TemporaryDirectory(prefix="played-cuda-")
    _kept.append(keep)
    return build(wheel(), Path(keep.name))


def wheel() -> Path:
    """Find the folder of the CUDA wheel's `torch`, whether or not it is there."""
    return next(ENVIRONMENT.glob("lib/python3*/site-packages/torch"), ENVIRONMENT / "torch")


def _bytes(size: str) -> int:
    return int(float(size[:-3]) * _UNITS[size[-3:]]) if size[-3:] in _UNITS else int(size)


_kept: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends
