"""The classic ways of keeping memory without meaning to, mended in the text where they are written.

Each function reads a source, changes the few places it is about, and leaves every other character as it was. It gives
None where there is nothing of the kind, and where the change cannot be written. Nothing of the user's runs here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nb_oomhelper.source.collecting import find_additions, find_appends, find_kept, last_name, walk
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import Changed, write_edits

CureKind = Literal["append_item", "append_detach", "add_item", "no_grad", "retain_graph", "old_first", "float32"]
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_OWN_SCOPE = (*_FUNCTIONS, ast.ClassDef, ast.Lambda)
_TRAINS = frozenset({"backward", "step", "zero_grad"})
_FLOAT64 = frozenset({"zeros", "ones", "empty", "full", "linspace"})  # of NumPy: float64 where no dtype is given


@dataclass(frozen=True, slots=True)
class Cure:
    """A source with a mistake mended: which, how, and the names of the user's that the change is about."""

    kind: CureKind
    changed: Changed
    names: tuple[str, ...] = ()


def append_detached(keeper: str, text: SourceText, *, within: str | None = None) -> Cure | None:
    """Append the number, or the tensor without its graph, in place of a tensor with all that autograd keeps behind it.

    Args:
        keeper: What it is appended to, as the user would write it: "losses", "trainer.outputs"; of a path the last
            name counts, for a method calls the object `self`.
        text: The source in which something is appended.
        within: The function to look in; None looks everywhere.
    """
    return _mend(text, within, lambda text, body: _appends(text, body, keeper), (keeper,))


def add_number(name: str, text: SourceText, *, within: str | None = None) -> Cure | None:
    """Add up numbers in place of losses: `total += loss` keeps the graph of every step.

    Args:
        name: What is added up.
        text, within: As of `append_detached`.
    """
    return _mend(text, within, lambda text, body: ("add_item", find_additions(text, body, name)), (name,))


def without_grad(text: SourceText, function: str) -> Cure | None:
    """Put `@torch.no_grad()` on a function that evaluates; None where it trains or has it already.

    Args:
        text: The source that defines it.
        function: Its name.
    """
    node = _definition(text.tree, function)
    if node is None or _words(node) & (_TRAINS | {"no_grad", "inference_mode", "set_grad_enabled"}):
        return None
    first: ast.expr | ast.stmt = node.decorator_list[0] if node.decorator_list else node
    place = text.line_start(text.span(first)[0])
    edit = (place, place, f"{text.text[place : text.span(first)[0]].removesuffix('@')}@torch.no_grad()\n")
    return _cure("no_grad", text, [edit], (function,), same=lambda tree: _undecorated(tree, function))


def backward_once(text: SourceText, *, within: str | None = None) -> Cure | None:
    """Take `retain_graph=True` from the only `backward()` of a function or cell: nothing needs its graph again."""
    return _mend(text, within, _retained, ())


def old_first(text: SourceText, name: str) -> Cure | None:
    """Let the old object of a name go before the statement that makes the new one.

    Args:
        text: A cell.
        name: What a statement of its top level binds anew without reading it.
    """
    for node in text.tree.body:
        if _reads(node, name):
            return None
        if _binds(node, name):
            place, start = text.line_start(text.span(node)[0]), text.span(node)[0]
            if text.text[place:start].strip():
                return None
            return _cure("old_first", text, [(place, place, f"{name} = None\n")], (name,), same=_without_first(name))
    return None


def in_float32(text: SourceText, *, within: str | None = None) -> Cure | None:
    """Give NumPy's makers of float64 arrays `dtype=np.float32`, and let `astype` give that: half the bytes."""
    return _mend(text, within, _float64, ())


def collects(keeper: str, text: SourceText) -> bool:
    """Tell whether a source puts things into a keeper, one by one.

    Args:
        keeper: As of `append_detached`.
        text: The source.
    """
    return next(find_kept(text.tree.body, keeper.rsplit(".", 1)[-1], dotted="." in keeper), None) is not None


def _appends(text: SourceText, body: list[ast.stmt], keeper: str) -> tuple[CureKind, list[Edit]]:
    numbers, edits = find_appends(text, body, keeper)
    return ("append_item" if numbers else "append_detach"), edits


