"""Statements put into a `with`: their lines are indented, and nothing else is changed."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_long_text, walk


def put_within(text: SourceText, some: Sequence[ast.stmt], header: str) -> list[Edit]:
    """Put statements that follow each other into a `with`.

    Args:
        text: The source.
        some: The statements, of one block.
        header: The line of the `with`, without an indent.

    Returns:
        The places that change; none where a text of several lines would be indented, or where another statement
        stands in a line of theirs.
    """
    start, end = text.span(some[0])[0], text.span(some[-1])[1]
    indent = text.text[text.line_start(start) : start]
    if not text.stands_alone(start, end) or any(map(is_long_text, walk(some))):
        return []
    decorators: list[ast.expr] = getattr(some[0], "decorator_list", [])
    first = text.line_start(min([start, *(text.span(one)[0] for one in decorators)]))
    end = text.line_end(end)
    block = textwrap.indent(text.text[first:end], "    ")
    return [(first, end, f"{indent}{header}\n{block}")]
