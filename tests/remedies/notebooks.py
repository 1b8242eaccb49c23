"""Notebooks that failed, as they are read: for tests of what is told from their code."""

from __future__ import annotations

import ast

from nb_oomhelper.remedies.cell_source import read_cell
from nb_oomhelper.remedies.definitions import Definition
from nb_oomhelper.remedies.elements import Kept, Step
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.cures import first_line

MEMO = "def memoize(f):\n    memo = {}\n    def inner(x):\n        memo[x] = f(x)\n        return memo[x]\n"
LARGE = {"cuda": 100 << 20}


def written(
    cell: str,
    line: int,
    functions: str = "",
    kept: tuple[str, ...] = (),
    local: tuple[str, str] | None = None,
    called: bool = True,
) -> Written:
    """A cell that failed in a line, the cell above with its functions, and what is kept on the device."""
    read, tree = read_cell(cell), ast.parse(functions)
    assert read is not None
    owners = {id(part): one.name for one in tree.body if isinstance(one, ast.ClassDef) for part in one.body}
    definitions = tuple(
        Definition(
            name=one.name,
            owner=owners.get(id(one), ""),
            file="<above>",
            line=first_line(one),
            source=functions,
            cell=1,
            called=called,
        )
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef)
    )
    names = {
        (one.file, one.line): {local[1]: Kept(size=LARGE)} for one in definitions if local and one.name == local[0]
    }
    return Written(
        cell=read,
        definitions=definitions,
        steps=(Step(function="", file="<cell>", first=1, line=line),),
        kept={path: Kept(call="clear", size=LARGE) for path in kept},
        local=names,
    )
