"""The source of the failed cell as it was read: what it names, and what it needs of what was there before.

Nothing of it runs here, and what cannot be read as Python gives None.
"""

from __future__ import annotations

import ast
import dis
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import CodeType
from typing import Literal

from nb_oomhelper.source.call_sites import read_expression, read_tree

_LARGEST = 50_000  # characters of a cell; reading a longer one takes longer than the panel may
# a line of a magic or a command, what they give assigned to something, or a question: `%time f()`, `x = !ls`, `x?`
_MAGIC = re.compile(r"(?m)^([ \t]*)([%!?].*|[^\s=#'\"%!?][^=\n#'\"]*=[ \t]*[%!].*|[\w.*]+\?\??[ \t]*)$")
_EMPTY_ABOVE = re.compile(r"\A(?:[ \t]*\n)+")
_ASSIGNED = re.compile(r"(?m)^[ \t]*([^\s=%!?][^=\n%!?]*)=[ \t]*[%!]")
_ASYNC = (ast.Await, ast.AsyncFor, ast.AsyncWith)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_READS = frozenset({"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_NAME", "DELETE_GLOBAL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The failed cell. Make it, use it, drop it: a syntax tree is large.

    Attributes:
        source: Its text without empty lines above, with lines that end with "\\n"; where it has magics, they stand in
            it as comments.
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
    """Read a cell's source; None where it is no Python, or far too much of it."""
    text = _EMPTY_ABOVE.sub("", source.replace("\r\n", "\n"))  # as IPython does: its lines are counted from there
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
        if not compiles(text):
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


def reads_at_top(sources: Iterable[str], paths: Iterable[str]) -> frozenset[str]:
    """Find which paths cells read outside of functions; each cell is parsed once.

    Args:
        sources: The cells'.
        paths: As the user would write them: "bs", 'config["batch_size"]', "args.batch_size".

    Returns:
        Those of the paths that are read.
    """
    parsed = ((path, read_expression(path)) for path in paths)
    wanted = {ast.dump(node): path for path, node in parsed if node is not None}
    words = {re.findall(r"\w+", path)[-1] for path in wanted.values()}
    found = set()
    for source in sources:
        some = len(source) <= _LARGEST and any(word in source for word in words)
        todo: list[ast.AST] = [tree] if some and (tree := read_tree(source)) is not None else []
        while todo:
            node = todo.pop()
            named = isinstance(node, ast.Subscript) or getattr(node, "id", getattr(node, "attr", None)) in words
            if named and (path := wanted.get(ast.dump(node))) is not None:
                found.add(path)
            todo += [] if isinstance(node, (*_DEFINITIONS, ast.Lambda)) else ast.iter_child_nodes(node)
    return frozenset(found)


def words_of(text: str) -> frozenset[str]:
    """Give every word of a text: whatever it reads, if it is no Python that anybody can read, is among them."""
    return frozenset(word[0] for word in re.finditer(r"\w+", text))


def _without_magics(text: str) -> tuple[str, str]:
    """The cell with its lines of magics as comments, and these lines; what looks like one within a text stays."""
    changed = _MAGIC.sub(r"\1pass  # \2", text)
    tree = read_tree(changed)
    inside = {line for node in ast.walk(tree) for line in continued_lines(node)} if tree is not None else set()
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
    """Give the global names that code reads or deletes, also in functions and classes that it defines."""
    found = {str(one.argval) for one in dis.get_instructions(code) if one.opname in _READS}
    return found.union(*(globals_read(one) for one in code.co_consts if isinstance(one, CodeType)))


def _compiled(tree: ast.Module) -> CodeType | None:
    try:
        code: CodeType = compile(tree, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return code


def compiles(text: str) -> bool:
    """Tell whether a text is Python that has no `await` outside of a function."""
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


def continued_lines(node: ast.AST) -> range:
    """Give the numbers of the lines that begin within a text of several lines, such as a docstring."""
    if isinstance(node, (ast.Constant, ast.JoinedStr)) or type(node).__name__ == "TemplateStr":
        return range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)  # type: ignore[attr-defined]
    return range(0)
