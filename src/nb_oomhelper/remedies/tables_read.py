"""Tables that the cell reads from files as a whole, where some of their columns would do."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake, Place, failed_cell
from nb_oomhelper.remedies.table_files import TableFile, is_read_again, path_of, read_head
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.call_sites import bound_names
from nb_oomhelper.source.columns_used import columns_used
from nb_oomhelper.source.frame_methods import keyword
from nb_oomhelper.source.frame_words import makes_more
from nb_oomhelper.source.reads_apart import reads_apart
from nb_oomhelper.source.source_text import Edit
from nb_oomhelper.source.table_reads import (
    TableRead,
    can_be_parted,
    columns_told,
    find_reads,
    layout_of,
    option_for_columns,
)
from nb_oomhelper.source.text_edits import with_argument
from nb_oomhelper.source.tree import names_bound, names_in, walk

_WORTH = 0.8  # of a table's bytes: where more than that is read, little is won
_ROWS = (100_000, 50_000, 20_000, 10_000, 5_000, 2_000)  # of a part of a file
_WORK = 6  # times as much as a part has must be there while something is made of it
_SHARE = 0.75  # of the room
_READ = 2  # times as much as a table has must be there while it is read


def find_tables_read(written: Written, event: OomEvent, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find tables that are read from files with more columns than the cell uses; and one of which it makes little.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        shortage: What the cell needs, and what room there is.
        places: Where it may be written.
    """
    place = failed_cell(places)
    if place is None or event.backend != "host":
        return
    found = find_reads(place.body)
    begun = [one.name for one in found if one.node.lineno <= (place.line or 0)]
    reads = [(one, _head_of(written, one)) for one in found] if begun else []
    yield from _with_some_columns(written, shortage, place, reads, begun)
    if len(begun) == 1 and not reads[0][0].each:
        yield from _in_parts(written, shortage, place, *reads[0])


def _head_of(written: Written, read: TableRead) -> TableFile | None:
    """The beginning of the file that a table is read from; None where it cannot be read."""
    layout, path = layout_of(read), None if read.each else path_of(read.source, written.paths)
    return None if layout is None or path is None else read_head(path, layout)


def _with_some_columns(
    written: Written,
    shortage: Shortage,
    place: Place,
    reads: list[tuple[TableRead, TableFile | None]],
    begun: Collection[str],
) -> Iterator[Mistake]:
    """All tables that are read with too many columns, where the cell had come to one of that name."""
    edits, names, sizes = list[Edit](), list[str](), list[int | None]()
    for read, head in reads:
        found = _some_columns(written, place, read, head)
        if found is not None:
            edits += found[0]
            names.append(read.name)
            sizes.append(found[1])
    if not {*names} & {*begun}:
        return
    explains = _saved(shortage, place, sizes)
    yield Mistake(
        kind="read_columns", subject=", ".join(names), place=place, edits=edits, explains=explains, in_cell=True
    )


def _some_columns(
    written: Written, place: Place, read: TableRead, head: TableFile | None
) -> tuple[list[Edit], int | None] | None:
    """What makes a read give the columns that the cell uses, and what these take in memory."""
    option = option_for_columns(read)
    if not option or written.is_read_by_functions(read.name) or (head is not None and not head.columns):
        return None
    if head is None and keyword(read.call, "names") is not None:  # there may be more columns than names
        return None
    if not (read.each or is_read_again(read.source, written.paths)) or names_bound(read.after) & names_in(read.call):
        return None
    known = () if head is None else head.columns
    told, frame = columns_told(read, known), getattr(sys.modules.get("pandas"), "DataFrame", None)
    used = None if told is None or frame is None else columns_used(read.after, read.name, known, dir(frame))
    if not used or told is None:
        return None
    used |= told
    if head is not None and (not used <= {*known} or head.bytes_of(used) > _WORTH * head.bytes_of()):
        return None
    order = [name for name in known if name in used] or sorted(used)
    edits = with_argument(place.text, read.call, f"{option}={json.dumps(order, ensure_ascii=False)}")
    return (edits, None if head is None else head.bytes_of(used)) if edits else None


def _saved(shortage: Shortage, place: Place, sizes: list[int | None]) -> int | None:
    """How much less the cell needs then; None where nobody knows, or where it makes more than it reads."""
    known = [one for one in sizes if one is not None]
    if shortage.needs is None or len(known) < len(sizes) or makes_more(place.body):
        return None
    tables = {name for one in walk(place.body) for name in bound_names(one)}
    needed = sum(known) * (_READ + len(tables)) + WORTH_MENDING
    return max(0, shortage.needs - needed)


def _in_parts(
    written: Written, shortage: Shortage, place: Place, read: TableRead, head: TableFile | None
) -> Iterator[Mistake]:
    """The one table that the cell has read, where it makes little of it: it can be read in parts."""
    if not can_be_parted(read) or not is_read_again(read.source, written.paths) or read.reader in written.names:
        return
    rows = _rows_of_part(head, shortage)
    count = getattr(written.frames.get(read.name), "rows", 0)
    alike = {name for name, (many, _) in written.rows.items() if many == count} - {read.name}
    found = reads_apart(place.text, read, rows, alike, written.function_named) if rows else None
    if found is None or written.misses(found.gone):
        return
    explains = None
    if head is not None and shortage.needs is not None:
        part = int(head.row * rows * _WORK)
        explains = max(0, shortage.needs - max(part, shortage.needs // 2))  # what comes out, nobody has seen
    yield Mistake(
        kind="read_in_parts", subject=read.name, place=place, edits=found.edits, explains=explains, in_cell=True
    )


def _rows_of_part(head: TableFile | None, shortage: Shortage) -> int:
    """How many rows fit, with what is made of them; 0 where it is known that too few do, or none can be told apart."""
    if head is not None and not head.columns:
        return 0
    if head is None or shortage.room is None:
        return _ROWS[2]
    size = head.row * _WORK
    return next((rows for rows in _ROWS if rows * size <= shortage.room * _SHARE and rows < head.rows), 0)
