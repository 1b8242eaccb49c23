"""What becomes of an array that is a view of another, as far as can be read: what copies it, what writes into it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from nb_oomhelper.source.in_place import FUNCTIONS, METHODS, is_in_place
from nb_oomhelper.source.tree import (
    LOOPS,
    arguments,
    last_name,
    names_bound,
    names_in,
    nodes_above,
    pairs,
    parents_of,
    walk,
)
from nb_oomhelper.source.view_forms import MAY_SHARE, TOLD, VIEWS, gives_view, root_shared

_REDUCE = frozenset({"mean", "sum", "min", "max", "any", "all", "item", "numel", "stride"})
_SEEN = frozenset({"len", "type", "id", "isinstance", "print", "display", "TensorDataset", "DataLoader"})
_WRITE = METHODS | FUNCTIONS | {"nan_to_num_"}
_SHARED_LOOPS = frozenset({"enumerate", "zip", "tqdm"})
_OUT_AT = {"add": 2, "subtract": 2, "multiply": 2, "divide": 2, "true_divide": 2, "floor_divide": 2, "power": 2}
_OUT_AT |= {"maximum": 2, "minimum": 2, "sqrt": 1, "exp": 1, "log": 1, "abs": 1, "negative": 1, "square": 1, "clip": 3}
_REPEATS = (*LOOPS, ast.ListComp, ast.GeneratorExp)


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


class Code:
    """Some statements, read once, in which arrays are followed."""

    def __init__(self, body: list[ast.stmt], writes: Callable[[str], bool] = lambda _: False) -> None:
        """Read them.

        Args:
            body: The statements.
            writes: Whether a function of some name may write into what it is given.
        """
        self.nodes, self.writes = list(walk(body)), writes
        self.parents = parents_of(self.nodes)

    def uses_of(
        self, begins: ast.expr | None = None, *, part: int | None = None, names: Collection[str] = (), line: int = 0
    ) -> Uses:
        """Follow what an expression gives, or what names stand for.

        Args:
            begins: The expression, which gives it; or None.
            part: As which of several values it gives it; None as the only one.
            names: Names, or names of attributes with a dot before, that stand for it.
            line: From which line on they are read.
        """
        follower = _Follower(self)
        if begins is not None:
            follower.from_call(begins, part)
        for name in names:
            follower.add(name, line)
        follower.run()
        return follower.uses

    def line_behind(self, node: ast.expr) -> int:
        """Give the line from which on code runs after an expression: of loops around it the whole runs again.

        Args:
            node: The expression, which is in one of them.
        """
        return _line_behind([one for one in nodes_above(node, self.parents) if isinstance(one, ast.stmt)])

    def is_refilled(self, node: ast.expr, names: Collection[str]) -> bool:
        """Tell whether a loop around an expression hands an array to a call for its effect alone: `file.load(buffer)`.

        Args:
            node: The expression, which is in one of them.
            names: Names of the array.
        """
        for loop in nodes_above(node, self.parents):
            if isinstance(loop, LOOPS):
                kept = {*names} - names_bound(loop.body)
                calls = [one.value for one in walk(loop.body) if isinstance(one, ast.Expr)]
                calls = [one for one in calls if isinstance(one, ast.Call) and last_name(one.func) not in _SEEN | TOLD]
                if any(root_shared(one) in kept for call in calls for one in arguments(call)):  # type: ignore[arg-type]
                    return True
        return False


def _line_behind(above: list[ast.stmt]) -> int:
    loops = [one for one in above if isinstance(one, LOOPS)]
    return loops[-1].lineno if loops else (above[0].end_lineno or 0) + 1 if above else 0


class _Follower:
    """Goes from one name that stands for it to the next."""

    def __init__(self, code: Code) -> None:
        self.uses = Uses()
        self._nodes, self._parents, self._writes = code.nodes, code.parents, code.writes
        self._todo: list[tuple[str, int]] = []
        self._met: set[str] = set()
        self._loose: set[str] = set()

    def add(self, name: str, line: int, *, loose: bool = False) -> None:
        """Note a name that stands for it, or for a part of it, from a line on."""
        if name not in self._met:
            self._met.add(name)
            self._todo.append((name, line))
            self._loose |= {name} if loose else set()

    def run(self) -> None:
        """Look at all that reads the names."""
        while self._todo:
            name, line = self._todo.pop()
            copied = self.uses.copied
            for node in self._nodes:
                if isinstance(node, (ast.Name, ast.Attribute)) and _named(node) == name and node.lineno >= line:
                    if isinstance(node.ctx, ast.Load):
                        self._climb(node)
                    elif isinstance(self._parents.get(node), ast.AugAssign):
                        self.uses.written = True
            if name in self._loose:  # its parts, one after another, or what was copied before
                self.uses.copied = copied

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
            self._loosely(target, line)

    def _loosely(self, target: ast.expr, line: int) -> None:
        """Note all names of a target: what they stand for may be a part of it."""
        for name in names_in(target):
            self.add(name, line, loose=True)

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
        else:
            self._held(above, node)

    def _held(self, above: ast.AST | None, node: ast.expr) -> None:
        """Something goes through it, keeps it, or gives it out."""
        if isinstance(above, ast.For) and node is above.iter:
            self._loosely(above.target, above.lineno)
        elif isinstance(above, ast.Dict):
            self.uses.copied = True
            self._climb(above)
        elif isinstance(above, ast.Return):
            self.uses.returned.add(None)
        elif not isinstance(above, (ast.Expr, ast.FormattedValue, ast.For, ast.Delete)):
            self.uses.copied = True

    def _attribute(self, node: ast.Attribute) -> None:
        call = self._parents.get(node)
        called = isinstance(call, ast.Call) and call.func is node
        if node.attr in TOLD | _REDUCE:
            self.uses.written |= isinstance(node.ctx, ast.Store)
            return
        if node.attr in _WRITE or (called and is_in_place(node.attr)):
            self.uses.written = True
        elif node.attr in VIEWS and not called:
            self._climb(node)
        elif isinstance(call, ast.Call) and called and gives_view(node.attr, call.args):
            self._climb(call)
        else:
            self.uses.copied = True
            if node.attr in MAY_SHARE:
                self._climb(call if isinstance(call, ast.expr) and called else node)

    def _item(self, node: ast.Subscript) -> None:
        axes = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if not isinstance(node.ctx, ast.Load):
            self.uses.written = True
        elif names_in(axes[0]) & _counted(node, self._parents):  # one after another of its parts
            copied = self.uses.copied
            self._climb(node)
            self.uses.copied = copied
        elif all(isinstance(one, (ast.Slice, ast.Constant)) or _is_number(one) for one in axes):
            self._climb(node)
        else:
            self.uses.copied = True

    def _given(self, call: ast.AST, node: ast.expr) -> None:
        """What a function gets it."""
        name = (last_name(call.func) if isinstance(call, ast.Call) else None) or ""
        if not isinstance(call, ast.Call) or _writes_into(call, name, node):
            self.uses.written = True
        elif name in _SHARED_LOOPS or (call.args[:1] == [node] and gives_view(name, call.args[1:])):
            self._climb(call)
        elif name not in _SEEN and name not in _REDUCE:
            self.uses.copied = True
            self.uses.written |= self._writes(name)
            if name in MAY_SHARE:
                self._climb(call)

    def _among(self, node: ast.Tuple | ast.List, one: ast.expr) -> None:
        """One of several values."""
        above = self._parents.get(node)
        if isinstance(above, ast.Return):
            self.uses.returned.add(node.elts.index(one))
            return
        targets = [target for target, value in pairs(above) if value is one] if isinstance(above, ast.stmt) else []
        for target in targets:
            self._bind(target, above)  # type: ignore[arg-type]
        if not targets and not isinstance(above, ast.Expr):
            self.uses.copied = True
            for target in getattr(above, "targets", []):
                self._loosely(target, above.lineno)  # type: ignore[union-attr]


def _counted(node: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> set[str]:
    """The names that loops around an expression count, or go through."""
    loops = [one for one in nodes_above(node, parents) if isinstance(one, _REPEATS)]
    inner = [part for one in loops for part in getattr(one, "generators", [one])]
    return {name for one in inner if not isinstance(one, ast.While) for name in names_in(one.target)}


def _writes_into(call: ast.Call, name: str, node: ast.expr) -> bool:
    """Whether a function writes into what it is given: `shuffle(x)`, `np.add(x, 1, x)`, `nan_to_num(x, copy=False)`."""
    told = {one.arg: ast.unparse(one.value) for one in call.keywords}
    at = call.args.index(node) if node in call.args else None
    copies = told.get("inplace") != "True" and (name != "nan_to_num" or told.get("copy") != "False")
    return not copies or (name in _WRITE and at == 0) or (name in _OUT_AT and at == _OUT_AT[name])


def _named(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else f".{node.attr}"


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)
