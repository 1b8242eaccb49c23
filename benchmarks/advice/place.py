"""Where a notebook runs out: host memory under a limit of address space, or the memory of the played CUDA device."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

from tests import played_cuda

from benchmarks.advice.notebook import MIB, Notebook

_CONTEXT = 300  # MiB that a process takes by using the device at all


class Place(Protocol):
    """A memory, and the interpreter whose kernels use it."""

    name: str
    python: Path
    is_host: bool

    def environment(self, notebook: Notebook, home: Path, spare: int) -> dict[str, str]:
        """What a kernel's environment has beside this process's, for so many bytes more than the notebook says."""

    def has(self, notebook: Notebook) -> bool:
        """Whether this notebook can run out here."""

    def lacks(self) -> str:
        """Why it cannot be used on this machine; "" where it can."""


class Host:
    """Host memory: the limit is set in the kernel, before the failing cell."""

    name = "host"
    python = Path(sys.executable)
    is_host = True

    def environment(self, _notebook: Notebook, _home: Path, _spare: int) -> dict[str, str]:
        """Nothing: the limit is set later."""
        return {}

    def has(self, notebook: Notebook) -> bool:
        """Where it has a room."""
        return notebook.room is not None

    def lacks(self) -> str:
        """Nothing."""
        return ""


class Played:
    """The played CUDA device: its capacity is set before the kernel starts."""

    name = "played"
    python = played_cuda.PYTHON
    is_host = False

    def environment(self, notebook: Notebook, home: Path, spare: int) -> dict[str, str]:
        """A machine of its own with one device, whose capacity the notebook tells."""
        capacity = ((notebook.device or 0) + spare) // MIB + _CONTEXT
        whole = played_cuda.device(home, f"{capacity}MiB", context=f"{_CONTEXT}MiB")
        return {name: text for name, text in whole.items() if os.environ.get(name) != text}

    def has(self, notebook: Notebook) -> bool:
        """Where it has a device."""
        return notebook.device is not None

    def lacks(self) -> str:
        """What playing needs; the library is compiled once, before kernels start beside each other."""
        try:
            played_cuda.check(played_cuda.wheel())
            played_cuda.library()
        except played_cuda.UnplayableError as error:
            return str(error)
        return ""


HOST, PLAYED = Host(), Played()
PLACES: dict[str, Place] = {"host": HOST, "played": PLAYED}
