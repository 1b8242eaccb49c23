"""Numbers that say how much a step of a computation takes: a batch, a chunk, a length; found in a text, made smaller.

Only source text is read, and never run. Numbers that are written out become smaller numbers; what is surely a whole
number, such as `len(X)`, gets a division behind it.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from nb_oomhelper.source.numbers import Shrink, folded, is_meant
from nb_oomhelper.source.source_text import Edit, SourceText, UnwritableError
from nb_oomhelper.source.text_edits import Changed, write_edits
from nb_oomhelper.source.tree import last_name

_MOST = 8  # places that are changed at once: with more of them it is not plain what is what
_TEXTS = ("JoinedStr", "TemplateStr")  # before Python 3.12 nobody says where something within them stands
_LIBRARY: Mapping[str, tuple[str, ...]] = {  # parameters that people give by their place
    "DataLoader": ("dataset", "batch_size"),
    "ThreadPoolExecutor": ("max_workers",),
    "ProcessPoolExecutor": ("max_workers",),
    "ThreadPool": ("processes",),
    "Pool": ("processes",),
}
_OTHER_SPLITS = frozenset({"random", "jr", "jrandom", "re"})  # of keys, of texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the notebook's names.

    Attributes:
        numbers: Names that stand for whole numbers now.
        parameters: Names of the parameters of functions, by what is written where they are called: "train", "t.fit".
        defaults: Whole numbers that parameters are where they are not given, by the same.
    """

    numbers: Collection[str] = ()
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """A source with smaller numbers in it.

    Attributes:
        changed: The source, and the lines that differ.
        names: What each number is called: "batch_size".
        told: Each change in short: "batch_size 64 → 32".
        ratio: The new size as a part of the old one; the largest of several.
    """

    changed: Changed
    names: tuple[str, ...]
    told: tuple[str, ...]
    ratio: float


@dataclass(frozen=True, slots=True)
class _Place:
    """One number: what it is called, and where it stands; or a call that is to get it as an argument."""

    name: str
    value: ast.expr | None
    call: ast.Call | None = None
    was: int = 0


def shrink(
    text: SourceText, names: Collection[str], by: Shrink, known: Known, *, first: int = 0, last: int | None = None
) -> Shrunk | None:
    """Make the numbers of some names smaller.

    Args:
        text: The source.
        names: As `is_meant` takes them.
        by: How much smaller.
        known: Of the names in it.
        first, last: Lines from 1, of which alone what stands in them is changed; all of them, if they are not given.

    Returns:
        The source anew; None where there is nothing of the kind, or it cannot be written.
    """
    body = [node for node in text.tree.body if first <= node.lineno <= (last or math.inf)]
    try:
        tried = [(place.name, _edit(text, place, by, names, known)) for place in _places(body, names, known)]
        found = [(name, *edit) for name, edit in tried if edit is not None]
    except (UnwritableError, RecursionError, MemoryError):
        return None
    apart = _apart([edit for _, edit, _, _ in found])
    if not 0 < len(apart) <= _MOST:
        return None
    changed = write_edits(text, apart)
    made = [(name, one, ratio) for name, edit, one, ratio in found if edit in apart]
    called, told = (tuple(dict.fromkeys(texts)) for texts in list(zip(*made, strict=True))[:2])
    ratio = max(ratio for _, _, ratio in made)
    return None if changed is None else Shrunk(changed=changed, names=called, told=told, ratio=ratio)


# -- where numbers stand ---------------------------------------------------------------------------------------------


