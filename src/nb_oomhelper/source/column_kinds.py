"""What code with pandas and NumPy gives for some columns of a table: these columns of what it gives for all, or not."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Literal

from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.frame_methods import keyword
from nb_oomhelper.source.reduced import NUMPY
from nb_oomhelper.source.row_calls import ELEMENTWISE
from nb_oomhelper.source.row_sources import UnfitError
from nb_oomhelper.source.tree import arguments, is_unpacked, last_name, names_bound, names_in

Kind = Literal["outside", "frame", "array", "numbers", "values", "windows"]
"""What a value is: nothing of the table; a DataFrame or an array of its columns; a number for each, as a Series or as
an array; or windows of rows."""

TABLES: frozenset[Kind] = frozenset({"frame", "array"})
_PER_COLUMN: frozenset[Kind] = frozenset({"numbers", "values"})
_SAME = frozenset(  # methods that give as many columns, each of one
    {"abs", "astype", "round", "copy", "fillna", "ffill", "bfill", "interpolate", "rank", "diff", "pct_change", "shift"}
    | {"cumsum", "cumprod", "cummax", "cummin", "isna", "notna", "isnull", "notnull", "where", "mask", "replace", "map"}
    | {"transform", "applymap", "add_prefix", "add_suffix", "to_numpy", "head", "tail", "clip", "reset_index", "apply"}
    | {"set_axis", "dropna", "pipe"}
)
_SIGNS = frozenset(
    {"add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow", "radd", "rsub", "rmul", "rdiv", "rtruediv"}
    | {"eq", "ne", "lt", "le", "gt", "ge", "subtract", "divide", "multiply"}
)
_WINDOWS = frozenset({"rolling", "expanding", "ewm", "resample"})
_REDUCES = frozenset(
    {"mean", "std", "var", "min", "max", "median", "sum", "quantile", "skew", "kurt", "kurtosis", "count", "nunique"}
    | {"any", "all", "sem", "prod", "ptp", "first", "last", "nanmean", "nanstd", "nanvar", "nanmin", "nanmax"}
    | {"nanmedian", "nansum", "percentile", "nanpercentile", "nanquantile", "norm", "average", "amin", "amax"}
)
_ALONG = frozenset(  # with an axis
    {"sort", "argsort", "cumsum", "cumprod", "diff", "gradient", "rankdata", "detrend", "savgol_filter", "zscore"}
    | {"gaussian_filter1d", "uniform_filter1d"}
)
_ELEMENTWISE = ELEMENTWISE | {"erfinv", "ndtri", "ppf", "cdf", "logit", "log_ndtr", "isna", "notna", "isnull"}
_SCALERS = frozenset({"StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"})
_MODULES = frozenset({*NUMPY, "scipy", "stats", "special", "signal", "ndimage", "norm", "pd", "pandas"})
_DROPS_FIRST = frozenset({"diff", "pct_change", "shift", "rolling"})  # what is missing then is so in all columns
_DRAWN = re.compile(r"\brandom\b|\brng\b|\bsample\b|\bpermutation\b|\bshuffle\b")
_NAME = re.compile(r"\w+")
_UNFIT = frozenset({"inplace", "out", "level", "by", "on", "closed", "numeric_only"})  # arguments
_DEPTH = 2  # functions that call each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Tells of code what it gives for some columns of a table.

    Attributes:
        table: How the table is written: `df`, `df[num_cols]`.
        kind: What it is.
        barred: Names that must not be read: of what has something for each row or column.
        function: Gives a function of the notebook's that a name stands for, or None.
        names: What names stand for; those that are not there are "outside".
        depth: How many functions may still call each other.
    """

    table: str
    kind: Kind
    barred: Collection[str]
    function: Callable[[str], Function | None]
    names: dict[str, Kind] = field(default_factory=dict)
    depth: int = _DEPTH

    @property
    def root(self) -> str:
        """The name of the table: `df` of `df[num_cols]`."""
        return self.table.partition("[")[0]

    def read_statement(self, node: ast.stmt) -> None:
        """Read what a statement binds.

        Args:
            node: The statement.

        Raises:
            UnfitError: It does something else, or changes what is not its own.
        """
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id in self.names:
            self.names[node.target.id] = _beside([self.names[node.target.id], self.read(node.value)])
            return
        if not isinstance(node, ast.Assign) or len(node.targets) > 1:
            raise UnfitError
        target, kind = node.targets[0], self.read(node.value)
        if isinstance(target, ast.Name):
            self.names[target.id] = kind
            return
        owner = target.value if isinstance(target, ast.Subscript) else None  # `std[std == 0] = 1`
        own = isinstance(owner, ast.Name) and self.names.get(owner.id) in _PER_COLUMN
        if not own or kind != "outside" or self.read(target.slice) not in _PER_COLUMN:  # type: ignore[attr-defined]
            raise UnfitError

    def read(self, node: ast.expr) -> Kind:
        """Tell what an expression gives.

        Raises:
            UnfitError: It cannot be told, or columns depend on others.
        """
        if ast.unparse(node) == self.table and self.table not in self.names:
            return self.kind
        words = names_in(node)
        told = set() if isinstance(node, ast.Name) else {*_NAME.findall(self.table)}  # `df[num_cols]` may say it
        if words & {*self.barred} - self.names.keys() - told:
            raise UnfitError
        if self.root not in words and all(self.names.get(one, "outside") == "outside" for one in words):
            return "outside"
        if isinstance(node, ast.Name):
            return self.names[node.id] if node.id in self.names else unfit()
        if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.MatMult):
            return _beside([self.read(node.left), self.read(node.right)])
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            return self.read(node.operand)
        if isinstance(node, ast.Compare):
            return _beside([self.read(one) for one in (node.left, *node.comparators)])
        if isinstance(node, ast.Subscript):
            return self._read_subscript(node)
        if isinstance(node, ast.Attribute):
            return self._read_attribute(node)
        return self._read_call(node) if isinstance(node, ast.Call) else unfit()

    def _read_subscript(self, node: ast.Subscript) -> Kind:
        """Rows from one on up to another, `returns.iloc[1:]`; or what a mask of the same form leaves, `x[x > 0]`."""
        located = isinstance(node.value, ast.Attribute) and node.value.attr in ("iloc", "loc")
        kind = self.read(node.value.value if located else node.value)  # type: ignore[attr-defined]
        if isinstance(node.slice, ast.Slice) and kind in TABLES and (located or kind == "array"):
            return kind if not names_in(node.slice) & self.names.keys() else unfit()
        masked = isinstance(node.slice, ast.Compare) and not located and kind == "frame"
        return kind if masked and self.read(node.slice) == "frame" else unfit()

    def _read_attribute(self, node: ast.Attribute) -> Kind:
        kind = self.read(node.value)
        if node.attr != "values":
            raise UnfitError
        return {"frame": "array", "numbers": "values"}.get(kind) or unfit()  # type: ignore[return-value]

    def _read_call(self, call: ast.Call) -> Kind:
        name = last_name(call.func) or ""
        if is_unpacked(call) or _UNFIT & {one.arg for one in call.keywords} or _is_told_by_place(call, name):
            raise UnfitError
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if owner is None or is_module(owner):
            return self._of_function(call, name)
        if isinstance(owner, ast.Call) and last_name(owner.func) in _SCALERS and name == "fit_transform":
            alone = [self.read(one) for one in [*call.args, *arguments(owner)]]
            return "array" if alone[:1] in (["frame"], ["array"]) and {*alone[1:]} <= {"outside"} else unfit()
        kind = self.read(owner)
        given = [self.read(one) for one in arguments(call)]
        if kind in TABLES:
            return _of_table(call, name, kind, given)
        if kind == "windows" and name in _REDUCES | {"apply", "agg"} and {*given} <= {"outside"}:
            return "frame"
        plain = name in _SIGNS | {"abs", "fillna", "replace", "clip", "astype", "copy", "to_numpy", "round"}
        if kind in _PER_COLUMN and plain and {*given} <= {"outside", kind}:
            return "values" if name == "to_numpy" else kind
        raise UnfitError

    def _of_function(self, call: ast.Call, name: str) -> Kind:
        """Functions of modules, and of the notebook's."""
        if name == "DataFrame" and isinstance(call.func, ast.Attribute):
            return _of_array(self, call)
        given = [self.read(one) for one in call.args]
        named = {one.arg or "": self.read(one.value) for one in call.keywords}
        function = self.function(name) if isinstance(call.func, ast.Name) else None
        if function is not None:
            return _inside(self, function, given, named)
        kinds, axis = [*given, *named.values()], axis_of(call)
        if name in _ELEMENTWISE and not axis:
            return "array" if name in ("where", "select") and {*kinds} & TABLES else _beside(kinds)
        of_first = [*given[1:], *named.values()]
        if not given or given[0] not in TABLES or {*of_first} - {"outside"} or (axis or "-") not in ("0", "-"):
            raise UnfitError
        if name in _REDUCES and axis:
            return "values" if given[0] == "array" else _of_reduced(call, name)
        return "array" if name in _ALONG and (axis or name == "zscore") else unfit()


