"""Where in the notebook's code a mistake may be, and what may be meant by a name there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.remedies.definitions import Definition
from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.collecting import binds, root_of
from nb_oomhelper.source.cure_kinds import CureKind
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import walk

_SHAPE = re.compile(r"with shape \((\d+(?:, ?\d+)*),?\)")
_DTYPE = re.compile(r"and data type (\w+)")
WORTH_MENDING = 1 << 20  # bytes that a mistake must explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Statements in which a mistake may be.

    Attributes:
        text: The source that they are in.
        body: They.
        definition: The function that they are the body of; None for the failed cell.
        line: The line of the source that was running; None where it is not known.
    """

    text: SourceText
    body: list[ast.stmt]
    definition: Definition | None = None
    line: int | None = None

    @property
    def source(self) -> str:
        """The whole source."""
        return self.text.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake.

    Attributes:
        kind: Which.
        subject: The name that keeps memory, or the function.
        place: Where it is.
        edits: What mends it.
        explains: Bytes that are kept by it; None where they are not known.
        in_cell: The failed cell itself keeps them.
        grows: It keeps more with every step of a loop.
        clear: What empties it, where no name of the user's leads to it.
        partly: Something of what grows stays: the values, where only their graphs go.
    """

    kind: CureKind
    subject: str
    place: Place
    edits: list[Edit]
    explains: int | None = None
    in_cell: bool = False
    grows: bool = False
    clear: str = ""
    partly: bool = False


def refused_shape(event: OomEvent) -> tuple[int, ...] | None:
    """Give the shape of the array that NumPy had no room for; None where the message tells none.

    Args:
        event: What failed.
    """
    told = _SHAPE.search(event.message)
    return None if told is None else tuple(map(int, told[1].split(",")))


def refused_dtype(event: OomEvent) -> str | None:
    """Give the dtype of the array that NumPy had no room for; None where the message tells none.

    Args:
        event: What failed.
    """
    told = _DTYPE.search(event.message)
    return None if told is None else told[1]


def failed_cell(places: Iterable[Place]) -> Place | None:
    """Give the failed cell itself; None where nobody knows which line of it was running.

    Args:
        places: As of `find_places`.
    """
    return next((one for one in places if one.definition is None and one.line is not None), None)


def find_places(written: Written) -> list[Place]:
    """The functions that the cell leads to or that were running, and the cell itself."""
    found = []
    for one in written.definitions:
        step, function = written.step_of(one), written.function(one)
        if function is not None and (one.called or one.owner or step is not None):
            text, node = function
            found.append(Place(text=text, body=node.body, definition=one, line=step.line if step else None))
    cell = written.read(written.cell.source)
    if cell is not None:
        found.append(Place(text=cell, body=cell.tree.body, line=written.line_in_cell()))
    return found


def find_keepers(written: Written, places: list[Place]) -> Iterator[tuple[str, Kept, list[Place], bool]]:
    """Find what is kept, where it may be put in, and whether the failed cell's functions keep it.

    Args:
        written: What the notebook's code says.
        places: Where a mistake may be written.
    """
    for path, kept in written.kept.items():
        name = root_of(path)
        yield path, kept, [one for one in places if _may_mean(one, path, name, kept)], False
    for key, names in written.local.items():
        own = [one for one in places if one.definition and (one.definition.file, one.definition.line) == key]
        for path, kept in names.items():
            below = [one for one in places if "." in path and _may_mean(one, path, "", kept)]
            yield path, kept, own if "." not in path else below, True


def _may_mean(place: Place, path: str, name: str, kept: Kept) -> bool:
    """Whether a path can be meant there: a method of another class has other attributes, a function its own names."""
    definition = place.definition
    if definition is None:
        return True
    if "." in path:
        return not definition.owner or definition.owner in kept.owners
    return not binds(place.body, name)


def kept_by(held: Holdings, path: str, *, local: bool) -> int:
    """Give the bytes that come back with a path's name.

    Args:
        held: Who keeps what.
        path: The path.
        local: Whether the name is local to a function of the failed cell.
    """
    return held.freed_by(held.of_failures()) if local else held.freed_after_release(held.named(root_of(path)))


def graph_of(held: Holdings, path: str, *, local: bool) -> int:
    """Give the bytes of graphs behind a path's name.

    Args:
        held: Who keeps what.
        path: The path.
        local: Whether the name is local to a function of the failed cell.
    """
    name = root_of(path)
    rows = [held.rows[index] for index in held.of_kind("failed_cell" if local else "variable")]
    fitting = [row for row in rows if (name in row.name.split(", ") if local else row.name == name)]
    return max((dict(row.parts).get("graph", 0) for row in fitting), default=0)


def is_summed_beside(written: Written, place: Place, held: Holdings, path: str) -> bool:
    """Tell whether a tensor of several numbers is added up there that keeps graphs, too: `mae += error.mean(0)`.

    Args:
        written: What the notebook's code says.
        place: The place.
        held: Who keeps what.
        path: What else keeps them.
    """
    kept = written.kept_in(place.definition)
    sums = [one.target for one in walk(place.body) if isinstance(one, ast.AugAssign) and isinstance(one.op, ast.Add)]
    names = {one.id for one in sums if isinstance(one, ast.Name)} - {root_of(path)}
    wide = [name for name in names if name in kept and kept[name].shape]
    return any(graph_of(held, name, local=place.definition is not None) >= WORTH_MENDING for name in wide)
