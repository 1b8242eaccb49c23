"""A source text changed at a few places, and what that looks like: the whole anew, and the lines that differ."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from nb_oomhelper.source.call_sites import read_tree
from nb_oomhelper.source.source_text import Edit, SourceText, UnwritableError


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


def read_text(source: str) -> SourceText | None:
    """Read a source; None where it is no Python."""
    try:
        return SourceText(source)
    except UnwritableError:
        return None


def write_edits(text: SourceText, edits: list[Edit], same: Callable[[ast.Module], str] | None = None) -> Changed | None:
    """Write a source with these edits; None where it cannot be read any more, or says something else beside them.

    Args:
        text, edits: What is changed, and how.
        same: Gives the dump of the new tree without what was put in, for whole lines that are more.
    """
    changed = text.edited(sorted(set(edits)))
    tree = read_tree(changed)
    if tree is None or (same is not None and same(tree) != ast.dump(text.tree)):
        return None
    old, new = text.text.split("\n"), changed.split("\n")
    pairs = enumerate(zip(old, new, strict=False))
    first = next((at for at, (before, after) in pairs if before != after), len(old) - 1)
    more = len(new) - len(old)
    if more:
        return Changed(changed, first + 1, old[first].strip(), "\n".join(new[first : first + more + 1]).strip())
    differ = [(a.strip(), b.strip()) for a, b in zip(old, new, strict=True) if a != b]
    return Changed(changed, first + 1, "\n".join(a for a, _ in differ), "\n".join(b for _, b in differ))
