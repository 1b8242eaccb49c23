"""What is computed of all rows at once, by functions of the notebook or of libraries, where some at a time would do."""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Iterator, Sequence

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.fewer_arrays import bytes_named
from nb_oomhelper.remedies.in_one_go import evaluates_with_graph
from nb_oomhelper.remedies.may_move import models_in
from nb_oomhelper.remedies.places import Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import cures
from nb_oomhelper.source.in_parts import joins_rows
from nb_oomhelper.source.row_calls import ELEMENTWISE
from nb_oomhelper.source.row_company import (
    BY_ROWS,
    calls_unknown,
    carries_on,
    decides_for_all,
    given_rows,
    looks_up_others,
    repeats_rows,
    takes_columns,
)
from nb_oomhelper.source.row_neighbors import takes_neighbors
from nb_oomhelper.source.rows_apart import RowsApart, computed_from, is_quiet, joined_after, rows_apart
from nb_oomhelper.source.tree import is_at, last_name, names_bound, names_in, parameters_of, reads_by_name, walk
from nb_oomhelper.units import NOISE

_FEW = 16  # rows: fewer are no data
_NUMBERS = ELEMENTWISE - frozenset(  # and no flags, which take less
    {"isnan", "isfinite", "isinf", "logical_and", "logical_or", "logical_not", "equal", "not_equal", "less", "greater"}
    | {"less_equal", "greater_equal"}
)
_VIEWS = frozenset({"unsqueeze", "expand", "view", "reshape", "permute", "transpose", "to", "float", "type"})


