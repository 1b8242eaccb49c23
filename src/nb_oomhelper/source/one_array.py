"""Arithmetic that makes an array with every step, written so that there is one, which each step changes."""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import dataclass

from nb_oomhelper.source.reduced import NUMPY, OF_FLOATS, Early, operand_of
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_unpacked, last_name, names_in

_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_FUNCTIONS = {ast.Sub: "subtract", ast.Div: "divide"}  # whose operands cannot change places
_UNARY = frozenset(
    {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "square", "abs", "absolute", "fabs"}
    | {"sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sign", "floor", "ceil", "rint"}
    | {"negative", "reciprocal", "radians", "degrees", "deg2rad", "rad2deg"}
)
_WITH_NUMBERS = {"maximum": 2, "minimum": 2, "clip": 3}
_RUNNING = frozenset({"cumsum", "cumprod"})
_DRAWN = frozenset({"normal", "standard_normal", "uniform", "exponential", "lognormal", "laplace", "gamma", "beta"})
_RESULT = "result"


class _UnfitError(Exception):
    """Something that is more than arithmetic with one array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """What is known of names.

    Attributes:
        shape: The shape of what there was no room for.
        alike: Arrays of that shape and dtype, which is one of floats.
        whole: Arrays of that shape, of whole numbers, where the dtype is float64.
        small: Numbers, and arrays that are smaller and go together with it, of that dtype.
        floats: Those of them that are surely of floats.
        taken: Names that stand for something else.
    """

    shape: tuple[int, ...]
    alike: Collection[str] = ()
    whole: Collection[str] = ()
    small: Collection[str] = ()
    floats: Collection[str] = ()
    taken: Collection[str] = ()


def one_array(text: SourceText, node: ast.stmt, known: Arrays) -> tuple[str, list[Edit]] | None:
    """Write `z = (x - x.mean(axis=0)) / x.std(axis=0)` with one array: `z = x - x.mean(axis=0)`, `z /= x_std`.

    Args:
        text: The source.
        node: The statement that there was no room for.
        known: What its names stand for.

    Returns:
        The name of the array, and what changes; None where that would take no less, or cannot be written.
    """
    start, end = text.span(node)
    indent = text.text[text.line_start(start) : start]
    if isinstance(node, ast.Return) and node.value is not None:
        name, last = _RESULT, [f"return {_RESULT}"]
        fit = _RESULT not in names_in(text.tree)
    elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        name, last = node.targets[0].id, []
        fit = name not in names_in(node.value)
    else:
        return None
    writer = _Writer(text, known, name)
    try:
        writer.make(node.value)  # type: ignore[arg-type]
    except _UnfitError:
        return None
    if not fit or indent.strip() or not writer.saves:
        return None
    return name, [(start, end, f"\n{indent}".join([*writer.first, *writer.lines, *last]))]


class _Writer:
    """Writes an expression step by step.

    Attributes:
        lines: The steps.
        saves: Whether they make fewer arrays than the expression; NumPy itself uses some of its own again.
    """

    def __init__(self, text: SourceText, known: Arrays, name: str) -> None:
        self._text, self._known, self._name = text, known, name
        self._early = Early(text, {*known.alike, *known.whole}, known.taken)
        self.lines: list[str] = []
        self.saves = False

    @property
    def first(self) -> list[str]:
        """Statements before these: what is reduced while there is no array more."""
        return self._early.lines

    def make(self, node: ast.expr) -> None:
        """Write what makes an array of an expression.

        Raises:
            _UnfitError: It is more than arithmetic with one array.
        """
        if self._is_made_at_once(node):
            self.lines.append(f"{self._name} = {self._early.written_then(node)}")
        elif isinstance(node, ast.BinOp):
            self._operate(node)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            self.make(node.operand)
            self.lines.append(f"{self._name} *= -1")
        elif isinstance(node, ast.Call):
            self._call(node)
        else:
            raise _UnfitError

    def _operate(self, node: ast.BinOp) -> None:
        sign = _SIGNS.get(type(node.op))
        number = is_number(node.right)
        if sign is None or (sign == "**" and not number):
            raise _UnfitError
        if number or self._is_operand(node.right):
            other = self._early.written(node.right)  # before an array is there
            self.make(node.left)
            self.lines.append(f"{self._name} {sign}= {other}")
            self.saves |= not number and not self._is_alike(node.right)
        elif is_number(node.left) or self._is_operand(node.left):
            other = self._early.written(node.left)
            self.make(node.right)
            function, name = _FUNCTIONS.get(type(node.op)), self._name
            if function:
                self.lines.append(f"{self._module()}.{function}({other}, {name}, out={name})")
            else:
                self.lines.append(f"{name} {sign}= {other}")
            self.saves |= function is not None or not (is_number(node.left) or self._is_alike(node.left))
        else:
            raise _UnfitError

    def _call(self, node: ast.Call) -> None:
        """Calls of functions that can write into what they are given."""
        name, (of_module, inner, more) = last_name(node.func) or "", operand_of(node)
        if is_unpacked(node) or inner is None or not (of_module or name in _RUNNING):
            raise _UnfitError
        self._check_more(name, more, node.keywords)
        arguments: list[ast.expr | ast.keyword] = [*more, *node.keywords]
        others = [self._text.text[slice(*self._text.span(one))] for one in arguments]
        self.make(inner)
        target = self._name
        function = ast.unparse(node.func) if of_module else f"{target}.{name}"
        given = [*([target] if of_module else []), *others, f"out={target}"]
        self.lines.append(f"{function}({', '.join(given)})")
        self.saves = True

    def _check_more(self, name: str, more: list[ast.expr], keywords: list[ast.keyword]) -> None:
        """See that the other arguments leave shape and dtype as they are."""
        if name in _RUNNING:
            axes = [*more, *(one.value for one in keywords if one.arg == "axis")]
            fit = len(axes) == len(more) + len(keywords) and all(map(is_number, axes))
            fit = fit and len(axes) == 1 if len(self._known.shape) > 1 else fit and len(axes) <= 1
        elif name in _WITH_NUMBERS:
            fit = len(more) == _WITH_NUMBERS[name] - 1 and not keywords and all(map(is_number, more))
        else:
            fit = name in _UNARY and not more and not keywords
        if not fit:
            raise _UnfitError

    def _is_made_at_once(self, node: ast.expr) -> bool:
        """Whether an expression makes one array, of what is there, or of random numbers."""
        if isinstance(node, ast.BinOp):
            sides = [node.left, node.right]
            large = [one for one in sides if self._is_alike(one)]
            whole = [one for one in sides if isinstance(one, ast.Name) and one.id in self._known.whole]
            others = [one for one in sides if one not in large and one not in whole]
            if type(node.op) not in _SIGNS or not all(is_number(one) or self._is_operand(one) for one in others):
                return False
            floats = isinstance(node.op, ast.Div) or (len(others) == 1 and self._is_of_floats(others[0]))
            return bool(large) if not whole else len(whole) == 1 and floats
        if isinstance(node, ast.UnaryOp):
            return isinstance(node.op, ast.USub) and self._is_alike(node.operand)
        if not isinstance(node, ast.Call) or is_unpacked(node):
            return False
        if _is_drawn(node):
            return True
        name, (of_module, inner, more) = last_name(node.func) or "", operand_of(node)
        if inner is None or not (of_module or name in _RUNNING) or not self._is_alike(inner):
            return False
        self._check_more(name, more, node.keywords)
        return True

    def _is_alike(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self._known.alike

    def _is_of_floats(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Call):
            return last_name(node.func) in OF_FLOATS
        return isinstance(node, ast.Name) and node.id in self._known.floats

    def _is_operand(self, node: ast.expr) -> bool:
        """Whether something goes together with the array, and neither gets wider nor larger by it."""
        if isinstance(node, ast.BinOp):
            sides = [node.left, node.right]
            return type(node.op) in _SIGNS and all(is_number(one) or self._is_small(one) for one in sides)
        return self._is_alike(node) or self._is_small(node)

    def _is_small(self, node: ast.expr) -> bool:
        if isinstance(node, ast.BinOp):
            return self._is_operand(node)
        if isinstance(node, ast.Call) and last_name(node.func) in _UNARY and len(node.args) == 1:  # `np.sqrt(x.var())`
            owner = getattr(node.func, "value", None)
            return owner is not None and ast.unparse(owner) in NUMPY and self._is_small(node.args[0])
        return self._early.knows(node) or (isinstance(node, ast.Name) and node.id in self._known.small)

    def _module(self) -> str:
        """What NumPy is called there."""
        found = [one for one in NUMPY if one in {*names_in(self._text.tree), *self._known.taken}]
        if not found:
            raise _UnfitError
        return found[0]


def _is_drawn(node: ast.Call) -> bool:
    """Whether it draws random numbers of float64: `rng.normal(0, 1, size=(n, 252))`, `np.random.randn(n, 9)`."""
    owner = getattr(node.func, "value", None)
    if owner is None or {one.arg for one in node.keywords} & {"dtype", "out"}:
        return False
    of_numpy = ast.unparse(owner) in ("np.random", "numpy.random")
    name = last_name(node.func)
    if of_numpy and name in ("rand", "randn"):
        return bool(node.args)
    sized = any(one.arg == "size" for one in node.keywords) or (of_numpy and name in ("random", "random_sample"))
    return sized and (of_numpy or isinstance(owner, ast.Name)) and name in _DRAWN | {"random", "random_sample"}


def is_number(node: ast.expr) -> bool:
    """Tell whether code is a number as it stands there: `-1`, `2 * 3.14`, `np.pi`.

    Args:
        node: The code.
    """
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.USub, ast.UAdd)) and is_number(node.operand)
    if isinstance(node, ast.BinOp):
        return type(node.op) in _SIGNS and is_number(node.left) and is_number(node.right)
    if isinstance(node, ast.Attribute):
        return ast.unparse(node) in ("np.pi", "np.e", "numpy.pi", "math.pi")
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)
