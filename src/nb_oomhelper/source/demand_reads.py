"""What code does with arrays whose rows are computed when they are read: whether a few rows at a time are enough."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence

from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.demand_changes import is_changed, is_disturbed, is_written_after, views_of
from nb_oomhelper.source.row_calls import REDUCING, is_module
from nb_oomhelper.source.tree import last_name, names_bound, names_in, parents_of, root_name, walk
from nb_oomhelper.source.view_forms import FORM

LITTLE = REDUCING - {"norm", "logsumexp", "prod"} | {"diagonal", "trace", "nonzero", "argwhere"}
"""Methods, and functions of NumPy's, that make little of such an array."""
ALIKE = frozenset(
    {"argsort", "sort", "argpartition", "partition", "cumsum", "astype", "copy", "clip", "round", "dot", "matmul"}
    | {"where", "triu", "tril", "isnan", "isfinite", "nan_to_num", "exp", "log", "log1p", "log2", "log10", "sqrt"}
    | {"square", "abs", "absolute", "sin", "cos", "maximum", "minimum", "power", "sign", "tanh", "arccos", "arcsin"}
    | {"add", "subtract", "multiply", "divide"}
)
"""Those that make another one of it."""
_JOINS = frozenset({"stack", "concatenate"})  # along another axis than the rows'
_BUILT_IN = frozenset({"len", "enumerate", "sum", "iter", "zip"})
_FIT = frozenset({"axis", "keepdims", "ddof", "k", "kth", "decimals", "a_min", "a_max", "min", "max", "q", "method"})
_ALONG = frozenset({"sort", "argsort", "partition", "argpartition", "cumsum"})  # of each row
_OF_COLUMNS = frozenset({"median", "percentile", "quantile", "nanmedian", "nanpercentile", "nanquantile"})
_OPERATIONS = (ast.BinOp, ast.UnaryOp, ast.Compare)
_LISTS = (ast.List, ast.Tuple, ast.ListComp)
_DEPTH = 3  # functions that call each other
Find = Callable[[str], Function | None]


