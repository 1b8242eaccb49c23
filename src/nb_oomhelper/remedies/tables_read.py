"""Tables that the cell reads from files as a whole, where some of their columns would do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake, Place, failed_cell
from nb_oomhelper.remedies.table_files import TableFile, is_read_again, path_of, read_head
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.call_sites import bound_names
from nb_oomhelper.source.columns_used import columns_used
from nb_oomhelper.source.frame_words import makes_more
from nb_oomhelper.source.reads_apart import can_be_parted, reads_apart
from nb_oomhelper.source.source_text import Edit
from nb_oomhelper.source.table_reads import TableRead, columns_told, find_reads, layout_of, option_for_columns
from nb_oomhelper.source.text_edits import with_argument
from nb_oomhelper.source.tree import names_bound, names_in, walk

_WORTH = 0.8  # of a table's bytes: where more than that is read, little is won
_ROWS = (100_000, 50_000, 20_000, 10_000, 5_000, 2_000)  # of a part of a file
_WORK = 6  # times as much as a part has must be there while something is made of it
_SHARE = 0.75  # of the room
_READ = 2  # times as much as a table has must be there while it is read


def find_tables_read(written: Written, event: OomEvent, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find tables that are read from files with more columns than the cell uses.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        shortage: What the cell needs, and what room there is.
        places: Where it may be written.
    """
    place = failed_cell(places)
    if place is None or event.backend != "host":
        return
    edits, names, sizes = list[Edit](), list[str](), list[int | None]()
    for read in find_reads(place.body):
        found = None if written.is_read_by_functions(read.name) else _some_columns(written, place, read)
        if found is not None:
            edits += found[0]
            names.append(read.name)
            sizes.append(found[1])
    if not edits or not any(
        one.node.lineno <= (place.line or 0) for one in find_reads(place.body) if one.name in names
    ):
        return
    yield Mistake(
        kind="read_columns",
        subject=", ".join(names),
        place=place,
        edits=edits,
        explains=_saved(shortage, place, sizes),
        in_cell=True,
    )


def find_tables_in_parts(
    written: Written, event: OomEvent, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find a table that is read from a file, and of which the cell makes little: it can be read in parts.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        shortage: What the cell needs, and what room there is.
        places: Where it may be written.
    """
    place = failed_cell(places)
    reads = [one for one in find_reads(place.body) if one.node.lineno <= (place.line or 0)] if place else []
    if place is None or event.backend != "host" or len(reads) != 1 or not can_be_parted(reads[0]):
        return
    (read,) = reads
    if not is_read_again(read.source, written.paths):
        return
    head = head_of(written, read)
    rows = 0 if head is not None and not head.columns else _rows_of_part(head, shortage)
    alike = {
        name for name, (count, _) in written.rows.items() if count == getattr(written.frames.get(read.name), "rows", 0)
    }
    found = None
    if rows and f"read_{read.name}" not in written.names:
        found = reads_apart(place.text, read, rows, alike - {read.name}, written.function_named)
    if found is not None and not written.misses(found.gone):
        explains = None
        if head is not None and shortage.needs is not None:
            part = int(sum(head.widths.values()) * rows * _WORK)
            explains = max(0, shortage.needs - max(part, shortage.needs // 2))  # what comes out, nobody has seen
        yield Mistake(
            kind="read_in_parts", subject=read.name, place=place, edits=found.edits, explains=explains, in_cell=True
        )


def _rows_of_part(head: TableFile | None, shortage: Shortage) -> int:
    """How many rows fit, with what is made of them; 0 where it is known that too few do."""
    if head is None or shortage.room is None:
        return _ROWS[2]
    size = sum(head.widths.values()) * _WORK
    return next((rows for rows in _ROWS if rows * size <= shortage.room * _SHARE and rows < head.rows), 0)


def head_of(written: Written, read: TableRead) -> TableFile | None:
    """Read the beginning of the file that a table is read from; None where it cannot be.

    Args:
        written: What the notebook's code says.
        read: The read.
    """
    layout, path = layout_of(read), path_of(read.source, written.paths)
    return None if layout is None or path is None else read_head(path, layout)


def _some_columns(written: Written, place: Place, read: TableRead) -> tuple[list[Edit], int | None] | None:
    """What makes a read give the columns that the cell uses, and what these take in memory."""
    option, head = option_for_columns(read), head_of(written, read)
    known = () if head is None else head.columns
    again = is_read_again(read.source, written.paths) and not names_bound(read.after) & names_in(read.call)
    told = columns_told(read, known) if option and again else None
    frame = getattr(sys.modules.get("pandas"), "DataFrame", None)
    if head is None and any(one.arg == "names" for one in read.call.keywords):  # there may be more columns than names
        return None
    if told is None or frame is None or (head is not None and not head.columns):
        return None
    used = columns_used(read.after, read.name, known, dir(frame))
    if not used or (head is not None and not used | told <= {*known}):
        return None
    used |= told
    size = None if head is None else head.bytes_of(used)
    if head is not None and head.bytes_of(used) > _WORTH * head.bytes_of():
        return None
    order = [name for name in known if name in used] or sorted(used)
    edits = with_argument(place.text, read.call, f"{option}={json.dumps(order, ensure_ascii=False)}")
    return (edits, size) if edits else None


def _saved(shortage: Shortage, place: Place, sizes: list[int | None]) -> int | None:
    """How much less the cell needs then; None where nobody knows, or where it makes more than it reads."""
    known = [one for one in sizes if one is not None]
    if shortage.needs is None or len(known) < len(sizes) or makes_more(place.body):
        return None
    tables = {name for one in walk(place.body) for name in bound_names(one)}
    needed = sum(known) * (_READ + len(tables)) + WORTH_MENDING
    return max(0, shortage.needs - needed)
