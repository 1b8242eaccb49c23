"""What a piece of code collects on a device, and only joins later: places where it may as well lie in host memory."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from nb_oomhelper.source.collecting import (
    find_kept,
    is_keeper,
    is_put_in_item,
    put_behind,
    wants_tensors,
    written_parts,
)
from nb_oomhelper.source.element import Element
from nb_oomhelper.source.flows import counters, numbers_in
from nb_oomhelper.source.kept_models import REPEATS, is_done_with, loop_around
from nb_oomhelper.source.meeting import JOINS, READS, is_picked, meets_others
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import (
    changes_of,
    is_at,
    is_name,
    last_name,
    nodes_above,
    pairs,
    parents_of,
    statement_around,
    walk,
)

_PUTS = frozenset({"append", "appendleft", "add", "extend", "insert", "clear", "setdefault", "sort"})
_VIEWS = frozenset({"items", "values", "keys"})
_LOOKS = frozenset({"shape", "size", "dtype", "ndim", "numel", "dim", "nbytes", "device"})
ELSEWHERE = frozenset({"cpu", "numpy", "tolist", "item"})


def find_to_host(
    text: SourceText, body: list[ast.stmt], keepers: Mapping[str, Element], *, in_loop: bool = True
) -> list[Edit]:
    """Find what is put into some keepers on a device, to be kept in host memory.

    Args:
        text: The source.
        body: The statements to look in.
        keepers: What collects, by path, with what is in it.
        in_loop: Whether a loop must stand around it there: else the code is called again and again.
    """
    parents = parents_of(walk(body))
    edits: list[Edit] = []
    for keeper, element in keepers.items():
        puts = list(find_kept(body, keeper))  # with what it begins with: all of it is joined in one place
        if in_loop and not any(_is_in_loop(one, parents) for one in puts):
            continue
        if any(_changes_later(body, one, parents) for one in puts):
            continue  # it would change what is kept
        numbers = not wants_tensors(body, keeper)
        if element.listed:
            others = [one for one in puts if not is_put_in_item(one, parents)]
            if not all(_is_made_of(one, keeper, parents) for one in others):
                continue
            puts = [one for one in puts if one not in others]
        for one in puts:
            if element.kind == "model" and is_done_with(body, one, parents):
                edits += put_behind(text, one, ".cpu()")
            else:
                edits += _moved(text, one, element, numbers=numbers)
                edits += [
                    edit
                    for key, part in written_parts(one, element.maker)
                    if key in element.parts and element.parts[key].kind == "model" and element.parts[key].on_device
                    for edit in (put_behind(text, part, ".cpu()") if is_done_with(body, part, parents) else [])
                ]
    return edits


def _changes_later(body: list[ast.stmt], put: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether what is kept is changed where it is afterwards, as a buffer that is filled again and again."""
    if not isinstance(put, ast.Name):
        return False
    loop = loop_around(put, parents)
    scope = getattr(loop, "body", body)
    scope = scope if isinstance(scope, list) else body
    changes = changes_of(scope, put.id)
    later = any((one.lineno, one.col_offset) > (put.lineno, put.col_offset) for one in changes)  # type: ignore[attr-defined]
    return later or bool(changes and not any(is_name(to, put.id) for one in walk(scope) for to, _ in pairs(one)))


