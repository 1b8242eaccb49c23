"""Play an NVIDIA driver: a library named as NVIDIA's, which the real `pynvml` finds by LD_LIBRARY_PATH.

A scenario is a text file, one fact a line; it is read again at every call, so that figures may change
while a kernel runs (use `write_scenario`: a reader never sees half of it). Sizes are bytes, or a number
with KiB, MiB or GiB ("0.5GiB"), or "unknown".

=========================================  =============================================================
``# text``                                 a comment
``driver 580.65.06``                       the driver's version
``gpu GPU-1a2b 8GiB NVIDIA H200``          the next GPU: uuid, capacity, name; the lines below are about it
``mig MIG-3c4d 2GiB NVIDIA H200 MIG 1g``   a MIG device of that GPU; the lines below are about it
``mig-mode``                               MIG mode is on (said by itself for a GPU without MIG devices)
``used 5GiB``                              allocated by all processes; 0 if not said
``free 1GiB``                              capacity - used - reserved if not said
``reserved 400MiB``                        the driver's own share; 0 if not said
``reserved-is-used``                       version 2 of the memory call counts that share as used, too
``context 300MiB``                         what a process takes by using the GPU at all; 0 if not said
``process self 5GiB``                      the calling process holds so much
``process 4711 1GiB graphics``             another one; "compute" if not said, or "graphics", or "both"
``error nvmlDeviceGetName 15``             this C function fails with this code; a third figure, the GPU's
                                           number, limits it to that GPU
``missing nvmlDeviceGetMemoryInfo_v2``     this C function is not there, as in an older driver
``slow nvmlInitWithFlags 50``              this C function takes so many milliseconds
=========================================  =============================================================
"""

from __future__ import annotations

import os
from pathlib import Path

from .build import build

__all__ = ["build", "environment", "write_scenario"]


def environment(scenario_path: Path, folder: Path) -> dict[str, str]:
    """Give a subprocess's whole environment, with the library in `folder` and this scenario.

    What this machine says of CUDA devices is left out, so that tests mean the same everywhere.
    """
    values = {name: text for name, text in os.environ.items() if not name.startswith("CUDA_")}
    libraries = [str(folder), os.environ.get("LD_LIBRARY_PATH", "")]
    return values | {"NVML_STUB": str(scenario_path), "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))}


def write_scenario(path: Path, text: str) -> Path:
    """Write a scenario in one step, so that no reader sees half of it; returns `path`."""
    half = path.with_name(f"{path.name}.new")
    half.write_text(text, encoding="utf-8")
    return half.replace(path)
