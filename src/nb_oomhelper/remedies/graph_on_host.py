"""What a training step keeps for its backward pass, put into host memory: where nothing of it can be made smaller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.model_weights import still_to_come
from nb_oomhelper.remedies.on_the_way import learns, words_reached
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake, Place, failed_cell
from nb_oomhelper.remedies.whole_step import whole_step
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.cures import statement_at
from nb_oomhelper.source.within import put_within

_WITHIN = "with torch.autograd.graph.save_on_cpu():"
# It is done already, or by hooks of their own; and PyTorch's transforms of functions refuse hooks.
_UNLESS = frozenset(
    {"save_on_cpu", "saved_tensors_hooks", "disable_saved_tensors_hooks", "checkpoint", "checkpoint_sequential"}
    | {"functorch", "vmap", "jacrev", "jacfwd", "grad_and_value", "CUDAGraph", "make_graphed_callables"}
)
_COPIES = 2  # what two operations need is saved by each of them, and copied for each


def find_graph_on_host(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find a training step whose graph would do in host memory, if there is room for it.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase and stage.
        held: Who keeps what.
        shortage: What the cell needs, and what room there is, on the host, too.
        places: Where it may be written: only the cell itself is changed.
    """
    cell = failed_cell(places)
    trains = event.phase == "train" or learns(written)
    if cell is None or event.backend != "cuda" or not trains or event.stage == "optimizer":
        return
    graph, running = _graph_made(written, held), statement_at(cell.body, cell.line or 0)
    if running is None or graph < WORTH_MENDING or not _is_worth_it(event, held, shortage, graph):
        return
    if words_reached(written) & _UNLESS:
        return
    if edits := put_within(cell.text, [running], _WITHIN):
        yield Mistake(
            kind="graph_on_host",
            subject="save_on_cpu",
            place=cell,
            edits=edits,
            explains=_explained(event, held, graph),
            in_cell=True,
        )


def _graph_made(written: Written, held: Holdings) -> int:
    """Bytes of the largest graph that the failed cell has made, by its functions' names or by its own."""
    rows = [held.rows[index] for index in held.of_kind("failed_cell")]
    rows += [row for row in held.rows if row.kind == "variable" and row.name in written.cell.sets]
    return max((dict(row.parts).get("graph", 0) for row in rows), default=0)


def _is_worth_it(event: OomEvent, held: Holdings, shortage: Shortage, graph: int) -> bool:
    """Whether the host has room for all that a step may save, and as much comes back as is missing."""
    whole = whole_step(replace(event, phase="train"), held, graph + (event.requested or 0))
    missing = 0 if shortage.needs is None or shortage.room is None else shortage.needs - shortage.room
    return shortage.host is not None and shortage.host >= whole * _COPIES and graph >= missing


def _explained(event: OomEvent, held: Holdings, graph: int) -> int | None:
    """Bytes that the cell does not need then: half of the graph comes to the device again, and gradients with it."""
    spared = graph // 2 - still_to_come(held) - (event.requested or 0)
    return spared if spared > 0 else None
