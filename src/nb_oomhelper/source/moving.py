"""Data that is moved to a device whole: moved where it is used instead, or once it is what it is to be."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from nb_oomhelper.source.collecting import put_behind
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_at, is_name, last_name, pairs, parents_of, walk

_MOVES = frozenset({"to", "cuda"})
_KEPT_SHAPE = frozenset(
    {"float", "half", "double", "bfloat16", "long", "int", "div", "mul", "sub", "add", "div_", "mul_", "sub_", "add_"}
    | {"sqrt", "log", "log1p", "exp", "abs", "clamp", "permute", "transpose", "reshape", "view", "flatten", "unsqueeze"}
    | {"squeeze", "contiguous", "swapaxes", "movedim"}
)
_LOOKS = frozenset({"shape", "size", "dtype", "ndim", "numel", "dim"})
_ORDERS = frozenset({"torch.randperm", "np.random.permutation", "torch.arange", "range", "np.arange"})


def where_used(text: SourceText, body: list[ast.stmt], line: int) -> tuple[str, list[Edit]] | None:
    """Leave data in host memory, and move each batch where the code takes it.

    Args:
        text: The source.
        body: The statements that the line is among; what is bound there is used nowhere else.
        line: The line that was running, from 1.

    Returns:
        The names that are bound, and the edits; None where the batches are not plain.
    """
    parents = parents_of(walk(body))
    node = next((one for one in walk(body) if isinstance(one, ast.Assign) and is_at(one, line)), None)
    if node is None:
        return None
    edits: list[Edit] = []
    names = []
    if (found := _of_dataset(text, body, node, parents)) is not None:
        return found
    for target, value in pairs(node):
        calls = [one for one in ast.walk(value) if isinstance(one, ast.Call) and moves(one)]
        if not calls:
            continue
        uses = None
        if isinstance(target, ast.Name):
            rest = [one for one in walk(body) if isinstance(one, ast.Name) and one.id == target.id]
            reads = [one for one in rest if isinstance(one.ctx, ast.Load) and one.lineno > (node.end_lineno or 0)]
            uses = _uses(text, body, target.id, reads, value, calls, parents) if reads else None
        if uses is None or not isinstance(target, ast.Name):
            return None
        names.append(target.id)
        edits += [(text.span(_moved(one))[1], text.span(one)[1], "") for one in calls] + uses
    return (", ".join(names), edits) if names else None


def _uses(
    text: SourceText,
    body: list[ast.stmt],
    name: str,
    reads: list[ast.Name],
    value: ast.expr,
    calls: list[ast.Call],
    parents: Mapping[ast.AST, ast.AST],
) -> list[Edit] | None:
    """What moves each batch to where the whole was; None where one of the uses is no batch."""
    tails = {text.text[text.span(_moved(one))[1] : text.span(one)[1]] for one in calls}
    if len(tails) != 1:
        return None
    tail, edits, batches = tails.pop(), list[Edit](), 0
    for read in reads:
        if _only_looks(read, parents):
            continue
        found = _of_loop(text, read, value, tail, parents) or _of_index(text, body, read, value, tail, parents)
        if found is None:
            return None
        edits += found
        batches += 1
    return edits if batches and not _is_read_in_functions(body, name, reads) else None


def _of_loop(
    text: SourceText, read: ast.Name, value: ast.expr, tail: str, parents: Mapping[ast.AST, ast.AST]
) -> list[Edit] | None:
    """`for x, y in batches:` of `batches = [(x.cuda(), y.cuda()) for x, y in loader]`."""
    if not isinstance(value, ast.ListComp):
        return None
    above, target = parents.get(read), None
    if isinstance(above, ast.For) and above.iter is read:
        target, loop = above.target, above
    elif isinstance(above, ast.Call) and last_name(above.func) == "enumerate" and len(above.args) == 1:
        outer = parents.get(above)
        if isinstance(outer, ast.For) and isinstance(outer.target, ast.Tuple) and len(outer.target.elts) == 2:
            target, loop = outer.target.elts[1], outer
    if target is None:
        return None
    made = value.elt.elts if isinstance(value.elt, (ast.Tuple, ast.List)) else [value.elt]
    return _moved_in_loop(text, loop, target, made, tail)


def _moved_in_loop(
    text: SourceText, loop: ast.For, target: ast.expr, made: list[ast.expr], tail: str
) -> list[Edit] | None:
    """A first line of a loop that moves those of its names of which the whole was moved."""
    parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
    if len(made) != len(parts) or not all(isinstance(one, ast.Name) for one in parts):
        return None
    moved = [one.id for one, what in zip(parts, made, strict=True) if _has_move(what) and isinstance(one, ast.Name)]
    start = text.span(loop.body[0])[0]
    place = text.line_start(start)
    indent = text.text[place:start]
    if indent.strip():
        return None
    line = f"{', '.join(moved)} = {', '.join(f'{one}{tail}' for one in moved)}"
    return [(place, place, f"{indent}{line}\n")]


def _of_dataset(
    text: SourceText, body: list[ast.stmt], node: ast.Assign, parents: Mapping[ast.AST, ast.AST]
) -> tuple[str, list[Edit]] | None:
    """`ds = TensorDataset(x.cuda(), y.cuda())`, of which a loader makes the batches of a loop."""
    call = node.value
    if not (isinstance(call, ast.Call) and last_name(call.func) == "TensorDataset" and not call.keywords):
        return None
    tails = {text.text[text.span(_moved(one))[1] : text.span(one)[1]] for one in call.args if moves(one)}
    names = [one.id for one in node.targets if isinstance(one, ast.Name)]
    if len(tails) != 1 or len(names) != 1 or len(node.targets) != 1:
        return None
    edits: list[Edit] = [(text.span(_moved(one))[1], text.span(one)[1], "") for one in call.args if moves(one)]
    loops = 0
    todo = list(names)
    for name in todo:
        for read in _reads(body, name):
            above = parents.get(read)
            maker = parents.get(above) if above is not None else None
            loads = isinstance(above, ast.Call) and last_name(above.func) == "DataLoader" and above.args[:1] == [read]
            if _only_looks(read, parents):
                continue
            if loads and isinstance(maker, ast.Assign) and isinstance(maker.targets[0], ast.Name):
                todo.append(maker.targets[0].id)
                continue
            if not isinstance(above, ast.For) or above.iter is not read or name in names:
                return None
            moved = _moved_in_loop(text, above, above.target, call.args, tails.copy().pop())
            if moved is None:
                return None
            edits += moved
            loops += 1
    functions = [one for one in walk(body) if isinstance(one, (ast.FunctionDef, ast.Lambda))]
    alone = not any(is_name(one, name) for part in functions for one in ast.walk(part) for name in todo)
    return (names[0], edits) if loops and alone else None


def _reads(body: list[ast.stmt], name: str) -> list[ast.Name]:
    return [one for one in walk(body) if isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Load)]


def _of_index(
    text: SourceText,
    body: list[ast.stmt],
    read: ast.Name,
    value: ast.expr,
    tail: str,
    parents: Mapping[ast.AST, ast.AST],
) -> list[Edit] | None:
    """`x[i:i + n]`, and `data["x"][i:i + n]` of a dict of them."""
    node: ast.AST = read
    if isinstance(value, ast.DictComp):
        above = parents.get(node)
        if not (isinstance(above, ast.Subscript) and isinstance(above.slice, ast.Constant)):
            return None
        node = above
        if _only_looks(node, parents):
            return []
    elif not (isinstance(value, ast.Call) and moves(value)):
        return None
    above = parents.get(node)
    if not (isinstance(above, ast.Subscript) and above.value is node and isinstance(above.ctx, ast.Load)):
        return None
    return put_behind(text, above, tail) if _is_host_index(above.slice, body) else None


def _is_host_index(index: ast.expr, body: list[ast.stmt]) -> bool:
    """Whether an index is a slice, or an order of rows that is made in host memory."""
    if isinstance(index, ast.Slice):
        return True
    root = index
    while isinstance(root, ast.Subscript):
        root = root.value
    if not isinstance(root, ast.Name):
        return False
    made = [value for node in walk(body) for target, value in pairs(node) if isinstance(target, ast.Name)]
    own = [value for node in walk(body) for target, value in pairs(node) if is_name(target, root.id)]
    known = {one: ast.unparse(one.func) for one in made if isinstance(one, ast.Call)}
    return bool(own) and all(
        known.get(one) in _ORDERS and not any(key.arg == "device" for key in one.keywords)  # type: ignore[attr-defined,call-overload]
        if not isinstance(one, ast.Subscript)
        else _is_host_index(one.value, body)
        for one in own
    )


def _only_looks(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    above = parents.get(node)
    if isinstance(above, ast.Attribute):
        return above.attr in _LOOKS
    return isinstance(above, ast.Call) and last_name(above.func) in ("len", "print")


def _is_read_in_functions(body: list[ast.stmt], name: str, reads: list[ast.Name]) -> bool:
    """Whether a function that is defined there reads the name, by whatever is called then."""
    inner = [one for one in walk(body) if isinstance(one, (ast.FunctionDef, ast.Lambda, ast.ClassDef))]
    return any(one in reads or is_name(one, name) for part in inner for one in ast.walk(part))


def moves(node: ast.expr) -> bool:
    """Tell whether an expression moves a tensor to a device: `x.to(device)`, `x.cuda()`.

    Args:
        node: The expression.
    """
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MOVES):
        return False
    told = ast.unparse(node.args[0]) if node.args else ""
    dtype = told.startswith("torch.") and "device" not in told
    return node.func.attr == "cuda" or bool(told and not dtype and "cpu" not in told)


def _moved(call: ast.expr) -> ast.expr:
    """What a call moves."""
    return call.func.value  # type: ignore[attr-defined, no-any-return]


def _has_move(node: ast.expr) -> bool:
    return any(isinstance(one, ast.Call) and moves(one) for one in ast.walk(node))


def host_first(text: SourceText, body: list[ast.stmt], line: int) -> tuple[str, list[Edit]] | None:
    """Move what is computed to the device, and not what it is computed from: `(x.float() / 255).to(device)`.

    Args:
        text: The source.
        body: The statements that the line is among.
        line: The line that was running, from 1.

    Returns:
        The name that is bound, and the edits; None where more than numbers take part.
    """
    for node in walk(body):
        if not isinstance(node, ast.Assign) or not is_at(node, line):
            continue
        for target, value in pairs(node):
            steps = list(_steps(value))
            call = steps[-1] if steps else value
            if not steps or call is value or not moves(call) or not isinstance(target, (ast.Name, ast.Attribute)):
                continue
            tail = text.text[text.span(_moved(call))[1] : text.span(call)[1]]
            cut: Edit = (text.span(_moved(call))[1], text.span(call)[1], "")
            return ast.unparse(target), [cut, *put_behind(text, value, tail)]
    return None


def _steps(value: ast.expr) -> Iterator[ast.expr]:
    """An expression from the outside in, as long as each step only changes the numbers of one tensor."""
    node: ast.expr | None = value
    while node is not None:
        yield node
        if moves(node):
            return
        if isinstance(node, ast.BinOp):
            sides = [one for one in (node.left, node.right) if not _is_number(one)]
            node = sides[0] if len(sides) == 1 else None
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _KEPT_SHAPE:
            plain = all(_is_number(one) for one in node.args) and all(_is_number(one.value) for one in node.keywords)
            node = node.func.value if plain else None
        else:
            node = None


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_number(node.operand)
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)
