"""Functions of the notebook that compute row by row: each row of what they give needs one row of what they get."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from nb_oomhelper.source.collecting import root_of
from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.row_sources import Rows, UnfitError, shape_of
from nb_oomhelper.source.row_values import RowReader
from nb_oomhelper.source.source_text import SourceText
from nb_oomhelper.source.tree import names_bound, names_in, parameters_of

_DEEPEST = 3  # functions within each other


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFunction:
    """A function that may compute row by row.

    Attributes:
        text: The source that it is in.
        node: It.
        shapes: Shapes of arrays that it may read beside what it gets, by name or path.
    """

    text: SourceText
    node: Function
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def arguments(self, call: ast.Call) -> dict[str, ast.expr] | None:
        """Give what a call hands to each parameter, as far as it says; None where that cannot be told.

        Args:
            call: The call, of a method on its object.
        """
        told = self.node.args
        names = [one.arg for one in (*told.posonlyargs, *told.args)]
        names = names[1:] if isinstance(call.func, ast.Attribute) else names
        keywords = {one.arg: one.value for one in call.keywords}
        plain = not (told.vararg or told.kwarg or self.node.decorator_list) and None not in keywords
        if not plain or len(call.args) > len(names) or any(isinstance(one, ast.Starred) for one in call.args):
            return None
        given = dict(zip(names, call.args, strict=False))
        return given | {name: value for name, value in keywords.items() if name is not None}

    def left_out(self, given: Mapping[str, ast.expr]) -> set[str]:
        """Give the parameters whose default stands for something that was there when the function was made.

        Args:
            given: What a call hands over, by parameter.
        """
        told = self.node.args
        names = [one.arg for one in (*told.posonlyargs, *told.args)]
        defaults = dict(zip(reversed(names), reversed(told.defaults), strict=False))
        defaults |= {one.arg: value for one, value in zip(told.kwonlyargs, told.kw_defaults, strict=True) if value}
        return {name for name, value in defaults.items() if name not in given and not isinstance(value, ast.Constant)}

    def own_names(self) -> set[str]:
        """Give the names that are its own: what lies under them outside is something else."""
        return bound_in(self.text.tree, self.node.body)

    def statements(self) -> Iterator[tuple[str | None, ast.expr]]:
        """Give what it computes one by one, with the name for it; None for what it gives back, which is the last.

        Raises:
            UnfitError: It does more than that.
        """
        for number, node in enumerate(self.node.body):
            if not number and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                yield node.targets[0].id, node.value
            elif isinstance(node, ast.Return) and node.value is not None:
                yield None, node.value
                return
            else:
                raise UnfitError
        raise UnfitError


def bound_in(tree: ast.AST, body: list[ast.stmt]) -> set[str]:
    """Give the names that some statements bind, or that are parameters of the function that they are.

    Args:
        tree: The whole source.
        body: The statements.
    """
    functions = [one for one in ast.walk(tree) if isinstance(one, Function) and one.body is body]
    arguments = set[str]().union(*map(parameters_of, functions))
    return arguments | names_bound(body)


Find = Callable[[ast.Call], RowFunction | None]


def no_function(_call: ast.Call) -> RowFunction | None:
    """Where no function of the notebook is known."""
    return None


class FunctionReader(RowReader):
    """Reads expressions, with calls of functions of the notebook among them.

    Attributes:
        functions: Finds the function of the notebook that is called.
        own: Names that stand there for something of their own, and for no function of the notebook.
        depth: In how many functions what is read stands.
    """

    functions: Find = staticmethod(no_function)
    own: Collection[str] = ()
    depth = 0

    def result(self, function: RowFunction) -> Rows | None:
        """Tell what a function gives back: rows, or None where it is the same for all rows.

        Args:
            function: The function, whose parameters are known.

        Raises:
            UnfitError: It needs more than one row for each of its own.
        """
        for name, value in function.statements():
            rows = self.value(value)
            self.check(value)
            if name is None:
                return rows
            if rows is not None and isinstance(value, ast.Name):
                raise UnfitError  # two names of one array
            self.know(name, value, rows)
        raise UnfitError

    def is_users(self, call: ast.Call) -> bool:
        """As of `Sources`: also one that has the name of a known function."""
        if not isinstance(call.func, ast.Name):
            return False
        try:
            return call.func.id in self.own or super().is_users(call) or self.functions(call) is not None
        except UnfitError:
            return True

    def _of_call(self, node: ast.Call) -> Rows | None:
        """A function of the notebook may have the name of a known one: `def softmax(x):`."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in self.own:
            return self._same(node)
        found = None if not name or self.elementwise(name) else self.functions(node)
        if found is None:
            return super()._of_call(node)
        return self._of_function(node, found) if self.depth < _DEEPEST else self._same(node)

    def _along(
        self, node: ast.Call, name: str, operands: list[ast.expr], given: Mapping[str | None, ast.expr]
    ) -> Rows | None:
        found = self.functions(node) if isinstance(node.func, ast.Attribute) and self.depth < _DEEPEST else None
        return super()._along(node, name, operands, given) if found is None else self._of_function(node, found)

    def _of_function(self, node: ast.Call, function: RowFunction) -> Rows | None:
        """What a function of the notebook gives that computes row by row."""
        arguments = function.arguments(node)
        rows = {} if arguments is None else self.rows_given(arguments)
        if arguments is None or not any(rows.values()):
            return self._same(node)
        own = function.own_names()
        shapes = {path: shape for path, shape in function.shapes.items() if root_of(path) not in own}
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        shapes |= {path: shape for path, shape in self._shapes.items() if owner == "self" and root_of(path) == owner}
        inner = FunctionReader(function.text, shapes, (self._length,) * self._ndim, self.elementwise, self.part)
        inner.functions, inner.depth, inner.own = self.functions, self.depth + 1, own
        inner.leave(function.left_out(arguments))
        for name, one in arguments.items():
            self._hand_on(inner, name, one, rows[name])

        given = inner.result(function)
        if inner.edits or inner.drawn:  # something there would have to be cut
            raise UnfitError
        self.called.append(node)
        return given

    def rows_given(self, arguments: Mapping[str, ast.expr]) -> dict[str, Rows | None]:
        """Tell what rows a function gets, by parameter.

        Args:
            arguments: What it is called with.
        """
        return {name: self.value(one) for name, one in arguments.items()}

    def know(self, name: str, value: ast.expr, rows: Rows | None) -> None:
        """Note what a name stands for from now on.

        Args:
            name: The name.
            value: The expression.
            rows: What it gives.
        """
        if rows is None:
            self.env.pop(name, None)
            self.bind(name, value)
        else:
            self.env[name] = rows

    def _hand_on(self, inner: FunctionReader, name: str, value: ast.expr, rows: Rows | None) -> None:
        """Let a parameter stand for what it gets."""
        inner.know(name, value, rows)
        if rows is None and isinstance(value, (ast.Name, ast.Attribute)) and not self._unknown & names_in(value):
            inner._unknown.discard(name)
            if (known := shape_of(value, self._shapes)) is not None:
                inner._shapes[name] = known