# -- what is looked for ----------------------------------------------------------------------------------------------


def _retained(text: SourceText, body: list[ast.stmt]) -> tuple[CureKind, list[Edit]]:
    calls = [node for node in walk(body) if isinstance(node, ast.Call) and last_name(node.func) == "backward"]
    if len(calls) != 1:  # a second one may well go through the same graph
        return "retain_graph", []
    told = [one for one in calls[0].keywords if one.arg == "retain_graph" and _is_true(one.value)]
    if not told:
        return "retain_graph", []
    others = [*calls[0].args, *(one.value for one in calls[0].keywords if one is not told[0])]
    if others:  # one among others: what is between them is the user's own spelling
        return "retain_graph", [(text.span(told[0].value)[0], text.span(told[0].value)[1], "False")]
    end = text.span(calls[0])[1]
    return "retain_graph", [(text.span(calls[0].func)[1], end, "()")]


def _float64(text: SourceText, body: list[ast.stmt]) -> tuple[CureKind, list[Edit]]:
    edits: list[Edit] = []
    for node in walk(body):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        maker = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if node.func.attr == "astype" and len(node.args) == 1 and (new := _narrow(_written(text, node.args[0]))):
            edits.append((text.span(node.args[0])[0], text.span(node.args[0])[1], new))
        elif maker not in ("np", "numpy"):
            continue
        elif "dtype" in given and (new := _narrow(_written(text, given["dtype"]))):
            edits.append((text.span(given["dtype"])[0], text.span(given["dtype"])[1], new))
        elif node.func.attr in _FLOAT64 and None not in given and "dtype" not in given:
            last = [*node.args, *given.values()]
            if last and len(node.args) <= (2 if node.func.attr in ("full", "linspace") else 1):
                place = max(text.span(one)[1] for one in last)
                edits.append((place, place, f", dtype={maker}.float32"))
    return "float32", edits


def _narrow(dtype: str) -> str | None:
    return {
        "np.float64": "np.float32",
        "numpy.float64": "numpy.float32",
        "float": '"float32"',
        '"float64"': '"float32"',
        "'float64'": "'float32'",
        "np.double": "np.float32",
    }.get(dtype)


# -- reading and writing ---------------------------------------------------------------------------------------------


def _mend(
    text: SourceText,
    within: str | None,
    find: Callable[[SourceText, list[ast.stmt]], tuple[CureKind, list[Edit]]],
    names: tuple[str, ...],
) -> Cure | None:
    """Change what is found in a function, or in the whole source."""
    body: list[ast.stmt] = text.tree.body
    if within is not None:
        node = _definition(text.tree, within)
        if node is None:
            return None
        body = node.body
    kind, edits = find(text, body)
    return _cure(kind, text, edits, names) if edits else None


def _cure(
    kind: CureKind,
    text: SourceText,
    edits: list[Edit],
    names: tuple[str, ...],
    same: Callable[[ast.Module], str] | None = None,
) -> Cure | None:
    changed = write_edits(text, edits, same)
    return None if changed is None else Cure(kind, changed, names)


def _written(text: SourceText, node: ast.expr) -> str:
    start, end = text.span(node)
    return text.text[start:end]


def _definition(tree: ast.AST, function: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The last definition of a function or method of that name."""
    found = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) and node.name == function]
    return found[-1] if found else None


def _words(node: ast.AST) -> set[str]:
    names = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    return names | {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _reads(node: ast.stmt, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Load) for one in ast.walk(node))


def _binds(node: ast.stmt, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(one, ast.Name) and one.id == name for one in targets)


def _without_first(name: str) -> Callable[[ast.Module], str]:
    def dump(tree: ast.Module) -> str:
        at = next(at for at, node in enumerate(tree.body) if _binds(node, name))
        del tree.body[at]
        return ast.dump(tree)

    return dump


def _undecorated(tree: ast.Module, function: str) -> str:
    node = _definition(tree, function)
    if node is not None:
        del node.decorator_list[0]
    return ast.dump(tree)
