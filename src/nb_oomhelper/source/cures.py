"""The classic ways of keeping memory without meaning to, mended in the text where they are written.

Each function reads some statements of a source and gives the few places that change; it gives none where there is
nothing of the kind, and where the change cannot be written. `write_cure` makes one source of them. Nothing of the
user's runs here.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nb_oomhelper.source.collecting import binds
from nb_oomhelper.source.cure_kinds import CureKind
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.steps import shares_graph
from nb_oomhelper.source.text_edits import Changed, write_edits
from nb_oomhelper.source.tree import is_name, last_name, parameters_of, reads_by_name, walk

Function = ast.FunctionDef | ast.AsyncFunctionDef
_TRAINS = frozenset(
    {"backward", "step", "zero_grad", "train_step", "training_step", "train_epoch", "train_one_epoch"}
    | {"grad", "jacobian", "hessian", "vjp", "jvp", "requires_grad_"}
)
_WITHOUT_GRAD = frozenset({"no_grad", "inference_mode", "set_grad_enabled"})
_NOT_WRAPPED = frozenset({"jit", "script", "compile", "vmap", "property", "setter"})
_REDUCING = frozenset({"mean", "sum", "std", "var", "cumsum", "prod", "average"})
_FLOAT64 = frozenset({"zeros", "ones", "empty", "full", "linspace"})  # of NumPy: float64 where no dtype is given
_UNIT = frozenset({"eye", "identity"})  # the same, but seldom all that an array is computed from


@dataclass(frozen=True, slots=True)
class Cure:
    """A source with mistakes mended.

    Attributes:
        kinds: Which, the most telling first.
        changed: The source anew.
    """

    kinds: tuple[CureKind, ...]
    changed: Changed


def write_cure(text: SourceText, found: Sequence[tuple[CureKind, Sequence[Edit]]]) -> Cure | None:
    """Write a source with several mistakes mended in one go; None where there are none or they cannot be.

    Args:
        text: The source.
        found: Which mistakes, with the places that change.
    """
    some = [(kind, edits) for kind, edits in found if edits]
    changed = write_edits(text, [edit for _, edits in some for edit in edits])
    return None if changed is None else Cure(tuple(dict.fromkeys(kind for kind, _ in some)), changed)


def function_in(text: SourceText, name: str, line: int | None = None) -> Function | None:
    """Find a function or method.

    Args:
        text: The source that defines it.
        name: Its name.
        line: The first line of its code, decorators among it; None takes the last one of that name.
    """
    nodes = (node for node in ast.walk(text.tree) if isinstance(node, Function) and node.name == name)
    found = [node for node in nodes if line is None or line == first_line(node)]
    return found[-1] if found else None


def first_line(node: ast.stmt) -> int:
    """Give the first line of a statement, its decorators among it."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(one.lineno for one in decorators)])


def statement_at(body: Sequence[ast.stmt], line: int) -> ast.stmt | None:
    """Find the statement of a body, its decorators among it, that a line is one of; None where there is none.

    Args:
        body: The statements.
        line: The line, from 1.
    """
    return next((one for one in body if first_line(one) <= line <= (one.end_lineno or 0)), None)


def without_grad(text: SourceText, node: Function) -> list[Edit]:
    """Put `@torch.no_grad()` on a function that evaluates; nothing where it trains or has it already.

    Args:
        text: The source that defines it.
        node: The function.
    """
    decorators = {word for one in node.decorator_list for word in words_in(one)}
    if isinstance(node, ast.AsyncFunctionDef) or trains(node) or decorators & _NOT_WRAPPED:
        return []
    return _line_before(text, text.span(node)[0], "@torch.no_grad()")


def trains(node: ast.AST) -> bool:
    """Tell whether code trains, or says itself where a graph is made: then nobody else may take graphs away.

    Args:
        node: The code.
    """
    words = words_in(node) | {one.arg for one in ast.walk(node) if isinstance(one, ast.keyword)}
    return goes_back(node) or bool(words & (_WITHOUT_GRAD | {"grad", "requires_grad", "enable_grad"}))


def goes_back(node: ast.AST, own: Collection[str] = ()) -> bool:
    """Tell whether code goes backward through a graph, or asks for one.

    Args:
        node: The code.
        own: Names of functions of the notebook, which are looked at by themselves.
    """
    training = _TRAINS - {*own}
    return any(isinstance(one, ast.Call) and last_name(one.func) in training for one in ast.walk(node))


def backward_once(text: SourceText, body: list[ast.stmt], graphs: Collection[str] = ()) -> list[Edit]:
    """Take `retain_graph=True` from the only `backward()` of some statements: nothing needs its graph again.

    Args:
        text: The source.
        body: The statements to look in.
        graphs: What is known to have a graph, by path: no step may go on from it.
    """
    calls = [node for node in walk(body) if isinstance(node, ast.Call) and last_name(node.func) == "backward"]
    if len(calls) != 1:  # a second one may well go through the same graph
        return []
    told = [one for one in calls[0].keywords if one.arg == "retain_graph" and _is_true(one.value)]
    if not told or any(isinstance(node, ast.Attribute) and node.attr == "grad" for node in walk(body)):
        return []
    loops = [one for one in walk(body) if isinstance(one, (ast.For, ast.While)) and calls[0] in ast.walk(one)]
    if shares_graph(body, graphs) or any(shares_graph([one], graphs) for one in loops):
        return []
    if len(calls[0].args) + len(calls[0].keywords) > 1:  # what is between them is the user's own spelling
        return [(*text.span(told[0].value), "False")]
    return [(text.span(calls[0].func)[1], text.span(calls[0])[1], "()")]


