"""What becomes of an array that is a view of another, as far as can be read: what copies it, what writes into it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from nb_oomhelper.source.tree import is_path, last_name, names_in, nodes_above, pairs, parents_of, walk

_TOLD = frozenset({"shape", "ndim", "dtype", "size", "nbytes", "itemsize", "device", "dim"})
_TOLD |= {"append", "extend", "clear"}  # of the list that had its name before
_REDUCE = frozenset({"mean", "sum", "min", "max", "any", "all", "item", "numel", "stride"})
_SEEN = frozenset({"len", "type", "id", "isinstance", "print", "display", "enumerate", "TensorDataset", "DataLoader"})
_VIEWS = frozenset(
    {"T", "transpose", "swapaxes", "moveaxis", "squeeze", "expand_dims", "unsqueeze", "permute", "movedim", "view"}
    | {"from_numpy"}
)
_WRITE = frozenset(
    {"fill", "sort", "partition", "put", "itemset", "resize", "shuffle", "copyto", "place", "putmask", "byteswap"}
    | {"setflags", "nan_to_num_"}
)
_FORMS = frozenset({"reshape"})
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_REPEATS = (*_LOOPS, ast.ListComp, ast.GeneratorExp)


@dataclass(slots=True)
class Uses:
    """What becomes of it.

    Attributes:
        written: Something writes into it.
        copied: Something may copy the whole.
        returned: It comes out: as which of several values, or None as the only one.
        attributes: Names of attributes that stand for it, too.
    """

    written: bool = False
    copied: bool = False
    returned: set[int | None] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)


def uses_of(
    body: list[ast.stmt],
    begins: ast.expr | None = None,
    *,
    part: int | None = None,
    names: Collection[str] = (),
    line: int = 0,
    writes: Callable[[str], bool] = lambda _: False,
) -> Uses:
    """Follow what an expression gives, or what names stand for, through some statements.

    Args:
        body: The statements.
        begins: The expression, which gives it; or None.
        part: As which of several values it gives it; None as the only one.
        names: Names, or names of attributes with a dot before, that stand for it.
        line: From which line on they are read.
        writes: Whether a function of some name may write into what it is given.
    """
    follower = _Follower(body, writes)
    if begins is not None:
        follower.from_call(begins, part)
    for name in names:
        follower.add(name, line)
    follower.run()
    return follower.uses


def line_behind(body: list[ast.stmt], node: ast.expr) -> int:
    """Give the line from which on code runs after an expression: of loops around it the whole runs again.

    Args:
        body: The statements.
        node: The expression, which is in one of them.
    """
    parents = parents_of(walk(body))
    above = [one for one in nodes_above(node, parents) if isinstance(one, ast.stmt)]
    return _line_behind(above)


def _line_behind(above: list[ast.stmt]) -> int:
    loops = [one for one in above if isinstance(one, _LOOPS)]
    return loops[-1].lineno if loops else (above[0].end_lineno or 0) + 1 if above else 0


class _Follower:
    """Goes from one name that stands for it to the next."""

    def __init__(self, body: list[ast.stmt], writes: Callable[[str], bool]) -> None:
        self.uses = Uses()
        self._nodes = list(walk(body))
        self._parents = parents_of(self._nodes)
        self._writes = writes
        self._todo: list[tuple[str, int]] = []
        self._met: set[str] = set()

    def add(self, name: str, line: int) -> None:
        """Note a name that stands for it from a line on."""
        if name not in self._met:
            self._met.add(name)
            self._todo.append((name, line))

    def run(self) -> None:
        """Look at all that reads the names."""
        while self._todo:
            name, line = self._todo.pop()
            for node in self._nodes:
                if isinstance(node, (ast.Name, ast.Attribute)) and _named(node) == name and node.lineno >= line:
                    if isinstance(node.ctx, ast.Load):
                        self._climb(node)
                    elif isinstance(self._parents.get(node), ast.AugAssign):
                        self.uses.written = True

    def from_call(self, node: ast.expr, part: int | None) -> None:
        """Begin with what a call gives, as one of several values."""
        above = self._parents.get(node)
        if part is not None and isinstance(above, ast.Assign) and isinstance(above.targets[0], (ast.Tuple, ast.List)):
            targets = above.targets[0].elts
            starred = any(isinstance(one, ast.Starred) for one in targets)
            if part < len(targets) and len(above.targets) == 1 and not starred:
                self._bind(targets[part], above)
                return
        self._climb(node)

    def _bind(self, target: ast.expr, statement: ast.stmt) -> None:
        above = [one for one in nodes_above(statement, self._parents) if isinstance(one, ast.stmt)]
        line = _line_behind([statement, *above])
        if isinstance(target, ast.Name):
            self.add(target.id, line)
        elif isinstance(target, ast.Attribute):
            self.uses.attributes.add(target.attr)
            self.add(f".{target.attr}", line)
        else:
            self.uses.copied = True

    def _climb(self, node: ast.expr) -> None:
        """Look at what an expression that gives it is a part of."""
        above = self._parents.get(node)
        if isinstance(above, ast.Attribute):
            self._attribute(above)
        elif isinstance(above, ast.Subscript) and above.value is node:
            self._item(above)
        elif isinstance(above, ast.keyword):
            self.uses.written |= above.arg == "out"
            self._given(self._parents[above], node)
        elif isinstance(above, ast.Call):
            self._given(above, node)
        elif isinstance(above, (ast.Assign, ast.AnnAssign)):
            for target in above.targets if isinstance(above, ast.Assign) else [above.target]:
                self._bind(target, above)
        elif isinstance(above, (ast.Tuple, ast.List)):
            self._among(above, node)
        elif isinstance(above, ast.Return):
            self.uses.returned.add(None)
        elif not isinstance(above, (ast.Expr, ast.FormattedValue, ast.For, ast.Delete)):
            self.uses.copied = True

    def _attribute(self, node: ast.Attribute) -> None:
        call = self._parents.get(node)
        called = isinstance(call, ast.Call) and call.func is node
        if node.attr in _TOLD | _REDUCE:
            return
        if node.attr in _WRITE or (called and node.attr.endswith("_") and not node.attr.endswith("__")):
            self.uses.written = True
        elif node.attr in _VIEWS and not called:
            self._climb(node)
        elif isinstance(call, ast.Call) and called and _gives_view(node.attr, call.args):
            self._climb(call)
        else:
            self.uses.copied = True

    def _item(self, node: ast.Subscript) -> None:
        axes = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if not isinstance(node.ctx, ast.Load):
            self.uses.written = True
        elif names_in(axes[0]) & self._counted(node):  # one after another of its parts
            copied = self.uses.copied
            self._climb(node)
            self.uses.copied = copied
        elif all(isinstance(one, (ast.Slice, ast.Constant)) or _is_number(one) for one in axes):
            self._climb(node)
        else:
            self.uses.copied = True

    def _counted(self, node: ast.expr) -> set[str]:
        """The names that loops around an expression count, or go through."""
        loops = [one for one in nodes_above(node, self._parents) if isinstance(one, _REPEATS)]
        inner = [part for one in loops for part in getattr(one, "generators", [one])]
        return {name for one in inner if not isinstance(one, ast.While) for name in names_in(one.target)}

    def _given(self, call: ast.AST, node: ast.expr) -> None:
        """What a function gets it."""
        name = (last_name(call.func) if isinstance(call, ast.Call) else None) or ""
        first = isinstance(call, ast.Call) and call.args[:1] == [node]
        if first and name in _WRITE:
            self.uses.written = True
        elif first and isinstance(call, ast.Call) and _gives_view(name, call.args[1:]):
            self._climb(call)
        elif name not in _SEEN and name not in _REDUCE:
            self.uses.copied = True
            self.uses.written |= self._writes(name)

    def _among(self, node: ast.Tuple | ast.List, one: ast.expr) -> None:
        """One of several values."""
        above = self._parents.get(node)
        if isinstance(above, ast.Return):
            self.uses.returned.add(node.elts.index(one))
            return
        targets = [target for target, value in pairs(above) if value is one] if isinstance(above, ast.stmt) else []
        for target in targets:
            self._bind(target, above)  # type: ignore[arg-type]
        self.uses.copied |= not targets and not isinstance(above, ast.Expr)


def _named(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else f".{node.attr}"


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)


def _gives_view(name: str, args: list[ast.expr]) -> bool:
    """Whether a function or a method gives the same values in another form, and copies none."""
    if name not in _FORMS | {"view"}:
        return name in _VIEWS
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
