"""Loops and attempts that need more memory than they must, written so that they need less."""

from __future__ import annotations

import ast

from nb_oomhelper.source.source_text import Edit, SourceText
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
