"""What is put into a keeper, written so that less of it is kept: errors without frames, arrays of half the width."""

from __future__ import annotations

import ast

from nb_oomhelper.source.collecting import find_kept, put_behind
from nb_oomhelper.source.element import Element
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import needs_error, walk


def find_errors(text: SourceText, body: list[ast.stmt], keeper: str) -> list[Edit]:
    """Find errors that are put into a keeper inside of `except … as e`, to be kept without their tracebacks.

    Args:
        text, body, keeper: As of `find_appends`.
    """
    edits = []
    for handler in (node for node in walk(body) if isinstance(node, ast.ExceptHandler) and node.name):
        words = {one.attr for one in walk(handler.body) if isinstance(one, ast.Attribute)}
        if any(map(needs_error, handler.body)) or words & {"__traceback__", "tb_next"}:
            continue  # it shows where the error came from
        for put in find_kept(handler.body, keeper):
            for node in ast.walk(put):
                if isinstance(node, ast.Name) and node.id == handler.name and _stands_free(put, node):
                    edits += put_behind(text, node, ".with_traceback(None)")
    return edits


def find_wide(text: SourceText, body: list[ast.stmt], keeper: str, element: Element | None) -> list[Edit]:
    """Find arrays of float64 that are put into a keeper, to be kept as float32.

    Args:
        text, body, keeper, element: As of `find_appends`.
    """
    if element is None or element.kind != "float64":
        return []
    found = [node for node in find_kept(body, keeper) if "float32" not in ast.dump(node)]
    return [edit for node in found for edit in put_behind(text, node, '.astype("float32")')]


def _stands_free(put: ast.expr, name: ast.Name) -> bool:
    """Whether a name is kept as it is, or in a tuple, list or dict, and nothing is done with it first."""
    if put is name:
        return True
    if isinstance(put, (ast.Tuple, ast.List)):
        return any(_stands_free(one, name) for one in put.elts)
    return isinstance(put, ast.Dict) and any(_stands_free(one, name) for one in put.values)
