"""Compile the stand-in for NVIDIA's library."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("libnvidia-ml.c")


def compiler() -> str | None:
    """Find a C compiler on PATH, or None: tests that need the library are skipped then."""
    return shutil.which("gcc") or shutil.which("cc")


def build(folder: Path) -> Path:
    """Compile the library into `folder`; returns the path of the file, `folder / "libnvidia-ml.so.1"`.

    Raises:
        FileNotFoundError: There is no C compiler.
        subprocess.CalledProcessError: The compiler failed; its messages are on standard error.
    """
    command = compiler()
    if command is None:
        raise FileNotFoundError("a C compiler (gcc or cc) is needed to build the NVML stub")
    library = folder / "libnvidia-ml.so.1"
    flags = ["-shared", "-fPIC", "-O1", "-pthread"]
    subprocess.run([command, *flags, "-o", str(library), str(_SOURCE)], check=True)
    return library
