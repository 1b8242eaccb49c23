"""Which mistake in the notebook's code explains which bytes."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.cpu_instead import find_cpu_instead
from nb_oomhelper.remedies.demandable import find_demandable
from nb_oomhelper.remedies.emptying import find_emptiable
from nb_oomhelper.remedies.graph_on_host import find_graph_on_host
from nb_oomhelper.remedies.in_one_go import find_in_one_go
from nb_oomhelper.remedies.joined_windows import find_windows
from nb_oomhelper.remedies.kept_on_device import (
    find_gathered_on_device,
    find_kept_by_hooks,
    find_kept_on_device,
    find_remembered,
)
from nb_oomhelper.remedies.kept_on_disk import find_collected
from nb_oomhelper.remedies.let_go import find_let_go
from nb_oomhelper.remedies.loaded_weights import find_loaded_weights
from nb_oomhelper.remedies.moved_data import find_moved_data
from nb_oomhelper.remedies.only_a_part import find_fewer_results, find_less_data
from nb_oomhelper.remedies.optimizer_states import find_states
from nb_oomhelper.remedies.places import (
    WORTH_MENDING,
    Mistake,
    Place,
    failed_cell,
    find_keepers,
    find_places,
    graph_of,
    is_summed_beside,
    kept_by,
)
from nb_oomhelper.remedies.row_wise import find_loss_parts
from nb_oomhelper.remedies.rows_at_once import find_rows_at_once
from nb_oomhelper.remedies.step_wise import find_whole_steps
from nb_oomhelper.remedies.tables_at_once import find_tables_in_parts
from nb_oomhelper.remedies.tables_read import find_tables_read
from nb_oomhelper.remedies.unused_results import find_unused_results
from nb_oomhelper.remedies.wide_code import find_wide_code
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import cures, narrowing, rewriting
from nb_oomhelper.source.backward_each import backward_each
from nb_oomhelper.source.collecting import find_appends
from nb_oomhelper.source.cure_kinds import CureKind
from nb_oomhelper.source.evaluations import without_graph
from nb_oomhelper.source.given_on import is_given_on
from nb_oomhelper.source.lighter import find_errors
from nb_oomhelper.source.sums import find_additions

_BY_THEMSELVES = frozenset({".generate", ".predict", ".evaluate", ".encode", ".transcribe", "pipeline"})
_GOOD_PART = 0.5  # of what is missing, to be worth a change
_LARGE_PART = 0.25  # of the graphs behind them, from which on values that are kept on and on matter as well


def find_mistakes(written: Written, event: OomEvent, held: Holdings, shortage: Shortage) -> Iterator[Mistake]:
    """Find the mistakes that explain bytes.

    Args:
        written: What the notebook's code says.
        event: What failed; its phase tells whether a graph is needed.
        held: Who keeps what.
        shortage: What the cell needs, and what room there is.
    """
    places = find_places(written)
    if event.framework == "pytorch":
        on_device = list(find_kept_on_device(written, event, held, places))
        yield from on_device
        yield from find_gathered_on_device(written, event, shortage, places)
        yield from find_remembered(written, event, places)
        yield from find_kept_by_hooks(written, event, places)
        yield from find_in_one_go(written, event, shortage, places)
        yield from find_whole_steps(written, event, held, shortage, places)
        yield from find_moved_data(written, event, shortage, places)
        yield from find_loss_parts(written, event, held, places)
        yield from find_graph_on_host(written, event, held, shortage, places)
        yield from find_cpu_instead(written, event, held, shortage, places)
        yield from _kept_graphs(written, event, held, places, {(one.place.source, one.subject) for one in on_device})
        yield from _graphs_not_needed(written, event, held)
        yield from _evaluations(written, event, held, places)
        yield from _retained(written, event, places)
        yield from find_states(written, event, held, places)
        yield from _wide_tensors(written, event, held, shortage, places)
        yield from find_loaded_weights(event, held, shortage, places)
    yield from _kept_errors(written, held, places)
    yield from _second_attempts(places)
    yield from _never_emptied(written, event, held, places)
    yield from _old_ones(written, event, held, shortage)
    yield from find_let_go(written, held, shortage, places)
    if event.backend == "host":
        yield from find_wide_code(written, event, held, shortage, places)
    yield from find_unused_results(written, event, places)
    yield from find_windows(written, event, places)
    yield from find_collected(written, event, held, shortage, places)
    yield from find_tables_read(written, event, shortage, places)
    yield from find_tables_in_parts(written, event, shortage, places)
    yield from find_rows_at_once(written, event, shortage, places)
    yield from find_demandable(written, event, places)
    yield from find_less_data(written, event, shortage, places)
    yield from find_fewer_results(written, event, held, places)


def _kept_graphs(
    written: Written, event: OomEvent, held: Holdings, places: list[Place], mended: Collection[tuple[str, str]]
) -> Iterator[Mistake]:
    """`losses.append(loss)`, `total += loss`: each keeps the graph of its step."""
    done: set[tuple[str, int]] = set()
    for path, kept, within, local in find_keepers(written, places):
        if kept.element is None or not kept.element.has("graph", "number"):
            continue
        size = graph_of(held, path, local=local)
        for place in within if size >= WORTH_MENDING else ():
            if (place.source, path) in mended or (place.definition is not None and place.definition.name == "forward"):
                continue  # training goes through it, too
            if event.phase == "train" and kept.call and is_given_on(place.body, path, at_top=not place.definition):
                continue
            kind: CureKind = "append_item" if kept.element.kind == "number" else "append_detach"
            others = [one.body for one in places if one is not place and not (local and path.isidentifier())]
            edits = find_appends(place.text, place.body, path, kept.element, others) if kept.call else []
            if not edits and kept.element.kind == "number":
                kind, edits = "add_item", find_additions(place.text, place.body, path, others)
            if not edits and not kept.call:
                kind, edits = "backward_each", backward_each(place.text, place.body, path, _with_graph(written, place))
            if edits and (place.source, edits[0][0]) not in done:
                done.add((place.source, edits[0][0]))
                values = (kept.size or {}).get(event.backend, 0) if kind == "append_detach" else 0
                yield Mistake(
                    kind=kind,
                    subject=path,
                    place=place,
                    edits=edits,
                    explains=size,
                    in_cell=local,
                    grows=True,
                    partly=values >= size * _LARGE_PART or is_summed_beside(written, place, held, path),
                )


def _graphs_not_needed(written: Written, event: OomEvent, held: Holdings) -> Iterator[Mistake]:
    """A function that evaluates keeps a graph that no `backward()` goes through: the outermost that does not train."""
    if event.phase != "infer" or written.autograd is False:
        return
    for step in written.steps:
        one = written.definition_of(step)
        function = None if one is None else written.function(one)
        if one is None or function is None or one.name == "forward" or leads_to_training(written, function[1]):
            continue
        text, node = function
        place = Place(text=text, body=node.body, definition=one)
        edits = cures.without_grad(text, node)
        if edits and (written.autograd or graph_kept(held)):
            yield Mistake(
                kind="no_grad", subject=one.name, place=place, edits=edits, explains=graph_kept(held), in_cell=True
            )
            return


def _evaluations(written: Written, event: OomEvent, held: Holdings, places: list[Place]) -> Iterator[Mistake]:
    """An evaluation between training steps keeps a graph for nothing; what a layer itself needs it needs still."""
    graph = max(0, (graph_kept(held) or 0) - (event.requested or 0))
    for place in places if written.autograd is not False else ():
        if place.line is not None and (edits := without_graph(place.text, place.body, place.line)):
            yield Mistake(
                kind="no_grad_block",
                subject="torch.no_grad",
                place=place,
                edits=edits,
                explains=graph or None,
                in_cell=True,
            )


def evaluates(written: Written, held: Holdings, unless: Collection[str]) -> bool:
    """Tell whether the failed cell makes a graph that nobody needs.

    Args:
        written: What the notebook's code says.
        held: Who keeps what.
        unless: Words of a cell that trains or has seen to it, and of libraries' methods that see to it by themselves.
    """
    if not written.autograd and graph_kept(held) is None:
        return False
    trains = written.cell.words.intersection(unless) - _BY_THEMSELVES  # these would have made no graph
    return not trains and not leads_to_training(written, written.cell.tree)


def leads_to_training(written: Written, node: ast.AST) -> bool:
    """Tell whether code trains, itself or through functions of the notebook, or says itself where a graph is made.

    Args:
        written: What the notebook's code says.
        node: The code.
    """
    todo, met = [node], set[int]()
    while todo:
        code = todo.pop()
        if cures.trains(code):
            return True
        words = cures.words_in(code)
        for at, one in enumerate(written.definitions):
            if one.name in words and at not in met:
                met.add(at)
                function = written.function(one)
                todo += [] if function is None else [function[1]]
    return False


def graph_kept(held: Holdings) -> int | None:
    """Give the bytes of the largest autograd graph that a name keeps; None where none is worth the name.

    Args:
        held: Who keeps what.
    """
    rows = [held.rows[index] for index in held.of_kind("variable", "failed_cell")]
    size = max((dict(row.parts).get("graph", 0) for row in rows), default=0)
    return size if size >= WORTH_MENDING else None


def _retained(written: Written, event: OomEvent, places: list[Place]) -> Iterator[Mistake]:
    """`backward(retain_graph=True)` where nothing goes through that graph again."""
    for place in places if event.phase in ("train", "unknown") else ():
        edits = cures.backward_once(place.text, place.body, _with_graph(written, place))
        if edits:
            yield Mistake(kind="retain_graph", subject="retain_graph", place=place, edits=edits)


def _with_graph(written: Written, place: Place) -> set[str]:
    """What has a graph, by path, as the code of a place knows it."""
    known = written.known_in(place.definition)
    return {path for path, kept in known.items() if kept.element is not None and kept.element.has("graph", "number")}


def _wide_tensors(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Tensors of float64 on a GPU: NumPy's dtype where nothing is said."""
    wide = [size for row in held.rows for dtype, size in row.dtypes if dtype == "float64" and row.backend != "host"]
    if event.backend == "host" or sum(wide) < max(WORTH_MENDING, event.requested or 0) // 2:
        return
    arrays = [
        name for name, kept in written.kept.items() if kept.element is not None and kept.element.kind == "float64"
    ]
    for place in places:
        if edits := narrowing.float32_tensors(place.text, place.body, arrays):
            half = None if shortage.needs is None else shortage.needs // 2
            yield Mistake(kind="float32", subject="float32", place=place, edits=edits, explains=half, in_cell=True)


