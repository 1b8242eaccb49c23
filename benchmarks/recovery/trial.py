"""One scenario, one method, one fresh kernel: fail, free, measure, and run the smaller twin."""

from __future__ import annotations

import os
import queue
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.kernel.driver import Kernel, KernelError, Reply

from benchmarks.recovery.inside import FIRST_ERROR, PRELUDE
from benchmarks.recovery.methods import Method
from benchmarks.recovery.scenario import MIB, ROOM, Scenario, ScenarioError

ROOT = Path(__file__).parents[2]
FULL = 0.95  # of the bytes that can be freed
# Up to so many bytes are not the failure's: what the traceback and the method imported, what allocators keep.
NOISE = 16 * MIB

_INSIDE = "__import__('benchmarks.recovery.inside', fromlist=['inside'])"
_PRESS_STOP = "press stop"  # a cell that prints this is interrupted
_DEBUGGER = ("up", "p mib", "q")  # what is typed where a cell asks for input
_PATIENCE = 120.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one method did for one scenario.

    Attributes:
        freeable, left: Bytes that could be freed, and that were still in use afterwards.
        seconds: From sending the method's cell to its end.
        twin: Whether the failed cell's smaller twin ran then.
        lost: Names of the user's objects that are gone or changed.
    """

    scenario: str
    method: str
    freeable: int
    left: int
    seconds: float
    twin: bool
    lost: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of what could be freed, 0 to 1; what is left within the noise counts as nothing."""
        return 1.0 if self.left <= NOISE else max(0.0, 1 - self.left / self.freeable)

    @property
    def full(self) -> bool:
        """Whether all of it came back, the twin ran, and nothing of the user's was lost."""
        return self.share >= FULL and self.twin and not self.lost


class RecoveryKernel(Kernel):
    """A kernel whose user presses stop, clicks buttons, and answers the debugger."""

    def __init__(self, python: Path, home: Path, device: str) -> None:
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        super().__init__(python, home, {"PYTHONPATH": paths, "RECOVERY_DEVICE": device})

    def must(self, cell: str) -> None:
        """Run a cell that may not fail."""
        reply = self.run(cell)
        if reply.status != "ok":
            raise ScenarioError(f"{cell}\n{reply.ename}: {reply.evalue}")

    def run(self, cell: str) -> Reply:
        """Run a cell as a person does who sits before it; or press the button that a "click NAME" names."""
        if cell.startswith("click "):
            return self.click(self.find_buttons(cell.removeprefix("click "))[-1])
        content = {"code": cell, "silent": False, "store_history": True, "user_expressions": {}}
        content |= {"allow_stdin": True, "stop_on_error": False}
        msg_id = self._send("execute_request", content, None, Reply(status="pending"))
        reply, deadline = self._replies[msg_id], time.monotonic() + _PATIENCE
        typed, stopped = iter(_DEBUGGER), False
        while not reply.idle or reply.status == "pending":
            if not self._pump(deadline):
                raise KernelError(f"No end of:\n{cell}\n{reply}\n{self._log_end()}")
            if _PRESS_STOP in reply.stdout and not stopped:
                stopped = True
                self.interrupt()
            with suppress(queue.Empty):
                self._client.get_stdin_msg(timeout=0)
                self._client.input(next(typed, "q"))
        return reply

    def ask(self, call: str) -> Any:
        """The value of a call of `benchmarks.recovery.inside`."""
        return self.eval(f"{_INSIDE}.{call}")


def run(scenario: Scenario, method: Method, python: Path, device: str = "cpu") -> Trial:
    """Try one method on one scenario, in a kernel of that interpreter.

    Args:
        scenario: The way to fail.
        method: The way to free.
        python: The interpreter whose IPython is used.
        device: "cpu" for host memory under RLIMIT_AS, or "cuda".

    Raises:
        ScenarioError: Its set-up failed, or its cells did not fail as it says.
    """
    with TemporaryDirectory() as home, RecoveryKernel(python, Path(home), device) as kernel:
        before = fail(kernel, scenario, method)
        started = time.monotonic()
        kernel.run(method.code(scenario))
        seconds = time.monotonic() - started
        left = max(0, kernel.ask("in_use()") - before - scenario.kept)
        lost = kernel.ask(f"lost({dict(scenario.survives)!r}, globals())")
        return Trial(
            scenario=scenario.name,
            method=method.name,
            freeable=scenario.freeable,
            left=left,
            seconds=seconds,
            twin=succeeds(kernel.run(scenario.twin)),
            lost=tuple(lost),
        )


def fail(kernel: RecoveryKernel, scenario: Scenario, method: Method) -> int:
    """Bring a kernel to where the scenario's memory is gone.

    Returns:
        Bytes in use before the failing cells.
    """
    start(kernel, scenario, method)
    before = int(kernel.ask(f"set_limit({ROOM})"))
    told = "\n".join(_words(kernel.run(cell)) for cell in scenario.fail)
    if re.search(scenario.expect, told) is None:
        raise ScenarioError(f"{scenario.name} did not fail as it says:\n{told[-2000:]}")
    return before


def start(kernel: RecoveryKernel, scenario: Scenario, method: Method) -> None:
    """Run what a notebook has at its top, up to the failing cells."""
    if method.extension:
        kernel.must("%load_ext nb_oomhelper")
    kernel.must(PRELUDE)
    kernel.run(FIRST_ERROR)
    kernel.must(scenario.set_up)
    if first := method.first(scenario):
        kernel.must(first)


def succeeds(reply: Reply) -> bool:
    """Whether a cell ran to its end without an error."""
    return reply.status == "ok" and not reply.errors


def _words(reply: Reply) -> str:
    shown = [f"{error['ename']}: {error['evalue']}" for error in reply.errors]
    return "\n".join([reply.ename, reply.evalue, reply.stdout, reply.stderr, *shown])
