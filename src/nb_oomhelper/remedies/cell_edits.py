"""The failed cell in another form: indented below a `with`, or with a number halved or an argument more."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from nb_oomhelper.knowledge.fix import Edit
from nb_oomhelper.remedies.cell_source import Cell, compiles, continued_lines
from nb_oomhelper.source.call_sites import read_tree
from nb_oomhelper.source.call_text import CallEditor
from nb_oomhelper.source.source_text import UnwritableError

_EDITS = 8  # places that are changed at once: each is looked up anew
_EDITED = (ast.Call, ast.Assign, ast.AnnAssign)


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


def edited(cell: Cell, edit: Edit) -> tuple[str, str] | None:
    """Write the cell with everything that an edit is about changed.

    Args:
        cell: The cell.
        edit: Which arguments and names are meant, and how they change.

    Returns:
        The cell's new source, and the change in short: "batch_size=32". None where there is nothing of the kind, or
        where it cannot be written.
    """
    try:
        nodes = [node for node in ast.walk(cell.tree) if isinstance(node, _EDITED) and _is_meant(node, edit)]
        if not 0 < len(nodes) <= _EDITS:
            return None
        text, changes = cell.source, []
        # From the end, so that what is still to be changed stays where it was.
        for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset), reverse=True):
            text, change = _edit_call(text, node, edit) if isinstance(node, ast.Call) else _halve_name(text, node)
            changes += change
        if read_tree(text) is None:
            return None
    except (UnwritableError, RecursionError, MemoryError):
        return None
    return text, ", ".join(dict.fromkeys(reversed(changes)))


def _is_meant(node: ast.AST, edit: Edit) -> bool:
    if not isinstance(node, ast.Call):
        assigned = None if edit.calls else _assigned(node)
        return assigned is not None and assigned[0].lower() in edit.halve and _number(assigned[1]) > 1
    if edit.calls and _last_name(node.func) not in edit.calls:
        return False
    if edit.halve:
        return next(_halves(node, edit), None) is not None
    names = {keyword.arg for keyword in node.keywords}
    return bool(edit.calls) and None not in names and not names & set(dict(edit.add))


def _assigned(node: ast.AST) -> tuple[str, ast.expr] | None:
    """The plain name that a statement binds, and what to."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.expr = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return None
    return (target.id, node.value) if isinstance(target, ast.Name) and node.value is not None else None


def _last_name(function: ast.expr) -> str | None:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else None


def _number(node: ast.expr | None) -> int:
    """A whole number that is written out; 0 for all else."""
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else 0


def _halves(call: ast.Call, edit: Edit) -> Iterator[ast.keyword]:
    for keyword in call.keywords:
        if keyword.arg and keyword.arg.lower() in edit.halve and _number(keyword.value) > 1:
            yield keyword


def _edit_call(text: str, node: ast.Call, edit: Edit) -> tuple[str, list[str]]:
    """One call changed; what was changed stands in reverse, as the calls come."""
    values = {one.arg or "": str(_number(one.value) // 2) for one in _halves(node, edit)}
    for name in edit.double if values else ():
        values[name] = str(2 * _steps(node, name))
    values |= dict(edit.add)
    position, function = (node.lineno, node.col_offset), ast.unparse(node.func)
    for name, value in values.items():
        call = CallEditor(text, position, function)  # anew: the text before has changed
        found = call.keyword([name])
        text = call.added(f"{name}={value}", call.call) if found is None else call.replaced(found.value, value)
    return text, [f"{name}={value}" for name, value in values.items()][::-1]


def _steps(node: ast.Call, name: str) -> int:
    """The number that an argument has now: 1 where it is not there, for those that count steps begin with that."""
    found = next((one.value for one in node.keywords if one.arg == name), None)
    if found is None and all(one.arg is not None for one in node.keywords):
        return 1
    if _number(found) < 1:
        raise UnwritableError("unwritable")
    return _number(found)


def _halve_name(text: str, node: ast.stmt) -> tuple[str, list[str]]:
    """One assignment of a plain number changed."""
    assigned = _assigned(node)
    if assigned is None:
        raise UnwritableError("unwritable")
    name, value = assigned
    half = str(_number(value) // 2)
    lines = text.split("\n")
    line = lines[value.lineno - 1].encode()
    lines[value.lineno - 1] = (line[: value.col_offset] + half.encode() + line[value.end_col_offset :]).decode()
    return "\n".join(lines), [f"{name} = {half}"]
