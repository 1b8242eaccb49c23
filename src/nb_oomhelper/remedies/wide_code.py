"""Code that makes wider arrays, or more of them at once, than what is computed needs."""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.fewer_arrays import find_one_array, stays_as_wide
from nb_oomhelper.remedies.kept_sparse import find_kept_sparse
from nb_oomhelper.remedies.on_the_way import MAKING
from nb_oomhelper.remedies.places import (
    WORTH_MENDING,
    Mistake,
    Place,
    find_keepers,
    kept_by,
    refused_dtype,
    refused_shape,
)
from nb_oomhelper.remedies.row_wise import find_row_parts
from nb_oomhelper.remedies.working_memory import find_large_chunks
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import cures, growing_in_place, narrowing, rewriting
from nb_oomhelper.source.collecting import root_of
from nb_oomhelper.source.flags import flags_in_bytes
from nb_oomhelper.source.growing_steps import collects
from nb_oomhelper.source.lighter import find_wide
from nb_oomhelper.source.row_calls import ELEMENTWISE, REDUCING
from nb_oomhelper.source.source_text import Edit
from nb_oomhelper.source.tree import is_at, last_name, names_in, pairs, parents_of, walk

_MUCH_SMALLER = 8  # times
_POINTER = 8  # bytes that a list takes for an item, and a whole number of NumPy's


