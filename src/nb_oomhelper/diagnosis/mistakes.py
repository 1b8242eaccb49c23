"""The classic ways of keeping memory without meaning to, read off who holds what.

Each finds one mistake and gives causes with the variable's name and the bytes that mending it would free.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nb_oomhelper.records.diagnosis import Cause
from nb_oomhelper.records.event import Phase
from nb_oomhelper.records.holdings import Holding, Holdings

_WORTH_SAYING = 1 << 20  # bytes
_MODELS = ("model", "pretrained model")


def find_mistakes(held: Holdings, phase: Phase) -> list[Cause]:
    """Causes of the kinds "graph", "copies", "gradients", "stale_optimizer" and "module".

    Args:
        held: Who keeps what.
        phase: What was going on.
    """
    return [cause for find in finders(held, phase) for cause in find()]


def finders(held: Holdings, phase: Phase) -> list[Callable[[], list[Cause]]]:
    """What finds each of them, apart, so that one that fails costs the others nothing.

    Args:
        held: Who keeps what.
        phase: What was going on.
    """
    rows = [held.rows[index] for index in held.of_kind("variable")]
    return [
        partial(_graphs, rows),
        partial(_copies, held, rows),
        *([partial(_gradients, rows)] if phase in ("infer", "load") else []),
        partial(_stale_optimizers, held),
        partial(_modules, held),
    ]


def _graphs(rows: list[Holding]) -> list[Cause]:
    """A loss or output that was kept as it is keeps all activations behind it: `losses.append(loss)`."""
    causes = []
    for row in rows:
        size = min(row.own, _part(row, "graph"))
        if size >= _WORTH_SAYING and row.type_name in ("list", "Tensor"):
            causes.append(Cause(kind="graph", size=size, names=(row.name,), role=str(row.type_name).lower()))
    return causes


def _copies(held: Holdings, rows: list[Holding]) -> list[Cause]:
    """Two models of one class and size that share nothing: the old one was meant to go."""
    models: dict[tuple[str | None, int], list[Holding]] = {}
    for row in rows:
        if row.role in _MODELS and (size := _part(row, "parameters")) >= _WORTH_SAYING:
            models.setdefault((row.type_name, size), []).append(row)
    shared = [{held.rows[index].name for index in holders} for holders, _ in held.shares]
    return [
        Cause(kind="copies", size=size, names=names)
        for (_, size), same in models.items()
        if len(names := tuple(row.name for row in same)) > 1
        if not any(len(together.intersection(names)) > 1 for together in shared)
    ]


def _gradients(rows: list[Holding]) -> list[Cause]:
    """Gradients that nobody needs while nothing is trained."""
    return [
        Cause(kind="gradients", size=size, names=(row.name,), role="model")
        for row in rows
        if row.role in _MODELS and (size := _part(row, "gradients")) >= _WORTH_SAYING
    ]


def _stale_optimizers(held: Holdings) -> list[Cause]:
    """An optimizer that alone keeps parameters: the model it was made for has gone or was loaded anew."""
    return [
        Cause(kind="stale_optimizer", size=row.own, names=(row.name,), role="optimizer")
        for row in held.rows
        if row.kind == "variable" and row.role == "optimizer"
        if row.own - _part(row, "optimizer state") >= _WORTH_SAYING
    ]


def _modules(held: Holdings) -> list[Cause]:
    """What another library keeps for itself, such as a cache."""
    return [
        Cause(kind="module", size=row.own, names=(row.name.removeprefix("module "),))
        for row in held.rows
        if row.kind == "module" and row.own >= _WORTH_SAYING
    ]


def _part(row: Holding, name: str) -> int:
    return dict(row.parts).get(name, 0)
