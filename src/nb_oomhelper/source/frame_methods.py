"""What a call of pandas gives for a part of a table's rows."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from nb_oomhelper.source.row_company import BY_ROWS
from nb_oomhelper.source.row_sources import UnfitError
from nb_oomhelper.source.tree import arguments, last_name, walk

Kind = Literal["outside", "rows", "fewer", "groups", "windows", "split", "total"]
"""What a value is: nothing of the table; rows of it; fewer ones; groups, each in one part; windows of these; groups
that may be in several parts; or a total of all parts."""

ROWS = frozenset({"rows", "fewer"})
_TOTALS = frozenset({"sum", "count", "max", "min", "any", "all", "mean"})  # can be had from those of parts

_PER_ROW = frozenset(
    {"abs", "clip", "astype", "fillna", "round", "between", "assign", "rename", "drop", "copy", "where", "mask"}
    | {"notna", "isna", "notnull", "isnull", "to_frame", "dropna", "explode", "reset_index", "set_index", "repeat"}
    | {"add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow", "radd", "rsub", "rmul", "rdiv", "rtruediv"}
    | {"eq", "ne", "lt", "le", "gt", "ge", "rename_axis", "filter", "to_numpy", "sort_values", "sort_index"}
    | {"select_dtypes", "melt"}
)
_BY_A_TABLE = frozenset({"isin", "map", "replace", "applymap"})  # what they are given is the same for all rows
_ACCESSORS = frozenset({"str", "dt", "cat"})
_OF_COLUMN = frozenset({"get_dummies", "cat", "remove_unused_categories"})  # of these: they look at all rows
_LOOKS_ON = frozenset({"limit", "method", "downcast", "inplace"})  # with these rows depend on others, or change
_CHANGES = frozenset(  # what rows say in the columns by which they are kept together
    {"abs", "clip", "astype", "round", "where", "mask", "add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow"}
    | {"replace", "map", "applymap", "radd", "rsub", "rmul", "rdiv", "rtruediv", "eq", "ne", "lt", "le", "gt", "ge"}
)
_WITH_FUNCTION = frozenset({"map", "apply", "applymap"})
_PER_GROUP = frozenset(
    {"transform", "shift", "cumsum", "cumcount", "cumprod", "cummax", "cummin", "rank", "diff", "pct_change"}
    | {"ffill", "bfill", "fillna"}
)
_WINDOWS = frozenset({"rolling", "expanding", "ewm", "resample"})
_OF_GROUPS = frozenset(
    {"agg", "aggregate", "mean", "sum", "size", "count", "median", "std", "var", "min", "max", "first", "last", "sem"}
    | {"nunique", "apply", "quantile", "any", "all", "prod", "head", "tail", "nth", "describe", "idxmax", "idxmin"}
    | {"filter", "value_counts", "skew", "nlargest", "nsmallest", "unique"}
)
REDUCES = _OF_GROUPS | _TOTALS
"""The names of methods that make little of rows or groups."""
_ACROSS = _TOTALS | frozenset({"std", "median", "nunique", "idxmax", "idxmin", "apply"})
_ELEMENTWISE = frozenset(  # functions of NumPy's and pandas'
    {"abs", "log", "log1p", "log2", "log10", "exp", "expm1", "sqrt", "square", "sin", "cos", "tan", "arcsin", "arccos"}
    | {"arctan", "arctan2", "radians", "deg2rad", "rad2deg", "degrees", "floor", "ceil", "round", "sign", "where"}
    | {"clip", "maximum", "minimum", "isnan", "isfinite", "isna", "notna", "isnull", "notnull", "power", "hypot"}
    | {"to_datetime", "to_numeric", "to_timedelta", "nan_to_num", "sinh", "cosh", "tanh", "select", "mod", "divide"}
)


def of_rows(kinds: Collection[Kind]) -> Kind:
    """Tell what is computed, row by row, of such.

    Args:
        kinds: What it is computed of.

    Raises:
        UnfitError: Not all are rows, or the same for all rows.
    """
    if {*kinds} - ROWS - {"outside"}:
        raise UnfitError
    found = [one for one in kinds if one in ROWS]
    return "outside" if not found else "rows" if "rows" in found else "fewer"


def of_module(call: ast.Call, given: list[Kind], by: frozenset[str]) -> Kind:
    """Tell what functions of modules give, models, and tables that have others beside them: `shops.merge(x)`.

    Args:
        call: The call; what it is of has nothing of the table.
        given: What its arguments are.
        by: The columns that are the same in all rows of a group.

    Raises:
        UnfitError: It cannot be told.
    """
    name = last_name(call.func)
    named = {one.arg for one in call.keywords}
    guessed = name == "to_datetime" and not named & {"format", "unit"}  # from the first row
    if name in _ELEMENTWISE | BY_ROWS and not guessed and not named & _LOOKS_ON:
        return of_rows(given)
    if name == "cut" and len(call.args) > 1 and isinstance(call.args[1], (ast.List, ast.Tuple, ast.Call)):
        return of_rows(given)
    if name == "concat" and is_across(call):
        return of_rows(given)
    if name == "merge" and len(call.args) <= 2 and not any(map(is_text, call.args)):
        usual = "left" if len(call.args) > 1 and given[0] in ROWS else "right"
        parts = sum(one in ROWS for one in given)
        alone = parts == 1 and _how(call) in ("inner", "cross", usual)  # of what is whole no row may come out alone
        by_key = is_by(keyword(call, "on"), by) and _how(call) in ("inner", "left", "right", "outer")
        if alone or (parts > 1 and by_key):
            return of_rows(given)
    raise UnfitError


def of_table(call: ast.Call, kind: Kind, given: list[Kind], by: frozenset[str]) -> Kind:
    """Tell what a method of rows gives.

    Args:
        call: The call.
        kind: What it is of: "rows" or "fewer".
        given: What its arguments are.
        by: The columns that are the same in all rows of a group.

    Raises:
        UnfitError: It cannot be told.
    """
    function = call.func
    name, owner = (function.attr, function.value) if isinstance(function, ast.Attribute) else ("", function)
    subset = keyword(call, "subset") or next(iter(call.args), None)
    column = isinstance(owner, ast.Attribute) or (isinstance(owner, ast.Subscript) and is_text(owner.slice))
    if any(isinstance(one, ast.Lambda) for one in walk(arguments(call))) and name not in _WITH_FUNCTION:
        raise UnfitError
    if {one.arg for one in call.keywords} & _LOOKS_ON or _changes_groups(call, name, owner, by):
        raise UnfitError
    if name == "groupby":
        return _grouped(call, is_by(keyword(call, "by") or subset, by))
    if name in ("merge", "join"):
        return _merged(call, name, [kind, *given], by)
    if name in ("drop_duplicates", "duplicated") and is_by(subset, by):
        return "fewer" if name == "drop_duplicates" else kind
    if name in ("query", "eval") and is_text(subset) and "(" not in ast.unparse(subset or ast.Constant("(")):
        return "fewer"
    if _is_per_row(call, name, owner, by) or name in _BY_A_TABLE or (name == "apply" and column):
        return of_rows([kind, *given]) if name not in _BY_A_TABLE or not {*given} - {"outside"} else unfit()
    if name in _ACROSS and is_across(call):
        return kind
    bare = not call.args and not call.keywords
    return "total" if bare and name in _TOTALS | {"value_counts"} else unfit()


def _grouped(call: ast.Call, together: bool) -> Kind:
    """What groups are; spans of time, and groups that are numbered, or lie as they come, are others in each part."""
    spans = any(last_name(one.func) == "Grouper" for one in walk(arguments(call)) if isinstance(one, ast.Call))
    if spans or keyword(call, "sort" if together else "as_index") is not None:
        raise UnfitError
    return "groups" if together else "split"


def _merged(call: ast.Call, name: str, kinds: list[Kind], by: frozenset[str]) -> Kind:
    how = _how(call, "left" if name == "join" else "inner")
    if len(call.args) > 1:  # how they are joined stands there, too
        raise UnfitError
    if {*kinds[1:]} & ROWS:
        fit = is_by(keyword(call, "on"), by) and how in ("inner", "left", "right", "outer")
    else:
        fit = how in ("inner", "left", "cross")
    return of_rows(kinds) if fit else unfit()


def _is_per_row(call: ast.Call, name: str, owner: ast.expr, by: frozenset[str]) -> bool:
    """Whether a method gives for each row what that row alone says, and leaves the groups' columns as they are."""
    if isinstance(owner, ast.Attribute) and owner.attr in _ACCESSORS:
        return name not in _OF_COLUMN and not (name in ("split", "rsplit") and keyword(call, "expand") is not None)
    if name == "drop" and keyword(call, "columns") is None and not is_across(call):
        return False
    if name == "dropna" and keyword(call, "axis") is not None:
        return False
    texts = {one.value for one in walk(arguments(call)) if isinstance(one, ast.Constant)}
    if (name == "rename" and texts & by) or (name == "assign" and any(one.arg in by for one in call.keywords)):
        return False
    return name in _PER_ROW and "category" not in texts


