"""What the failed cell uses of the notebook: names, numbers, trainers and data loaders."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PosixPath, WindowsPath
from types import FrameType

from nb_oomhelper.holders.scope import is_result
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.remedies.cell_needs import codes_of, names_of_functions, needed_among, overwritable
from nb_oomhelper.remedies.cell_source import Cell, read_cell, reads_at_top, words_of
from nb_oomhelper.remedies.cell_tables import find_complete, find_frames, find_rows
from nb_oomhelper.remedies.definitions import read_definitions
from nb_oomhelper.remedies.demandable import find_sparse
from nb_oomhelper.remedies.elements import (
    find_kept,
    find_local,
    is_iterator,
    line_at_top,
    read_steps,
)
from nb_oomhelper.remedies.estimators import find_learned
from nb_oomhelper.remedies.graph_made import has_graph
from nb_oomhelper.remedies.mending import Mend
from nb_oomhelper.remedies.notebook_settings import is_trainer, loader_batch_size, trainer_steps
from nb_oomhelper.remedies.size_settings import find_below, read_parameters, whole_number
from nb_oomhelper.remedies.still_there import Mark, marks_of
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.repeats import Repeat, find_repeats
from nb_oomhelper.source.sizes import Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """What the failed cell uses. Make it, plan with it, drop it; it refers to no object of the user's.

    Attributes:
        cell: The failed cell, or None where it cannot be read.
        numbers: Whole numbers by what is written for them: "bs", 'config["batch_size"]', "args.batch_size".
        used_before: Those of them that another cell reads outside of functions: what it made has that size.
        trainers: Batch size and accumulated steps of transformers trainers by name; 0 is unknown.
        loaders: Batch size of PyTorch's data loaders, by the same.
        known: What the sizes in its code are called where they are given to functions.
        names: The user's variables, but for modules under their own names: to import those again loses nothing.
        needed: Variables that the cell reads, or functions and classes of the notebook that it names; where the cell
            cannot be read, those whose names are words in it.
        reads_results: The cell reads displayed results: `_`, `Out`.
        written: What the notebook's code says, or None where the cell cannot be read.
        mends: The mistakes in it that explain bytes.
        repeats: What the cell has done that is done once more when it runs again.
        marks: What the user's names, and these numbers, stand for.
    """

    cell: Cell | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)
    used_before: frozenset[str] = frozenset()
    trainers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    loaders: Mapping[str, int] = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    names: frozenset[str] = frozenset()
    needed: Container[str] = frozenset()
    reads_results: bool = False
    written: Written | None = None
    mends: tuple[Mend, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    marks: Mapping[str, Mark] = field(default_factory=dict)


class _Everything:
    def __contains__(self, name: object) -> bool:
        return True


UNREAD = Notebook(needed=_Everything(), reads_results=True)  # nobody could look: the cell may need whatever there is


def replaced_by(notebook: Notebook, held: Holdings) -> int:
    """Add up what variables keep that the cell binds anew without reading them before.

    Args:
        notebook: What the failed cell uses.
        held: Who keeps what.

    Returns:
        Bytes that come back while the cell runs again, beyond what a release gives back.
    """
    sets = notebook.cell.sets if notebook.cell is not None else frozenset()
    names = [name for name in sets if name not in notebook.needed]
    return held.freed_after_release(frozenset[int]().union(*(held.named(name) for name in names)))


def inspect_notebook(
    variables: Mapping[str, object],
    source: str,
    inputs: Sequence[str] = (),
    frames: Sequence[tuple[FrameType, int]] = (),
) -> Notebook:
    """Find what the failed cell uses.

    Args:
        variables: The user's names and their objects.
        source: The failed cell's source; "" where it is not known.
        inputs: Sources of the cells that ran, by number.
        frames: The failed cell's frames with the lines that failed in them, outermost first.

    Returns:
        Names and numbers; a cell that cannot be read is taken to need all that its words name.
    """
    cell, names = read_cell(source), overwritable(variables)
    needs = words_of(source) if cell is None else cell.needs
    needed, reads_results = needed_among(needs, variables), any(is_result(name) for name in needs)
    if cell is None:
        marks = marks_of(variables, {})
        return Notebook(names=names, needed=needed, reads_results=reads_results, marks=marks)
    used = {name: variables[name] for name in sorted(cell.used) if name in variables}
    reached = cell.used | needed  # also what its functions read
    numbers = find_below(variables, reached, whole_number)
    read = {name: variables[name] for name in cell.needs & names}
    own = {name: variables[name] for name in cell.used & names}
    iterators = {name for name, thing in read.items() if is_iterator(thing)}
    steps, others = read_steps(frames), [one for one in dict.fromkeys(inputs) if one.strip() != source.strip()]
    return Notebook(
        cell=cell,
        repeats=find_repeats(cell.tree, line_at_top(steps), read.keys(), iterators),
        numbers=numbers,
        used_before=reads_at_top(others, numbers),
        trainers={name: trainer_steps(thing) for name, thing in used.items() if is_trainer(thing)},
        loaders=find_below(variables, reached, lambda thing: whole_number(loader_batch_size(thing))),
        known=read_parameters(variables, cell.used, [name for name in numbers if name.isidentifier()]),
        names=names,
        needed=needed,
        reads_results=reads_results,
        marks=marks_of(variables, numbers),
        written=Written(
            cell=cell,
            definitions=read_definitions(
                codes_of(variables),
                inputs,
                list(codes_of({name: variables[name] for name in needed})),
                names_of_functions(variables),
            ),
            names=names,
            needed=needed,
            steps=steps,
            autograd=has_graph(frames),
            kept=find_kept(variables),
            local=find_local(frames),
            rows=find_rows(read),
            sparse=find_sparse(read),
            frames=find_frames(own),
            learned=find_learned({name: variables[name] for name in reached if name in variables}),
            complete=find_complete(own, source),
            numbers=numbers,
            paths={name: str(used[name]) for name in used if type(used[name]) in (str, PosixPath, WindowsPath)},
        ),
    )
