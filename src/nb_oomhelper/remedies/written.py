"""What the notebook's code says: the failed cell, the functions that it uses, the way to the error, what is kept."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nb_oomhelper.remedies.cell_source import Cell
from nb_oomhelper.remedies.definitions import Definition
from nb_oomhelper.remedies.elements import Kept, Step, line_at_top
from nb_oomhelper.remedies.estimators import Learned
from nb_oomhelper.source.call_sites import bound_names
from nb_oomhelper.source.cures import Function, first_line, function_in, reads_global
from nb_oomhelper.source.source_text import SourceText
from nb_oomhelper.source.text_edits import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with columns.

    Attributes:
        rows: How many rows there are.
        columns: The names of its columns, where these are texts.
        width: How many columns there are.
    """

    rows: int
    columns: frozenset[str]
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the notebook's code says. It refers to no object of the user's.

    Attributes:
        cell: The failed cell.
        definitions: Functions of the notebook, those first that the cell calls.
        names: The user's variables.
        needed: Those of them that the cell reads, itself or through what it calls.
        steps: The user's calls on the way to the error, outermost first.
        autograd: Whether what was computed on that way has a graph; None where nobody knows.
        kept: What variables keep, by path.
        local: The same of the local names of functions on that way, by file and first line of their code.
        rows: How many rows there are of what the cell's names stand for, and whether it is a text.
        sparse: Those of the cell's names that stand for sparse matrices that can be cut, with their shapes.
        frames: Those of the cell's names that stand for pandas' tables.
        learned: What the cell's names stand for of scikit-learn.
        complete: Tables of numbers of which none is missing, where the cell fits something.
        numbers: Whole numbers by what is written for them.
        paths: The texts that the cell's names stand for, and paths of files, as texts.
        texts: What was read of the sources.
        nodes: Functions found in them, by source, name and first line.
        reads: Whether what fails reads a number or a loader, as far as that was asked, by path.
    """

    cell: Cell
    definitions: tuple[Definition, ...] = ()
    names: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()
    steps: tuple[Step, ...] = ()
    autograd: bool | None = None
    kept: Mapping[str, Kept] = field(default_factory=dict)
    local: Mapping[tuple[str, int], Mapping[str, Kept]] = field(default_factory=dict)
    rows: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    sparse: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    frames: Mapping[str, Table] = field(default_factory=dict)
    learned: Learned = field(default_factory=Learned)
    complete: frozenset[str] = frozenset()
    numbers: Mapping[str, int] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    texts: dict[str, SourceText | None] = field(default_factory=dict)
    nodes: dict[tuple[str, str, int | None], Function | None] = field(default_factory=dict)
    reads: dict[str, bool] = field(default_factory=dict)

    def read(self, source: str) -> SourceText | None:
        """Read a source, each once; None where it is no Python."""
        if source not in self.texts:
            self.texts[source] = read_text(source)
        return self.texts[source]

    def function(self, definition: Definition) -> tuple[SourceText, Function] | None:
        """Read a function's source and find the function in it, once; None where it cannot be found."""
        text, key = self.read(definition.source), (definition.source, definition.name, definition.line)
        if text is not None and key not in self.nodes:
            self.nodes[key] = function_in(text, definition.name, definition.line)
        node = self.nodes.get(key)
        return None if text is None or node is None else (text, node)

    def function_named(self, name: str) -> Function | None:
        """Give the one function of the notebook that a name stands for; no method, and None of several."""
        meant = [one for one in self.definitions if one.name == name and not one.owner]
        found = self.function(meant[0]) if len(meant) == 1 else None
        return None if found is None else found[1]

    def definition_of(self, step: Step) -> Definition | None:
        """Give the function that a call was of; None for the cell itself."""
        found = (one for one in self.definitions if (one.file, one.line) == (step.file, step.first))
        return next(found, None) if step.function else None  # a cell begins in the line of its first function

    def sources(self) -> Iterator[str]:
        """Give the cell's source, and those of the cells that define functions, each once."""
        yield from dict.fromkeys([self.cell.source, *(one.source for one in self.definitions)])

    def is_cell(self, source: str) -> bool:
        """Whether a source is that of the failed cell."""
        return source.strip() == self.cell.source.strip()

    def line_in_cell(self) -> int | None:
        """The line of the failed cell that was running, from 1 in its source; None where that is not known."""
        return line_at_top(self.steps)

    def is_read_by_functions(self, name: str) -> bool:
        """Whether a function of the notebook reads a name of the user's, as far as is known; lambdas, too."""
        if name in self.needed and name not in self.cell.needs:  # through something that the cell calls
            return True
        functions = (self.function(one) for one in self.definitions if name in one.source)
        return any(one is not None and reads_global(one[1], name) for one in functions)

    def misses(self, gone: Iterable[str]) -> bool:
        """Tell whether names must not go: a function reads one, or something older stands under it, which would stay.

        Args:
            gone: The names.
        """
        older = self.names - self.made_names()
        return any(name in older or self.is_read_by_functions(name) for name in gone)

    def made_names(self) -> frozenset[str]:
        """Give the names that the cell itself had bound when it failed: run again, it makes all that anew."""
        line = self.line_in_cell()
        made: set[str] = set()
        for node in self.cell.tree.body if line is not None else ():
            if line is not None and first_line(node) <= line <= (node.end_lineno or 0):
                return frozenset(made | _bound_beside(node, line))
            made |= {name for part in ast.walk(node) for name in bound_names(part)}
        return frozenset()

    def kept_in(self, definition: Definition | None) -> Mapping[str, Kept]:
        """Give what the local names of a function on the way keep; for None, of the cell itself, what variables do."""
        return self.kept if definition is None else self.local.get((definition.file, definition.line), {})

    def known_in(self, definition: Definition | None) -> Mapping[str, Kept]:
        """Give what a function on the way finds under names, as `kept_in`: its own, and the notebook's beside them."""
        return {**self.kept, **self.kept_in(definition)}

    def step_of(self, definition: Definition) -> Step | None:
        """The call of a function that was running; None where it was not."""
        steps = (one for one in self.steps if one.function)
        found = (one for one in steps if (one.file, one.first) == (definition.file, definition.line))
        return next(found, None)


def _bound_beside(node: ast.stmt, line: int) -> set[str]:
    """What other statements of a loop or block had bound: those above the one that was running, by then."""
    above = [one for one in ast.walk(node) if isinstance(one, ast.stmt) and one is not node]
    done = [one for one in above if (one.end_lineno or 0) < line]
    return {name for one in done for part in ast.walk(one) for name in bound_names(part)}
