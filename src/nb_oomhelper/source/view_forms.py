"""What gives an array's values in another form: as a view of it, or as what may be one."""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence

from nb_oomhelper.source.tree import is_path, last_name, names_bound, names_reached, pairs, walk

FORM = frozenset({"shape", "dtype", "ndim", "size", "nbytes"})
"""What is read of an array of NumPy's without its numbers."""

TOLD = FORM | {"itemsize", "device", "dim"}
TOLD |= {"append", "extend", "clear"}  # of the list that had its name before
"""What tells something of an array, and gives none of its values."""

VIEWS = frozenset(
    {"T", "transpose", "swapaxes", "moveaxis", "squeeze", "expand_dims", "unsqueeze", "permute", "movedim", "view"}
    | {"from_numpy"}
)
"""What gives a view."""

MAY_SHARE = frozenset(
    {"reshape", "ravel", "flatten", "view", "asarray", "asanyarray", "ascontiguousarray", "as_tensor", "contiguous"}
    | {"to_numpy", "numpy", "detach", "cpu", "cuda", "to", "float", "double", "long", "int", "requires_grad_"}
    | {"split", "array_split", "chunk", "unbind", "flat", "data", "real", "values", "loc", "iloc", "at", "iat"}
    | {"atleast_2d", "atleast_3d", "rollaxis"}
)
"""What gives the same values, copied or not: their form alone would tell."""

OF_FRAMES = frozenset({"values", "iloc", "loc", "to_numpy"})
"""Those of pandas' tables, which mostly copy them."""

_MODULES = frozenset({"np", "numpy", "torch"})


def root_shared(node: ast.expr) -> str:
    """Give the name of the array whose memory some code's value may lie in: "x" of `x[2:].reshape(-1)`; "" of none.

    Args:
        node: The code.
    """
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Call):
            if last_name(node.func) not in MAY_SHARE | VIEWS:
                return ""
            method = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) not in _MODULES
            node = node.func if method else next(iter(node.args), ast.Constant(0))
        elif isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr not in TOLD):
            node = node.value
        else:
            return ""
    return node.id


def named_alike(body: Sequence[ast.stmt], names: Collection[str], *, of_frames: bool = False) -> set[str]:
    """Give names, and those that may stand for the same arrays: `data = series`, `flat = data.reshape(-1)`.

    Args:
        body: The statements that bind them.
        names: The names.
        of_frames: An array may be the same as the table that it was taken from, too: `data = table.values`.
    """
    bound = [pair for node in walk(body) for pair in pairs(node, unpacked=True)]
    shared = [(target, value, root) for target, value in bound if (root := root_shared(value))]
    same = [
        {root, *names_bound([target])} for target, value, root in shared if of_frames or not OF_FRAMES & _words(value)
    ]
    return names_reached(names, zip(same, same, strict=True))


def _words(node: ast.expr) -> set[str]:
    return {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def gives_view(name: str, args: list[ast.expr]) -> bool:
    """Whether a function or a method gives the same values in another form, and copies none.

    Args:
        name: Its name.
        args: What it is given beside the array.
    """
    if name not in ("reshape", "view"):
        return name in VIEWS
    sizes = args[0].elts if len(args) == 1 and isinstance(args[0], (ast.Tuple, ast.List)) else args
    told = [ast.unparse(one.slice) for one in sizes if isinstance(one, ast.Subscript)]
    return bool(sizes) and all(_is_axis(one) for one in sizes) and told == sorted(told)


def _is_axis(node: ast.expr) -> bool:
    """`X.shape[1]`, `len(X)`, `1`: the axes that there are, and axes of one."""
    if isinstance(node, ast.Constant):
        return node.value == 1
    if isinstance(node, ast.Call):
        return last_name(node.func) == "len"
    return isinstance(node, ast.Subscript) and is_path(node.value) and ast.unparse(node.value).endswith(".shape")
