"""What code writes into arrays whose rows are computed when they are read, and into what they are computed from."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence

from nb_oomhelper.source.in_place import FUNCTIONS, METHODS
from nb_oomhelper.source.tree import changes_of, is_name, last_name, names_in, root_name, walk

_QUIET = frozenset({"print", "display"})
_KEEPING = frozenset({"append", "extend"})
_CALLED_ON = frozenset({"enumerate", "zip"})


def is_changed(body: Sequence[ast.stmt], names: Collection[str]) -> bool:
    """Tell whether code writes into arrays in another way than by a mask: `x[x < 0] = 0`, or on the diagonal.

    Args:
        body: The code after they were made.
        names: Their names.
    """
    masked = {one.targets[0] for one in walk(body) if isinstance(one, ast.Assign) and _is_masked(one, names)}
    stored = [one for one in walk(body) if isinstance(one, ast.Subscript) and not isinstance(one.ctx, ast.Load)]
    return any(root_name(one) in names and one not in masked for one in stored) or _is_sorted(body, names)


def is_disturbed(body: Sequence[ast.stmt], names: Collection[str]) -> bool:
    """Tell whether code may write into what rows are computed from: itself, or a function that gives nothing back.

    Args:
        body: The code after they were made.
        names: The names of what they are computed from.
    """
    stored = [one for one in walk(body) if isinstance(one, ast.Subscript) and isinstance(one.ctx, ast.Store)]
    if any(root_name(one) in names for one in stored) or _is_sorted(body, names):
        return True
    if any(changes_of(body, name) for name in names):
        return True
    out = [one.value for one in walk(body) if isinstance(one, ast.keyword) and one.arg == "out"]
    return any(names_in(one) & {*names} for one in (*out, *_given_away(body)))


def views_of(body: Sequence[ast.stmt], names: Collection[str]) -> list[ast.expr]:
    """Give where names are bound to rows, and to other parts, of arrays.

    Args:
        body: The code after they were made.
        names: Their names.
    """
    bound = [one for one in walk(body) if isinstance(one, ast.Assign) and isinstance(one.value, ast.Subscript)]
    found = [target for one in bound if root_name(one.value) in names for target in one.targets]
    for loop in walk(body):
        if isinstance(loop, ast.For):
            called = isinstance(loop.iter, ast.Call) and last_name(loop.iter.func) in _CALLED_ON
            parts = loop.iter.args if called else [loop.iter]  # type: ignore[attr-defined]
            found += [loop.target] if any(root_name(one) in names for one in parts) else []
    return found


def is_written_after(body: Sequence[ast.stmt], names: Collection[str], views: Sequence[ast.expr]) -> bool:
    """Tell whether arrays are changed, as a whole or by a mask, after parts of them have got names.

    Args:
        body: The code after they were made.
        names: Their names.
        views: Where the parts get them.
    """
    calls = [one for one in walk(body) if isinstance(one, ast.Call) and last_name(one.func) == "fill_diagonal"]
    written = [one for one in calls if any(is_name(one.args[0], name) for name in names)]
    written += [one for name in names for one in changes_of(body, name)]  # type: ignore[misc]
    loops = [{*ast.walk(one)} for one in walk(body) if isinstance(one, (ast.For, ast.While))]
    return any(
        one.lineno > view.lineno or any(one in loop and view in loop for loop in loops)
        for one in written
        for view in views
    )


def _is_masked(node: ast.Assign, names: Collection[str]) -> bool:
    target = node.targets[0]
    if len(node.targets) > 1 or not isinstance(target, ast.Subscript) or not isinstance(target.value, ast.Name):
        return False
    mask, value = target.slice, node.value
    if isinstance(mask, ast.UnaryOp) and isinstance(mask.op, ast.Invert):
        mask = mask.operand
    value = value.operand if isinstance(value, ast.UnaryOp) else value
    return (
        isinstance(mask, ast.Compare)
        and target.value.id in names_in(mask) & {*names}
        and isinstance(value, (ast.Constant, ast.Attribute))
    )


def _is_sorted(body: Sequence[ast.stmt], names: Collection[str]) -> bool:
    """Whether a method is called that changes what it is of."""
    calls = [one.value for one in walk(body) if isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)]
    methods = [one.func for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr in METHODS]
    return any(root_name(one.value) in names for one in methods)


def _given_away(body: Sequence[ast.stmt]) -> Iterator[ast.expr]:
    """What functions get of which nothing comes back; methods of objects seldom write into what they get."""
    for one in walk(body):
        call = one.value if isinstance(one, ast.Expr) else None
        if isinstance(call, ast.Call):
            name = last_name(call.func) or ""
            if name in FUNCTIONS | _KEEPING or (is_name(call.func, name) and name not in _QUIET):
                yield from (given for given in call.args if isinstance(given, ast.Name))