def _kept_errors(written: Written, held: Holdings, places: list[Place]) -> Iterator[Mistake]:
    """`errors.append(e)`: an error keeps its frames, and they keep what was being computed."""
    for path, kept, within, local in find_keepers(written, places):
        if kept.element is None or not kept.element.has("error"):
            continue
        size = kept_by(held, path, local=local)
        for place in within if size >= WORTH_MENDING else ():
            if edits := find_errors(place.text, place.body, path):
                yield Mistake(
                    kind="errors", subject=path, place=place, edits=edits, explains=size, in_cell=local, grows=True
                )


def _second_attempts(places: list[Place]) -> Iterator[Mistake]:
    """A smaller attempt inside of `except`: the error that is handled keeps the larger one until it ends."""
    for place in places:
        if place.line is not None and (edits := rewriting.retry_after(place.text, place.body, place.line)):
            yield Mistake(kind="retry", subject="except", place=place, edits=edits)


def _never_emptied(written: Written, event: OomEvent, held: Holdings, places: list[Place]) -> Iterator[Mistake]:
    """Something that grows with every call of an object, which itself only looks at the newest: the loop empties it."""
    cell = failed_cell(places)
    for path, _, size in find_emptiable(written, held, event.backend) if cell is not None else ():
        last, line = path.rsplit(".", 1)[-1], cell.line if cell is not None else None
        texts = [text for source in written.sources() if (text := written.read(source)) is not None]
        if cell is None or line is None or "." not in path or last in written.cell.words:
            continue
        if all(rewriting.reads_only_last(text.tree.body, last) for text in texts):
            loop = cures.statement_at(cell.body, line)
            if loop is not None and (edits := rewriting.clear_each(cell.text, loop, path)):
                yield Mistake(
                    kind="clear_each", subject=path, place=cell, edits=edits, explains=size, in_cell=False, grows=True
                )


