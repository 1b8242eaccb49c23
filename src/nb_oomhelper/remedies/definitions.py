"""The functions and methods of the notebook: where they were defined, their source, and how to put a changed one there.

Read off code objects and the lines that IPython keeps for tracebacks; nothing of the user's runs.
"""

from __future__ import annotations

import ast
import linecache
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import CodeType, MappingProxyType

from nb_oomhelper.source.call_sites import read_tree
from nb_oomhelper.source.cures import Function, first_line

_CODE = """{name}.__code__ = next(
    one for one in {outer}.__code__.co_consts if getattr(one, "co_name", "") == "{inner}"
)"""
_MOST = 40  # definitions that are read of one notebook


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One function of the notebook.

    Attributes:
        name: Its name.
        owner: The class that it is a method of, or "".
        file: The cell, as its code names it.
        line: The first line of its code, from 1.
        source: The source of the cell that defines it.
        cell: That cell's number, or None where it cannot be told.
        called: The failed cell calls it by a name, itself or through other functions.
        bound: Other names of the user's that stand for it, as of what a decorator has made.
    """

    name: str
    owner: str
    file: str
    line: int
    source: str
    cell: int | None
    called: bool = False
    bound: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The user's names that stand for it, or for what it is a method of."""
        return (self.owner or self.name, *self.bound)


def read_definitions(
    codes: Iterable[CodeType],
    inputs: Sequence[str],
    called: Collection[CodeType] = (),
    bound: Mapping[CodeType, Sequence[str]] = MappingProxyType({}),
) -> tuple[Definition, ...]:
    """Find where functions were defined; those that the cell calls come first.

    Args:
        codes: Their code.
        inputs: The sources of the cells that ran, by number: IPython's `In`.
        called: Code that the failed cell leads to.
        bound: The user's names by the code of the functions that they stand for.
    """
    wanted = {(code.co_filename, code.co_firstlineno) for code in called}
    found: dict[tuple[str, int], Definition] = {}
    for code in [*called, *codes]:
        if len(found) == _MOST:
            break
        key = (code.co_filename, code.co_firstlineno)
        one = None if key in found else _definition(code, inputs, key in wanted)
        if one is not None:
            found[key] = replace(one, bound=tuple(name for name in bound.get(code, ()) if name != one.name))
    return tuple(found.values())


def _definition(code: CodeType, inputs: Sequence[str], called: bool) -> Definition | None:
    source = _source(code.co_filename)
    tree = None if source is None else read_tree(source)
    if source is None or tree is None:
        return None
    for node in tree.body:
        if first_line(node) <= code.co_firstlineno <= (node.end_lineno or node.lineno):
            if not isinstance(node, Function | ast.ClassDef):
                return None
            return Definition(
                name=code.co_name,
                owner=node.name if isinstance(node, ast.ClassDef) else "",
                file=code.co_filename,
                line=code.co_firstlineno,
                source=source,
                cell=_number(source, inputs),
                called=called,
            )
    return None


def _source(file: str) -> str | None:
    """A cell's source as IPython keeps it for tracebacks; the file system is not asked."""
    entry = linecache.cache.get(file)
    return "".join(entry[2]).rstrip("\n") if entry is not None and len(entry) == 4 else None


def _number(source: str, inputs: Sequence[str]) -> int | None:
    told = source.strip()
    numbers = (number for number in range(len(inputs) - 1, 0, -1) if inputs[number].strip() == told)
    return next(numbers, None)


def lines_of(one: Definition) -> tuple[int, int] | None:
    """Give the first and the last line of a function in its cell, from 1; None where it cannot be found there."""
    tree = read_tree(one.source)
    at = None if tree is None else _place_of(tree, one)
    if tree is None or at is None:
        return None
    node = _there(tree, at)
    return None if node is None else (first_line(node), node.end_lineno or node.lineno)


