"""What was going on in the failed cell, loading, training or inference, where the traceback does not tell."""

from __future__ import annotations

from nb_oomhelper.records.event import OomEvent, Phase
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.remedies.cell_source import Cell
from nb_oomhelper.remedies.notebook import Notebook

_WORTH_SAYING = 1 << 20  # bytes of an autograd graph
_TRAINS = frozenset({".backward", ".zero_grad", ".train_step", ".training_step"})
_WITHOUT_GRAD = frozenset({"no_grad", "inference_mode"})
_ANSWERS = frozenset({".generate", ".evaluate", ".predict"})


def tell_phase(event: OomEvent, held: Holdings, notebook: Notebook) -> Phase:
    """Tell what was going on: as the traceback does, else as the cell does.

    A graph that the cell keeps is one that nobody needs, unless something in the notebook trains.

    Args:
        event: What failed.
        held: Who keeps memory, with the bytes of graphs.
        notebook: What the failed cell uses.
    """
    if event.phase != "unknown":
        return event.phase
    graph = sum(dict(held.rows[index].parts).get("graph", 0) for index in held.of_kind("failed_cell"))
    trains = any(row.role == "optimizer" for row in held.rows) or bool(notebook.trainers)
    return phase_of(notebook.cell, graph >= _WORTH_SAYING and not trains)


def phase_of(cell: Cell | None, graph: bool) -> Phase:
    """Tell what a cell does, where the traceback did not tell.

    Args:
        cell: The cell.
        graph: Whether the failed cell keeps an autograd graph, and nothing in the notebook trains.
    """
    if cell is None:
        return "unknown"
    if cell.words & _TRAINS:
        return "train"
    if cell.words & _WITHOUT_GRAD:
        return "infer"
    return "infer" if graph or cell.words & _ANSWERS else "unknown"
