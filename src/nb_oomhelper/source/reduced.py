"""What is reduced in an expression, such as `x.mean(axis=0)`, written as statements of their own before it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import with_edits
from nb_oomhelper.source.tree import free_name, is_unpacked, last_name, names_in

NUMPY = ("np", "numpy")
"""What NumPy is called."""
OF_FLOATS = frozenset({"mean", "std", "var", "median", "nanmean", "nanstd", "nanvar", "nanmedian"})
"""Reductions that give floats of whatever they are."""
COPYING = frozenset({"std", "var", "median", "nanmean", "nanstd", "nanvar", "nanmedian", "nansum", "nanmin", "nanmax"})
"""Reductions that make another array of the size of what they are of."""
_REDUCING = OF_FLOATS | {"sum", "min", "max", "nansum", "nanmin", "nanmax"}


def operand_of(call: ast.Call) -> tuple[bool, ast.expr | None, list[ast.expr]]:
    """Tell what a function of NumPy's, or else a method, is of: `x` of `np.exp(x)` and of `x.cumsum(0)`.

    Args:
        call: The call.

    Returns:
        Whether it is NumPy's function, what it is of, and what else it is given by place.
    """
    owner = getattr(call.func, "value", None)
    if owner is not None and ast.unparse(owner) in NUMPY:
        return True, next(iter(call.args), None), call.args[1:]
    return False, owner, call.args


class Early:
    """Gives names to what is reduced.

    Attributes:
        lines: The statements that compute it.
    """

    def __init__(self, text: SourceText, arrays: Collection[str], taken: Collection[str]) -> None:
        """Begin with no names.

        Args:
            text: The source.
            arrays: Names of arrays whose reductions are meant.
            taken: Names that stand for something else, beside those in the source.
        """
        self._text, self._arrays = text, {*arrays}
        self._taken = {*taken, *names_in(text.tree)}
        self._names: dict[str, str] = {}
        self.lines: list[str] = []

    def knows(self, node: ast.AST) -> bool:
        """Tell whether code reduces one of the arrays, in a way that gives what is as wide."""
        if not isinstance(node, ast.Call) or last_name(node.func) not in _REDUCING or is_unpacked(node):
            return False
        _, array, given = operand_of(node)
        axes = [*given, *(one.value for one in node.keywords)]
        return (
            isinstance(array, ast.Name)
            and array.id in self._arrays
            and len(given) <= 1
            and {one.arg for one in node.keywords} <= {"axis", "keepdims", "ddof"}
            and not any(map(names_in, axes))
        )

    def written(self, node: ast.expr) -> str:
        """Give an expression's code with names in place of what it reduces, and note these.

        Args:
            node: The expression.
        """
        self.edits(node)
        return self.written_then(node)

    def edits(self, node: ast.expr, others: Collection[Edit] = ()) -> list[Edit]:
        """Give what puts names in the place of what an expression reduces, and note these.

        Args:
            node: The expression.
            others: Other changes; what they are in is not computed before.
        """
        found = list[Edit]()
        for one in self._calls(node):
            start, end = self._text.span(one)
            if any(start <= edit[0] and edit[1] <= end for edit in others):
                continue
            code = self._text.text[start:end]
            if code not in self._names:
                self._names[code] = self._free_name(one)
                self.lines.append(f"{self._names[code]} = {code}")
            found.append((start, end, self._names[code]))
        return found

    def written_then(self, node: ast.expr) -> str:
        """Give an expression's code with the names that there are by now.

        Args:
            node: The expression.
        """
        spans = [self._text.span(one) for one in self._calls(node)]
        known = [(span, self._names.get(self._text.text[slice(*span)])) for span in spans]
        code = with_edits(self._text, node, [(*span, name) for span, name in known if name])
        return f"({code})" if "\n" in code else code

    def _calls(self, node: ast.expr) -> Iterator[ast.Call]:
        return (one for one in ast.walk(node) if isinstance(one, ast.Call) and self.knows(one))

    def _free_name(self, call: ast.Call) -> str:
        array = next(one for one in ast.walk(call) if isinstance(one, ast.Name) and one.id not in NUMPY)
        return free_name(f"{array.id}_{last_name(call.func)}", self._taken)
