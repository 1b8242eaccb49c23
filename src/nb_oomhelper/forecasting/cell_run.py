"""A cell as it is followed in the copy: what failed cells keep is let go of first, and its loops end early."""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import CodeType
from typing import Any

from nb_oomhelper.errors import UsageError
from nb_oomhelper.forecasting.loops import Loops
from nb_oomhelper.forecasting.trace import Trace

_FEW = "_nb_oomhelper_few"
_RELEASES = ("import nb_oomhelper", "nb_oomhelper.release()")


class CellRun:
    """What runs a cell, once."""

    def __init__(
        self, source: str, names: dict[str, Any], release: Callable[[], Any] | None = None, above: int = 0
    ) -> None:
        """Compile it.

        Args:
            source: Python: magics transformed.
            names: The user's.
            release: Lets go of what failed cells keep; None where nothing failed. A release in the cell is left out.
            above: Lines of it that stand above the user's own.

        Raises:
            UsageError: It has magics.
            SyntaxError: It is no Python.
        """
        self._names, self._release = names, release
        self._code = _compiled(source, above, releases=release is not None)

    def run(self, trace: Trace, loops: Loops) -> None:
        """Run it in the copy: the user's names there are nobody's.

        Args:
            trace: Its figures begin once all is released.
            loops: Ends loops early.
        """
        if self._release is not None:
            self._release()
            trace.begin()
        self._names[_FEW] = loops.few
        exec(self._code, self._names)


def _compiled(source: str, above: int, *, releases: bool) -> CodeType:
    tree = ast.parse(source, "<cell>")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "get_ipython":
            raise UsageError("%magics and !commands are not followed")
    if releases:
        tree.body = [one for one in tree.body if ast.unparse(one) not in _RELEASES]
    for statement in tree.body:
        if above and statement.lineno > above:
            ast.increment_lineno(statement, -above)
    return compile(ast.fix_missing_locations(_Few().visit(tree)), "<cell>", "exec")


class _Few(ast.NodeTransformer):
    """Lets the cell's own loops go through what ends them; those in functions stay as they are."""

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        node.iter = ast.copy_location(ast.Call(ast.Name(_FEW, ast.Load()), [node.iter], []), node.iter)
        return node

    def _as_it_is(self, node: ast.AST) -> ast.AST:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _as_it_is  # noqa: N815
