"""The failed cell in another form: indented below a `with`, with a number smaller, or with an argument more."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

from nb_oomhelper.knowledge.fix import Edit
from nb_oomhelper.remedies.cell_source import Cell, compiles, continued_lines
from nb_oomhelper.source.call_sites import read_tree
from nb_oomhelper.source.call_text import CallEditor
from nb_oomhelper.source.numbers import Shrink, folded, is_meant
from nb_oomhelper.source.sizes import Known, shrink
from nb_oomhelper.source.source_text import UnwritableError
from nb_oomhelper.source.text_edits import read_text
from nb_oomhelper.source.tree import last_name

_EDITS = 8  # places that are changed at once: each is looked up anew


def indented(cell: Cell) -> str | None:
    """Write the cell four columns further to the right, to stand in a `with`; None where it cannot.

    Lines that begin within a text of several lines stay where they are: white space there is the user's data.
    """
    try:
        inside = {line for node in ast.walk(cell.tree) for line in continued_lines(node)}
        lines = cell.source.strip("\n").split("\n")
        skipped = len(cell.source) - len(cell.source.lstrip("\n"))
        block = "\n".join(
            f"    {line}" if line.strip() and number not in inside else line
            for number, line in enumerate(lines, skipped + 1)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = read_tree(f"if 1:\n{block}")
            if tree is None or (cell.obstacle != "awaits" and not compiles(f"if 1:\n{block}")):
                return None
        inner = tree.body[0]
        same = len(tree.body) == 1 and isinstance(inner, ast.If) and _dump(inner.body) == _dump(cell.tree.body)
    except (RecursionError, MemoryError):
        return None
    return block if same else None


def _dump(body: list[ast.stmt]) -> list[str]:
    return [ast.dump(statement) for statement in body]


@dataclass(frozen=True, slots=True)
class Smaller:
    """A source with smaller numbers.

    Attributes:
        source: The whole source anew.
        before, after: The lines that differ; "" where there are more of them than before.
        told: The change in short: "batch_size 64 → 32".
        names: What the numbers are called: "batch_size".
        ratio: The new size as a part of the old one.
        parts: In how many parts the old one is done.
    """

    source: str
    before: str
    after: str
    told: str
    ratio: float
    parts: int
    names: tuple[str, ...]


def shrunk(
    source: str, edit: Edit, by: Shrink, known: Known, *, first: int = 0, last: int | None = None
) -> Smaller | None:
    """Make the numbers that an edit is about smaller, and those that accumulate larger.

    Args:
        source: A cell's source.
        edit: Which numbers are meant.
        by: How much smaller.
        known: What is known of the names in it.
        first, last: Lines from 1, of which alone what stands in them is changed; all of them, if they are not given.

    Returns:
        The source anew; None where there is nothing of the kind, or it cannot be written.
    """
    text = read_text(source)
    found = None if text is None else shrink(text, edit.shrink, by, known, first=first, last=last)
    if found is None:
        return None
    changed, told = found.changed, found.told
    parts = max(2, round(1 / found.ratio))
    if not edit.accumulate:
        return Smaller(changed.source, changed.before, changed.after, ", ".join(told), found.ratio, parts, found.names)
    try:
        written, more = _accumulated(changed.source, edit, parts)
    except (UnwritableError, RecursionError, MemoryError):
        return None
    old, new = source.split("\n"), written.split("\n")
    differ = [(a.strip(), b.strip()) for a, b in zip(old, new, strict=False) if a != b] if len(old) == len(new) else []
    before, after = ("\n".join(lines) for lines in zip(*differ, strict=True)) if differ else ("", "")
    return Smaller(written, before, after, ", ".join([*told, *more]), found.ratio, parts, found.names)


def _accumulated(text: str, edit: Edit, parts: int) -> tuple[str, list[str]]:
    """The calls that have such a number with their steps multiplied, and how that is told."""
    tree = read_tree(text)
    nodes = ast.walk(tree) if tree is not None else ()
    calls = [one for one in nodes if isinstance(one, ast.Call) and _has(one, edit.shrink)]
    told: list[str] = []
    for node in sorted(calls, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        position, function = (node.lineno, node.col_offset), ast.unparse(node.func)
        for name in edit.accumulate:
            was = _steps(node, name)
            call = CallEditor(text, position, function)  # anew: the text before has changed
            found = call.keyword([name])
            new = str(was * parts)
            text = call.added(f"{name}={new}", call.call) if found is None else call.replaced(found.value, new)
            told.append(f"{name} {was} → {new}")
    return text, list(dict.fromkeys(reversed(told)))


def _has(call: ast.Call, names: tuple[str, ...]) -> bool:
    return any(one.arg is not None and is_meant(one.arg, names) for one in call.keywords)


def edited(cell: Cell, edit: Edit) -> tuple[str, str] | None:
    """Write the cell with arguments added to the calls that an edit is about.

    Args:
        cell: The cell.
        edit: Which calls are meant, and what they get.

    Returns:
        The cell's new source, and the change in short: "use_cache=False". None where there is nothing of the kind, or
        where it cannot be written.
    """
    try:
        nodes = [node for node in ast.walk(cell.tree) if isinstance(node, ast.Call) and _is_meant(node, edit)]
        if not 0 < len(nodes) <= _EDITS:
            return None
        text = cell.source
        # From the end, so that what is still to be changed stays where it was.
        for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset), reverse=True):
            position, function = (node.lineno, node.col_offset), ast.unparse(node.func)
            for name, value in edit.add:
                call = CallEditor(text, position, function)
                text = call.added(f"{name}={value}", call.call)
        if read_tree(text) is None:
            return None
    except (UnwritableError, RecursionError, MemoryError):
        return None
    return text, ", ".join(f"{name}={value}" for name, value in edit.add)


def _is_meant(node: ast.Call, edit: Edit) -> bool:
    names = {keyword.arg for keyword in node.keywords}
    return last_name(node.func) in edit.calls and None not in names and not names & set(dict(edit.add))


def _steps(node: ast.Call, name: str) -> int:
    """The number that an argument has now: 1 where it is not there, for those that count steps begin with that."""
    found = next((one.value for one in node.keywords if one.arg == name), None)
    if found is None and all(one.arg is not None for one in node.keywords):
        return 1
    steps = folded(found) or 0
    if steps < 1:
        raise UnwritableError("unwritable")
    return steps
