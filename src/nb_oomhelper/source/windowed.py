"""Windows of an array that are collected and joined: `np.array(X)`, `torch.stack([x[i:i + w] for i in range(n)])`."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from nb_oomhelper.source.collecting import find_kept
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_name, is_path, last_name, names_in, names_reached, pairs, root_name, walk
from nb_oomhelper.source.view_forms import OF_FRAMES, named_alike

_JOINS = frozenset(
    {f"{module}.{name}" for module in ("np", "numpy") for name in ("array", "asarray", "stack")} | {"torch.stack"}
)
_COUNTS = frozenset({"range", "trange", "arange"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """One place where windows may be joined.

    Attributes:
        call: The call that joins them.
        path: The list of windows; of a comprehension, the array that it takes them from.
        listed: It is a list; a comprehension's is known to nobody.
        edits: What lets `nb_oomhelper.windows` join them.
    """

    call: ast.Call
    path: str
    listed: bool
    edits: list[Edit]

    def keeps(self, dtype: str) -> bool:
        """Whether windows of a dtype keep it: no other is asked for, as far as that is written."""
        asked = [ast.unparse(one.value) for one in self.call.keywords if one.arg == "dtype"]
        same = {"float": "float64", "bool": "bool"}
        return all(same.get(one, one.strip("'").rpartition(".")[2]) == dtype for one in asked)


def find_joins(text: SourceText, body: list[ast.stmt], even: Collection[str] = ()) -> Iterator[Join]:
    """Find what joins a list, or the slices that a comprehension takes at equal steps.

    Args:
        text: The source.
        body: The statements to look in.
        even: Names of whole numbers at equal steps.
    """
    for node in walk(body):
        if not isinstance(node, ast.Call) or not _is_join(node):
            continue
        parts = node.args[0]
        path = ast.unparse(parts) if is_path(parts) else _sliced(parts, body, even)
        if path is not None:
            start, end = text.span(node.func)
            bracket = text.token_from(end)
            edits = [(start, start, "nb_oomhelper.windows("), (bracket.start, bracket.end, ", ")]
            yield Join(call=node, path=path, listed=is_path(parts), edits=edits)


def _is_join(call: ast.Call) -> bool:
    of_one = len(call.args) == 1 and is_path(call.func) and ast.unparse(call.func) in _JOINS
    return of_one and {one.arg for one in call.keywords} <= {"dtype"}


def sources_of_windows(body: list[ast.stmt], join: Join) -> set[str]:
    """Give the names of what windows may be slices of.

    Args:
        body: The statements in which they are collected.
        join: Where they are joined.
    """
    values = (
        [*find_kept(body, join.path)]
        if join.listed
        else [one.elt for one in walk(join.call.args) if isinstance(one, ast.ListComp)]
    )
    bound = [pair for node in walk(body) for pair in pairs(node) if isinstance(pair[0], ast.Name)]
    made = (({target.id}, _sliced_in(value)) for target, value in bound)  # type: ignore[attr-defined]
    found = names_reached(set[str]().union(*map(_sliced_in, values)), made)
    return named_alike(body, found | ({join.path} if join.listed else set()))


def _sliced_in(value: ast.expr) -> set[str]:
    """What is sliced in an expression, or is named alone: a variable, or an attribute with a dot before."""
    found = {value.id} if isinstance(value, ast.Name) else set()
    for node in ast.walk(value):
        if isinstance(node, ast.Subscript):
            what = node.value
            attribute = isinstance(what, ast.Attribute) and what.attr not in OF_FRAMES
            found.add(f".{what.attr}" if attribute else root_name(what))  # type: ignore[attr-defined]
    return found - {""}


def _sliced(parts: ast.expr, body: list[ast.stmt], even: Collection[str]) -> str | None:
    """The array of which a comprehension takes slices that are as long each, at equal steps; None of any other."""
    made = parts.elt if isinstance(parts, ast.ListComp) and len(parts.generators) == 1 else None
    if not isinstance(made, ast.Subscript) or not is_path(made.value):
        return None
    over = parts.generators[0]  # type: ignore[attr-defined]
    if over.ifs or not isinstance(over.target, ast.Name) or not _counts(over.iter, body, even):
        return None
    name = over.target.id
    axes = made.slice.elts if isinstance(made.slice, ast.Tuple) else [made.slice]
    moving = [one for one in axes if name in names_in(one)]
    still = [one for one in axes if one not in moving]
    if len(moving) != 1 or not _moves_evenly(moving[0], name):
        return None
    return ast.unparse(made.value) if all(isinstance(one, (ast.Slice, ast.Constant)) for one in still) else None


def _counts(node: ast.expr, body: list[ast.stmt], even: Collection[str]) -> bool:
    """Whether a loop goes through numbers at equal steps."""
    if isinstance(node, ast.Call) and last_name(node.func) == "tqdm" and node.args:
        node = node.args[0]
    if isinstance(node, ast.Name):
        values = [value for one in walk(body) for target, value in pairs(one) if is_name(target, node.id)]
        return node.id in even or (len(values) == 1 and not is_path(values[0]) and _counts(values[0], [], ()))
    return isinstance(node, ast.Call) and last_name(node.func) in _COUNTS


def _moves_evenly(node: ast.expr, name: str) -> bool:
    """Whether a slice begins and ends at a number that grows evenly with the loop's: `i:i + w`, `k * s:k * s + w`."""
    if not isinstance(node, ast.Slice) or node.step is not None or node.lower is None or node.upper is None:
        return False
    return all(_is_linear(one, name) for one in (node.lower, node.upper))


def _is_linear(node: ast.expr, name: str) -> bool:
    if isinstance(node, ast.Name):
        return node.id == name
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
        return False
    within = [one for one in (node.left, node.right) if name in names_in(one)]
    turned = isinstance(node.op, ast.Sub) and within == [node.right]
    return len(within) == 1 and not turned and _is_linear(within[0], name)