def _old_ones(written: Written, event: OomEvent, held: Holdings, shortage: Shortage) -> Iterator[Mistake]:
    """`model = Net()` run again: the old one is kept until the new one is there."""
    line, text = written.line_in_cell(), written.read(written.cell.source)
    if event.call is not None or line is None or text is None:  # a load is written anew with the old one forgotten
        return
    names = [row.name for row in held.rows if row.kind == "variable" and row.name in written.cell.sets]
    large = [name for name in names if _alone_or_shared(held, name) >= WORTH_MENDING]
    place = Place(text=text, body=text.tree.body, line=line)
    edits = cures.old_first(text, large, line, _readers(written, large))
    told = edits[0][2].split(" = None")[0].strip().split(" = ") if edits else []
    indexes = frozenset[int]().union(*(held.named(name) for name in told))
    size = held.freed_after_release(indexes)
    missing = 0 if shortage.needs is None or shortage.room is None else shortage.needs - shortage.room
    if edits and size >= max(WORTH_MENDING, _GOOD_PART * missing):
        yield Mistake(kind="old_first", subject=", ".join(told), place=place, edits=edits, explains=size)


def _alone_or_shared(held: Holdings, name: str) -> int:
    return max((row.own + row.shared for row in held.rows if row.kind == "variable" and row.name == name), default=0)


def _readers(written: Written, names: list[str]) -> frozenset[str]:
    """Functions of the notebook that read one of these names as the notebook's own."""
    found = set()
    for one in written.definitions:
        function = written.function(one) if any(name in one.source for name in names) else None
        if function is not None and any(cures.reads_global(function[1], name) for name in names):
            found.add(one.name)
    return frozenset(found)