def _changes_groups(call: ast.Call, name: str, owner: ast.expr, by: frozenset[str]) -> bool:
    """Whether a method may make the same of what groups are told by: `x.round()`, not `x["price"].round()`."""
    given = next(iter(call.args), None)
    others = isinstance(given, ast.Dict) and all(map(is_text, given.keys)) and not texts_of_all(given.keys) & by
    return bool(by) and name in _CHANGES and not others and not _is_column(owner, by)


def _is_column(node: ast.expr, by: frozenset[str]) -> bool:
    """Whether it is one column, or some that are none of those, as far as they are told."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and _is_column(node.func.value, by)
    if isinstance(node, ast.Subscript):
        return is_text(node.slice) or not texts_of(node.slice) & by
    return isinstance(node, (ast.Attribute, ast.BinOp, ast.Compare, ast.UnaryOp))


def of_groups(name: str) -> Kind:
    """Tell what a method gives of groups that are each in one part.

    Args:
        name: The method's.

    Raises:
        UnfitError: It cannot be told.
    """
    if name in _WINDOWS:
        return "windows"
    if name in _PER_GROUP:
        return "rows"
    return "fewer" if name in _OF_GROUPS else unfit()


def of_windows(name: str) -> Kind:
    """Tell what a method gives of windows of such groups: as `of_groups`."""
    return "rows" if name in _OF_GROUPS else unfit()


def of_split_groups(call: ast.Call, name: str) -> Kind:
    """Tell what a method gives of groups that may be in several parts.

    Args:
        call: The call.
        name: The method's.

    Raises:
        UnfitError: It is no total that can be had from those of parts.
    """
    return "total" if agg_of(call) or (name in _TOTALS | {"size"} and not arguments(call)) else unfit()


def agg_of(call: ast.Call) -> dict[str, ast.expr] | ast.expr | None:
    """Give what `.agg()` is given, where it can be had from parts: by name, or the one thing.

    Args:
        call: The call; None where it is of something else.
    """
    if last_name(call.func) not in ("agg", "aggregate"):
        return None
    known = _TOTALS | {"size"}
    if call.keywords and not call.args:
        named = {one.arg or "": one.value for one in call.keywords}
        fit = all(isinstance(one, ast.Tuple) and len(one.elts) == 2 and _ways(one) <= known for one in named.values())
        return named if fit else None
    spec = call.args[0] if len(call.args) == 1 and not call.keywords else None
    if isinstance(spec, ast.Dict):
        return spec if None not in spec.keys and all(_ways(one) <= known for one in spec.values) else None
    of_column = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Subscript)
    of_column = of_column and is_text(call.func.value.slice)  # type: ignore[attr-defined]
    fit = is_text(spec) or (isinstance(spec, ast.List) and of_column)
    return spec if fit and spec is not None and _ways(spec) <= known else None


def _ways(node: ast.expr) -> set[str]:
    """How a column is put together: `"sum"`, `["sum", "mean"]`, `("qty", "sum")`."""
    if isinstance(node, ast.Tuple) and node.elts:
        return _ways(node.elts[-1])
    if isinstance(node, ast.List):
        return {text for one in node.elts for text in _ways(one)}
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else {""}


def is_by(keys: ast.expr | None, by: frozenset[str]) -> bool:
    """Tell whether rows that are alike in some columns are in one part.

    Args:
        keys: What names the columns: `"user"`, `["user", "day"]`.
        by: The columns that are the same in all rows of a group.
    """
    return bool(by) and by <= texts_of(keys)


def texts_of(node: ast.expr | None) -> frozenset[str]:
    """Give the texts of a list, or the one text: `["user", "day"]`.

    Args:
        node: What may be one.
    """
    return texts_of_all(elements_of(node))


def elements_of(node: ast.expr | None) -> Sequence[ast.expr | None]:
    """Give what stands in a list; of anything else itself."""
    return node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node]


def texts_of_all(parts: Iterable[ast.AST | None]) -> frozenset[str]:
    """Give those of some nodes that are texts.

    Args:
        parts: The nodes.
    """
    return frozenset(one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str))


def is_list_of_texts(node: ast.expr) -> bool:
    """Tell whether it is a list of texts alone, none of them twice."""
    return isinstance(node, ast.List) and len(texts_of(node)) == len(node.elts)


def is_text(node: ast.AST | None) -> bool:
    """Tell whether code is a text."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """Give what a call is given by a name."""
    return next((one.value for one in call.keywords if one.arg == name), None)


def _how(call: ast.Call, usual: str = "inner") -> str:
    how = keyword(call, "how")
    return usual if how is None else str(how.value) if isinstance(how, ast.Constant) else ""


def is_across(call: ast.Call) -> bool:
    """Tell whether a call says that it goes along the rows."""
    return ast.unparse(keyword(call, "axis") or ast.Constant(0)) in ("1", "'columns'")


def unfit() -> Kind:
    """Raise `UnfitError` where a value is wanted."""
    raise UnfitError
