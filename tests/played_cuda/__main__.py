"""Run a program on a played GPU: `python -m tests.played_cuda [--capacity 8GiB] [--used 2GiB] … -- COMMAND …`.

Without a command the interpreter of `.venv-cuda` starts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.played_cuda import PYTHON, UnplayableError, device


def main() -> int:
    """Play a machine of its own for the command; returns the command's exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.played_cuda", description="Run a program on a played GPU.")
    parser.add_argument("--capacity", default="8GiB", metavar="SIZE", help="of the GPU (default: %(default)s)")
    parser.add_argument("--used", metavar="SIZE", help="by others")
    parser.add_argument("--context", default="300MiB", metavar="SIZE", help="of each process (default: %(default)s)")
    parser.add_argument("--reserved", default="0", metavar="SIZE", help="by the driver")
    parser.add_argument("--fraction", type=float, help="of the capacity that PyTorch may use")
    parser.add_argument("command", nargs="*", default=[str(PYTHON)])
    options = vars(parser.parse_args())
    command = options.pop("command")
    with tempfile.TemporaryDirectory(prefix="played-gpu-") as folder:
        try:
            env = device(Path(folder), **options)
        except UnplayableError as error:
            print(error, file=sys.stderr)
            return 1
        return subprocess.run(command, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
