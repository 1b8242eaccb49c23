"""How much smaller the steps of the failed cell must be for it to fit: from what it had made, and the room there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nb_oomhelper.address_space import room
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.emptying import find_emptiable
from nb_oomhelper.remedies.model_weights import has_optimizer, still_to_come
from nb_oomhelper.remedies.notebook import Notebook
from nb_oomhelper.remedies.on_the_way import gathers
from nb_oomhelper.remedies.places import find_places
from nb_oomhelper.remedies.whole_step import whole_step
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.source_text import SourceText
from nb_oomhelper.source.to_host import gathers_on_device

# An item of a batch in a DataLoader's worker lives by itself and in the batch, and two batches are fetched ahead.
_FETCHED = 4.0
_MARGIN = 0.1  # of the room, so much stays free: allocators round, and memory has gaps
_MOST = 0.75  # of the size: to go nearer would be to trust the estimate more than it deserves
_LEAST = 1 / 1024
_MUCH = 64 << 20  # bytes that are collected


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What fits.

    Attributes:
        share: The part of the present size that does.
        needs: Bytes that the cell needs as it is, by our estimate; None where nothing is known.
        fixed: Bytes of those that no smaller size saves.
        least: Bytes that it needs at least, as they were measured.
        trains: The effective batch is to stay.
        requested: Bytes of the request that failed; 0 is unknown.
    """

    share: float = 0.5
    needs: int | None = None
    fixed: int = 0
    least: int = 0
    trains: bool = False
    requested: int = 0

    def saved(self, ratio: float) -> int | None:
        """Bytes of what was measured that the cell does not need at a part of the size; None where nobody knows.

        Less than nothing where it needs more even so: most of a cell may come after the error.
        """
        if self.needs is None:
            return None
        return self.least - self.fixed - int((self.needs - self.fixed) * ratio)

    def smaller(self) -> Fit:
        """What to try where this ran out again: half of it, without a promise."""
        return replace(self, share=self.share / 2, needs=None)


def find_fit(event: OomEvent, held: Holdings, shortage: Shortage, notebook: Notebook) -> Fit | None:
    """Find how much smaller the steps of the failed cell must be.

    Args:
        event: What failed, with its phase and stage.
        held: Who keeps memory.
        shortage: What the cell needs, and its room.
        notebook: What it uses.

    Returns:
        A half where nothing is known; None where no size changes what was asked for.
    """
    trains = event.phase == "train" or (event.phase == "unknown" and bool(notebook.trainers))
    half = Fit(trains=trains, requested=event.requested or 0)
    if event.remote is not None:
        return _fit_of_worker(event.requested, room(widened=False))
    if event.stage == "optimizer":
        return None
    if shortage.needs is None or shortage.room is None or shortage.grows or not shortage.measured:
        return half
    fit = _fitted(event, held, shortage.needs, shortage.room, half, notebook)
    if fit is None:
        return None
    written = notebook.written
    graph = event.phase == "infer" and written is not None and written.autograd
    # smaller steps only fill the same room in more of them, be it with results or with a graph that nobody needs
    gathered = (
        event.phase != "train" and written is not None and any(gathers_on_device(one.tree) for one in _texts(written))
    )
    no_promise = graph or gathered or _collects(event, held, notebook)
    return replace(fit, needs=None) if no_promise or _keeps_each_step(event, notebook) else fit


def _keeps_each_step(event: OomEvent, notebook: Notebook) -> bool:
    written = notebook.written
    return written is not None and gathers(written, find_places(written), event.backend, notebook.loaders)


def _texts(written: Written) -> Iterator[SourceText]:
    """The failed cell, and the functions that were running."""
    sources = [written.cell.source, *(one.source for step in written.steps if (one := written.definition_of(step)))]
    return (text for source in sources if (text := written.read(source)) is not None)


def _collects(event: OomEvent, held: Holdings, notebook: Notebook) -> bool:
    """Whether the notebook's code collects what it makes: smaller steps then only fill the same in more of them."""
    written = notebook.written
    return written is not None and any(size >= _MUCH for _, _, size in find_emptiable(written, held, event.backend))


def _fit_of_worker(requested: int | None, free: int | None) -> Fit:
    """Find what fits in a worker process, of which only the request and this process's limits are known.

    Args:
        requested: Bytes of the request that failed there.
        free: Bytes that this process could still get: a worker is a copy of it.
    """
    if not requested or not free:
        return Fit()
    share = free * (1 - _MARGIN) / (requested * _FETCHED)
    return Fit(share=min(0.5, max(_LEAST, share)))


def _fitted(event: OomEvent, held: Holdings, needs: int, free: int, half: Fit, notebook: Notebook) -> Fit | None:
    kept = _made_once(held, notebook)
    fixed = kept + (still_to_come(held) if half.trains else 0)
    steps = whole_step(event, held, max(event.requested or 0, needs - kept))
    there = free * (1 - _MARGIN) - fixed
    if there <= 0 and half.trains and has_optimizer(held):  # the weights alone take more, of whatever batch
        return None
    if there <= 0 or steps <= 0:
        return half
    share = min(_MOST, max(_LEAST, there / steps))
    return replace(half, share=share, needs=steps + fixed, fixed=fixed, least=needs)


def _made_once(held: Holdings, notebook: Notebook) -> int:
    """Bytes of models and optimizers that the cell itself makes: a smaller step has them, too."""
    sets = notebook.cell.sets if notebook.cell is not None else frozenset()
    return sum(
        row.own
        for row in held.rows
        if row.kind == "variable" and row.name in sets and row.role in ("model", "pretrained model", "optimizer")
    )
