"""How long `%load_ext nb_oomhelper` takes in a shell that is up, next to `import ipywidgets`."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.kernel.driver import private_env

from benchmarks.kernels import COMPILED
from benchmarks.timing import Result, take_turns

NAME = "load"

# The two sides differ in one line. The first cell has run, so that the shell itself has loaded all that it wants.
_TIMED = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("1 + 1", silent=True)
{before}
started = time.perf_counter()
{line}
print(1000 * (time.perf_counter() - started))
"""
_LOAD = 'shell.run_line_magic("load_ext", {module!r})'
_EMPTY = "def load_ipython_extension(shell):\n    pass\n"


def measure(repeats: int | None) -> Iterator[Result]:
    """Compare, each time in a process of its own."""
    with TemporaryDirectory() as folder:
        empty = Path(folder) / "empty_extension.py"
        empty.write_text(_EMPTY, encoding="utf-8")
        loads = _LOAD.format(module="nb_oomhelper")
        sides = {
            "%load_ext nb_oomhelper": _timer(folder, loads),
            "import ipywidgets": _timer(folder, "import ipywidgets"),
            "%load_ext of an extension that does nothing": _timer(folder, _LOAD.format(module=empty.stem)),
            "what nb_oomhelper imports later, when the kernel is idle": _timer(
                folder, "import nb_oomhelper.showing.frontends", before=loads
            ),
        }
        first, second, *more = take_turns(sides, repeats or 15)
    yield Result(
        name=NAME,
        title="Load the extension, against importing ipywidgets",
        sides=(first, second, *more),
        goal=0.25,
        notes=("the last line is imported a second after the load, or by the first out-of-memory error before that",),
    )


def _timer(folder: str, line: str, before: str = "") -> Callable[[], float]:
    """A function that runs the line in a new process and gives the milliseconds that it printed."""
    code = textwrap.dedent(_TIMED).format(before=before, line=line)

    def run() -> float:
        env = private_env(Path(folder), COMPILED)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=env, timeout=120, check=True
        )
        return float(done.stdout.splitlines()[-1])

    return run