def _places(body: list[ast.stmt], names: Collection[str], known: Known) -> Iterator[_Place]:
    steps = is_meant("batch_size", names)  # also where it has no name
    for node in _nodes(body):
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield from _assigned(node, names)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and type(key.value) is str and is_meant(key.value, names):
                    yield _Place(key.value, value)
        elif isinstance(node, ast.Call):
            yield from _arguments(node, names, known)
            if steps:
                yield from _split(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _parameters(node.args, names)
        elif steps and isinstance(node, ast.For):
            yield from _strides(node)


def _nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    todo: list[ast.AST] = list(reversed(body))
    while todo:
        node = todo.pop()
        yield node
        if type(node).__name__ not in _TEXTS:
            todo.extend(reversed(list(ast.iter_child_nodes(node))))


def _assigned(node: ast.Assign | ast.AnnAssign, names: Collection[str]) -> Iterator[_Place]:
    """`bs = 64`, `bs, lr = 64, 0.1`, `config["batch_size"] = 64`, `args.batch_size = 64`."""
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    for one, value in _pairs(target, node.value):
        name = _name(one)
        if name is not None and is_meant(name, names) and not _is_shape(value):
            yield _Place(ast.unparse(one), value)


def _pairs(target: ast.expr, value: ast.expr | None) -> list[tuple[ast.expr, ast.expr | None]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def _name(node: ast.expr) -> str | None:
    """The last name of a variable, an attribute, or an item by a text."""
    if isinstance(node, ast.Subscript):
        key = node.slice
        return key.value if isinstance(key, ast.Constant) and type(key.value) is str else None
    return last_name(node)


def _arguments(call: ast.Call, names: Collection[str], known: Known) -> Iterator[_Place]:
    given = {keyword.arg for keyword in call.keywords}
    path = _path(call.func)
    own = path in known.parameters
    for keyword in call.keywords:
        if keyword.arg is not None and is_meant(keyword.arg, names) and not (own and _is_shape(keyword.value)):
            yield _Place(keyword.arg, keyword.value)
    if None in given or any(isinstance(one, ast.Starred) for one in call.args):
        return
    parameters = known.parameters.get(path) or _LIBRARY.get(path.rpartition(".")[2], ())
    for parameter, value in zip(parameters, call.args, strict=False):
        if is_meant(parameter, names) and not (own and _is_shape(value)):
            yield _Place(parameter, value)
    for name, was in known.defaults.get(path, {}).items():
        if name not in given and name not in parameters[: len(call.args)] and is_meant(name, names) and was > 1:
            yield _Place(name, None, call, was)


def _is_shape(node: ast.expr | None) -> bool:
    """Whether it says how large something is that is there, and stays so: `x.size(0)`, `x.shape[1]`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "size"
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "shape"


def _path(function: ast.expr) -> str:
    return ast.unparse(function) if isinstance(function, (ast.Name, ast.Attribute)) else ""


def _split(call: ast.Call) -> Iterator[_Place]:
    """`x.split(4096)`, `torch.split(x, 4096)`, `batched(rows, 4096)`: parts of so many."""
    name = last_name(call.func)
    owner = last_name(call.func.value) if isinstance(call.func, ast.Attribute) else None
    if name in ("split", "batched") and owner not in _OTHER_SPLITS:
        method = name == "split" and isinstance(call.func, ast.Attribute) and owner != "torch"
        sizes = call.args[:1] if method else call.args[1:2]  # `line.split(" ", 5)` is a text's
        yield from (_Place(f"{name}()", one) for one in sizes if (folded(one) or 0) > 1 or _is_whole(one))


def _parameters(arguments: ast.arguments, names: Collection[str]) -> Iterator[_Place]:
    """What a parameter is where nobody gives it."""
    plain = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(plain[len(plain) - len(arguments.defaults) :], arguments.defaults, strict=True)]
    pairs += [(one, value) for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value]
    for one, value in pairs:
        if is_meant(one.arg, names):
            yield _Place(one.arg, value)


def _strides(loop: ast.For) -> Iterator[_Place]:
    """`for i in range(0, n, 4096)`: the number, there and wherever else it stands in the loop."""
    call = loop.iter
    if not (isinstance(call, ast.Call) and last_name(call.func) in ("range", "trange") and len(call.args) == 3):
        return
    stride = folded(call.args[2])
    if stride is None or stride < 2 or not isinstance(call.args[2], ast.Constant):
        return
    inside = [one for one in _nodes(list(loop.body)) if isinstance(one, ast.Constant) and one.value == stride]
    if inside:  # else it is no slice that is as long as the step
        yield from (_Place("range()", one) for one in (call.args[2], *inside) if type(one.value) is int)


# -- what is written -------------------------------------------------------------------------------------------------


def _edit(
    text: SourceText, place: _Place, by: Shrink, names: Collection[str], known: Known
) -> tuple[Edit, str, float] | None:
    """One change, how it is told, and what part of the old number the new one is."""
    if place.call is not None:
        return _added(text, place.call, place.name, place.was, by)
    value = place.value
    if value is None:
        return None
    start, end = text.span(value)
    was = folded(value)
    if was is not None:
        new = by.of(was)
        return ((start, end, str(new)), f"{place.name} {was} → {new}", new / was) if was > 1 and new < was else None
    other = isinstance(value, ast.Name) and value.id in known.numbers and not is_meant(value.id, names)
    if not other and not _is_whole(value):  # a name that is meant itself is made smaller where it is bound
        return None
    written = text.text[start:end]
    divided = f"{written if not isinstance(value, ast.BinOp) else f'({written})'} // {by.parts}"
    return (start, end, divided), f"{place.name} = {divided}", 1 / by.parts


def _is_whole(node: ast.expr) -> bool:
    """Whether an expression is surely a whole number: a length."""
    if isinstance(node, ast.Call):
        name = last_name(node.func)
        if isinstance(node.func, ast.Name):
            return name in ("len", "int") or (name in ("min", "max") and all(_is_whole_or_number(a) for a in node.args))
        return name in ("size", "numel") and bool(node.args or name == "numel")
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "shape" and folded(node.slice) is not None
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.FloorDiv, ast.Mult, ast.Add)):
        return _is_whole_or_number(node.left) and _is_whole_or_number(node.right)
    return False


def _is_whole_or_number(node: ast.expr) -> bool:
    return folded(node) is not None or _is_whole(node)


def _added(text: SourceText, call: ast.Call, name: str, was: int, by: Shrink) -> tuple[Edit, str, float]:
    """An argument more at the end of a call."""
    end, new = text.span(call)[1], by.of(was)
    opening, closing = text.brackets(end)
    inside = text.tokens[opening + 1 : closing]
    at = inside[-1].end if inside else text.tokens[opening].end
    comma = "" if not inside else " " if inside[-1].operator == "," else ", "
    return (at, at, f"{comma}{name}={new}"), f"{name} {was} → {new}", new / was


def _apart(edits: list[Edit]) -> list[Edit]:
    """Those that do not lie within another one, each once."""
    kept: list[Edit] = []
    for edit in sorted(set(edits), key=lambda one: (one[0], -one[1])):
        if not kept or edit[0] >= kept[-1][1]:
            kept.append(edit)
    return kept
