"""What makes a cell run that nothing else does: fewer rows of its data, or only the newest of its results."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.on_the_way import learns
from nb_oomhelper.remedies.places import (
    WORTH_MENDING,
    Mistake,
    Place,
    failed_cell,
    find_keepers,
    kept_by,
    refused_shape,
)
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.call_sites import bound_names
from nb_oomhelper.source.collecting import root_of
from nb_oomhelper.source.cures import statement_at, words_in
from nb_oomhelper.source.sampling import keep_newest, take_rows, wants_all
from nb_oomhelper.source.tree import is_at, names_in

_LOOKING_BACK = frozenset({"shift", "rolling", "diff", "pct_change", "ewm", "resample", "lag", "convolve", "unfold"})
_FEWEST = 64  # rows of data, of which a part says something
_LEFT = 16  # rows that must stay
_STEPS = (2, 1 << 12)  # of so many rows one is taken, at least and at most
_SOME = 8  # where nobody knows how many fit
_THIRD = 3  # one in so many of the items that there was room for stays


def find_less_data(written: Written, event: OomEvent, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find data of which the cell could read one row in so many; where it trains, its batch is to be smaller.

    Args:
        written: What the notebook's code says.
        event: What failed; its message may tell the shape of what was refused.
        shortage: What the cell needs, and what room there is.
        places: Where it may be written: only the cell itself is changed.
    """
    cell = failed_cell(places)
    if cell is None or event.call is not None or learns(written):
        return
    rows = {name: written.rows[name] for name in _read_there(written, cell) if name in written.rows}
    most = max((count for count, _ in rows.values()), default=0)
    if most < _FEWEST or not _may_be_made_of(event, most):
        return
    step = _step(shortage)
    in_order = _looks_back(written)
    same = {
        name: count if is_text or in_order else None for name, (count, is_text) in written.rows.items() if count == most
    }
    names = {name: length for name, length in same.items() if name in written.cell.needs}
    hidden = written.needed - written.cell.used  # read by functions, which would go on reading all
    if (
        _has_column_for_each_row(written, most)
        or most in written.numbers.values()  # the cell, or what it calls, goes by how many rows there are
        or most // step < _LEFT
        or hidden & names.keys()
        or names.keys() & written.cell.sets
    ):
        return
    if edits := take_rows(cell.text, names, step, written.frames):
        asked = event.requested or shortage.needs
        yield Mistake(
            kind="less_data",
            subject=", ".join(sorted(names)),
            place=cell,
            edits=edits,
            explains=None if asked is None else asked - asked // step,
            in_cell=True,
        )


def _has_column_for_each_row(written: Written, rows: int) -> bool:
    """Whether something that the cell reads has a column for each row, as an adjacency matrix: all would be left."""
    read = written.needed | written.cell.needs
    shapes = (written.kept[name].shape or () for name in read if name in written.kept)
    return any(rows in shape[1:] for shape in shapes)


def _looks_back(written: Written) -> bool:
    """Whether rows are computed from those before them: of every eighth row the ones before are others."""
    functions = (written.function(one) for one in written.definitions if one.called)
    words = written.cell.words.union(*(words_in(one[1]) for one in functions if one is not None))
    return not _LOOKING_BACK.isdisjoint(word.strip(".") for word in words)


def _read_there(written: Written, cell: Place) -> set[str]:
    """Names that the cell's statement reads that was running, or of which what it reads was made in the cell."""
    line = cell.line or 0
    running = statement_at(cell.body, line)
    if running is None:
        return set()
    found = {one.id for one in ast.walk(running) if isinstance(one, ast.Name) and is_at(one, line)}
    for node in reversed(cell.body[: cell.body.index(running)]):
        made = {name for part in ast.walk(node) for name in bound_names(part)}
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and found & made:
            found |= names_in(node)
    return found & written.cell.needs


def _may_be_made_of(event: OomEvent, rows: int) -> bool:
    """Whether what was refused has as many rows as the data, or as many pairs; True where nobody knows its shape."""
    sides = refused_shape(event)
    if sides is None:
        return event.backend != "host" or event.framework != "numpy"
    return any(side and side % rows == 0 for side in sides) or rows * (rows - 1) // 2 in sides


def _step(shortage: Shortage) -> int:
    """Of how many rows one is taken: of what the cell needs at least, twice as much as there is room for may come."""
    if not shortage.needs or not shortage.room or shortage.room < 0:
        return _SOME
    least, most = _STEPS
    return min(most, max(least, 1 << math.ceil(math.log2(2 * shortage.needs / shortage.room))))


def find_fewer_results(written: Written, event: OomEvent, held: Holdings, places: list[Place]) -> Iterator[Mistake]:
    """Find a list that a loop fills and of which nobody reads all: there was room for more than its newest items.

    Args:
        written: What the notebook's code says.
        event: What failed.
        held: Who keeps what.
        places: Where the list may be filled.
    """
    for path, kept, within, local in find_keepers(written, places):
        size = (kept.size or {}).get(event.backend, 0)
        if kept.items is None or kept.items < _THIRD or size < WORTH_MENDING:
            continue
        stay = kept.items // _THIRD
        if any(wants_all(one.body, path) for one in places):
            continue
        for place in within if kept_by(held, path, local=local) >= size // 2 else ():
            if edits := keep_newest(place.text, place.body, path, stay):
                yield Mistake(
                    kind="fewer_results",
                    subject=path,
                    place=place,
                    edits=edits,
                    explains=size - size * stay // kept.items,
                    in_cell=local,
                    clear="" if local or root_of(path) in written.cell.sets else f"del {path}[:-{stay}]",
                )
