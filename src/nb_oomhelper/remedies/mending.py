"""The mistakes in the notebook's own code that explain the bytes, each with the code that mends it.

A mistake is offered to be mended only where both are there: the words in the source, and the bytes that they explain.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.remedies.cell_source import Cell
from nb_oomhelper.remedies.definitions import Definition, redefined
from nb_oomhelper.source.cures import (
    Cure,
    CureKind,
    add_number,
    append_detached,
    backward_once,
    collects,
    in_float32,
    old_first,
    without_grad,
)
from nb_oomhelper.source.source_text import SourceText
from nb_oomhelper.source.text_edits import read_text

_WORTH_MENDING = 1 << 20  # bytes that a mistake must explain
_Mender = Callable[..., Cure | None]  # of a source, and of a function to look in: `within`


@dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """One mistake, and what to run in place of the failed cell.

    Attributes:
        kind: Which mistake.
        subject: What the fix's texts call it: the name that keeps memory, or the function.
        cell: Number of the cell in which the mistake is; None for the failed cell, and where it is not known.
        line: The first line in it that differs, from 1.
        before, after: The lines that differ.
        definition: The changed definition, to run before the cell; "" where the mistake is in the cell itself.
        clear: Statements that empty what was collected, or "".
        code: The failed cell, changed if the mistake is in it.
        explains: Bytes that are kept by the mistake; None where they are not known.
        in_cell: The failed cell itself keeps them: they are part of what it had made.
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

    @property
    def grows(self) -> bool:
        """Whether the mistake keeps more with every step of a loop."""
        return self.kind in ("append_item", "append_detach", "add_item", "no_grad")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the notebook's code says.

    Attributes:
        cell: The failed cell.
        definitions: Functions of the notebook that it uses.
        clearable: What can be emptied by a call that runs no code of the user's, with that call: "losses" ->
            "losses.clear()".
        texts: What was read of their sources.
    """

    cell: Cell
    definitions: tuple[Definition, ...] = ()
    clearable: Mapping[str, str] = field(default_factory=dict)
    texts: dict[str, SourceText | None] = field(default_factory=dict)

    def read(self, source: str) -> SourceText | None:
        """Read a source, each once; None where it is no Python."""
        if source not in self.texts:
            self.texts[source] = read_text(source)
        return self.texts[source]


def find_mends(written: Written, event: OomEvent, held: Holdings) -> list[Mend]:
    """Find the mistakes that explain bytes, those that explain most first.

    Args:
        written: What the notebook's code says.
        event: What failed; its phase tells whether a graph is needed.
        held: Who keeps what.
    """
    if written.cell.obstacle:  # it cannot run in another form
        return []
    found = [
        *_graphs_kept(written, held),
        *_graphs_not_needed(written, event, held),
        *_retained(written, event),
        *_old_ones(written, event, held),
        *_wide(written, event),
    ]
    found.sort(key=lambda one: -(one.explains or 0))
    return found


def is_collected(written: Written, path: str, statement: str) -> bool:
    """Tell whether something is a cache, or what the notebook appends to: emptied, the cell still has its input.

    Args:
        written: What the notebook's code says.
        path: What would be emptied.
        statement: How.
    """
    if not statement.endswith(".clear()"):
        return True
    sources = [written.cell.source, *(definition.source for definition in written.definitions)]
    last = path.rsplit(".", 1)[-1]
    texts = (written.read(source) for source in sources if last in source)
    return any(collects(path, text) for text in texts if text is not None)


def _graphs_kept(written: Written, held: Holdings) -> Iterator[Mend]:
    """`losses.append(loss)`, `total += loss`: each keeps the graph of its step."""
    done: set[str] = set()
    for row, keeper in _keepers(held):
        size = dict(row.parts).get("graph", 0)
        if size < _WORTH_MENDING or keeper in done:
            continue
        for mender in (append_detached, add_number):
            for definition, cure in _places(written, partial(mender, keeper), row.function, keeper.rsplit(".", 1)[-1]):
                done.add(keeper)
                yield _mend(written, definition, cure, keeper, size, in_cell=row.kind == "failed_cell")


def _keepers(held: Holdings) -> Iterator[tuple[Holding, str]]:
    """The names that may stand before `.append`: of a variable its path, of the failed cell its local names."""
    for index in sorted(held.of_kind("variable", "failed_cell")):
        row = held.rows[index]
        if row.kind == "failed_cell":
            yield from ((row, name) for name in row.name.split(", "))
        else:
            yield row, (row.path or row.name).removesuffix("[…]")


def _graphs_not_needed(written: Written, event: OomEvent, held: Holdings) -> Iterator[Mend]:
    """A function that evaluates keeps a graph that no `backward()` goes through."""
    if event.phase != "infer":
        return
    size = graph_kept(held) or 0
    for definition in written.definitions:
        if size < _WORTH_MENDING or definition.name != event.function:
            continue
        text = written.read(definition.source)
        if text is not None and (cure := without_grad(text, definition.name)) is not None:
            yield _mend(written, definition, cure, definition.name, size, in_cell=True)


def graph_kept(held: Holdings) -> int | None:
    """Give the bytes of the largest autograd graph that a name keeps; None where none is worth the name.

    Args:
        held: Who keeps what.
    """
    rows = [held.rows[index] for index in held.of_kind("variable", "failed_cell")]
    size = max((dict(row.parts).get("graph", 0) for row in rows), default=0)
    return size if size >= _WORTH_MENDING else None


def _retained(written: Written, event: OomEvent) -> Iterator[Mend]:
    """`backward(retain_graph=True)` where nothing goes through that graph again."""
    if event.framework == "pytorch" and event.phase in ("train", "unknown"):
        for definition, cure in _places(written, backward_once, None, "retain_graph"):
            yield _mend(written, definition, cure, "retain_graph")


def _old_ones(written: Written, event: OomEvent, held: Holdings) -> Iterator[Mend]:
    """`model = Net()` run again: the old one is kept until the new one is there."""
    if event.call is not None:  # a load is written anew with the old one forgotten
        return
    for index in sorted(held.of_kind("variable")):
        row = held.rows[index]
        size = held.freed_by(held.of_failures() | {index}) - held.freed_by(held.of_failures())
        if size < _WORTH_MENDING or row.name not in written.cell.sets:
            continue
        text = written.read(written.cell.source)
        if text is not None and (cure := old_first(text, row.name)) is not None:
            yield _mend(written, None, cure, row.name, size)


def _wide(written: Written, event: OomEvent) -> Iterator[Mend]:
    """NumPy makes float64 where nothing is said; float32 takes half."""
    if event.framework == "numpy":
        for definition, cure in _places(written, in_float32, None):
            yield _mend(written, definition, cure, "float32")


def _places(
    written: Written, mender: _Mender, local: str | None, word: str = ""
) -> Iterator[tuple[Definition | None, Cure]]:
    """Where a mistake is written: in a function that the cell uses, or in the cell.

    Args:
        written: What the notebook's code says.
        mender: Mends a source.
        local: The function that the names are local to, if they are.
        word: What must be in the source: most need not be looked through.
    """
    for definition in written.definitions:
        if local not in (None, definition.name) or word not in definition.source:
            continue
        text = written.read(definition.source)
        if text is not None and (cure := mender(text, within=definition.name)) is not None:
            yield definition, cure
            return
    text = written.read(written.cell.source)
    if text is not None and (cure := mender(text, within=local)) is not None:
        yield None, cure


def _mend(
    written: Written,
    definition: Definition | None,
    cure: Cure,
    subject: str,
    explains: int | None = None,
    *,
    in_cell: bool = False,
) -> Mend:
    """What to run: the changed definition, what empties, the cell."""
    changed, own = cure.changed, definition is None
    code = changed.source if own else written.cell.source
    return Mend(
        kind=cure.kind,
        subject=subject,
        cell=None if definition is None else definition.cell,
        line=changed.line,
        before=changed.before,
        after=changed.after,
        definition="" if definition is None else redefined(definition, changed.source),
        clear="" if _starts_anew(written.cell, subject) else written.clearable.get(subject, ""),
        code=code.strip("\n"),
        explains=explains,
        in_cell=in_cell,
    )


def _starts_anew(cell: Cell, name: str) -> bool:
    """Whether the cell itself binds a name to something empty before all else that it does with it."""
    for node in cell.tree.body:
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
        return isinstance(node.func, ast.Name) and node.func.id in ("list", "dict", "set") and not node.args
    return isinstance(node, ast.Constant)
