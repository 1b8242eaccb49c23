"""Sums of losses that go backward once, written so that each part of one goes backward, where its graph ends."""

from __future__ import annotations

import ast
from collections.abc import Collection

from nb_oomhelper.source.disk_puts import changes_any
from nb_oomhelper.source.flows import numbers_in
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.steps import shares_graph
from nb_oomhelper.source.text_edits import with_edits
from nb_oomhelper.source.tree import blocks_of, is_name, last_name, names_bound, names_in, pairs, walk


def backward_each(text: SourceText, body: list[ast.stmt], name: str, graphs: Collection[str] = ()) -> list[Edit]:
    """Go backward with each part of a sum of losses, where its graph ends, in place of once with the whole sum.

    Args:
        text: The source.
        body: The statements to look in.
        name: The sum.
        graphs: What is known to have a graph, by path: the parts must not share one.
    """
    for block in blocks_of(body):
        for at, loop in enumerate(block):
            if not isinstance(loop, (ast.For, ast.While)):
                continue
            again = any(isinstance(one, ast.stmt) and _is_backward(one, name) for one in walk(block[at + 1 :]))
            inside = None if again or shares_graph([loop], graphs, name) else _in_turns(loop, block[:at], name)
            if inside is not None:
                return _sent_back(text, *inside, name, [])
            if (added := _added(loop.body, name)) is not None:
                rest = block[at + 1 :]
                calls = [one for one in rest if _is_backward(one, name)]
                between = rest[: rest.index(calls[0])] if calls else []
                if len(calls) != 1 or any(names_in(one) & {name} for one in between) or _trains(loop.body):
                    return []
                first = [one for one in between if _is_zeroing(one)]  # gradients come with the loop then
                if _trains([one for one in between if one not in first]) or shares_graph([loop], graphs, name):
                    return []
                if first and any(names_in(one) & _stored(loop) for one in first):
                    return []
                moved, before = [loop, *between], block[:at]
                if not _is_fixed(calls[0], moved, before, graphs) or not _begins_as_number(before, name):
                    return []
                return _sent_back(text, added, calls[0], name, _moved_up(text, loop, first))
    return []


def _added(body: list[ast.stmt], name: str) -> tuple[ast.stmt, ast.expr] | None:
    """The one statement that adds to the sum, with what it adds; None where the sum is used beside it."""
    using = [one for one in body if names_in(one) & {name}]
    if len(using) != 1:
        return None
    node = using[0]
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and is_name(node.target, name):
        return node, node.value
    for target, value in pairs(node):
        if (
            is_name(target, name)
            and isinstance(value, ast.BinOp)
            and isinstance(value.op, ast.Add)
            and is_name(value.left, name)
        ):
            return node, value.right
    return None


def _in_turns(
    loop: ast.For | ast.While, before: list[ast.stmt], name: str
) -> tuple[tuple[ast.stmt, ast.expr], ast.stmt] | None:
    """What adds to a sum in a loop, and what goes backward with it there every so many steps: `if i % 4 == 0:`."""
    using = [one for one in loop.body if names_in(one) & {name}]
    added = _added(using[:1], name)
    turn = using[1] if len(using) == 2 else None
    if added is None or not isinstance(turn, ast.If) or turn.orelse or names_in(turn.test) & {name}:
        return None
    calls = [one for one in turn.body if _is_backward(one, name) and names_in(one) == {name}]
    begins = [one for one in turn.body if any(is_name(target, name) for target, _ in pairs(one))]
    starts = any(is_name(target, name) for one in before for target, _ in pairs(one))
    if len(calls) != 1 or not begins or (starts and not any(map(_is_zeroing, before))):  # gradients would go on
        return None
    if _trains(turn.body[: turn.body.index(calls[0])]):  # what the parts have given would be lost
        return None
    return None if _trains([one for one in loop.body if one is not turn]) else (added, calls[0])


def _is_zeroing(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and last_name(call.func) == "zero_grad" and isinstance(call.func, ast.Attribute)


def _stored(loop: ast.stmt) -> set[str]:
    return {one.id for one in ast.walk(loop) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _moved_up(text: SourceText, loop: ast.stmt, nodes: list[ast.stmt]) -> list[Edit] | None:
    """Lines put before a loop; None where one of them has more than a statement."""
    place = text.line_start(text.span(loop)[0])
    edits: list[Edit] = []
    for node in nodes:
        line, end = text.line_start(text.span(node)[0]), text.line_end(text.span(node)[1])
        whole = text.text[line:end]
        if whole.strip() != text.text[slice(*text.span(node))]:
            return None
        edits.append((line, min(end + 1, len(text.text)), ""))
    lines = "".join(f"{text.text[start:end].rstrip()}\n" for start, end, _ in edits)
    return [(place, place, lines), *edits] if edits else []


def _sent_back(
    text: SourceText, added: tuple[ast.stmt, ast.expr], call: ast.stmt, name: str, more: list[Edit] | None
) -> list[Edit]:
    statement, value = added
    start, end = text.span(statement)
    line = text.line_start(start)
    indent = text.text[line:start]
    call_line, call_end = text.line_start(text.span(call)[0]), text.line_end(text.span(call)[1])
    alone = not indent.strip() and text.text[call_line:call_end].strip() == text.text[slice(*text.span(call))]
    part = f"{name}_part"
    if not alone or part in text.text or "\n" in text.text[start:end] or more is None:
        return []
    written = text.text[slice(*text.span(value))]
    places = [text.span(one) for one in walk([call]) if isinstance(one, ast.Name) and one.id == name]
    sent = with_edits(text, call, [(*place, part) for place in places])
    new = f"{part} = {written}\n{indent}{sent}\n{indent}{name} = {name} + {part}.detach()"
    return [*more, (start, end, new), (call_line, min(call_end + 1, len(text.text)), "")]


def _is_backward(node: ast.stmt, name: str) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or call.args or call.keywords or not isinstance(call.func, ast.Attribute):
        return False
    what = call.func.value
    if isinstance(what, ast.BinOp) and isinstance(what.op, (ast.Div, ast.Mult)) and name not in names_in(what.right):
        what = what.left  # `(loss / 16).backward()`
    return call.func.attr == "backward" and is_name(what, name)


def _is_fixed(call: ast.stmt, moved: list[ast.stmt], before: list[ast.stmt], graphs: Collection[str]) -> bool:
    """Whether what scales a sum is the same number before the loop: `(loss / 16).backward()`, `(loss / len(tasks))`."""
    owner = call.value.func.value  # type: ignore[attr-defined]
    scale = owner.right if isinstance(owner, ast.BinOp) else ast.Constant(1)
    names = names_in(scale) - {"len"}
    calls = [one for one in ast.walk(scale) if isinstance(one, ast.Call)]
    if any(ast.unparse(one.func) != "len" for one in calls) or names & ({*graphs} | names_bound(moved)):
        return False
    made = names & names_bound(before)
    return made <= numbers_in(before) and not changes_any(names, moved, lambda _: None)


def _begins_as_number(before: list[ast.stmt], name: str) -> bool:
    """Whether a sum has nothing in it at first that one could go backward through."""
    values = [value for node in before for target, value in pairs(node) if is_name(target, name)]
    plain = ("zeros", "zeros_like", "new_zeros", "tensor", "float", "int")
    return all(isinstance(one, ast.Constant) or last_name(getattr(one, "func", one)) in plain for one in values[-1:])


def _trains(body: list[ast.stmt]) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in ("backward", "step", "zero_grad", "grad")
        for node in walk(body)
    )
