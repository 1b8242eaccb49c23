"""What code computes of PyTorch's tensors, said as NumPy says it: the readers of rows know that alone."""

from __future__ import annotations

import ast
import copy
from collections.abc import Collection, Mapping

from nb_oomhelper.source.row_sources import shape_of
from nb_oomhelper.source.tree import arguments, last_name, named_values

_PAIR = "pair_of"
_UNKNOWN = "unknown_call"
_MODULES = frozenset({"torch", "torch.linalg", "torch.special", "torch.nn.functional", "nn.functional", "F"})
_OPERATORS: Mapping[str, type[ast.operator]] = {
    "mm": ast.MatMult,
    "matmul": ast.MatMult,
    "mv": ast.MatMult,
    "pow": ast.Pow,
    "mul": ast.Mult,
    "multiply": ast.Mult,
    "sub": ast.Sub,
    "subtract": ast.Sub,
    "add": ast.Add,
    "div": ast.Div,
    "divide": ast.Div,
}
_ELEMENTWISE = frozenset(
    {"sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "abs", "square", "sin", "cos", "tan"}
    | {"tanh", "sigmoid", "relu", "neg", "sign", "floor", "ceil", "round", "reciprocal", "isnan", "acos", "asin"}
    | {"atan", "arccos", "arcsin", "arctan", "atan2", "clamp", "clamp_min", "clamp_max", "clip", "erf", "where"}
    | {"maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "clone"}
    | {"masked_fill", "nan_to_num", "hypot", "softplus", "logsigmoid", "leaky_relu", "relu6", "elu", "selu", "celu"}
    | {"gelu", "silu", "mish", "hardtanh", "hardsigmoid", "hardswish", "softsign", "tanhshrink"}
)
_LOSSES = frozenset({"cross_entropy", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})
_LOSSES |= {"binary_cross_entropy_with_logits", "binary_cross_entropy"}
_LOOKING = frozenset({"float", "double", "half", "long", "int", "bool", "to", "type", "contiguous", "detach"})
_CHANGED = frozenset({"clamp_", "sqrt_", "exp_", "mul_", "div_", "add_", "sub_", "neg_", "relu_", "pow_", "square_"})
_REDUCING: Mapping[str, str] = {
    **{name: name for name in ("sum", "mean", "std", "var", "prod", "any", "all", "argmin", "argmax", "norm")},
    **{name: name for name in ("logsumexp", "count_nonzero", "quantile")},
    "amax": "max",
    "amin": "min",
    "vector_norm": "norm",
}
_ALONG = frozenset({"softmax", "log_softmax", "cumsum", "argsort", "diff"})
_CHOOSING = frozenset({"dim", "k", "descending", "keepdim", "largest", "sorted", "stable"})
_AS_THEY_ARE = frozenset({"cdist", "einsum", "outer", "eye", "arange", "linspace", "ones", "zeros", "full", "tile"})
_BUILT_IN = frozenset({"len", "abs", "float", "int", "print", "range"})
_KEYWORDS = {"dim": "axis", "keepdim": "keepdims"}


def as_numpy(body: list[ast.stmt], shapes: Mapping[str, tuple[int, ...]]) -> list[ast.stmt]:
    """Give statements as NumPy's, each at its place in the source; calls that nobody knows are of an unknown function.

    Args:
        body: The statements, which stay as they are.
        shapes: Shapes of tensors, by name or path.
    """
    reader = _AsNumpy(shapes, _numbered(body))
    return [ast.fix_missing_locations(reader.visit(copy.deepcopy(one))) for one in body]


def _numbered(body: list[ast.stmt]) -> set[str]:
    """Names of the numbers of rows: `labels = torch.arange(len(x))`."""
    made = named_values(body)
    calls = {value: isinstance(value, ast.Call) and last_name(value.func) == "arange" for _, value in made}
    return {name for name, _ in made if all(calls[value] for one, value in made if one == name)}


def pair_in(node: ast.expr) -> ast.expr | None:
    """Give what a call computes that gives values and indices of it, as `x.topk(5)`; None where it is another.

    Args:
        node: The call, as of `as_numpy`.
    """
    return node.computed if isinstance(node, _Pair) else None


class _Pair(ast.Call):
    """A call that gives values and indices: what it computes is no part of the code until one of them is taken."""

    computed: ast.expr


class _AsNumpy(ast.NodeTransformer):
    """Writes calls of PyTorch's functions and methods as calls of NumPy's functions, and as operators."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], numbered: Collection[str]) -> None:
        self._shapes, self._numbered = shapes, numbered

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Leave what does not run here."""
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        """Write `x.clamp_(min=0)` as a change of `x`, and `x.fill_diagonal_(0)` as NumPy's function."""
        call = node.value
        method = call.func if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else None
        if not isinstance(call, ast.Call) or method is None or not isinstance(method.value, ast.Name):
            self.generic_visit(node)
            return node
        name, owner = method.attr, method.value
        if name == "fill_diagonal_" and len(call.args) == 1 and not call.keywords:
            node.value = _function(call, "fill_diagonal", [owner, self.visit(call.args[0])])
        elif name in _CHANGED and all(isinstance(one, (ast.Constant, ast.UnaryOp)) for one in arguments(call)):
            target = ast.copy_location(ast.Name(owner.id, ast.Store()), owner)
            one = ast.copy_location(ast.Constant(1), call)
            return ast.copy_location(ast.AugAssign(target, ast.Mult(), one), node)
        else:
            self.generic_visit(node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """Write `x.max(dim=1).values` as one array."""
        self.generic_visit(node)
        return _taken(node, node.attr in ("values", "indices"))

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """Write `x.max(dim=1)[0]` as one array."""
        self.generic_visit(node)
        return _taken(node, ast.unparse(node.slice) in ("0", "1"))

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Write a call."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Name):
            return node if node.func.id in _BUILT_IN else _function(node, _UNKNOWN, node.args, node.keywords)
        if not isinstance(node.func, ast.Attribute):  # `nn.Softmax(dim=1)(x)`
            return _function(node, _UNKNOWN, [node.func, *node.args], node.keywords)
        name, owner = node.func.attr, node.func.value
        of_module = ast.unparse(owner) in _MODULES and ast.unparse(owner) not in self._shapes
        operands = [*node.args] if of_module else [owner, *node.args]
        if name not in _AS_THEY_ARE:
            found = self._written(node, name, operands)
        else:
            found = _function(node, name, operands, node.keywords) if of_module else None
        return found or _function(node, _UNKNOWN, operands, node.keywords)

    def _written(self, node: ast.Call, name: str, operands: list[ast.expr]) -> ast.expr | None:
        told = {one.arg: one.value for one in node.keywords}
        if not operands or None in told or {"out", "inplace"} & told.keys():
            return None
        if name in _OPERATORS:
            return _operation(node, _OPERATORS[name], operands) if len(operands) == 2 and not told else None
        if name in _ELEMENTWISE and (name != "where" or len(operands) == 3):
            return _function(node, "clip", operands, node.keywords)
        if name in _LOSSES and node.func.value is not operands[0]:  # type: ignore[attr-defined]
            return _loss(node, name, operands, told, self._numbered)
        if name in _LOOKING:
            return _function(node, "real", operands[:1])
        if name in ("unsqueeze", "t", "transpose", "size"):
            return self._turned(node, name, operands)
        if name in ("cosine_similarity", "pairwise_distance", "normalize"):
            return _of_two(node, name, operands, told)
        if name in ("max", "min", "median", "sort", "topk", "kthvalue"):
            return _chosen(node, name, operands, told)
        if name in _REDUCING or name in _ALONG:
            return _function(node, _REDUCING.get(name, name), operands, _renamed(node))
        return None

    def _turned(self, node: ast.Call, name: str, operands: list[ast.expr]) -> ast.expr | None:
        told = [*operands[1:], *(one.value for one in node.keywords if one.arg == "dim")]
        axes = [_number(one) for one in told]
        shape = shape_of(operands[0], self._shapes)
        if name == "size" and axes in ([0], [1]):
            of = ast.copy_location(ast.Attribute(operands[0], "shape", ast.Load()), node)
            return ast.copy_location(ast.Subscript(of, told[0], ast.Load()), node)
        if name == "t" or (name == "transpose" and sorted(axes, key=str) in ([0, 1], [-1, -2])):
            flat = shape is not None and len(shape) == 2
            return ast.copy_location(ast.Attribute(operands[0], "T", ast.Load()), node) if flat else None
        if name != "unsqueeze" or len(axes) != 1 or axes[0] is None:
            return None
        axis = axes[0]
        if axis < 0:
            if shape is None:
                return None
            axis += len(shape) + 1
        index: list[ast.expr] = [*(ast.Slice() for _ in range(axis)), ast.Constant(None)]
        place = ast.Tuple(index, ast.Load()) if axis else index[0]
        return ast.copy_location(ast.Subscript(operands[0], place, ast.Load()), node)


def _loss(
    node: ast.Call,
    name: str,
    operands: list[ast.expr],
    told: Mapping[str | None, ast.expr],
    numbered: Collection[str],
) -> ast.expr | None:
    """`cross_entropy(logits, labels)`: a mean of what each row, or each element, gives."""
    kind = ast.unparse(told["reduction"]) if "reduction" in told else "'mean'"
    known = kind in ("'mean'", "'sum'", "'none'")
    if not known or len(operands) != 2 or told.keys() - {"reduction", "label_smoothing", "beta", "delta"}:
        return None
    if name == "cross_entropy":
        if not isinstance(operands[1], ast.Name) or operands[1].id not in numbered:  # -100 would not count
            return None
        index = ast.copy_location(ast.Tuple([ast.Slice(), ast.Constant(None)], ast.Load()), operands[1])
        operands = [operands[0], ast.copy_location(ast.Subscript(operands[1], index, ast.Load()), operands[1])]
    each = _operation(node, ast.Mult, operands)
    total = {"'mean'": "mean", "'sum'": "sum"}.get(kind)
    return _function(node, total, [each]) if total else each if name != "cross_entropy" else None


def _of_two(
    node: ast.Call, name: str, operands: list[ast.expr], told: Mapping[str | None, ast.expr]
) -> ast.expr | None:
    """`cosine_similarity(a, b, dim=-1)`: what goes together element by element, along one axis."""
    axis = told.get("dim", ast.Constant(-1 if name == "pairwise_distance" else 1))
    if name == "normalize":
        return None if len(operands) > 1 else _function(node, "softmax", operands, [ast.keyword("axis", axis)])
    if len(operands) == 3 and name == "cosine_similarity":
        axis = operands.pop()
    if len(operands) != 2 or not told.keys() <= {"dim", "eps", "p"}:
        return None
    return _function(node, "sum", [_operation(node, ast.Mult, operands)], [ast.keyword("axis", axis)])


def _chosen(
    node: ast.Call, name: str, operands: list[ast.expr], told: Mapping[str | None, ast.expr]
) -> ast.expr | None:
    """`x.topk(5, dim=1)` gives values and indices, `x.max()` one number."""
    counted = name in ("topk", "kthvalue")
    many = told.get("k", operands[1] if len(operands) > 1 else None) if counted else None
    at = 1 + (counted and "k" not in told)
    axis = told.get("dim", operands[at] if len(operands) > at else None)
    if len(operands) > at + 1 or (counted and many is None) or told.keys() - _CHOOSING:
        return None
    if axis is None and name in ("max", "min", "median"):
        return _function(node, name, operands[:1])
    axes = [ast.keyword("axis", axis or ast.Constant(-1))]
    if name == "kthvalue" or name in ("max", "min", "median"):
        kept = [ast.keyword("keepdims", told["keepdim"])] if "keepdim" in told else []
        inner = _function(node, "max", operands[:1], [*axes, *kept])
    else:
        inner = _function(node, "argsort", operands[:1], axes)
        if many is not None:
            index = ast.Tuple([ast.Slice(), ast.Slice(upper=many)], ast.Load())
            inner = ast.copy_location(ast.Subscript(inner, index, ast.Load()), node)
    pair = ast.copy_location(_Pair(ast.Name(_PAIR, ast.Load()), operands, node.keywords), node)
    pair.computed = ast.fix_missing_locations(inner)
    return pair


def _taken(node: ast.Attribute | ast.Subscript, is_one: bool) -> ast.expr:
    inner = pair_in(node.value) if is_one else None
    return node if inner is None else ast.copy_location(inner, node)


def _renamed(node: ast.Call) -> list[ast.keyword]:
    return [ast.keyword(_KEYWORDS.get(one.arg or "", one.arg), one.value) for one in node.keywords]


def _number(node: ast.expr) -> int | None:
    try:
        number = ast.literal_eval(node)
    except ValueError:
        return None
    return number if type(number) is int else None


def _operation(node: ast.Call, kind: type[ast.operator], operands: list[ast.expr]) -> ast.expr:
    return ast.copy_location(ast.BinOp(operands[0], kind(), operands[1]), node)


def _function(
    node: ast.Call, name: str, operands: list[ast.expr], keywords: list[ast.keyword] | None = None
) -> ast.expr:
    module = ast.copy_location(ast.Name("np", ast.Load()), node)
    function = ast.copy_location(ast.Attribute(module, name, ast.Load()), node)
    return ast.copy_location(ast.Call(function, operands, keywords or []), node)
