"""What a dict remembers by key on a device: remembered in host memory, and brought back where it is looked up."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from nb_oomhelper.source.collecting import is_keeper, put_behind
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import changes_of, last_name, pairs, parents_of, walk

_LOOKS = frozenset({"clear", "keys"})


def remember_on_host(text: SourceText, body: list[ast.stmt], keeper: str, *, graph: bool = False) -> list[Edit]:
    """Write `cache[key] = f(x).cpu()`, and `cache[key].cuda()` wherever that is looked up.

    Args:
        text: The source.
        body: All statements that deal with the dict.
        keeper: The dict, as the user would write it.
        graph: What is remembered has a graph.

    Returns:
        The edits; none where anything else is done with it.
    """
    parents = parents_of(walk(body))
    edits: list[Edit] = []
    puts = 0
    for node in walk(body):
        if not isinstance(node, (ast.Name, ast.Attribute)) or not is_keeper(node, keeper):
            continue
        above = parents.get(node)
        if isinstance(above, ast.Subscript) and above.value is node and not isinstance(above.slice, ast.Slice):
            if isinstance(above.ctx, ast.Load):
                if _is_changed(body, above, parents):
                    return []
                edits += put_behind(text, above, ".cuda()")
                continue
            stored = parents.get(above)
            if not isinstance(stored, ast.Assign) or len(stored.targets) != 1 or stored.targets[0] is not above:
                return []
            edits += put_behind(text, stored.value, ".detach().cpu()" if graph else ".cpu()")
            puts += 1
        elif not _only_looks(node, above, parents):
            return []
    return edits if puts else []


def _is_changed(body: list[ast.stmt], looked_up: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether what was looked up is changed: the next who looks it up would have to find that."""
    above = parents.get(looked_up)
    if isinstance(above, ast.Attribute):
        return above.attr.endswith("_")
    names = [to.id for to, value in pairs(above) if value is looked_up and isinstance(to, ast.Name)] if above else []
    return any(changes_of(body, name) for name in names)


def only_looked_at(body: list[ast.stmt], keeper: str) -> bool:
    """Tell whether code does nothing with what a dict remembers: it counts it, asks for keys, empties it.

    Args:
        body: The statements to look in.
        keeper: The dict.
    """
    parents = parents_of(walk(body))
    found = [one for one in walk(body) if isinstance(one, (ast.Name, ast.Attribute)) and is_keeper(one, keeper)]
    return all(_only_looks(one, parents.get(one), parents) for one in found)


def _only_looks(node: ast.expr, above: ast.AST | None, parents: Mapping[ast.AST, ast.AST]) -> bool:
    if isinstance(node.ctx, ast.Store):  # type: ignore[attr-defined]
        value = above.value if isinstance(above, (ast.Assign, ast.AnnAssign)) else None
        empty = isinstance(value, ast.Call) and last_name(value.func) in ("dict", "OrderedDict") and not value.args
        return empty or (isinstance(value, ast.Dict) and not value.keys)
    if isinstance(above, ast.Compare):
        return all(isinstance(one, (ast.In, ast.NotIn)) for one in above.ops) and node in above.comparators
    if isinstance(above, ast.Call):
        return last_name(above.func) in ("len", "list", "sorted") and node in above.args
    if isinstance(above, ast.Attribute):
        return above.attr in _LOOKS and isinstance(parents.get(above), ast.Call)
    return False
