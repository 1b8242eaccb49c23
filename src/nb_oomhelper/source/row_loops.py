"""Loops over parts of the rows, as they are written."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from nb_oomhelper.source.in_parts import PARTS
from nb_oomhelper.source.row_functions import FunctionReader
from nb_oomhelper.source.row_sources import NUMPY
from nb_oomhelper.source.row_totals import taken_along
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import with_edits
from nb_oomhelper.source.tree import names_bound

OF_PART = ("of_part", "part_made")
"""Names in a loop whose parts are computed once more: the function of one part, and what it gave."""


@dataclass(slots=True)
class Run:
    """Statements that go into a loop over parts of the rows, and what comes out of it.

    Attributes:
        inside: The statements, with their changes.
        hoisted: Statements among them that go before the loop.
        totals: What is put together of the parts, with the code of one part, and of the whole.
        tail: Changes of the statements after it.
        returned: What the last statement gives back; None where it is none.
        wide: As of `RowParts`.
        read: Names in the statements that go into the loop.
        axes: As of `RowParts`.
        parts: In how many the loop goes.
    """

    inside: list[tuple[ast.stmt, list[Edit]]] = field(default_factory=list)
    hoisted: list[ast.stmt] = field(default_factory=list)
    totals: list[tuple[str, str]] = field(default_factory=list)
    tail: list[Edit] = field(default_factory=list)
    returned: list[ast.expr] | None = None
    wide: bool = False
    read: set[str] = field(default_factory=set)
    axes: int = 0
    parts: int = PARTS


def before_loop(text: SourceText, run: Run, helpers: list[str]) -> list[str]:
    """Write what stands before a loop.

    Args:
        text: The source.
        run: What goes into the loop.
        helpers: Names of lists of what is kept of each part.
    """
    empty = [*helpers, *(name for name, _ in run.totals)]
    empty += [f"returned_{number}" for number in range(len(run.returned or ()))]
    return [*(text.text[slice(*text.span(node))] for node in run.hoisted), *(f"{name} = []" for name in empty)]


def loop_over(text: SourceText, reader: FunctionReader, run: Run, kept: list[str]) -> list[str]:
    """Write the loop.

    Args:
        text: The source.
        reader: Knows the rows.
        run: What goes into the loop.
        kept: Names of what is kept of each part.
    """
    lines = [_head(reader, run)]
    for node, edits in run.inside:
        if not isinstance(node, ast.Return):
            lines.append("    " + with_edits(text, node, edits).replace("\n", "\n    "))
            continue
        for number, value in enumerate(run.returned or ()):
            lines.append(f"    returned_{number}.append({reader.library.given_back}({with_edits(text, value, edits)}))")
    lines += [
        f"    {name}_parts.append({name}{reader.library.copied if reader.env[name].view else ''})" for name in kept
    ]
    return lines + [f"    {taken_along(name, code)}" for name, code in run.totals]


def checkpointed(text: SourceText, reader: FunctionReader, run: Run, kept: list[str]) -> list[str]:
    """Write the loop with PyTorch's checkpoints: of each part, only what comes out of it is kept for `backward()`.

    What the parts are made of is handed to each: a name may have another meaning by then.

    Args:
        text, reader, run, kept: As of `loop_over`.
    """
    inside = names_bound(node for node, _ in run.inside)
    given = "".join(f", {name}={name}" for name in sorted(run.read & {*reader.own} - inside))
    lines, values = [_head(reader, run), f"    def {OF_PART[0]}({reader.part}{given}):"], [*kept]
    puts = [f"{name}_parts.append({{}})" for name in kept]
    for node, edits in run.inside:
        if not isinstance(node, ast.Return):
            lines.append("        " + with_edits(text, node, edits).replace("\n", "\n        "))
            continue
        for number, value in enumerate(run.returned or ()):
            values.append(with_edits(text, value, edits))
            puts.append(f"returned_{number}.append({{}})")
    for name, code in run.totals:
        values.append(code)
        puts.append(taken_along(name, "{}"))
    out = ", ".join(values)
    lines.append(f"        return {out if len(values) > 1 else f'({out},)'}")
    call = f"torch.utils.checkpoint.checkpoint({OF_PART[0]}, {reader.part}, use_reentrant=False)"
    lines.append(f"    {OF_PART[1]} = {call}")
    return lines + [f"    {put.format(f'{OF_PART[1]}[{at}]')}" for at, put in enumerate(puts)]


def _head(reader: FunctionReader, run: Run) -> str:
    count = reader.counts[0]
    few = f"[: {count} or 1]" if reader.may_be_few and reader.library is NUMPY else ""  # no empty parts
    return f"for {reader.part} in {reader.library.parts.format(count=count, parts=run.parts)}{few}:"
