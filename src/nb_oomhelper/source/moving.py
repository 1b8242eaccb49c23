"""Data that is moved to a device whole: moved where it is used instead."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from nb_oomhelper.source.batches import move_in_loops
from nb_oomhelper.source.collecting import put_behind
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import changes_of, is_at, is_name, last_name, nodes_above, pairs, parents_of, walk

_MOVES = frozenset({"to", "cuda"})
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
    if node is None or _is_read_before(node, parents):
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
        if isinstance(target, ast.Name) and set(calls) == set(_plain_moves(value)):
            rest = [one for one in walk(body) if isinstance(one, ast.Name) and one.id == target.id]
            reads = [one for one in rest if isinstance(one.ctx, ast.Load) and one.lineno > (node.end_lineno or 0)]
            uses = uses_of_batches(text, body, target.id, reads, value, calls, parents) if reads else None
        if uses is None or not isinstance(target, ast.Name):
            return None
        names.append(target.id)
        edits += [(text.span(what_moves(one))[1], text.span(one)[1], "") for one in calls] + uses
    return (", ".join(names), edits) if names else None


def uses_of_batches(
    text: SourceText,
    body: list[ast.stmt],
    name: str,
    reads: list[ast.Name],
    value: ast.expr,
    calls: list[ast.Call],
    parents: Mapping[ast.AST, ast.AST],
) -> list[Edit] | None:
    """Give what moves each batch to where the whole was; None where one of the uses is no batch, or there is none.

    Args:
        text: The source.
        body: The statements that a name is among.
        name: The name.
        reads: Where it is read.
        value: What it is bound to.
        calls: What moves it.
        parents: Of the statements, by node.
    """
    tails = {text.text[text.span(what_moves(one))[1] : text.span(one)[1]] for one in calls}
    if len(tails) != 1:
        return None
    tail, edits, batches = tails.pop(), list[Edit](), 0
    if any(isinstance(one, ast.AugAssign) and is_name(one.target, name) for one in walk(body)):
        return None  # what it was made of would change
    for read in reads:
        if _only_looks(read, parents) and not (gives_dtype(calls) and _asks_dtype(parents.get(read))):
            continue
        if _is_changed(body, read, parents):
            return None
        found = _of_loop(text, read, value, tail, parents) or _of_index(text, body, read, value, tail, parents)
        if found is None and isinstance(value, ast.Call):
            found = move_in_loops(text, body, read, tail, parents)
        if found is None:
            return None
        edits += found
        batches += 1
    return edits if batches and not _is_read_in_functions(body, name, reads) else None


def _is_read_before(node: ast.Assign, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether a loop around a statement reads what it binds above it: the next step finds it where it is then."""
    names = {one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    loops = [one for one in nodes_above(node, parents) if isinstance(one, (ast.For, ast.While))]
    reads = [one for loop in loops for one in ast.walk(loop) if isinstance(one, ast.Name) and one.id in names]
    return any(isinstance(one.ctx, ast.Load) and one.lineno < node.lineno for one in reads)


def _plain_moves(value: ast.expr) -> list[ast.expr]:
    """The members of what is bound that are moved as they are, and not computed from what is moved."""
    made = [value]
    if isinstance(value, (ast.ListComp, ast.DictComp)):
        elt = value.elt if isinstance(value, ast.ListComp) else value.value
        made = elt.elts if isinstance(elt, (ast.Tuple, ast.List)) else [elt]
    return [one for one in made if moves(one) and not _has_move(what_moves(one))]


def gives_dtype(calls: Iterable[ast.Call]) -> bool:
    """Tell whether a move may change the dtype, too: `x.to(dev, torch.half)`.

    Args:
        calls: The moves.
    """
    return any(len(one.args) > 1 or any(key.arg == "dtype" for key in one.keywords) for one in calls)


def _asks_dtype(above: ast.AST | None) -> bool:
    return isinstance(above, ast.Attribute) and above.attr not in ("shape", "size", "ndim", "numel", "dim")


def _is_changed(body: list[ast.stmt], read: ast.Name, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether a batch, which is a part of the whole and no copy, is changed: `b = x[i:j]` and `b -= 1`."""
    above = parents.get(read)
    further = parents.get(above) if above is not None else None
    if isinstance(further, ast.Attribute) and further.attr.endswith("_"):
        return True
    bound: list[ast.expr] = further.targets if isinstance(further, ast.Assign) else []
    if isinstance(further, ast.Assign):
        bound = [target for target, value in pairs(further) if value is above]
    if isinstance(above, ast.For):
        bound = [above.target]
    names = {one.id for target in bound for one in ast.walk(target) if isinstance(one, ast.Name)}
    return any(changes_of(body, name) for name in names)


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
    tails = {text.text[text.span(what_moves(one))[1] : text.span(one)[1]] for one in call.args if moves(one)}
    names = [one.id for one in node.targets if isinstance(one, ast.Name)]
    if len(tails) != 1 or len(names) != 1 or len(node.targets) != 1:
        return None
    edits: list[Edit] = [(text.span(what_moves(one))[1], text.span(one)[1], "") for one in call.args if moves(one)]
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


def what_moves(call: ast.expr) -> ast.expr:
    """Give what a call moves.

    Args:
        call: As `moves` knows it.
    """
    return call.func.value  # type: ignore[attr-defined, no-any-return]


def _has_move(node: ast.expr) -> bool:
    return any(isinstance(one, ast.Call) and moves(one) for one in ast.walk(node))
