"""What the names of pandas' methods tell of what they give."""

from __future__ import annotations

import ast
from collections.abc import Collection

from nb_oomhelper.source.tree import last_name, walk

_MASKS = frozenset(
    {"isin", "between", "notna", "isna", "isnull", "notnull", "contains", "startswith", "endswith", "duplicated"}
    | {"eq", "ne", "lt", "gt", "le", "ge"}
)
_EXPANDS = frozenset(
    {"split", "rsplit", "findall", "extractall", "explode", "merge", "join", "get_dummies", "pivot", "pivot_table"}
    | {"melt", "apply", "crosstab", "tolist", "to_list", "concat", "stack", "unstack"}
)


def is_mask(node: ast.expr, masks: Collection[str]) -> bool:
    """Tell whether code gives what is true or false for each row.

    Args:
        node: The code.
        masks: Names of what is.
    """
    if isinstance(node, ast.Name):
        return node.id in masks
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Invert) and is_mask(node.operand, masks)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, (ast.BitAnd, ast.BitOr)) and is_mask(node.left, masks) and is_mask(node.right, masks)
    return isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and last_name(node.func) in _MASKS)


def makes_more(body: Collection[ast.stmt]) -> bool:
    """Tell whether code makes more of rows than there is in them, as far as its methods' names tell."""
    return any(isinstance(one, ast.Call) and last_name(one.func) in _EXPANDS for one in walk(body))