class Reads:
    """Follows arrays through code.

    Attributes:
        returned: One of them, or what is computed of them, is given back.
    """

    def __init__(self, tree: ast.AST, find: Find, depth: int = 0) -> None:
        self.returned = False
        self._parents, self._find, self._depth = parents_of(ast.walk(tree)), find, depth
        self._known = set[str]()

    def are_few(self, body: Sequence[ast.stmt], names: Iterable[str]) -> bool:
        """Tell whether all that is read of arrays, and of what is computed of them, needs a few rows at a time.

        Args:
            body: The code after they were made.
            names: Their names.
        """
        todo = {*names}
        while todo:
            self._known |= todo
            reads = [one for one in walk(body) if isinstance(one, ast.Name) and one.id in todo]
            found = [self.read(one) for one in reads if isinstance(one.ctx, ast.Load)]
            if None in found:
                return False
            todo = {name for one in found if one is not None for name in one} - self._known
        return not self._is_written(body)

    def _is_written(self, body: Sequence[ast.stmt]) -> bool:
        """Whether what was made of them is written to, or they are while parts of them are in use."""
        views = views_of(body, self._known)
        if is_changed(body, self._known) or is_disturbed(body, names_bound(views) - self._known):
            return True
        return is_written_after(body, self._known, views)

    def read(self, node: ast.AST) -> set[str] | None:
        """Give the names that what is made of an array gets, if any; None where more than a few rows may be needed.

        Args:
            node: Where the array is read.
        """
        above = self._parents.get(node)
        while above is not None:
            done = self._ended(node, above)
            if done is not None and not self._needs_all(above):
                return done
            if self._needs_all(above) or not self._goes_on(node, above):
                return None
            node, above = above, self._parents.get(above)
        return None

    def _ended(self, node: ast.AST, above: ast.AST) -> set[str] | None:
        """As `read`, where it is clear with what stands right above."""
        if isinstance(above, ast.Attribute):
            call = self._parents.get(above)
            little = isinstance(call, ast.Call) and call.func is above and above.attr in LITTLE
            return set() if little or above.attr in FORM else None
        if isinstance(above, ast.Subscript):
            known = above.slice is node and root_name(above) in self._known
            return set() if known or (above.value is node and not _takes_many(above.slice)) else None
        if isinstance(above, ast.Call) and above.func is not node:
            name = last_name(above.func)
            built_in = isinstance(above.func, ast.Name) and name in _BUILT_IN
            little = _is_numpy(above) and name in LITTLE | {"fill_diagonal", "diag", "shape"}
            followed = self._followed(node, above)
            ended = followed is not None and not followed.returned
            return set() if built_in or little or ended else None
        if isinstance(above, (ast.For, ast.comprehension)) and above.iter is node:
            made = getattr(self._parents.get(above), "elt", None)
            return None if isinstance(made, ast.Name) else set()  # rows that are kept are all there
        return self._bound(node, above)

    def _needs_all(self, above: ast.AST) -> bool:
        call = self._parents.get(above) if isinstance(above, ast.Attribute) else above
        if isinstance(call, ast.Call) and (above is not call or _is_numpy(call)):
            return _is_whole(call, is_method=above is not call)
        if isinstance(above, ast.BinOp) and isinstance(above.op, ast.MatMult):
            return all(names_in(one) & self._known for one in (above.left, above.right))
        return False

    def _bound(self, node: ast.AST, above: ast.AST) -> set[str] | None:
        if isinstance(above, ast.Assign) and all(isinstance(one, ast.Name) for one in above.targets):
            return names_bound(above.targets)
        if isinstance(above, ast.arguments) and node in above.defaults:
            places = [*above.posonlyargs, *above.args]
            return {places[len(places) - len(above.defaults) + above.defaults.index(node)].arg}
        if isinstance(above, ast.Return):
            self.returned = True
            return set()
        return set() if isinstance(above, ast.Expr) else None

    def _goes_on(self, node: ast.AST, above: ast.AST) -> bool:
        """Whether what stands above makes another such array of it."""
        if isinstance(above, ast.Attribute):
            return above.attr in ALIKE
        if isinstance(above, ast.Call):
            if above.func is node:
                return isinstance(node, ast.Attribute)
            if isinstance(above.func, ast.Name):
                return above.func.id == "abs" or self._followed(node, above) is not None
            joins = last_name(above.func) in _JOINS and isinstance(node, _LISTS) and _axis(above) not in ("", "0")
            return _is_numpy(above) and (joins or last_name(above.func) in ALIKE)
        if isinstance(above, _LISTS):
            call = self._parents.get(above)
            return isinstance(call, ast.Call) and last_name(call.func) in _JOINS
        return isinstance(above, _OPERATIONS) or (isinstance(above, ast.Subscript) and above.value is node)

    def _followed(self, node: ast.AST, call: ast.Call) -> Reads | None:
        """What a function of the notebook does with what it is given, where it needs a few rows at a time."""
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        found = self._find(name) if name and self._depth < _DEPTH else None
        if found is None or node not in call.args or any(isinstance(one, ast.Starred) for one in call.args):
            return None
        places = [one.arg for one in (*found.args.posonlyargs, *found.args.args)]
        given = places[call.args.index(node) :][:1]
        inner = Reads(found, self._find, self._depth + 1)
        fit = bool(given) and not is_changed(found.body, given) and inner.are_few(found.body, given)
        return inner if fit else None


def _is_whole(call: ast.Call, *, is_method: bool) -> bool:
    """Whether a function, or a method, needs all rows for how it is called."""
    name = last_name(call.func)
    if name in LITTLE | ALIKE and any(one.arg not in _FIT for one in call.keywords) and name != "astype":
        return True
    many = (name in {"partition", "argpartition", "percentile", "quantile", "nanpercentile", "nanquantile"}) + 1
    axis = _axis(call, many - is_method)
    if name in _ALONG:
        return axis in ("0", "None") or (not axis and name == "cumsum")
    return name in _OF_COLUMNS and axis in ("", "None")


def _axis(call: ast.Call, place: int = 1) -> str:
    many = len(call.args) > place
    axis = call.args[place] if many else next((one.value for one in call.keywords if one.arg == "axis"), None)
    return "" if axis is None else ast.unparse(axis)


def _is_numpy(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and is_module(call.func.value)


def _takes_many(index: ast.expr) -> bool:
    """Whether many rows are taken: `x[:n]`, and not `x[i]`, `x[:, :5]`, `x[:, 3]`."""
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    if not isinstance(parts[0], ast.Slice):
        return False
    return not any((isinstance(one, ast.Slice) and one.upper is not None) or _is_place(one) for one in parts[1:])


def _is_place(node: ast.expr) -> bool:
    return not isinstance(node, (ast.Slice, ast.Tuple))
