"""A source text changed at a few places, and nothing else of it: the text, its tree, and the same anew."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from nb_oomhelper.source.call_sites import read_tree

Edit = tuple[int, int, str]  # from, to, and the new text, in characters of the source


@dataclass(frozen=True, slots=True)
class Changed:
    """A source with edits made.

    Attributes:
        source: The whole source anew.
        line: The first line that is another, from 1.
        before, after: The lines that differ, without the space around them.
    """

    source: str
    line: int
    before: str
    after: str


class SourceText:
    """A source with its syntax tree, and where in it nodes stand.

    Args:
        source: The text.
        tree: What the parser made of it.
    """

    def __init__(self, source: str, tree: ast.Module) -> None:
        self.source = source
        self.tree = tree
        self._starts = [0]
        for line in source.split("\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._lines = source.split("\n")

    def start(self, node: ast.expr | ast.stmt) -> int:
        """Where a node begins, in characters."""
        return self._place(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> int:
        """Where a node ends, in characters."""
        return self._place(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)

    def of(self, node: ast.expr | ast.stmt) -> str:
        """What is written of a node."""
        return self.source[self.start(node) : self.end(node)]

    def indent(self, node: ast.stmt) -> str:
        """The space before the line of a statement."""
        line = self._lines[node.lineno - 1]
        return line[: len(line) - len(line.lstrip())]

    def line_start(self, node: ast.expr | ast.stmt) -> int:
        """Where the line begins on which a node begins, in characters."""
        return self._starts[node.lineno - 1]

    def begins_line(self, node: ast.stmt) -> bool:
        """Whether nothing but space stands before a statement on its line."""
        return not self.source[self.line_start(node) : self.start(node)].strip()

    def _place(self, line: int, column: int) -> int:
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())


def read_text(source: str) -> SourceText | None:
    """Read a source; None where it is no Python."""
    tree = read_tree(source)
    return None if tree is None else SourceText(source, tree)


def write_edits(text: SourceText, edits: list[Edit], same: Callable[[ast.Module], str] | None = None) -> Changed | None:
    """Write a source with these edits; None where it cannot be read any more, or says something else beside them.

    Args:
        text, edits: What is changed, and how.
        same: Gives the dump of the new tree without what was put in, for whole lines that are more.
    """
    changed = text.source
    for start, end, new in sorted(set(edits), reverse=True):
        changed = changed[:start] + new + changed[end:]
    tree = read_tree(changed)
    if tree is None or (same is not None and same(tree) != ast.dump(text.tree)):
        return None
    old, new_lines = text.source.split("\n"), changed.split("\n")
    first = next((at for at, (a, b) in enumerate(zip(old, new_lines, strict=False)) if a != b), len(old))
    more = len(new_lines) - len(old)
    differ = [(a, b) for a, b in zip(old, new_lines, strict=True) if a != b] if not more else []
    before = "\n".join(a.strip() for a, _ in differ) if differ else old[first].strip()
    after = (
        "\n".join(b.strip() for _, b in differ) if differ else "\n".join(new_lines[first : first + more + 1]).strip()
    )
    return Changed(changed, first + 1, before, after)
