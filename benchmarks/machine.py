"""What a result was measured on: enough to compare it with another, and nothing that names the machine."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib import metadata
from typing import Any

_LIBRARIES = (
    "nb-oomhelper",
    "ipython",
    "ipykernel",
    "ipywidgets",
    "traitlets",
    "jupyter-client",
    "numpy",
    "torch",
    "psutil",
    "nvidia-ml-py",
    "gpustat",
)


def describe() -> dict[str, Any]:
    """Give the keys system, cpus, python, libraries (version by name), devices (names) and driver (or None)."""
    devices, driver = _gpus()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": _cpus(),
        "python": platform.python_version(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name)) is not None},
        "devices": devices,
        "driver": driver,
    }


def _cpus() -> int | None:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _gpus() -> tuple[list[str], str | None]:
    """Names of the GPUs and the driver's version; none where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [], None
    names: list[str] = []
    driver = None
    try:
        with suppress(pynvml.NVMLError):
            driver = str(pynvml.nvmlSystemGetDriverVersion())
            handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
            names.extend(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    finally:
        pynvml.nvmlShutdown()
    return names, driver
