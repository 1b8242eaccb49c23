"""What a loop fills without saying so, as by hooks: put into host memory at the end of each step of the loop."""

from __future__ import annotations

import ast

from nb_oomhelper.source.collecting import find_kept
from nb_oomhelper.source.element import Element
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import walk

_LOOPS = (ast.For, ast.While)


def move_each_step(text: SourceText, body: list[ast.stmt], line: int, keeper: str, element: Element) -> list[Edit]:
    """Move what is kept at the end of each step of the innermost loop that was running.

    Args:
        text: The source.
        body: The statements to look in.
        line: The line that was running, from 1.
        keeper: The list, or the dict of lists, that keeps tensors.
        element: What is in it.
    """
    running = [one for one in walk(body) if isinstance(one, _LOOPS) and one.lineno < line <= (one.end_lineno or 0)]
    loop = running[-1] if running else None
    if loop is None or any(isinstance(one, (ast.Continue, ast.FunctionDef, ast.Lambda)) for one in walk(loop.body)):
        return []
    first, last = text.span(loop.body[0])[0], text.span(loop.body[-1])[1]
    indent, end = text.text[text.line_start(first) : first], text.line_end(last)
    if indent.strip():
        return []
    moved = "one.detach().cpu()" if element.kind == "graph" else "one.cpu()"
    if element.listed:
        written = f"{keeper}.update({{key: [{moved} for one in kept] for key, kept in {keeper}.items()}})"
    else:
        written = f"{keeper}[:] = [{moved} for one in {keeper}]"
    return [(end, end, f"\n{indent}{written}")]


def is_in_function(body: list[ast.stmt], keeper: str) -> bool:
    """Tell whether a function that the code defines puts something into a keeper: hooks that are in use stay in use.

    Args:
        body: The code.
        keeper: A path of what collects.
    """
    inner = [one for one in walk(body) if isinstance(one, ast.FunctionDef)]
    return any(True for one in inner for _ in find_kept(one.body, keeper))
