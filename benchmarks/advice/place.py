"""Where a notebook runs out: host memory under a limit of address space, or the memory of the played CUDA device."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.advice.notebook import Notebook


@dataclass(frozen=True, slots=True)
class Place:
    """A memory and the interpreter whose kernels use it.

    Attributes:
        name: "host" or "played".
        python: The interpreter.
    """

    name: str
    python: Path

    @property
    def is_host(self) -> bool:
        """Whether memory is limited by RLIMIT_AS."""
        return self.name == "host"

    def environment(self, _notebook: Notebook, _home: Path, _spare: int) -> dict[str, str]:
        """What a kernel's environment has beside this process's."""
        return {}

    def has(self, notebook: Notebook) -> bool:
        """Whether this notebook can run out here."""
        return (notebook.room if self.is_host else notebook.device) is not None


HOST = Place("host", Path(sys.executable))
