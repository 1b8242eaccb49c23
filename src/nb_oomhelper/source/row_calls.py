"""Calls by their names: which compute row by row, and which give the same however often they run."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection

from nb_oomhelper.source.tree import last_name

REDUCING = frozenset(
    {"sum", "mean", "std", "var", "min", "max", "prod", "any", "all", "argmin", "argmax", "median", "ptp", "norm"}
    | {"nansum", "nanmean", "nanmin", "nanmax", "quantile", "percentile", "logsumexp", "count_nonzero"}
)
ELEMENTWISE = frozenset(
    {"sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "sinh", "cosh", "tanh", "exp", "exp2", "expm1"}
    | {"log", "log2", "log10", "log1p", "sqrt", "cbrt", "square", "abs", "absolute", "fabs", "sign", "floor", "ceil"}
    | {"rint", "round", "radians", "degrees", "deg2rad", "rad2deg", "maximum", "minimum", "power", "hypot", "clip"}
    | {"where", "isnan", "isfinite", "isinf", "logical_and", "logical_or", "logical_not", "nan_to_num", "real", "imag"}
    | {"angle", "conj", "add", "subtract", "multiply", "divide", "true_divide", "mod", "remainder", "equal", "erf"}
    | {"not_equal", "less", "greater", "less_equal", "greater_equal", "expit"}
)
SAME_SHAPE = frozenset({"astype", "copy", "clip", "round", "conj"})
ALONG_LAST = frozenset({"argsort", "sort", "argpartition", "partition", "softmax", "log_softmax", "cumsum", "diff"})
FFT = frozenset({"fft", "ifft", "rfft", "irfft", "hfft", "dct", "hilbert"})
PAIRS = frozenset(
    {"cdist", "pairwise_distances", "euclidean_distances", "cosine_similarity", "cosine_distances", "rbf_kernel"}
    | {"manhattan_distances", "linear_kernel", "polynomial_kernel", "laplacian_kernel", "haversine_distances"}
)
SHAPED = frozenset(
    {"integers", "random", "normal", "standard_normal", "uniform", "choice", "poisson", "exponential", "lognormal"}
    | {"randint"}
)
_MAKERS = frozenset(
    {"array", "asarray", "arange", "linspace", "ones", "zeros", "full", "eye", "identity", "tri", "ones_like"}
    | {"zeros_like", "diag", "tile", "repeat", "outer", "dot", "matmul", "einsum", "fill_diagonal", "roll"}
    | {"transpose", "reshape", "ravel", "diff", "stack"}
)
_METHODS = frozenset({"reshape", "ravel", "transpose", "dot", "to_numpy", "item", "tolist", "diagonal", "outer"})
_PLAIN = frozenset({"len", "float", "int", "abs", "round", "min", "max", "sum", "range", "slice", "tuple", "list"})
_CHANGING = frozenset({"out", "copy", "where", "overwrite_input", "overwrite_x", None})  # arguments

_COMPUTED = ELEMENTWISE | REDUCING | ALONG_LAST | FFT | PAIRS | _MAKERS
QUIET = (_COMPUTED | SAME_SHAPE | _PLAIN | {"print"}) - {"sort"}  # a method of that name changes what it is of


def is_quiet(node: ast.AST, drawn: Collection[ast.Call], elementwise: Callable[[str], bool]) -> bool:
    """Tell whether code gives the same each time, and changes nothing.

    Args:
        node: The code.
        drawn: Calls that may draw random numbers.
        elementwise: Whether a function of the notebook, by its name, computes element by element.
    """
    if any(isinstance(one, (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)) for one in ast.walk(node)):
        return False
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call) and one not in drawn]
    return all(_is_quiet(one, elementwise) for one in calls)


def _is_quiet(call: ast.Call, elementwise: Callable[[str], bool]) -> bool:
    name, told = last_name(call.func) or "", ast.unparse(call.func)
    if _CHANGING & {one.arg for one in call.keywords} or ".random." in f".{told}":
        return False
    computed = name in _COMPUTED
    if isinstance(call.func, ast.Name):
        return name in _PLAIN or computed or elementwise(name)
    if is_module(call.func.value):  # type: ignore[attr-defined]
        return computed
    return name in REDUCING | SAME_SHAPE | ALONG_LAST | _METHODS


def is_module(node: ast.expr) -> bool:
    """Tell whether what stands before a dot is a module of NumPy's or SciPy's.

    Args:
        node: What stands there.
    """
    known = ("np", "numpy", "scipy", "special", "linalg", "fft")
    return isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node).partition(".")[0] in known
