"""What runs inside the measured kernel: the device, the small card, the figures."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

DEVICE = os.environ.get("RECOVERY_DEVICE", "cpu")
PRELUDE = """
import torch
from benchmarks.recovery.inside import DEVICE, take
mine = take(16)
"""
# Refused at once and keeps nothing; but whatever a first traceback imports is there from now on.
FIRST_ERROR = "import numpy\nnumpy.ones(1 << 60, numpy.uint8)"

_LIBRARIES = ("nb-oomhelper", "ipython", "ipykernel", "ipywidgets", "torch", "numpy", "accelerate", "ipyexperiments")


def take(mib: int) -> Any:
    """A tensor of so many MiB, on the device."""
    import torch

    return torch.ones(mib << 20, dtype=torch.uint8, device=DEVICE)


def set_limit(room: int) -> int:
    """Make a small card: let this process have `room` bytes more than now.

    Returns:
        The bytes in use now.
    """
    import torch

    _warm()
    before = in_use()
    if DEVICE == "cpu":
        import resource

        import psutil

        limit = psutil.Process().memory_info().vms + room
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    else:
        torch.cuda.empty_cache()
        capacity = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + room) / capacity)
    return before


def in_use() -> int:
    """Bytes: resident on the host, allocated on a device."""
    if DEVICE == "cpu":
        import psutil

        return int(psutil.Process().memory_info().rss)
    import torch

    torch.cuda.synchronize()
    return int(torch.cuda.memory_allocated())


def lost(checks: Mapping[str, str], namespace: dict[str, Any]) -> list[str]:
    """The names of those of the user's objects that are gone or changed."""
    return [name for name, expression in checks.items() if not _holds(expression, namespace)]


def facts() -> dict[str, Any]:
    """What is measured on: python, device, and versions of libraries by name; nothing that names the machine."""
    import torch

    libraries = {}
    for name in _LIBRARIES:
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "device": "host memory" if DEVICE == "cpu" else str(torch.cuda.get_device_name(0)),
        "libraries": libraries,
    }


def _holds(expression: str, namespace: dict[str, Any]) -> bool:
    try:
        return bool(eval(expression, namespace))
    except Exception:
        return False


def _warm() -> None:
    """Start threads, libraries and workspaces now: they would count as memory that was not given back."""
    import torch

    weights = torch.ones(256, 256, device=DEVICE, requires_grad=True)
    (weights @ weights).sigmoid().sum().backward()
    del weights
    gc.collect()
    if DEVICE == "cpu":
        ctypes.CDLL(None).malloc_trim(0)