def put_in_place(changed: str, definitions: Sequence[Definition], names: Collection[str]) -> str | None:
    """Write the statements that put changed functions where the notebook's are.

    A function is defined anew. A method is put on its class, so that all objects of it have it, wherever they are kept,
    and nothing else of the class runs again.

    Args:
        changed: The source of the cell that defines them, changed.
        definitions: What has changed, all of that cell.
        names: The user's variables: none of them may be overwritten.

    Returns:
        The statements; None where that would not be the same function.
    """
    old, new = read_tree(definitions[0].source), read_tree(changed)
    if old is None or new is None:
        return None
    written = []
    for one in definitions:
        at = _place_of(old, one)
        statement = None if at is None else _there(new, at)
        if statement is None:
            return None
        if not one.owner:
            whole = new.body[at[0]] if at is not None else statement
            written.append(_with_old_defaults(_lines(changed, whole), whole, names))
            if isinstance(whole, Function) and whole.name != one.name:  # made by that one: what it has made stays old
                stands = [name for name in (one.name, *one.bound) if name in names]
                if not stands:
                    return None
                written += [_CODE.format(name=name, inner=one.name, outer=whole.name) for name in stands]
        elif isinstance(statement, Function) and at is not None and len(at) == 2 and one.name not in names:
            if _is_bound_to(statement, new.body[at[0]]) or (text := _dedented(changed, statement)) is None:
                return None
            written.append(f"{text}\n{one.owner}.{one.name} = {one.name}\ndel {one.name}")
        else:
            return None
    return "\n".join(dict.fromkeys(written))


def _with_old_defaults(text: str, node: ast.stmt, names: Collection[str]) -> str:
    """A definition that keeps the defaults that the function has: to compute them anew may give others."""
    kept = f"old_{node.name}" if isinstance(node, Function) else ""
    if not isinstance(node, Function) or node.decorator_list or kept in names:
        return text
    defaults = [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]
    if all(isinstance(one, (ast.Constant, ast.UnaryOp)) for one in defaults):
        return text
    own = [f"{name}.__defaults__, {name}.__kwdefaults__" for name in (node.name, kept)]
    return f"{kept} = {node.name}\n{text}\n{own[0]} = {own[1]}\ndel {kept}"


def _place_of(tree: ast.Module, one: Definition) -> tuple[int, ...] | None:
    """Where a function stands: the statement, and for a method also which one of the class."""
    for at, node in enumerate(tree.body):
        if first_line(node) <= one.line <= (node.end_lineno or 0):
            if not one.owner or not isinstance(node, ast.ClassDef):
                return (at,)
            below = (number for number, part in enumerate(node.body) if first_line(part) == one.line)
            return next(((at, number) for number in below), None)
    return None


def _there(tree: ast.Module, at: tuple[int, ...]) -> ast.stmt | None:
    node: ast.stmt = tree.body[at[0]]
    return node.body[at[1]] if len(at) == 2 and isinstance(node, ast.ClassDef) else node


def _lines(source: str, node: ast.stmt) -> str:
    return "\n".join(source.split("\n")[first_line(node) - 1 : node.end_lineno])


def _dedented(source: str, node: ast.stmt) -> str | None:
    """A method as a function of its own; None where a text in it of several lines would not be the same."""
    text = textwrap.dedent(_lines(source, node))
    tree = read_tree(text)
    return text if tree is not None and len(tree.body) == 1 and ast.dump(tree.body[0]) == ast.dump(node) else None


def _is_bound_to(node: Function, owner: ast.stmt) -> bool:
    """Whether a method is another one outside of its class: `super()`, `self.__private`, a name of the class body."""
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    attributes = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    private = any(name.startswith("__") and not name.endswith("__") for name in names | attributes)
    outside = [*node.decorator_list, *node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]
    read = {one.id for part in outside for one in ast.walk(part) if isinstance(one, ast.Name)}
    body = owner.body if isinstance(owner, ast.ClassDef) else []
    stored = [one for part in body if not isinstance(part, Function) for one in ast.walk(part)]
    bound = {one.id for one in stored if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    made = bound | {part.name for part in body if isinstance(part, Function)}
    return private or bool({"super", "__class__"} & names) or bool(read & made)
