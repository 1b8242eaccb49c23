"""Loops and attempts that need more memory than they must, written so that they need less."""

from __future__ import annotations

import ast
from collections.abc import Collection

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.steps import shares_graph
from nb_oomhelper.source.text_edits import with_edits
from nb_oomhelper.source.tree import blocks_of, is_name, last_name, names_in, needs_error, pairs, walk

_KEYED = frozenset({"keys", "names", "levels", None})  # of `concat`: they tell the parts apart


def retry_after(text: SourceText, body: list[ast.stmt], line: int) -> list[Edit]:
    """Move a second attempt out of the `except` in which it stands: until that ends, the error keeps the first one.

    Args:
        text: The source.
        body: The statements to look in.
        line: Where the second attempt failed.
    """
    for node in walk(body):
        if not isinstance(node, ast.Try) or node.finalbody or node.orelse:
            continue
        for handler in node.handlers:
            if handler.body[0].lineno <= line <= (handler.end_lineno or 0):
                return _moved_out(text, node, handler)
    return []


def _moved_out(text: SourceText, node: ast.Try, handler: ast.ExceptHandler) -> list[Edit]:
    needs = [at for at, one in enumerate(handler.body) if names_in(one) & {handler.name} or needs_error(one)]
    moved = handler.body[needs[-1] + 1 if needs else 0 :]
    start, line = text.span(node)[0], text.line_start(text.span(node)[0])
    indent = text.text[line:start]
    if not moved or indent.strip() or not _begins_line(text, moved[0]):
        return []
    if any(isinstance(one, (ast.Constant, ast.JoinedStr)) and one.end_lineno != one.lineno for one in walk(moved)):
        return []  # a text of several lines would change with the space before it
    flag = next(name for name in ("out_of_memory", "ran_out_of_memory", "retry_smaller") if name not in text.text)
    first, last = text.line_start(text.span(moved[0])[0]), text.line_end(text.span(moved[-1])[1])
    inner = text.text[first : text.span(moved[0])[0]]
    lines = text.text[first:last].split("\n")
    if any(one.strip() and not one.startswith(inner) for one in lines):
        return []
    block = "\n".join(f"{indent}    {one.removeprefix(inner)}" if one.strip() else one for one in lines)
    end = text.line_end(text.span(node)[1])
    after = f"\n{indent}if {flag}:\n{block}"
    edits: list[Edit] = [(line, line, f"{indent}{flag} = False\n")]
    if last == end:
        return [*edits, (first, last, f"{inner}{flag} = True{after}")]
    return [*edits, (first, last, f"{inner}{flag} = True"), (end, end, after)]


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
                if any((names_in(one) - {name}) & _stored(loop) for one in [*first, calls[0]]):
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
    calls = [one for one in turn.body if _is_backward(one, name)]
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


def _trains(body: list[ast.stmt]) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in ("backward", "step", "zero_grad", "grad")
        for node in walk(body)
    )


def concat_once(text: SourceText, body: list[ast.stmt]) -> list[Edit]:
    """Collect parts and concatenate once, in place of a larger frame with every step of a loop.

    Args:
        text: The source.
        body: The statements to look in.
    """
    tried = {id(one) for node in walk(body) if isinstance(node, ast.Try) for one in ast.walk(node)}
    for block in blocks_of(body):
        for at, loop in enumerate(block):
            if id(loop) in tried:
                continue  # what has been put together by an error is there behind it
            found = _grown(loop) if isinstance(loop, ast.For) and not loop.orelse else None
            if found is not None:
                return _collected(text, block[:at], loop, *found)
    return []


def _grown(loop: ast.stmt) -> tuple[ast.Assign, ast.Call, ast.expr, str] | None:
    """`df = pd.concat([df, part], …)` in a loop."""
    for node in getattr(loop, "body", ()):
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            continue
        name, call = node.targets[0].id, node.value
        if not (isinstance(call, ast.Call) and last_name(call.func) in ("concat", "concatenate", "vstack")):
            continue
        parts = call.args[0] if len(call.args) == 1 else None
        if {one.arg for one in call.keywords} & _KEYED:
            continue
        if isinstance(parts, (ast.List, ast.Tuple)) and len(parts.elts) == 2 and is_name(parts.elts[0], name):
            return node, call, parts.elts[1], name
    return None


