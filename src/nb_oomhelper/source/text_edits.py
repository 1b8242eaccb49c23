"""A source text changed at a few places, and what that looks like: the whole anew, and the lines that differ."""

from __future__ import annotations

import ast
import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from nb_oomhelper.source.call_sites import read_tree
from nb_oomhelper.source.source_text import Edit, SourceText, UnwritableError
from nb_oomhelper.source.tree import arguments


@dataclass(frozen=True, slots=True)
class Changed:
    """A source with edits made.

    Attributes:
        source: The whole source anew.
        line: The first line that is another, from 1.
        before, after: The lines that differ, without the space that all of them begin with.
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


def write_edits(text: SourceText, edits: Sequence[Edit]) -> Changed | None:
    """Write a source with these edits; None where they overlap, change nothing, or leave what is no Python.

    Args:
        text, edits: What is changed, and how.
    """
    ordered = sorted(dict.fromkeys(edits))
    if any(before[1] > after[0] for before, after in itertools.pairwise(ordered)):
        return None
    changed = text.edited(ordered)
    if changed == text.text or read_tree(changed) is None:
        return None
    old, new = text.text.split("\n"), changed.split("\n")
    hunks = [one for one in SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if one[0] != "equal"]
    before, after = [], []
    for kind, start, end, new_start, new_end in hunks:
        more = 1 if kind == "insert" and end < len(old) else 0  # with the line that it stands before
        before.append(textwrap.dedent("\n".join(old[start : end + more])).strip())
        after.append(textwrap.dedent("\n".join(new[new_start : new_end + more])).strip())
    return Changed(changed, hunks[0][1] + 1, "\n".join(filter(None, before)), "\n".join(filter(None, after)))


def with_argument(text: SourceText, call: ast.Call, argument: str) -> list[Edit]:
    """Give a call an argument more at its end; none to a call that has no other.

    Args:
        text: The source.
        call: The call.
        argument: The argument: "full_matrices=False".
    """
    last = arguments(call)
    if not last:
        return []
    place = max(text.span(one)[1] for one in last)
    return [(place, place, f", {argument}")]


def with_edits(text: SourceText, node: ast.stmt | ast.expr, edits: Sequence[Edit]) -> str:
    """Give the code of a part of a source with those changes that lie in it.

    Args:
        text: The source.
        node: The part.
        edits: Changes, some of which may lie elsewhere.
    """
    start, end = text.span(node)
    written = text.text[start:end]
    for begin, stop, new in sorted(edits, reverse=True):
        if start <= begin and stop <= end:
            written = written[: begin - start] + new + written[stop - start :]
    return written
