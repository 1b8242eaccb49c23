"""Run a program on a played GPU: `python -m tests.played_cuda [--capacity 8GiB] [--used 2GiB] … -- COMMAND …`.

Without a command the interpreter of `.venv-cuda` starts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from tests.played_cuda import PYTHON, UnplayableError, another_process, device


def main() -> int:
    """Play a machine of its own for the command; returns the command's exit status."""
    options = vars(_parser().parse_args())
    command, other, or_skip = (options.pop(name) for name in ("command", "other", "or_skip"))
    with tempfile.TemporaryDirectory(prefix="played-gpu-") as folder:
        try:
            env = device(Path(folder), **options)
        except UnplayableError as error:
            skipped = or_skip and os.environ.get("CI") != "true"
            print(f"{'skipped: ' if skipped else ''}{error}", file=sys.stderr)
            return 0 if skipped else 1
        with another_process(env, other) if other else nullcontext():
            try:
                return subprocess.run(command, env=env).returncode
            except KeyboardInterrupt:  # the command has had it, too
                return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.played_cuda", description="Run a program on a played GPU.")
    parser.add_argument("--capacity", default="8GiB", metavar="SIZE", help="of the GPU (default: %(default)s)")
    parser.add_argument("--used", metavar="SIZE", help="by others who do not run here")
    parser.add_argument("--other", metavar="SIZE", help="of a tensor that another process here holds")
    parser.add_argument("--context", default="300MiB", metavar="SIZE", help="of each process (default: %(default)s)")
    parser.add_argument("--reserved", default="0", metavar="SIZE", help="by the driver")
    parser.add_argument("--fraction", type=float, help="of the capacity that PyTorch may use")
    parser.add_argument("--or-skip", action="store_true", help="succeed where nothing can be played, unless CI=true")
    parser.add_argument("command", nargs="*", default=[str(PYTHON)])
    return parser


if __name__ == "__main__":
    sys.exit(main())
