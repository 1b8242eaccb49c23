"""Ray: a task on each machine, which reads that machine's memory, and its worker's by PID.

A failed task keeps nothing and what an actor keeps is its own, so nothing is released. What has not begun in time is
taken back.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from nb_oomhelper.engines.answers import Answer, late
from nb_oomhelper.introspection import instance_dict
from nb_oomhelper.poll import WORKER, LateError
from nb_oomhelper.records.event import Remote
from nb_oomhelper.records.note import note

NAME: Remote = "ray"


def begin(wanted: Sequence[tuple[str, str]] | None, code: str, seconds: float) -> Callable[[], list[Answer]] | None:
    """Send an expression to machines.

    Args:
        wanted: Address of each machine that is meant, and ""; None is all.
        code: The expression.
        seconds: For all of them.

    Returns:
        What waits for the answers; None where Ray has not been joined.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    until = time.monotonic() + seconds
    try:  # a call to Ray's own services has no bound
        nodes, sent = WORKER.ask(partial(_send_all, ray, wanted, code), seconds)
    except LateError:
        return lambda: [Answer(id=name, problem=late(seconds)) for name, _ in wanted or [("", "")]]

    def wait() -> list[Answer]:
        waiting = _waiting(ray, list(sent.values()), until)
        answers = {name: _answer(ray, name, ref) for name, ref in sent.items() if ref not in waiting}
        silent = {name: late(seconds) if name in sent else note("engines.gone") for name in nodes}
        return [answers.get(name) or Answer(id=name, problem=silent[name]) for name in nodes]

    return wait


def clusters() -> int:
    """Count the clusters that can be asked: a process joins one at a time."""
    ray = sys.modules.get("ray")
    return int(ray is not None and ray.is_initialized())


def _send_all(ray: Any, wanted: Sequence[tuple[str, str]] | None, code: str) -> tuple[list[str], dict[str, Any]]:
    """The machines that are meant, and the tasks of those that are there."""
    nodes = {str(row["NodeManagerAddress"]): str(row["NodeID"]) for row in ray.nodes() if row.get("Alive")}
    names = list(nodes) if wanted is None else [name for name, _ in wanted]
    return names, {name: _send(ray, nodes[name], code) for name in names if name in nodes}


def _waiting(ray: Any, refs: list[Any], until: float) -> list[Any]:
    """Those that have not ended by then; they are taken back."""
    if not refs:
        return []
    _, waiting = ray.wait(refs, num_returns=len(refs), timeout=max(0.0, until - time.monotonic()))
    for ref in waiting:
        ray.cancel(ref)
    return list(waiting)


def _send(ray: Any, node: str, code: str) -> Any:
    def evaluate(code: str) -> Any:
        return eval(code)

    evaluate.__module__ = "__main__"  # it is sent as it stands: Ray refuses a builtin, and nb_oomhelper may lack there
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(evaluate).remote(code)


def _answer(ray: Any, name: str, ref: Any) -> Answer:
    try:
        return Answer(id=name, value=ray.get(ref, timeout=0))
    except Exception as error:
        if type(error).__name__ in ("TaskUnschedulableError", "NodeDiedError"):
            return Answer(id=name, problem=note("engines.gone"))
        cause = instance_dict(error).get("cause")  # of a RayTaskError: what the task has raised
        inner = cause if isinstance(cause, Exception) else error
        return Answer(id=name, error=(type(inner).__name__, str(inner)))