def find_wide_code(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Arrays that are wider, or more of them at once, than what is computed needs."""
    yield from find_large_chunks(event, shortage, places)
    for place in places:
        running = _running(place)
        if place.line is not None and (flags := flags_in_bytes(place.text, place.body)):
            yield _in_bytes(written, place, *flags)
        if event.framework == "pytorch" and event.phase != "train":
            yield from find_row_parts(written, event, shortage, place)
        if event.framework != "numpy" or not running:
            continue
        yield from _dummies(event, place, running)
        yield from find_row_parts(written, event, shortage, place)
        if edits := rewriting.concat_once(place.text, place.body):
            yield Mistake(kind="concat_once", subject="concat", place=place, edits=edits)
        yield from _in_place(written, event, held, place, running)
        yield from find_one_array(written, event, shortage, place, running)
        floats = "float64" in event.message and place.line is not None
        if floats and (edits := growing_in_place.grow_in_place(place.text, place.body, place.line or 0)):
            yield Mistake(kind="grown_in_place", subject=_target(running), place=place, edits=edits, grows=True)
        edits = narrowing.still_sparse(place.text, running, _arrays(written, place))
        if edits:
            yield Mistake(
                kind="still_sparse", subject="toarray", place=place, edits=edits, explains=event.requested, in_cell=True
            )
        else:
            yield from find_kept_sparse(written, event, held, place, running)
        if not _is_done_before(written, place):
            yield from _in_float32(written, event, held, shortage, place, running)
    yield from _wide_members(written, held, shortage, places)


def _dummies(event: OomEvent, place: Place, running: list[ast.stmt]) -> Iterator[Mistake]:
    if edits := narrowing.sparse_dummies(place.text, running):
        yield Mistake(kind="sparse", subject="get_dummies", place=place, edits=edits)
    if _takes_dtype() and (edits := narrowing.small_dummies(place.text, running)):
        saved = None if event.requested is None else event.requested - event.requested // _POINTER
        yield Mistake(
            kind="small_dummies", subject="get_dummies", place=place, edits=edits, explains=saved, in_cell=True
        )


def _takes_dtype() -> bool:
    """Whether pandas lets texts be told apart in columns of a dtype that is told: from version 3 on."""
    return int(str(getattr(sys.modules.get("pandas"), "__version__", "0")).split(".")[0]) >= 3


def _in_bytes(written: Written, place: Place, name: str, edits: list[Edit]) -> Mistake:
    """`sieve = [True] * n`; how many there are is known where it has been made."""
    kept = written.kept_in(place.definition).get(name)
    count = None if kept is None else kept.items
    saved = None if count is None else (_POINTER - 1) * count
    return Mistake(kind="flags", subject=name, place=place, edits=edits, explains=saved, in_cell=True)


def _is_done_before(written: Written, place: Place) -> bool:
    """Whether a place is how an object is made that is there already."""
    one = place.definition
    return one is not None and place.line is None and one.name in MAKING and one.owner not in written.cell.words


def _in_float32(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, place: Place, running: list[ast.stmt]
) -> Iterator[Mistake]:
    """The array that was refused has 16 digits: it is told so where it is made, or what it is computed from."""
    half = None if event.requested is None else event.requested // 2
    room = None if shortage.room is None else shortage.room + held.freed_after_release(_made_rows(written, held))
    if "float64" not in event.message or (half is not None and room is not None and half >= room):
        return
    edits = cures.in_float32(place.text, running)
    edits += [] if edits else narrowing.collected_as_float32(place.text, running, _lists_of_float64(written, place))
    edits = edits or narrowing.scaled_as_float32(place.text, running, _whole_numbers(written, place))
    explains = half + _made_by(written, held, place) // 2 if edits and half is not None else None
    if not edits:
        edits = cures.in_float32(place.text, place.body)
    if not edits and (edits := narrowing.scaled_as_float32(place.text, place.body, ())):
        made = sum(dict(held.rows[index].dtypes).get("float64", 0) for index in _made_rows(written, held))
        explains = None if half is None or not made else half + made // 2
    if _is_first_of_several(running, event, shortage):  # the others were not seen
        explains = None
    if edits:
        yield Mistake(
            kind="float32",
            subject="float32",
            place=place,
            edits=edits,
            explains=explains,
            in_cell=True,
            partly=collects(place.body, place.line or 0),
        )


def _is_first_of_several(running: list[ast.stmt], event: OomEvent, shortage: Shortage) -> bool:
    """Whether a statement makes one array of another, and had no room for the first: `np.log1p(x.astype(float))`."""
    if shortage.needs is None or event.requested is None or shortage.needs >= 2 * event.requested:
        return False
    parents = parents_of(walk(running))
    for one in walk(running):
        if isinstance(one, ast.Call) and last_name(one.func) == "astype":
            above = parents.get(one)
            name = last_name(above.func) if isinstance(above, ast.Call) else getattr(above, "attr", None)
            if isinstance(above, ast.BinOp) or name in ELEMENTWISE or (name and name not in REDUCING):
                return True
    return False


def _made_by(written: Written, held: Holdings, place: Place) -> int:
    """Bytes of float64 that earlier calls of a function have given the failed cell."""
    if place.definition is None:
        return 0
    given = [
        target.id
        for node in written.cell.tree.body
        for target, value in pairs(node)
        if isinstance(target, ast.Name)
        and isinstance(value, ast.Call)
        and last_name(value.func) == place.definition.name
    ]
    rows = frozenset[int]().union(*(held.named(name) for name in written.made_names() & {*given}))
    return sum(dict(held.rows[index].dtypes).get("float64", 0) for index in rows)


def _made_rows(written: Written, held: Holdings) -> frozenset[int]:
    return frozenset[int]().union(*map(held.named, written.made_names() - written.cell.needs))


def _whole_numbers(written: Written, place: Place) -> set[str]:
    """Names of arrays of whole numbers, as the code of a place knows them."""
    kept = written.kept_in(place.definition)
    return {name for name, what in kept.items() if what.dtype in ("uint8", "uint16", "int16", "int32", "int64")}


def _lists_of_float64(written: Written, place: Place) -> set[str]:
    """Names of lists of arrays with 16 digits, as the code of a place knows them."""
    kept = written.kept_in(place.definition)
    return {name for name, what in kept.items() if what.element is not None and what.element.kind == "float64"}


def _running(place: Place) -> list[ast.stmt]:
    """The innermost statement that was running, in a list."""
    if place.line is None:
        return []
    body, found = place.body, list[ast.stmt]()
    while True:
        fitting = [one for one in body if cures.first_line(one) <= place.line <= (one.end_lineno or 0)]
        if not fitting:
            return found
        found = fitting[:1]
        inner = [getattr(found[0], name, None) for name in ("body", "orelse", "finalbody")]
        body = [one for part in inner if isinstance(part, list) for one in part if isinstance(one, ast.stmt)]


def _in_place(
    written: Written, event: OomEvent, held: Holdings, place: Place, running: list[ast.stmt]
) -> Iterator[Mistake]:
    """`x = (x - x.mean()) / x.std()` of an array that nobody else looks at."""
    for row in held.rows:
        kept = written.kept.get(row.name)
        if kept is None or kept.shape is None or not _is_refused(event, kept):
            continue
        alone = row.kind == "variable" and row.type_name == "ndarray"
        alone = alone and kept_by(held, row.name, local=False) >= max(row.own + row.shared, WORTH_MENDING)
        floats = all(dtype.startswith("float") for dtype, _ in row.dtypes)
        meant = place.definition is None and alone and floats and row.name in written.cell.sets
        if not meant or _is_read_in_loop(place, row.name):
            continue
        small = _small_beside(written, place, row.name)
        if edits := narrowing.in_place(place.text, running, row.name, small, _alike(written, kept)):
            yield Mistake(
                kind="in_place", subject=row.name, place=place, edits=edits, explains=row.own + row.shared, in_cell=True
            )


def _target(running: list[ast.stmt]) -> str:
    return next((ast.unparse(target) for node in running for target, _ in pairs(node)), "numpy")


def _small_beside(written: Written, place: Place, name: str) -> set[str]:
    """Names of numbers, and of arrays that are much smaller than one."""
    sizes = {path: math.prod(kept.shape) for path, kept in written.kept.items() if kept.shape is not None}
    dtype = written.kept[name].dtype
    fitting = {path for path, kept in written.kept.items() if stays_as_wide(dtype, kept.dtype)}
    small = {path for path, size in sizes.items() if size * _MUCH_SMALLER <= sizes.get(name, 0)} & fitting
    # what a reduction gives is as wide as what it is of, which nobody knows any more
    return small | (narrowing.reduced_names(place.body) - sizes.keys() if dtype == "float64" else set())


def _alike(written: Written, array: Kept) -> set[str]:
    """Names of arrays whose reductions are no wider than an array, and have no more axes."""
    ndim = len(array.shape or ())
    arrays = {path: kept for path, kept in written.kept.items() if kept.shape is not None and len(kept.shape) <= ndim}
    return {path for path, kept in arrays.items() if kept.dtype == array.dtype}


def _arrays(written: Written, place: Place) -> set[str]:
    """Names of arrays, and of what has some, as the code of a place knows them."""
    return {root_of(path) for path, what in written.kept_in(place.definition).items() if what.shape is not None}


def _is_refused(event: OomEvent, kept: Kept) -> bool:
    """Whether what there was no room for is as the array that is there: then nothing grows, nor gets wider."""
    return refused_shape(event) == kept.shape and refused_dtype(event) == kept.dtype


def _is_read_in_loop(place: Place, name: str) -> bool:
    """Whether a loop was running that looks at an array elsewhere: it may be kept there, as the last step's."""
    loops = [one for one in walk(place.body) if isinstance(one, (ast.For, ast.While)) and is_at(one, place.line or 0)]
    simple = [one for one in walk(loops[:1]) if isinstance(one, ast.stmt) and not hasattr(one, "body")]
    return any(name in names_in(one) for one in simple if not is_at(one, place.line or 0))


def _wide_members(written: Written, held: Holdings, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """`features.append(extract(i))`: each array has 16 digits; what views of one array take is not theirs."""
    missing = 0 if shortage.needs is None or shortage.room is None else shortage.needs - shortage.room
    for path, kept, within, local in find_keepers(written, places):
        if kept.element is None or kept.element.kind != "float64" or not kept.call:
            continue
        size = kept_by(held, path, local=local)
        for place in within if size // 2 >= max(WORTH_MENDING, missing // 4) and _is_here(within) else ():
            if edits := find_wide(place.text, place.body, path, kept.element):
                yield Mistake(
                    kind="float32",
                    subject="float32",
                    place=place,
                    edits=edits,
                    explains=size // 2,
                    in_cell=True,
                    partly=any(collects(one.body, one.line) for one in places if one.line is not None),
                )


def _is_here(places: list[Place]) -> bool:
    return any(place.line is not None for place in places)
