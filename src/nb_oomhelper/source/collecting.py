"""What a piece of code collects one by one, and what it adds up: places where a tensor with its graph may be put."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from nb_oomhelper.source.source_text import Edit, SourceText

_APPENDS = frozenset({"append", "appendleft", "add"})
_PLAIN = (ast.Name, ast.Attribute, ast.Subscript, ast.Call)  # `.item()` can be written right behind them
_REDUCED = frozenset(
    {
        "mean",
        "sum",
        "item",
        "cross_entropy",
        "mse_loss",
        "nll_loss",
        "l1_loss",
        "smooth_l1_loss",
        "binary_cross_entropy",
    }
    | {"binary_cross_entropy_with_logits", "kl_div", "loss"}
)


def find_appends(text: SourceText, body: list[ast.stmt], keeper: str) -> tuple[bool, list[Edit]]:
    """Find what is put into a keeper, to be taken off its graph.

    Args:
        text: The source.
        body: The statements to look in.
        keeper: "losses", "trainer.outputs"; of a path the last name counts.

    Returns:
        Whether all of it is single numbers, and the edits.
    """
    last, shown, made = keeper.rsplit(".", 1)[-1], _numbers(body), _made_by_calls(body)
    found = [
        node
        for put in find_kept(body, last, dotted="." in keeper)
        for node in _detachable(put, made | shown, alone=True)
    ]
    behind = [".item()" if _name_of(node) in shown else ".detach()" for node in found]
    edits = [(text.span(node)[1], text.span(node)[1], what) for node, what in zip(found, behind, strict=True)]
    return set(behind) == {".item()"}, edits


def find_kept(body: list[ast.stmt], last: str, *, dotted: bool) -> Iterator[ast.expr]:
    """Find what is put into a keeper.

    Args:
        body: The statements to look in.
        last: The keeper's last name.
        dotted: Whether it is an attribute.
    """
    for node in walk(body):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _APPENDS:
            if _is_named(node.func.value, last, dotted=dotted) and len(node.args) == 1:
                yield node.args[0]
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and isinstance(node.value, ast.List):
            if _is_named(node.target, last, dotted=dotted):
                yield from node.value.elts
        elif isinstance(node, ast.Assign) and _is_named(node.targets[0], last, dotted=dotted):
            if isinstance(node.value, ast.ListComp):
                yield node.value.elt
        elif isinstance(node, ast.Assign) and _is_item(node.targets[0], last, dotted=dotted):
            yield node.value


def _detachable(node: ast.expr, tensors: frozenset[str], *, alone: bool) -> Iterator[ast.expr]:
    """The tensors in what is kept; among several, only names that a call has made: `step` has no `detach()`."""
    if isinstance(node, (ast.Tuple, ast.List, ast.Dict)):
        for one in node.values if isinstance(node, ast.Dict) else node.elts:
            yield from _detachable(one, tensors, alone=False)
    elif isinstance(node, _PLAIN) and not _is_free(node) and (alone or _name_of(node) in tensors):
        yield node


def _made_by_calls(body: list[ast.stmt]) -> frozenset[str]:
    """Names that are bound to what a call has given, by a statement of their own."""
    made = [node for node in walk(body) if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)]
    return frozenset(
        target.id
        for node in made
        if not _is_free(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    )


def _is_free(node: ast.expr) -> bool:
    """Whether it is a number already, or has been taken off the graph."""
    names = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    named = (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("float", "int", "len", "str")
    )
    return named or bool(names & {"item", "detach", "tolist", "numpy", "data"})


def _numbers(body: list[ast.stmt]) -> frozenset[str]:
    """Names that stand for a single number: `backward()` is called on them, or they are what a loss gives."""
    found: set[str] = set()
    for node in walk(body):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "backward":
            if isinstance(node.func.value, ast.Name) and not node.args:
                found.add(node.func.value.id)
        elif isinstance(node, ast.Assign) and _gives_number(node.value):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(found)


def _gives_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and last_name(node.func) in _REDUCED and _scalar(node)


def _scalar(call: ast.Call) -> bool:
    """Whether a reduction has no axis that would leave more than one number."""
    kept = {keyword.arg for keyword in call.keywords} & {"dim", "axis", "reduction", "keepdim"}
    return not kept and (last_name(call.func) not in ("mean", "sum") or not call.args)


def find_additions(text: SourceText, body: list[ast.stmt], name: str) -> list[Edit]:
    """Find what is added up under a name, to be made numbers.

    Args:
        text: The source.
        body: The statements to look in.
        name: What is added up.
    """
    last, dotted = name.rsplit(".", 1)[-1], "." in name
    found: list[ast.expr] = []
    for node in walk(body):
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            if _is_named(node.target, last, dotted=dotted):
                found.append(node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.Add):
            sides = (node.value.left, node.value.right)
            if _is_named(node.targets[0], last, dotted=dotted):
                found += [one for one in sides if not _is_named(one, last, dotted=dotted)]
    plain = [node for node in found if isinstance(node, _PLAIN) and not _is_free(node)]
    return [(text.span(node)[1], text.span(node)[1], ".item()") for node in plain]


def walk(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Give all nodes of some statements."""
    for node in body:
        yield from ast.walk(node)


def _is_named(node: ast.expr, last: str, *, dotted: bool) -> bool:
    """Whether an expression is the name, or an attribute of that name where the keeper was a path."""
    if dotted:
        return isinstance(node, ast.Attribute) and node.attr == last
    return isinstance(node, ast.Name) and node.id == last


def _is_item(node: ast.expr, last: str, *, dotted: bool) -> bool:
    return isinstance(node, ast.Subscript) and _is_named(node.value, last, dotted=dotted)


def _name_of(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def last_name(function: ast.expr) -> str | None:
    """Give the last name of what is called, or None."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else None
