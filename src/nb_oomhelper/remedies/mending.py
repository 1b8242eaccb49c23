"""The mistakes in the notebook's own code that explain the bytes, each with the code that mends it.

A mistake is offered to be mended only where both are there: the words in the source, and the bytes that they explain.
Those of one cell are mended in one go.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.code_mistakes import find_mistakes
from nb_oomhelper.remedies.definitions import Definition, put_in_place
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.collecting import binds, find_kept, root_of
from nb_oomhelper.source.cure_kinds import CureKind
from nb_oomhelper.source.cures import write_cure
from nb_oomhelper.source.text_edits import read_text
from nb_oomhelper.source.tree import names_left

# Nothing is another then; and what is joined later must lie in one place.
_TOGETHER = frozenset({"append_item", "append_detach", "append_host", "add_item", "retain_graph", "errors"})
_ALL_ROWS = frozenset(
    {
        "by_parts",
        "tensor_parts",
        "loss_in_parts",
        "windows",
        "joined",
        "moved",
        "sparse",
        "small_dummies",
        "still_sparse",
        "nearly_sparse",
        "pairs_in_parts",
        "model_in_parts",
        "step_in_parts",
        "rows_apart",
        "columns_apart",
        "on_demand",
        "on_disk",
        "only_used",
        "read_columns",
        "read_in_parts",
        "working_memory",
    }
)  # none is left out
_BY_VERDICT = frozenset({"read_columns", "read_in_parts", "joined"})  # which is best is told by what they take
# Their texts do not say where: the one that explains most is offered.
_ONCE = frozenset({"float32", "by_parts", "tensor_parts", "loss_in_parts"})
_LAST = frozenset({"on_host", "train_on_host", "less_data", "fewer_results"})  # slow, or something else comes out
_GRAPHS = frozenset({"append_item", "append_detach", "add_item", "backward_each"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """Mistakes of one cell, and what to run in place of the failed cell.

    Attributes:
        kind: Which mistake; of several the one that explains most.
        subject: What the fix's texts call it: the name that keeps memory, or the function.
        cell: Number of the cell in which the mistake is; None for the failed cell, and where it is not known.
        line: The first line in it that differs, from 1.
        before, after: The lines that differ.
        definition: The changed functions, to run before the cell; "" where the mistake is in the cell itself.
        clear: Statements that empty what was collected, or "".
        code: The failed cell, changed if the mistake is in it.
        explains: Bytes that are kept by the mistake; None where they are not known.
        in_cell: The failed cell itself keeps them: they are part of what it had made.
        grows: The mistake keeps more with every step of a loop.
        partly: Something that grows stays as it is, in this place or in another.
        forgets: Bytes of what `clear` lets go of, since the cell makes it anew.
        targets: What `definition` and `clear` change, as names of the user's.
        gone: Names that the failed cell binds, and its changed code does not.
    """

    kind: CureKind
    subject: str
    cell: int | None = None
    line: int | None = None
    before: str = ""
    after: str = ""
    definition: str = ""
    clear: str = ""
    code: str = ""
    explains: int | None = None
    in_cell: bool = False
    grows: bool = False
    partly: bool = False
    forgets: int = 0
    targets: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def find_mends(written: Written, event: OomEvent, held: Holdings, shortage: Shortage) -> list[Mend]:
    """Find the mistakes that explain bytes, those that explain most first.

    Args:
        written: What the notebook's code says.
        event: What failed; its phase tells whether a graph is needed.
        held: Who keeps what.
        shortage: What the cell needs, and what room there is.
    """
    if written.cell.obstacle:  # it cannot run in another form
        return []
    found = list(find_mistakes(written, event, held, shortage))
    for more in ({"rows_apart", *_BY_VERDICT}, {"less_data"}):  # where there is better, or where all rows can be had
        if any(one.kind in _ALL_ROWS - more for one in found):
            found = [one for one in found if one.kind in _BY_VERDICT or one.kind not in more]
    groups: dict[str, list[Mistake]] = {}
    for one in found:
        key = one.place.source if one.kind in _TOGETHER else f"{one.kind} {one.subject} {one.place.source}"
        groups.setdefault(key, []).append(one)
    made = [(group, mend) for group in groups.values() if (mend := _mend(written, held, group)) is not None]
    told = [(group, mend.partly or any(_is_left(one, group) for one in found)) for group, mend in made]
    mends = [
        replace(mend, partly=partly)
        for (_, mend), (group, partly) in zip(made, told, strict=True)
        if not (partly and any(not less and _covers_all(whole, group) for whole, less in told))
    ]
    mends.sort(key=lambda one: (one.kind in _LAST, -(one.explains or 0)))
    known: dict[tuple[str, ...], Mend] = {}
    for mend in mends:
        known.setdefault(_told_by(mend), mend)
    return list(known.values())


def _told_by(mend: Mend) -> tuple[str, ...]:
    """What tells a mend from the others: a function of the failed cell is read by itself and with the cell."""
    return (mend.kind, *([] if mend.kind in _ONCE else [mend.subject, mend.definition, mend.code]))


def _is_left(other: Mistake, group: Sequence[Mistake]) -> bool:
    """Whether something else goes on growing where only the mistakes of a group are mended."""
    if not other.grows or any(_is_same(other.subject, one.subject) for one in group):
        return False
    return not (other.kind in _GRAPHS and any(_covers(one, other) for one in group))  # it keeps no graph then


def _covers_all(whole: Sequence[Mistake], group: Sequence[Mistake]) -> bool:
    """Whether nothing of what some mistakes keep is left once others are mended."""
    return all(one.kind in _GRAPHS and any(_covers(more, one) for more in whole) for one in group)


def _covers(one: Mistake, other: Mistake) -> bool:
    """Whether nothing makes a graph any more where something else keeps it."""
    if one.kind != "no_grad_block" or one.place.source != other.place.source:
        return one.kind == "no_grad"
    first, last = min(edit[0] for edit in one.edits), max(edit[1] for edit in one.edits)
    return all(first <= edit[0] and edit[1] <= last for edit in other.edits)


def _is_same(path: str, other: str) -> bool:
    """Whether two paths lead to the same container, or one into the other: `history`, `history['loss']`."""
    short, long = sorted((path, other), key=len)
    return long == short or (long.startswith(short) and long[len(short)] in ".[")


def _mend(written: Written, held: Holdings, group: list[Mistake]) -> Mend | None:
    """What to run: the changed functions, what empties, the cell."""
    group.sort(key=lambda one: (one.kind != "append_host", -(one.explains or 0)))
    first, place = group[0], group[0].place
    cure = write_cure(place.text, [(one.kind, one.edits) for one in group])
    if cure is None:
        return None
    own = written.is_cell(place.source)
    definition = "" if own else put_in_place(cure.changed.source, _of(group), written.names)
    if definition is None:
        return None
    code = cure.changed.source if own else written.cell.source
    forgotten = _forgotten(written, held)
    cleared = list(dict.fromkeys(_cleared(written, group)))
    changed = () if own else (name for one in _of(group) for name in one.names)
    return Mend(
        kind=first.kind,
        subject=first.subject,
        cell=None if own or place.definition is None else place.definition.cell,
        line=cure.changed.line,
        before=cure.changed.before,
        after=cure.changed.after,
        definition=definition,
        clear="\n".join([*cleared, *(f"{name} = None" for name in forgotten)]),
        code=code.strip("\n"),
        explains=_explained(held, group),
        in_cell=all(one.in_cell for one in group),
        grows=any(one.grows for one in group),
        partly=any(one.partly for one in group),
        forgets=_freed(held, forgotten),
        targets=(*changed, *map(root_of, cleared), *forgotten),
        gone=_gone(written, code) if own else (),
    )


def _gone(written: Written, code: str) -> tuple[str, ...]:
    """The names that the user may look for in vain afterwards."""
    changed = read_text(code)
    return () if changed is None else tuple(sorted(names_left(written.cell.tree.body) - names_left(changed.tree.body)))


def _of(group: Iterable[Mistake]) -> list[Definition]:
    return list({id(one.place.definition): one.place.definition for one in group if one.place.definition}.values())


def _explained(held: Holdings, group: Sequence[Mistake]) -> int | None:
    """What all of them keep: several may keep the same graph."""
    known = [one.explains for one in group if one.explains is not None]
    if len(known) < 2:
        return known[0] if known else None
    named = [held.named(root_of(one.subject)) for one in group]
    return min(sum(known), max(*known, held.freed_by(held.of_failures().union(*named))))


def _cleared(written: Written, group: Iterable[Mistake]) -> Iterator[str]:
    """What empties what has been collected; of what the cell itself makes anew nothing need be."""
    yield from (one.clear for one in group if one.clear)
    paths = dict.fromkeys(path for one in group if one.grows for path in (one.subject, *_beside(written, one)))
    for path in paths:
        kept = written.kept.get(path)
        if kept is not None and kept.call == "clear" and not _starts_anew(written.cell.tree, path):
            lists = [inner for inner in written.kept if inner.startswith(f"{path}[")]  # the code counts on its keys
            yield from (f"{inner}.clear()" for inner in lists or [path])


def _beside(written: Written, one: Mistake) -> Iterator[str]:
    """Other tensors that the same code collects in the same place, as labels beside predictions: they go together."""
    owner = one.subject.rpartition(".")[0]
    for path, kept in written.kept.items():
        together = path != one.subject and path.rpartition(".")[0] == owner and any((kept.size or {}).values())
        own = owner == "" and one.place.definition is not None and binds(one.place.body, root_of(path))
        if together and not own and any(True for _ in find_kept(one.place.body, path)):
            yield path


def _forgotten(written: Written, held: Holdings) -> list[str]:
    """What the failed cell had made and makes anew, to let go of before: else both are there for a moment."""
    needed = written.cell.needs | written.needed  # by its functions, too
    names = sorted({row.name for row in held.rows if row.kind == "variable"} & written.made_names() - needed)
    worth = [name for name in names if _freed(held, [name]) >= WORTH_MENDING]
    if _freed(held, names) < _freed(held, worth) + WORTH_MENDING:
        return worth
    for name in names[:]:  # several keep the same, such as a graph: none of them alone lets go of it
        others = [one for one in names if one != name]
        names = others if _freed(held, others) + WORTH_MENDING > _freed(held, names) else names
    return names


def _freed(held: Holdings, names: Iterable[str]) -> int:
    return held.freed_after_release(frozenset[int]().union(*map(held.named, names)))


def _starts_anew(tree: ast.Module, name: str) -> bool:
    """Whether the cell itself binds a name to something empty before all else that it does with it."""
    for node in tree.body:
        bound = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(one, ast.Name) and one.id == name for one in bound):
            return isinstance(node, ast.Assign) and _is_empty(node.value)
        if any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node)):
            return False
    return False


def _is_empty(node: ast.expr) -> bool:
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return not node.elts
    if isinstance(node, ast.Dict):
        return not node.keys
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("list", "dict", "set", "deque", "defaultdict")
    return isinstance(node, ast.Constant)