def find_rows_at_once(written: Written, event: OomEvent, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find the outermost statement on the way to the error that computes each row of its tables by itself.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        shortage: What the cell needs.
        places: Where it may be written.
    """
    if event.phase == "train" or event.call is not None:
        return
    graph = evaluates_with_graph(written, event, places)
    if written.autograd and not graph:
        return
    for place in _outermost_first(written, places):
        large = place.definition is not None or _may_be_output(written, event, shortage, place)
        found = _found_in(written, place, () if large else models_in(written), graph=graph)
        if found is None or (place.definition is None and written.misses(found.gone)):
            continue
        if not _leads_on(written, place) and (not found.gone or _comes_out(place, found.kept)):
            continue
        saved = _saved(written, event, shortage, place, found)
        if saved is not None and saved <= NOISE:
            continue
        yield Mistake(
            kind="rows_apart",
            subject=", ".join(found.tables),
            place=place,
            edits=found.edits,
            explains=saved,
            in_cell=True,
            partly=joined_after(place.body, place.line or 0, found.kept)
            or _may_be_output(written, event, shortage, place),
        )
        return


def _saved(written: Written, event: OomEvent, shortage: Shortage, place: Place, found: RowsApart) -> int | None:
    """Bytes that parts do not take: half, for nobody has seen how much comes out; less where that is told."""
    if shortage.needs is None:
        return None
    half = max(0, shortage.needs - _collected(written, event, place)) // 2
    if place.definition is not None or event.requested is None or not _comes_out_later(place, found.kept):
        return half
    return min(half, shortage.needs - event.requested - bytes_named(written, place, found.gone))


def _comes_out_later(place: Place, kept: Collection[str]) -> bool:
    """Whether what follows makes as much of what had no room, element by element, and keeps it: `c = b + a`."""
    reached = set[str]()
    for node in place.body:
        value = node.value if isinstance(node, ast.Assign) else None
        running = is_at(node, place.line or 0)
        if value is None or not (running or names_in(value) & reached):
            continue
        nodes = list(ast.walk(value))
        less = any(isinstance(one, (ast.Subscript, ast.Compare, ast.MatMult)) for one in nodes)
        if not less and all(last_name(one.func) in _NUMBERS for one in nodes if isinstance(one, ast.Call)):
            reached |= names_bound(node.targets)  # type: ignore[attr-defined]
    return bool(reached & {*kept})


def _collected(written: Written, event: OomEvent, place: Place) -> int:
    """Bytes of what the cell itself has collected by then, while it called a function time and again."""
    made = written.made_names() if place.definition is not None else ()
    kept = [written.kept[name] for name in made if name in written.kept]
    return sum((one.size or {}).get(event.backend, 0) for one in kept if one.call)


def _leads_on(written: Written, place: Place) -> bool:
    """Whether the failing statement calls something in which more is made than comes out: it is on the way itself."""
    running = {one.function for one in written.steps if one.function} | models_in(written) | BY_ROWS
    node = [one for one in walk(place.body) if isinstance(one, ast.Call) and is_at(one, place.line or 0)]
    return any(last_name(one.func) in running for one in node)


def _may_be_output(written: Written, event: OomEvent, shortage: Shortage, place: Place) -> bool:
    """Whether what had no room may be all that a model gives, as it is bound there: in parts that is made as well."""
    node = next((one for one in walk(place.body) if isinstance(one, ast.Assign) and is_at(one, place.line or 0)), None)
    value = node.value if node is not None else None
    value = value.value if isinstance(value, ast.Attribute) else value
    given = isinstance(value, ast.Call) and last_name(value.func) in models_in(written)
    return given and 2 * (event.requested or 0) >= (shortage.needs or 0)


def _comes_out(place: Place, kept: Collection[str]) -> bool:
    """Whether what had no room is what the failing statement binds, and stays: no call makes less of it there."""
    node = next((one for one in walk(place.body) if isinstance(one, ast.Assign) and is_at(one, place.line or 0)), None)
    if node is None or not {one.id for one in node.targets if isinstance(one, ast.Name)} & {*kept}:
        return False
    calls = [last_name(one.func) for one in ast.walk(node.value) if isinstance(one, ast.Call)]
    return all(one in _VIEWS for one in calls)


def _outermost_first(written: Written, places: list[Place]) -> list[Place]:
    running = [one for one in places if one.line is not None]
    steps = [written.definition_of(step) for step in written.steps]
    return sorted(running, key=lambda one: steps.index(one.definition) if one.definition in steps else -1)


def _found_in(written: Written, place: Place, results_of: Collection[str], *, graph: bool) -> RowsApart | None:
    if (of_frame := _of_frame(written, place, graph=graph)) is not None:
        return of_frame
    tables, older = _tables(written, place), written.cell.sets - written.made_names()  # they are bound anew
    large = _by_first_axis(written)
    counts = {rows for rows in tables.values() if rows >= _FEW}
    most = max((large.get(one, 0) for one in counts), default=0)
    for count in sorted((one for one in counts if 2 * large.get(one, 0) >= most), reverse=True):
        own = [name for name, rows in tables.items() if rows == count]
        others = tables.keys() - {*own} - (set() if place.definition else older)
        rows = computed_from(place.body, own) - others
        found = rows_apart(
            place.text,
            place.body,
            place.line or 0,
            own,
            lambda node, rows=rows, own=own: _is_apart(written, node, rows, own),  # type: ignore[misc]
            others,
            no_grad=graph,
            results_of=results_of,
        )
        if found is not None:
            return found
    return None


def _of_frame(written: Written, place: Place, *, graph: bool) -> RowsApart | None:
    """A statement of the cell that computes with columns of one DataFrame as arrays: `distances(trips.lat.values)`."""
    if place.definition is not None or graph or not _leads_on(written, place):
        return None
    for name, frame in written.frames.items():
        if frame.rows < _FEW:
            continue
        aligned = {one for one, (count, _) in written.rows.items() if count == frame.rows} - {name}

        def is_apart(node: ast.stmt, name: str = name, aligned: set[str] = aligned) -> bool:
            here = is_at(node, place.line or 0) and not cures.words_in(node) & aligned
            return here and _is_apart(written, node, {name}, ())

        found = rows_apart(place.text, place.body, place.line or 0, [name], is_apart)
        if found is not None:
            return found
    return None


def _by_first_axis(written: Written) -> dict[int, int]:
    """How many numbers there are in what has so many rows, by that: what grows with them is what fills memory."""
    known = [(name, one.shape) for names in (written.kept, *written.local.values()) for name, one in names.items()]
    found: dict[int, int] = {}
    for _, shape in {(name, shape) for name, shape in known if shape}:  # what is handed on has one name mostly
        found[shape[0]] = found.get(shape[0], 0) + math.prod(shape)
    return found


def _tables(written: Written, place: Place) -> dict[str, int]:
    """How many rows the arrays, tensors and lists have that a place knows by a name."""
    found = {}
    for name, kept in written.kept_in(place.definition).items():
        rows = kept.items if kept.shape is None else next(iter(kept.shape), None)
        if name.isidentifier() and rows is not None:
            found[name] = rows
    return found


def _is_apart(written: Written, node: ast.stmt, rows: set[str], tables: Collection[str]) -> bool:
    """Whether a statement, and all of the notebook's code that it leads to, computes each row by itself."""
    own = {one.name for one in written.definitions}
    if (
        cures.goes_back(node, own)
        or joins_rows(node, draws=False, rows=rows)
        or not is_quiet([node])
        or reads_by_name([node])
        or _keeps_company([node], rows, tables)
        or calls_unknown([node], rows, own | models_in(written))
    ):
        return False
    mixed = models_in(written) - models_in(written, apart=True)
    functions = _reached(written, node)
    for function in functions:
        given = parameters_of(function)
        if cures.goes_back(function, own) or joins_rows(function, draws=False) or not is_quiet(function.body, given):
            return False
        of_rows = computed_from(function.body, given_rows(function, [(node, rows), *_with_rows(functions)]))
        if _keeps_company(function.body, of_rows) or mixed & cures.words_in(function):
            return False
        if calls_unknown(function.body, of_rows, own | given | models_in(written)):
            return False
    return not mixed & cures.words_in(node) and all(takes_columns(node, one) for one in written.frames)


def _keeps_company(body: Sequence[ast.AST], rows: set[str], tables: Collection[str] = ()) -> bool:
    found = decides_for_all(body, rows) or carries_on(body, rows) or looks_up_others(body, rows, tables)
    return found or repeats_rows(body, rows) or takes_neighbors(body, rows)


def _with_rows(functions: list[cures.Function]) -> Iterator[tuple[ast.AST, set[str]]]:
    """Functions with the names in them that may stand for rows."""
    for one in functions:
        yield one, computed_from(one.body, parameters_of(one) - {"self", "cls"})


def _reached(written: Written, node: ast.stmt) -> list[cures.Function]:
    """The functions and methods of the notebook that a statement may lead to."""
    todo, met, found = cures.words_in(node), set[str](), list[cures.Function]()
    while todo:
        met |= todo
        todo = todo | ({"forward"} if todo & models_in(written) else set())
        functions = [written.function(one) for one in written.definitions if one.name in todo]
        new = [one[1] for one in functions if one is not None and one[1] not in found]
        found += new
        todo = {word for one in new for word in cures.words_in(one)} - met
    return found
