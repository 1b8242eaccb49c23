"""Models and optimizers that a loop makes, trains and keeps: they go into host memory once it is done with them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from nb_oomhelper.source.collecting import find_kept, written_parts
from nb_oomhelper.source.element import Element, ElementKind
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import (
    LOOPS,
    is_name,
    names_bound,
    names_in,
    nodes_above,
    parents_of,
    statement_around,
    walk,
)

REPEATS = (*LOOPS, ast.ListComp, ast.DictComp, ast.GeneratorExp)
"""What runs the code in it again and again."""

_APPENDS = "append"
# its numbers go where the weights are that they are of
_STATE = "{0}.load_state_dict({0}.state_dict())"


def loop_around(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> ast.AST | None:
    """Give the innermost loop around some code, or None.

    Args:
        node: The code.
        parents: As `parents_of` gives them.
    """
    return next((one for one in nodes_above(node, parents) if isinstance(one, REPEATS)), None)


def is_done_with(body: list[ast.stmt], put: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Tell whether a loop makes something under a name, and nothing reads it any more once it is put by.

    Args:
        body: The code.
        put: What is put by.
        parents: Of the code, by node.
    """
    loop = loop_around(put, parents)
    if not isinstance(put, ast.Name) or not isinstance(loop, (ast.For, ast.While)):
        return False
    stored = [one for one in walk(body) if is_name(one, put.id)]
    made = {one for one in walk(loop.body) if is_name(one, put.id)}
    calls = [one for one in loop.body if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call)]
    fresh = any(put.id in names_bound(one.targets) for one in calls)
    last = max((one.lineno, one.col_offset) for one in stored) == (put.lineno, put.col_offset)  # type: ignore[attr-defined]
    return fresh and last and made == set(stored)


def optimizers_to_host(text: SourceText, body: list[ast.stmt], keepers: Mapping[str, Element]) -> list[Edit]:
    """Move what optimizers keep, and what a function gives back with models in it, in lines after they are put by.

    Args:
        text: The source.
        body: The statements to look in.
        keepers: What collects, by path, with what is in it.

    Returns:
        The places that change; those of models that have a name are not among them: they are moved where they are put.
    """
    parents = parents_of(walk(body))
    puts = [(one, element) for keeper, element in keepers.items() for one in find_kept(body, keeper)]
    named = [part for put, element in puts for part in _parts_of(put, element, "model")]
    models = [one for one in named if is_done_with(body, one, parents)]
    edits: list[Edit] = []
    for put, element in puts:
        edits += _behind_call(text, put, element, parents)
        for part in _parts_of(put, element, "optimizer"):
            beside = [one for one in models if loop_around(one, parents) is loop_around(part, parents)]
            if beside and is_done_with(body, part, parents):
                last = max((statement_around(one, parents) for one in (*beside, part)), key=_end)
                edits += _line_after(text, last, [_STATE.format(ast.unparse(part))])
    return edits


def _end(node: ast.stmt | None) -> int:
    return 0 if node is None else node.end_lineno or 0


def _parts_of(put: ast.expr, element: Element, kind: ElementKind) -> Iterator[ast.expr]:
    if element.kind == kind and element.on_device:
        yield put
    for key, part in written_parts(put, element.maker) if element.kind == "parts" else ():
        if key in element.parts:
            yield from _parts_of(part, element.parts[key], kind)


def _behind_call(
    text: SourceText, put: ast.expr, element: Element, parents: Mapping[ast.AST, ast.AST]
) -> Iterator[Edit]:
    """`runs[lr] = run(lr)`, `runs.append(run(lr))`, where a function gives back a dict or tuple with a model in it."""
    node, loop = statement_around(put, parents), loop_around(put, parents)
    if not isinstance(put, ast.Call) or element.kind != "parts" or not isinstance(loop, (ast.For, ast.While)):
        return
    path = ""
    if isinstance(node, ast.Assign) and node.value is put and len(node.targets) == 1:
        path = ast.unparse(node.targets[0])
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.args == [put]:
        method = node.value.func
        appends = isinstance(method, ast.Attribute) and method.attr == _APPENDS
        path = f"{ast.unparse(method.value)}[-1]" if appends else ""  # type: ignore[attr-defined]
    models = [key for key, one in element.parts.items() if one.kind == "model" and one.on_device]
    if not path or not models or node is None or _is_used(loop, path, node):
        return
    lines = [f"{path}[{key!r}].cpu()" for key in models]
    lines += [_STATE.format(f"{path}[{key!r}]") for key, one in element.parts.items() if one.kind == "optimizer"]
    yield from _line_after(text, node, lines)


def _is_used(loop: ast.For | ast.While, path: str, put: ast.stmt) -> bool:
    """Whether the loop calls something with what it has put by, or of it, afterwards."""
    root = path.partition("[")[0].partition(".")[0]
    after = [one for one in loop.body if one.lineno > put.lineno]
    calls = [one for one in walk(after) if isinstance(one, ast.Call) and names_in(one) & {root}]
    return any(not is_name(one.func, "print") for one in calls)


def _line_after(text: SourceText, node: ast.stmt | None, lines: list[str]) -> list[Edit]:
    if node is None:
        return []
    start, end = text.span(node)
    indent = text.text[text.line_start(start) : start]
    if indent.strip() or not text.stands_alone(start, end):
        return []
    end = text.line_end(end)
    return [(end, end, "".join(f"\n{indent}{one}" for one in lines))]