def _of_table(call: ast.Call, name: str, kind: Kind, given: list[Kind]) -> Kind:
    axis = axis_of(call)
    if name in _WINDOWS and kind == "frame" and {*given} <= {"outside"} and axis in ("", "0", "'index'"):
        return "windows"
    if name in _SIGNS or name == "clip":
        across = "numbers" in given and axis in ("0", "'index'", "'rows'")
        return unfit() if across or "values" in given else _beside([kind, *given])
    if name in _REDUCES and {*given} <= {"outside"}:
        along = axis in ("0", "'index'") if kind == "array" else axis in ("", "0", "'index'")
        if not along:
            raise UnfitError
        return "values" if kind == "array" else _of_reduced(call, name)
    if name == "dropna" and (arguments(call) or not _is_missing_in_all(call.func)):
        raise UnfitError
    if name == "reset_index" and ast.unparse(keyword(call, "drop") or call) != "True":
        raise UnfitError
    if name == "copy" and kind == "array":
        return kind
    if name in _SAME and axis in ("", "0", "'index'") and (kind == "frame" or name in ("astype", "round")):
        fit = {*given} <= {"outside", "numbers", "frame"} and (name != "pipe")
        return ("array" if name == "to_numpy" else kind) if fit else unfit()
    raise UnfitError