def old_first(text: SourceText, names: Collection[str], line: int, readers: Collection[str] = ()) -> list[Edit]:
    """Let old objects go before the statement that makes new ones.

    Args:
        text: A cell.
        names: What its statements bind anew.
        line: Where it failed.
        readers: Functions that read one of the names: whoever calls them still needs the old object.
    """
    here = [at for at, node in enumerate(text.tree.body) if first_line(node) <= line <= (node.end_lineno or 0)]
    if len(here) != 1:  # of several statements in a line nobody knows which was running
        return []
    (at,) = here
    if hasattr(text.tree.body[at], "body") or reads_by_name(text.tree.body[at:]):
        return []
    fitting = [name for name in names if _is_made_anew(text.tree.body[at:], name, readers)]
    if not any(_binds(text.tree.body[at], name) for name in fitting):
        return []
    return _line_before(text, text.span(text.tree.body[at])[0], f"{' = '.join(fitting)} = None")


def _is_made_anew(body: list[ast.stmt], name: str, readers: Collection[str]) -> bool:
    for node in body:
        words = words_in(node)
        if _reads(node, name) or words.intersection(readers):
            return False
        if _binds(node, name):
            return True
        if hasattr(node, "body"):
            return False
    return False


def in_float32(text: SourceText, body: list[ast.stmt]) -> list[Edit]:
    """Give NumPy's makers of float64 arrays `dtype=np.float32`, and let `astype` give that: half the bytes.

    Args:
        text: The source.
        body: The statements to look in.
    """
    edits: list[Edit] = []
    looked_up = {one.value for one in walk(body) if isinstance(one, ast.Subscript)}  # `np.eye(n)[labels]`
    for node in walk(body):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        makes = node.func.attr in _FLOAT64 or (node.func.attr in _UNIT and node in looked_up)
        maker = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if node.func.attr in _REDUCING:  # the numbers are added up with 16 digits, and little is made
            continue
        if node.func.attr == "astype" and len(node.args) == 1 and (new := _narrow(_written(text, node.args[0]))):
            edits.append((*text.span(node.args[0]), new))
        elif "dtype" in given and (new := _narrow(_written(text, given["dtype"]))):
            edits.append((*text.span(given["dtype"]), new))
        elif maker in ("np", "numpy") and makes and None not in given and "dtype" not in given:
            last = [*node.args, *given.values()]
            filled = [*node.args[1:2], *(given[one] for one in given if one == "fill_value")]
            whole = node.func.attr == "full" and not all(_is_float(one) for one in filled)
            if last and not whole and len(node.args) <= (2 if node.func.attr in ("full", "linspace") else 1):
                place = max(text.span(one)[1] for one in last)
                edits.append((place, place, f", dtype={maker}.float32"))
    return edits


def words_in(node: ast.AST) -> set[str]:
    """Give the names of variables and attributes in some code.

    Args:
        node: The code.
    """
    names = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    return names | {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def reads_global(node: Function, name: str) -> bool:
    """Tell whether a function reads a name of the notebook's.

    Args:
        node: The function.
        name: The name.
    """
    bound = name in parameters_of(node) or binds(node.body, name)
    return not bound and any(_reads(one, name) for one in node.body)


def _is_float(node: ast.expr) -> bool:
    """Whether it surely is no whole number: `np.full(n, 3)` makes those."""
    operand = node.operand if isinstance(node, ast.UnaryOp) else node
    plain = isinstance(operand, ast.Constant) and type(operand.value) is float
    return plain or (isinstance(operand, ast.Attribute) and operand.attr in ("nan", "inf", "pi", "e"))


def _narrow(dtype: str) -> str | None:
    return {
        "np.float64": "np.float32",
        "numpy.float64": "numpy.float32",
        "float": '"float32"',
        '"float64"': '"float32"',
        "'float64'": "'float32'",
        "np.double": "np.float32",
    }.get(dtype)


def _line_before(text: SourceText, start: int, line: str) -> list[Edit]:
    """A line more, above the one in which something starts; nothing where it shares that line."""
    place = text.line_start(start)
    indent = text.text[place:start]
    return [] if indent.strip() else [(place, place, f"{indent}{line}\n")]


def _written(text: SourceText, node: ast.expr) -> str:
    start, end = text.span(node)
    return text.text[start:end]


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _reads(node: ast.stmt, name: str) -> bool:
    return any(
        isinstance(one, ast.Name) and one.id == name and not isinstance(one.ctx, ast.Store) for one in ast.walk(node)
    ) or any(isinstance(one, ast.AugAssign) and is_name(one.target, name) for one in ast.walk(node))


def _binds(node: ast.stmt, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(
        is_name(one, name) or (isinstance(one, (ast.Tuple, ast.List)) and any(is_name(part, name) for part in one.elts))
        for one in targets
    )
