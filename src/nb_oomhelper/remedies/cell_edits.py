"""The source of the failed cell: what it names, and the same cell with a number halved, an argument more, or indented.

The cell is only read: nothing of it runs here, and what cannot be read as Python gives None.
"""

from __future__ import annotations

import ast
import dis
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import CodeType
from typing import Literal

from nb_oomhelper.knowledge.fix import Edit
from nb_oomhelper.records.event import Phase
from nb_oomhelper.source.call_sites import read_tree
from nb_oomhelper.source.call_text import CallEditor
from nb_oomhelper.source.source_text import UnwritableError

_LARGEST = 50_000  # characters of a cell; reading a longer one takes longer than the panel may
_EDITS = 8  # places that are changed at once: each is looked up anew
# a line of a magic or a command, what they give assigned to something, or a question: `%time f()`, `x = !ls`, `x?`
_MAGIC = re.compile(r"(?m)^([ \t]*)([%!?].*|[^\s=#'\"%!?][^=\n#'\"]*=[ \t]*[%!].*|[\w.*]+\?\??[ \t]*)$")
_ASSIGNED = re.compile(r"(?m)^[ \t]*([^\s=%!?][^=\n%!?]*)=[ \t]*[%!]")
_EDITED = (ast.Call, ast.Assign, ast.AnnAssign)
_ASYNC = (ast.Await, ast.AsyncFor, ast.AsyncWith)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_READS = frozenset({"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_NAME", "DELETE_GLOBAL"})
_TRAINS = frozenset({".backward", ".zero_grad", ".train_step", ".training_step"})
_ANSWERS = frozenset({".generate", ".evaluate", ".predict"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The failed cell. Make it, use it, drop it: a syntax tree is large.

    Attributes:
        source: Its text, with lines that end with "\\n"; where it has magics, they stand in it as comments.
        tree: Its syntax tree.
        used: Names that it reads.
        sets: Names that it binds, in functions of its own, too; also what a magic gives.
        needs: Names that it reads of those that were there before it ran; of lines with magics every word.
        words: Every name in it: of variables, and of attributes once with a dot before them and once without.
        obstacle: Why it cannot be run again in another form: "magics", "awaits", or "".
    """

    source: str
    tree: ast.Module
    used: frozenset[str]
    sets: frozenset[str]
    words: frozenset[str]
    needs: frozenset[str] = frozenset()
    obstacle: Literal["", "magics", "awaits"] = ""


def read_cell(source: str) -> Cell | None:
    """Read a cell; None where it is no Python, or far too much of it."""
    text = source.replace("\r\n", "\n")
    if len(text) > _LARGEST or "\r" in text:
        return None
    obstacle: Literal["", "magics", "awaits"] = ""
    with warnings.catch_warnings():  # of what the user's code is warned, the user was warned when it ran
        warnings.simplefilter("ignore")
        tree = read_tree(text)
        magics = ""
        if tree is None:
            text, magics = _without_magics(text)
            tree, obstacle = read_tree(text), "magics"
        if tree is None or any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body):
            return None  # such an import stands first, and whoever writes the cell anew puts something before it
        if not _compiles(text):
            if not any(isinstance(node, _ASYNC) for node in ast.walk(tree)):
                return None
            obstacle = obstacle or "awaits"
        needs = words_of(magics).union(_needed(tree))
    return _named(
        Cell(
            source=text,
            tree=tree,
            used=frozenset(),
            sets=words_of(" ".join(_ASSIGNED.findall(magics))),
            words=frozenset(),
            needs=needs,
            obstacle=obstacle,
        )
    )


def words_of(text: str) -> frozenset[str]:
    """Every word of a text: whatever it reads, if it is no Python that anybody can read, is among them."""
    return frozenset(word[0] for word in re.finditer(r"\w+", text))


def _without_magics(text: str) -> tuple[str, str]:
    """The cell with its lines of magics as comments, and these lines; what looks like one within a text stays."""
    changed = _MAGIC.sub(r"\1pass  # \2", text)
    tree = read_tree(changed)
    inside = {line for node in ast.walk(tree) for line in _continued(node)} if tree is not None else set()
    lines = list(enumerate(zip(text.split("\n"), changed.split("\n"), strict=True), 1))
    written = "\n".join(old if number in inside else new for number, (old, new) in lines)
    return written, "\n".join(old for number, (old, new) in lines if old != new and number not in inside)


def _needed(tree: ast.Module) -> set[str]:
    """Names that are read before a plain statement of the cell has bound them, as the compiler sees it."""
    needed: set[str] = set()
    bound: set[str] = set()
    for statement in tree.body:
        code = _compiled(ast.Module(body=[statement], type_ignores=[]))
        if code is None:
            return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        needed |= globals_read(code) - bound
        if not hasattr(statement, "body") or isinstance(statement, _DEFINITIONS):  # what is in a block may not run
            bound |= {one.argval for one in dis.get_instructions(code) if one.opname == "STORE_NAME"}
    return needed


def globals_read(code: CodeType) -> set[str]:
    """The global names that code reads or deletes, also in functions and classes that it defines."""
    found = {str(one.argval) for one in dis.get_instructions(code) if one.opname in _READS}
    return found.union(*(globals_read(one) for one in code.co_consts if isinstance(one, CodeType)))


def _compiled(tree: ast.Module) -> CodeType | None:
    try:
        code: CodeType = compile(tree, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return code


def _compiles(text: str) -> bool:
    try:
        compile(text, "<cell>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _named(cell: Cell) -> Cell:
    used: set[str] = set()
    sets = set(cell.sets)
    words: set[str] = set()
    for node in ast.walk(cell.tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else sets).add(node.id)
            words.add(node.id)
        elif isinstance(node, ast.Attribute):
            words |= {node.attr, f".{node.attr}"}
        elif isinstance(node, ast.keyword) and node.arg:
            words.add(node.arg)
    return replace(cell, used=frozenset(used), sets=frozenset(sets), words=frozenset(words))


def phase_of(cell: Cell | None, graph: bool) -> Phase:
    """What a cell does, where the traceback did not tell.

    Args:
        cell: The cell.
        graph: Whether the failed cell keeps an autograd graph, and nothing in the notebook trains.
    """
    if cell is None:
        return "unknown"
    if cell.words & _TRAINS:
        return "train"
    return "infer" if graph or cell.words & _ANSWERS else "unknown"


# -- the cell in another form ----------------------------------------------------------------------------------------


def indented(cell: Cell) -> str | None:
    """The cell four columns further to the right, to stand in a `with`; None where it cannot.

    Lines that begin within a text of several lines stay where they are: white space there is the user's data.
    """
    try:
        inside = {line for node in ast.walk(cell.tree) for line in _continued(node)}
        lines = cell.source.strip("\n").split("\n")
        skipped = len(cell.source) - len(cell.source.lstrip("\n"))
        block = "\n".join(
            f"    {line}" if line.strip() and number not in inside else line
            for number, line in enumerate(lines, skipped + 1)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = read_tree(f"if 1:\n{block}")
            if tree is None or (cell.obstacle != "awaits" and not _compiles(f"if 1:\n{block}")):
                return None
        inner = tree.body[0]
        same = len(tree.body) == 1 and isinstance(inner, ast.If) and _dump(inner.body) == _dump(cell.tree.body)
    except (RecursionError, MemoryError):
        return None
    return block if same else None


def _continued(node: ast.AST) -> range:
    """The lines that begin within a text."""
    if isinstance(node, (ast.Constant, ast.JoinedStr)) or type(node).__name__ == "TemplateStr":
        return range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)  # type: ignore[attr-defined]
    return range(0)


def _dump(body: list[ast.stmt]) -> list[str]:
    return [ast.dump(statement) for statement in body]


def edited(cell: Cell, edit: Edit) -> tuple[str, str] | None:
    """The cell with everything that an edit is about changed, and the change in short: "batch_size=32".

    None where there is nothing of the kind, or where it cannot be written.
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
    place, function = (node.lineno, node.col_offset), ast.unparse(node.func)
    for name, value in values.items():
        call = CallEditor(text, place, function)  # anew: the text before has changed
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