def _of_array(reader: Reader, call: ast.Call) -> Kind:
    """A DataFrame of an array, named as the table: `pd.DataFrame(scaled, columns=df.columns, index=df.index)`."""
    fit = {one.arg: ast.unparse(one.value) for one in call.keywords}.items() <= {
        ("columns", f"{reader.table}.columns"),
        ("index", f"{reader.table}.index"),
    }
    return "frame" if fit and len(call.args) == 1 and reader.read(call.args[0]) == "array" else unfit()


def _inside(reader: Reader, function: Function, given: list[Kind], named: dict[str, Kind]) -> Kind:
    """What a function gives for that."""
    places = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    names: dict[str, Kind] = {**dict(zip(places, given, strict=False)), **named}
    read = names_in(function) - {*names} - names_bound(function.body)
    if not reader.depth or read & (reader.names.keys() | {*reader.barred} | {reader.root}):
        raise UnfitError
    inner = replace(reader, table="", names=names, depth=reader.depth - 1)
    for node in function.body:
        if isinstance(node, ast.Return) and node.value is not None:
            return inner.read(node.value)
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            inner.read_statement(node)
    raise UnfitError


def is_module(node: ast.expr) -> bool:
    """Tell whether what stands before a dot is a module of those that are known here."""
    return isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node).partition(".")[0] in _MODULES


def is_drawn(node: ast.AST) -> bool:
    """Tell whether code may draw random numbers, which would be others in parts."""
    return bool(_DRAWN.search(ast.unparse(node)))


def unfit() -> Kind:
    """Raise `UnfitError` where a kind is wanted."""
    raise UnfitError


def _beside(kinds: Collection[Kind]) -> Kind:
    """What is computed of such, element by element."""
    found = {*kinds} - {"outside"}
    if "windows" in found or found == {"numbers", "values"}:
        raise UnfitError
    return next((one for one in ("frame", "array", "numbers", "values") if one in found), "outside")


def _of_reduced(call: ast.Call, name: str) -> Kind:
    """A number for each column of a DataFrame; of several shares a table."""
    share = next(iter(call.args), None) or keyword(call, "q")
    return "frame" if name == "quantile" and share is not None and not isinstance(share, ast.Constant) else "numbers"


def axis_of(call: ast.Call) -> str:
    """Give the axis that a call is told, as it is written; "" where it is told none."""
    axis = keyword(call, "axis")
    if axis is not None:
        return ast.unparse(axis)
    method = isinstance(call.func, ast.Attribute) and not is_module(call.func.value)
    places = {"clip": 2, "quantile": 1}.get(last_name(call.func) or "", 0 if method else 1)
    by_place = last_name(call.func) in _REDUCES - {"percentile", "nanpercentile", "nanquantile", "norm"}
    return ast.unparse(call.args[places]) if by_place and len(call.args) > places else ""


def _is_told_by_place(call: ast.Call, name: str) -> bool:
    """Whether a method may be told an axis without its name, or something for each column by its name."""
    most = 0 if name.startswith("cum") else 1 if name in ("diff", "shift") else None
    by_name = name == "astype" and any(isinstance(one, ast.Dict) for one in arguments(call))
    return by_name or (isinstance(call.func, ast.Attribute) and most is not None and len(call.args) > most)


def _is_missing_in_all(function: ast.expr) -> bool:
    """Whether rows that go for what is missing are the same in all columns: `prices.pct_change().dropna()`."""
    words = {last_name(one.func) for one in ast.walk(function) if isinstance(one, ast.Call)}
    return bool(words & _DROPS_FIRST)
