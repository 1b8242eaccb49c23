"""A syntax tree: what is within a node, around it, on its lines, and what its names are."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from nb_oomhelper.source.in_place import is_in_place

_ALL_NAMES = frozenset({"locals", "globals", "vars", "eval", "exec", "dir", "get_ipython"})
_OF_ERRORS = frozenset({"exc_info", "print_exc", "format_exc", "exception", "print_stack", "showtraceback"})
_BY_TEXT = frozenset({"eval", "query", "evaluate", "sql", "execute", "sqldf", "ols", "glm", "dmatrix", "dmatrices"})

_OWN_NAMES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
"""Statements that run what is in them again and again."""


def walk(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Give all nodes of some statements."""
    for node in body:
        yield from ast.walk(node)


def parents_of(nodes: Iterable[ast.AST]) -> dict[ast.AST, ast.AST]:
    """Give for each node the one that it is a part of.

    Args:
        nodes: The nodes to look below.
    """
    return {child: node for node in nodes for child in ast.iter_child_nodes(node)}


def nodes_above(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    """Give what a node is a part of, from the inside out.

    Args:
        node: The node.
        parents: As `parents_of` gives them.
    """
    while (found := parents.get(node)) is not None:
        yield found
        node = found


def statement_around(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> ast.stmt | None:
    """Give the statement that a node stands in, or is; None where the tree was not read up to there.

    Args:
        node: The node.
        parents: As `parents_of` gives them.
    """
    if isinstance(node, ast.stmt):
        return node
    return next((one for one in nodes_above(node, parents) if isinstance(one, ast.stmt)), None)


def is_at(node: ast.expr | ast.stmt, line: int) -> bool:
    """Tell whether a line, from 1, is one of a node's."""
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def is_long_text(node: ast.AST) -> bool:
    """Tell whether a node is a text of several lines: to indent these would change it."""
    text = isinstance(node, (ast.Constant, ast.JoinedStr)) or type(node).__name__ == "TemplateStr"
    return text and node.lineno != node.end_lineno  # type: ignore[attr-defined]


def is_name(node: ast.AST, name: str) -> bool:
    """Tell whether a node is a plain name, and which it is."""
    return isinstance(node, ast.Name) and node.id == name


def last_name(function: ast.expr) -> str | None:
    """Give the last name of what is called, or None."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else None


def is_path(node: ast.expr) -> bool:
    """Tell whether an expression is a name with attributes and keys behind it."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return isinstance(node, ast.Name)


def root_name(node: ast.AST) -> str:
    """Give the name that attributes and items begin with: "x" of `x.a[0]`; "" where it is no name."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def names_in(node: ast.AST) -> set[str]:
    """Give the names of variables in some code.

    Args:
        node: The code.
    """
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Give the names of a function's parameters, "self" among them.

    Args:
        function: The function.
    """
    return {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}


def names_reached(names: Iterable[str], links: Iterable[tuple[set[str], set[str]]]) -> set[str]:
    """Give some names, and those that links lead to from them, one after another.

    Args:
        names: The names.
        links: Each leads from any of the first names to all of the second.
    """
    found, links, before = {*names}, list(links), -1
    while len(found) > before:
        before = len(found)
        found = found.union(*(ends for begins, ends in links if begins & found))
    return found


def names_left(body: Iterable[ast.stmt]) -> set[str]:
    """Give the names that are bound once some statements have run, but for those that only their functions bind.

    Args:
        body: The statements.
    """
    found = set[str]()
    for node in body:
        inner = {id(part) for one in ast.walk(node) if isinstance(one, _OWN_NAMES) for part in ast.walk(one)}
        names = [one for one in ast.walk(node) if isinstance(one, ast.Name) and id(one) not in inner]
        found |= {one.id for one in names if isinstance(one.ctx, ast.Store)}
        found -= {one.id for one in names if isinstance(one.ctx, ast.Del)}
    return found - {"_"}


def names_bound(body: Iterable[ast.AST]) -> set[str]:
    """Give the names that some code binds, or deletes.

    Args:
        body: The code.
    """
    return {one.id for one in walk(body) if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)}


def blocks_of(body: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    """Give some statements, and the statements in each block within them.

    Args:
        body: The statements.
    """
    yield body
    for node in walk(body):
        for part in ("body", "orelse", "finalbody"):
            inner = getattr(node, part, None)
            if isinstance(inner, list) and isinstance(node, ast.stmt):
                yield inner


def reads_by_name(body: Iterable[ast.AST]) -> bool:
    """Tell whether code may read any name, by a text or all at once: `eval("a + b")`, `locals()`, `duckdb.sql(…)`.

    Args:
        body: The code.
    """
    return reads_all_names(body) or any(
        isinstance(one, ast.Call) and one.args and last_name(one.func) in _BY_TEXT for one in walk(body)
    )


def reads_all_names(body: Iterable[ast.AST]) -> bool:
    """Tell whether code may read all names at once: `locals()`, `eval(…)`.

    Args:
        body: The code.
    """
    return any(isinstance(one, ast.Name) and one.id in _ALL_NAMES for one in walk(body))


def arguments(call: ast.Call) -> list[ast.expr]:
    """Give what a call is given, by place and by name."""
    return [*call.args, *(one.value for one in call.keywords)]


def is_unpacked(call: ast.Call) -> bool:
    """Tell whether it is not written out what a call is given: `f(*rows)`, `f(**options)`."""
    return any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords)


def changes_of(body: Iterable[ast.AST], name: str) -> list[ast.AST]:
    """Give where code changes the object of a name, and does not only bind it: `x += 1`, `x[0] = 1`, `x.mul_(2)`.

    Args:
        body: The code.
        name: The name.
    """
    return [one for one in walk(body) if _changes(one, name)]


def _changes(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.AugAssign):
        return is_name(node.target, name)
    if isinstance(node, ast.Subscript):
        return is_name(node.value, name) and not isinstance(node.ctx, ast.Load)
    method = node.func if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
    if method is None or not is_name(method.value, name) or method.attr in ("requires_grad_", "retain_grad"):
        return False
    return is_in_place(method.attr)


def needs_error(node: ast.AST) -> bool:
    """Tell whether code raises, prints or logs the error that is being handled, without its name.

    Args:
        node: The code.
    """
    return any(
        (isinstance(one, ast.Raise) and one.exc is None)
        or (isinstance(one, ast.Call) and last_name(one.func) in _OF_ERRORS)
        for one in ast.walk(node)
    )


def pairs(node: ast.AST, *, unpacked: bool = False) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Give what a statement binds, one by one: `a, b = x, y` binds `a` to `x`, and `b` to `y`.

    Args:
        node: Any node.
        unpacked: Give names that are unpacked from one value as well, all of them bound to it: `n, width = x.shape`.
    """
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        yield node.target, node.value
    if not isinstance(node, ast.Assign):
        return
    for target in node.targets:
        if not isinstance(target, (ast.Tuple, ast.List)):
            yield target, node.value
        elif isinstance(node.value, (ast.Tuple, ast.List)) and len(node.value.elts) == len(target.elts):
            yield from zip(target.elts, node.value.elts, strict=True)
        elif unpacked:
            yield target, node.value


def named_values(body: Iterable[ast.AST]) -> list[tuple[str, ast.expr]]:
    """Give the names that code binds with what it binds them to, in its order: `a, b = x, y`.

    Args:
        body: The code.
    """
    return [(target.id, value) for node in walk(body) for target, value in pairs(node) if isinstance(target, ast.Name)]


def handed_over(call: ast.Call, function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[tuple[str | None, ast.expr]]:
    """Give what a call hands to each parameter of a function, by the parameter's name; None before `**options`.

    Args:
        call: The call.
        function: What it calls.
    """
    places = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    return [*zip(places, call.args, strict=False), *((one.arg, one.value) for one in call.keywords)]


def made_alike(node: ast.expr) -> ast.expr | None:
    """Give what each member of a list is that a comprehension makes: `[f(x) for x in xs]`, `tuple(f(x) for x in xs)`.

    Args:
        node: What may be one; None of anything else.
    """
    if isinstance(node, ast.Call) and last_name(node.func) in ("tuple", "list") and len(node.args) == 1:
        node = node.args[0]
    return node.elt if isinstance(node, (ast.ListComp, ast.GeneratorExp)) else None


def as_read(target: ast.expr) -> ast.expr:
    """Give what a target of an assignment stood for before: the same code, read.

    Args:
        target: The target.
    """
    return ast.parse(ast.unparse(target), mode="eval").body


def free_name(name: str, taken: set[str]) -> str:
    """Give a name that nothing has yet, and take it.

    Args:
        name: What it is to be called; "_" is put behind it where something is called so.
        taken: Names that there are; gets this one, too.
    """
    while name in taken:
        name += "_"
    taken.add(name)
    return name
