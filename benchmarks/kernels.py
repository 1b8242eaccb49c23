"""Kernels to measure in, which can import this folder."""

from __future__ import annotations

import os
import queue
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from jupyter_client import BlockingKernelClient
from tests.kernel.driver import Kernel

_ROOT = Path(__file__).parents[1]
# A package that pip installed is compiled already; one that lies in a working tree must be allowed to be.
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}


class MeasuredKernel(Kernel):
    """A kernel with a second connection, which waits for the reply and for nothing else."""

    def __init__(self, python: str, home: Path, env: Mapping[str, str]) -> None:
        super().__init__(python, home, env)
        self._second = BlockingKernelClient(connection_file=str(home / "k.json"))
        self._second.load_connection_file()
        self._second.start_channels()
        self._second.wait_for_ready(timeout=60)

    def end(self) -> None:
        """End the process and close the channels."""
        if hasattr(self, "_second"):
            self._second.stop_channels()
        super().end()

    def must(self, code: str, timeout: float = 300) -> None:
        """Run code that may not fail."""
        reply = self.execute(code, timeout)
        if reply.status != "ok":
            raise RuntimeError(f"{code}: {reply.ename}: {reply.evalue}")

    def trip(self, code: str) -> float:
        """Milliseconds from sending a cell to its reply."""
        started = time.perf_counter()
        wanted = self._second.execute(code, stop_on_error=False)
        while self._second.get_shell_msg(timeout=60)["parent_header"].get("msg_id") != wanted:
            pass
        took = 1000 * (time.perf_counter() - started)
        with suppress(queue.Empty):  # what was shown is read now, so that it does not pile up
            while True:
                self._second.get_iopub_msg(timeout=0)
        return took


@contextmanager
def kernel(env: Mapping[str, str] | None = None) -> Iterator[MeasuredKernel]:
    """A kernel of this interpreter's, in an empty folder, that has imported `benchmarks.inside`."""
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    with TemporaryDirectory() as folder:
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), **COMPILED, **(env or {})}
        with MeasuredKernel(sys.executable, Path(folder), variables) as running:
            running.must("import benchmarks.inside as inside")
            yield running
