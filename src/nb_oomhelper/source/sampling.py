"""A part in place of all: some rows of the data that a cell reads, or the newest of what it collects.

What comes out is another then, so this is the last that is thought of; but the cell runs, and one sees what it does.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping

from nb_oomhelper.source.collecting import is_keeper
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import last_name, parents_of, walk

_CHANGES = frozenset(
    {"append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "fill", "resize", "setflags", "put"}
    | {"update", "set_index", "drop", "rename", "itemset"}
)
_TEXTS = ("JoinedStr", "TemplateStr")  # before Python 3.12 nobody says where something within them stands
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Global)
_LOOKS = frozenset({"len", "print", "choice", "randrange", "id", "type"})


def take_rows(
    text: SourceText, counts: Mapping[str, int | None], step: int, frames: Collection[str] = ()
) -> list[Edit]:
    """Let a cell read one row in so many of some names: `linkage(X)` becomes `linkage(X[::8])`.

    Args:
        text: The cell.
        counts: The names; of a text with its length, as its beginning is taken.
        step: Of how many rows one is taken.
        frames: Names of tables: `df[columns]` picks no rows.

    Returns:
        The places that change; none where the cell binds or changes one of the names, or picks single rows.
    """
    nodes = list(_outside_texts(text.tree))
    parents, own = parents_of(nodes), set[str]()
    for node in nodes:
        if isinstance(node, _SCOPES) and any(isinstance(one, ast.Name) and one.id in counts for one in ast.walk(node)):
            return []
    edits = []
    for node in nodes:
        if not isinstance(node, ast.Name) or node.id not in counts:
            continue
        if (
            not isinstance(node.ctx, ast.Load)
            or _is_changed(node, parents)
            or _is_picked(node, parents, counts, frames)
        ):
            return []
        own.add(node.id)
        length = counts[node.id]
        end = text.span(node)[1]
        edits.append((end, end, f"[::{step}]" if length is None else f"[:{length // step}]"))
    return edits if own == set(counts) else []


def _outside_texts(tree: ast.AST) -> Iterator[ast.AST]:
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if type(node).__name__ not in _TEXTS:
            todo.extend(ast.iter_child_nodes(node))


def _is_changed(node: ast.Name, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """`X[0] = 1`, `X.sort()`, `df.drop(…, inplace=True)`: of a part it would be lost."""
    inner: ast.AST = node
    while isinstance(above := parents.get(inner), (ast.Attribute, ast.Subscript)) and above.value is inner:
        if not isinstance(above.ctx, ast.Load):
            return True
        call = parents.get(above)
        called = isinstance(above, ast.Attribute) and isinstance(call, ast.Call) and call.func is above
        if called and (above.attr in _CHANGES or above.attr.endswith("_")):  # type: ignore[union-attr]
            return True
        inner = above
    return False


def _is_picked(
    node: ast.Name, parents: Mapping[ast.AST, ast.AST], counts: Mapping[str, int | None], frames: Collection[str]
) -> bool:
    """`X[i]`: there may be no such row in a part. A mask must be made of what is taken, too."""
    above = parents.get(node)
    if not isinstance(above, ast.Subscript) or above.value is not node:
        return False
    index = above.slice
    index = index.elts[0] if isinstance(index, ast.Tuple) and index.elts else index
    if isinstance(index, ast.Constant):
        return type(index.value) is int
    if isinstance(index, (ast.Slice, ast.List)) or (node.id in frames and isinstance(index, ast.Name)):
        return False
    return not any(isinstance(one, ast.Name) and one.id in counts for one in ast.walk(index))


def keep_newest(text: SourceText, body: list[ast.stmt], keeper: str, count: int) -> list[Edit]:
    """Let a list that a loop fills have its newest items only: `kept.append(x)`, and then `del kept[:-8]`.

    Args:
        text: The source.
        body: The statements to look in.
        keeper: What is filled, as the user would write it.
        count: How many items stay.

    Returns:
        The places that change; none where one cannot be changed, or in a loop that would then go on for ever.
    """
    edits = []
    endless = [one for one in walk(body) if isinstance(one, ast.While) and isinstance(one.test, ast.Constant)]
    for node in walk(body):
        call = node.value if isinstance(node, ast.Expr) else None
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "append"):
            continue
        if any(node in ast.walk(loop) for loop in endless):
            return []
        if is_keeper(call.func.value, keeper) and isinstance(node, ast.Expr):
            start, end = text.span(node)
            indent, line_end = text.text[text.line_start(start) : start], text.line_end(end)
            if indent.strip() or text.text[end:line_end].partition("#")[0].strip():
                return []
            edits.append((line_end, line_end, f"\n{indent}del {ast.unparse(call.func.value)}[:-{count}]"))
    return edits


def wants_all(body: list[ast.stmt], keeper: str) -> bool:
    """Tell whether code reads what is kept other than by its length, its newest item, or one at random.

    Args:
        body: The code.
        keeper: As of `keep_newest`.
    """
    nodes = list(walk(body))
    parents = parents_of(nodes)
    for node in nodes:
        if not is_keeper(node, keeper) or not isinstance(getattr(node, "ctx", None), ast.Load):
            continue
        above = parents.get(node)
        if isinstance(above, ast.Attribute) and above.attr == "append":
            continue
        if isinstance(above, ast.Call) and last_name(above.func) in _LOOKS:
            continue
        if isinstance(above, ast.Subscript) and ast.unparse(above.slice) == "-1":
            continue
        return True
    return False