def _collected(
    text: SourceText,
    before: list[ast.stmt],
    loop: ast.stmt,
    node: ast.Assign,
    call: ast.Call,
    part: ast.expr,
    name: str,
) -> list[Edit]:
    start, end = text.span(loop)
    indent = text.text[text.line_start(start) : start]
    others = [one for one in walk([loop]) if is_name(one, name)]
    kept = _kept_versions(loop, name)
    empty = [one for one in before if any(is_name(target, name) for target, _ in pairs(one))]
    if len(others) != 2 + len(kept) or not empty or not _is_empty(empty[-1]) or indent.strip():
        return []
    outer = [one for node in walk([loop]) if isinstance(node, (ast.Global, ast.Nonlocal)) for one in node.names]
    if name in outer or any(isinstance(one, (ast.Yield, ast.YieldFrom, ast.Await)) for one in walk([loop])):
        return []
    parts = next(one for one in (f"{name}_parts", f"all_{name}_parts") if one not in text.text)
    list_start, list_end = text.span(call.args[0])
    whole = text.text[text.span(call)[0] : list_start] + parts + text.text[list_end : text.span(call)[1]]
    edits: list[Edit] = [
        (text.line_start(start), text.line_start(start), f"{indent}{parts} = [{name}]\n"),
        (*text.span(node), f"{parts}.append({text.text[slice(*text.span(part))]})"),
        (text.line_end(end), text.line_end(end), f"\n{indent}{name} = {whole}"),
    ]
    for one in kept:
        line, last = text.line_start(text.span(one)[0]), text.line_end(text.span(one)[1])
        edits.append((line - 1, last, ""))  # with the line break before it: something is written behind the last one
    return edits


def _kept_versions(loop: ast.stmt, name: str) -> list[ast.stmt]:
    """`versions.append(df)`: every version of the frame is kept."""
    found = []
    for one in getattr(loop, "body", ()):
        call = one.value if isinstance(one, ast.Expr) else None
        appends = isinstance(call, ast.Call) and last_name(call.func) == "append"
        if isinstance(call, ast.Call) and appends and len(call.args) == 1 and is_name(call.args[0], name):
            found.append(one)
    return found


def clear_each(text: SourceText, loop: ast.stmt, path: str) -> list[Edit]:
    """Empty a container at the end of each step of a loop.

    Args:
        text: The source.
        loop: The loop.
        path: What is emptied, as the user would write it.
    """
    if not isinstance(loop, (ast.For, ast.While)) or loop.lineno == loop.body[0].lineno:
        return []
    if any(isinstance(one, (ast.Continue, ast.Break)) for one in walk(loop.body)):
        return []
    first, last = text.span(loop.body[0])[0], text.span(loop.body[-1])[1]
    indent, end = text.text[text.line_start(first) : first], text.line_end(last)
    return [] if indent.strip() else [(end, end, f"\n{indent}{path}.clear()")]


def reads_only_last(body: list[ast.stmt], name: str) -> bool:
    """Tell whether code looks at nothing but the newest item of an attribute that collects: `self.kept[-1]`.

    Args:
        body: The code.
        name: The attribute.
    """
    fine: set[int] = set()
    for node in walk(body):
        if isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "-1":
            fine.add(id(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            fine |= {id(node.func.value)} if node.func.attr in ("append", "clear") else set()
    reads = [node for node in walk(body) if isinstance(node, ast.Attribute) and node.attr == name]
    return all(isinstance(node.ctx, ast.Store) or id(node) in fine for node in reads)


def _is_empty(node: ast.stmt) -> bool:
    value = getattr(node, "value", None)
    return isinstance(value, ast.Call) and last_name(value.func) == "DataFrame" and not (value.args or value.keywords)


def _begins_line(text: SourceText, node: ast.stmt) -> bool:
    start = text.span(node)[0]
    return not text.text[text.line_start(start) : start].strip()
