"""An array that a loop makes anew, a little larger, with every step, written so that it grows where it is."""

from __future__ import annotations

import ast

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_at, is_name, last_name, names_in, pairs, walk

_EMPTY = frozenset({"array", "empty", "zeros"})


def grow_in_place(text: SourceText, body: list[ast.stmt], line: int) -> list[Edit]:
    """Write `x = np.append(x, new)` in a loop so that `x` is made larger, and not copied.

    Args:
        text: The source.
        body: The statements to look in.
        line: Where they failed.
    """
    for at, loop in enumerate(body):
        if not isinstance(loop, (ast.For, ast.While)) or not is_at(loop, line):
            continue
        for node in loop.body:
            found = _grown(node) if is_at(node, line) else None
            if found is None:
                continue
            name, new = found
            others = [one for one in walk([loop]) if isinstance(one, ast.Name) and one.id == name]
            made = [one for one in body[:at] if any(is_name(target, name) for target, _ in pairs(one))]
            between = [node for node in body[body.index(made[-1]) + 1 : at] if name in names_in(node)] if made else []
            if len(others) == 2 and made and not between and _is_empty(made[-1]):  # nobody else looks at it meanwhile
                return _written(text, node, name, new)
    return []


def _grown(node: ast.stmt) -> tuple[str, ast.expr] | None:
    """The array, and what is added: of `np.append(x, new)`, `np.concatenate([x, new])`, `np.hstack((x, new))`."""
    target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
    call = node.value if isinstance(node, ast.Assign) else None
    if not isinstance(target, ast.Name) or not isinstance(call, ast.Call) or call.keywords:
        return None
    name, given = last_name(call.func), call.args
    if name in ("concatenate", "hstack") and len(given) == 1 and isinstance(given[0], (ast.List, ast.Tuple)):
        given = given[0].elts
    elif name != "append":
        return None
    if (
        ast.unparse(call.func).partition(".")[0] not in ("np", "numpy")
        or len(given) != 2
        or not is_name(given[0], target.id)
    ):
        return None
    return target.id, given[1]


def _is_empty(node: ast.stmt) -> bool:
    """Whether it makes an array of one axis, of float64 and of no elements."""
    call = getattr(node, "value", None)
    if not isinstance(call, ast.Call) or call.keywords or last_name(call.func) not in _EMPTY or len(call.args) != 1:
        return False
    return ast.unparse(call.args[0]) in (("[]",) if last_name(call.func) == "array" else ("0", "(0,)"))


def _written(text: SourceText, node: ast.stmt, name: str, new: ast.expr) -> list[Edit]:
    start, end = text.span(node)
    indent = text.text[text.line_start(start) : start]
    more = f"{name}_more"
    if indent.strip() or more in text.text:
        return []
    lines = [
        f"{more} = numpy.ravel({text.text[slice(*text.span(new))]})",
        f"{name}.resize({name}.size + {more}.size, refcheck=False)",
        f"{name}[{name}.size - {more}.size :] = {more}",
    ]
    return [(start, end, f"\n{indent}".join(lines))]