def _is_made_of(put: ast.expr, keeper: str, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether something is empty, or made of what was kept before: `bank = {c: torch.cat(v) for c, v in bank.items()}`.

    It is no member of a list in the keeper then.
    """
    above = parents.get(put)
    if isinstance(put, ast.List) and not put.elts:
        return True
    return isinstance(above, ast.DictComp) and any(
        is_keeper(one, keeper) for part in above.generators for one in ast.walk(part.iter)
    )


def gathers_on_device(code: ast.AST) -> bool:
    """Tell whether code joins what a comprehension makes step by step, and nothing of that is put in host memory.

    Args:
        code: The code.
    """
    calls = [one for one in ast.walk(code) if isinstance(one, ast.Call) and last_name(one.func) in JOINS]
    return any(_is_gathered(one) for call in calls for one in call.args)


def find_gathered(text: SourceText, body: list[ast.stmt], line: int) -> Iterator[tuple[str, list[Edit]]]:
    """Find `out = torch.cat([net(b) for b in parts])`, to be gathered in host memory where nothing else meets it.

    Args:
        text: The source.
        body: The statements to look in.
        line: The line that was running, from 1.

    Returns:
        The name that is bound, and the edits.
    """
    for node in walk(body):
        if not isinstance(node, ast.Assign) or not is_at(node, line):
            continue
        call, target = node.value, node.targets[0]
        if isinstance(target, ast.Name) and isinstance(call, ast.ListComp) and _is_gathered(call):
            if _is_joined_later(body, target.id) and is_only_collected(body, {target.id: Element("other")}):
                yield target.id, put_behind(text, call.elt, ".cpu()")
        elif isinstance(call, ast.Call) and last_name(call.func) in JOINS and isinstance(target, ast.Name):
            alone = not any(meets_others(one, {target.id}) for one in walk(body))
            for one in call.args:
                if alone and isinstance(one, (ast.ListComp, ast.GeneratorExp)) and _is_gathered(one):
                    yield target.id, put_behind(text, one.elt, ".cpu()")


def _is_joined_later(body: list[ast.stmt], name: str) -> bool:
    """Whether a list of tensors is joined: then they are what it is made of."""
    calls = [one for one in walk(body) if isinstance(one, ast.Call) and last_name(one.func) in JOINS]
    return any(isinstance(one, ast.Name) and one.id == name for call in calls for one in call.args)


def _is_gathered(node: ast.expr) -> bool:
    """Whether a comprehension makes one after the other on a device; `head(x) for head in heads` is one step."""
    if not isinstance(node, (ast.ListComp, ast.GeneratorExp)):
        return False
    steps = {one.id for part in node.generators for one in ast.walk(part.target) if isinstance(one, ast.Name)}
    called = {one.func.id for one in ast.walk(node.elt) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}
    attributes = {one.attr for one in ast.walk(node.elt) if isinstance(one, ast.Attribute)}
    return bool(called) and not called & steps and not attributes & ELSEWHERE


def is_only_collected(body: list[ast.stmt], keepers: Mapping[str, Element]) -> bool:
    """Tell whether code does no more with what it collects than join it, and computes nothing with it on a device.

    Args:
        body: The code.
        keepers: As of `find_to_host`.
    """
    parents = parents_of(walk(body))
    members = {name: keepers[one] for one in keepers for name in _names_of_members(body, one)}
    joined = {*members}.union(one for one in keepers if one.isidentifier())
    for node in walk(body):
        if isinstance(node, (ast.For, ast.comprehension)) and any(is_keeper(node.iter, one) for one in keepers):
            joined |= {one.id for one in ast.walk(node.target) if isinstance(one, ast.Name)}
    for node in walk(body):
        kept = isinstance(node, ast.expr) and any(is_keeper(node, one) for one in keepers)
        if isinstance(node, ast.Name) and node.id in members and _is_elsewhere(node, members[node.id], parents):
            continue
        if any(is_keeper(node, one) and _is_elsewhere(parents.get(node), keepers[one], parents) for one in keepers):
            continue
        if kept or (isinstance(node, ast.Name) and node.id in members):
            if not _is_harmless(node, parents):  # type: ignore[arg-type]
                return False
            joined |= _names_of_joined(node, parents)  # type: ignore[arg-type]
    numbers = numbers_in(body) | counters(body)
    if any(is_picked(node, joined - {*keepers}, numbers) for node in walk(body)):
        return False
    return not any(meets_others(node, joined, numbers) for node in walk(body))


def _is_elsewhere(node: ast.AST | None, element: Element, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether only a part of a member is read that lies in host memory anyway: `run["curve"]`."""
    above = parents.get(node) if isinstance(node, (ast.Name, ast.Subscript)) else None
    key = above.slice.value if isinstance(above, ast.Subscript) and isinstance(above.slice, ast.Constant) else None
    return key in element.parts and not element.parts[key].reaches_device


def _names_of_members(body: list[ast.stmt], keeper: str) -> Iterator[str]:
    """The names of members: `v` in `for k, v in bank.items()`."""
    for node in walk(body):
        if not isinstance(node, (ast.For, ast.comprehension)):
            continue
        view = node.iter.func if isinstance(node.iter, ast.Call) else None
        if isinstance(view, ast.Attribute) and view.attr in _VIEWS and is_keeper(view.value, keeper):
            target = node.target
            last = target.elts[-1] if isinstance(target, ast.Tuple) and view.attr == "items" else target
            if view.attr != "keys" and isinstance(last, ast.Name):
                yield last.id


def _is_in_loop(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether code runs again and again: a loop stands around it, or a function of its own, such as a hook."""
    return any(isinstance(one, (*REPEATS, ast.FunctionDef)) for one in (node, *nodes_above(node, parents)))


def _moved(text: SourceText, node: ast.expr, element: Element, *, numbers: bool) -> Iterator[Edit]:
    """What to write so that something is kept on the host."""
    if element.kind != "parts":
        if element.on_device and element.kind != "optimizer":
            yield from _behind(text, node, element, numbers=numbers)
        return
    written = list(written_parts(node))
    for key, part in written:
        if key in element.parts:
            yield from _moved(text, part, element.parts[key], numbers=numbers)
    if not written and all(type(key) is str and part.on_device for key, part in element.parts.items()):  # a state dict
        yield from _moved_dict(text, node, element, numbers=numbers)


def _moved_dict(text: SourceText, node: ast.expr, element: Element, *, numbers: bool) -> Iterator[Edit]:
    if isinstance(node, ast.DictComp):
        yield from _behind(text, node.value, next(iter(element.parts.values()), element), numbers=numbers)
    elif isinstance(node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call)):
        start, end = text.span(node)
        yield start, start, "{key: value.cpu() for key, value in "
        yield end, end, ".items()}"


def _behind(text: SourceText, node: ast.expr, element: Element, *, numbers: bool) -> list[Edit]:
    names = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    if names & ELSEWHERE or (element.kind == "model" and not isinstance(node, ast.Call)):
        return []  # a model that has a name of its own may still be in use
    if element.kind == "number" and numbers:
        return put_behind(text, node, ".item()")
    graph = element.kind in ("graph", "number", "leaf") and "detach" not in names
    return put_behind(text, node, ".detach().cpu()" if graph else ".cpu()")


def _is_harmless(node: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether a place only fills what is kept, joins it, gives it on, or counts it."""
    if isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
        return True
    above = parents.get(node)
    if isinstance(above, ast.Subscript):  # `history[key].append(out)`, and not `cache[layer][0]`
        further = parents.get(above)
        fills = not isinstance(above.ctx, ast.Load) or isinstance(further, (ast.Attribute, ast.Subscript))
        return above.value is node and fills and _is_harmless(above, parents)
    if isinstance(above, ast.Attribute):
        call = parents.get(above)
        if above.attr in _LOOKS:
            return True
        if above.attr in _VIEWS and isinstance(call, ast.Call):
            reader = parents.get(call)
            return isinstance(reader, (ast.For, ast.comprehension)) or _is_read_only(call, reader, parents)
        return above.attr in _PUTS and isinstance(call, ast.Call) and call.func is above
    while isinstance(above, (ast.Tuple, ast.List, ast.Dict, ast.Starred)):
        node, above = above, parents.get(above)
    return _is_read_only(node, above, parents)


def _is_read_only(node: ast.AST, above: ast.AST | None, parents: Mapping[ast.AST, ast.AST]) -> bool:
    if isinstance(above, ast.Call):
        return last_name(above.func) in READS
    if isinstance(above, ast.comprehension):
        return above.iter is node
    if isinstance(above, ast.BinOp):  # `outs = outs + [out]`
        return isinstance(parents.get(above), ast.Assign) and isinstance(above.op, ast.Add)
    return isinstance(above, (ast.Return, ast.Expr, ast.For)) or above is None


def _names_of_joined(node: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> set[str]:
    """The name that what is joined here is bound to."""
    bound = statement_around(node, parents)
    if not isinstance(bound, ast.Assign) or not any(
        isinstance(one, ast.Call) and last_name(one.func) in JOINS for one in ast.walk(bound.value)
    ):
        return set()
    return {one.id for target in bound.targets for one in ast.walk(target) if isinstance(one, ast.Name)}
