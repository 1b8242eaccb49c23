"""What code with pandas gives for a part of a table's rows: a part of what it gives for all, a total, or neither."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from nb_oomhelper.source import frame_methods
from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.frame_methods import ROWS, Kind, of_rows, unfit
from nb_oomhelper.source.row_sources import UnfitError
from nb_oomhelper.source.tree import arguments, is_unpacked, last_name, names_bound, names_in

_TAKE_FEWER = frozenset({"isin", "between", "notna", "isna", "contains", "startswith", "eq", "ne", "lt", "gt"})
_OF_ALL = frozenset(  # attributes that say something of all rows together
    {"iloc", "iat", "shape", "size", "T", "empty", "is_unique", "hasnans", "nbytes", "ngroups", "groups", "indices"}
    | {"is_monotonic_increasing", "is_monotonic_decreasing"}
)
_DEPTH = 3  # functions that call each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Tells of code what it gives for a part of a table.

    Attributes:
        by: The columns that are the same in all rows of a group, which is in one part; with none any row may be in any.
        barred: Names that must not be read: of what has something for each row of the whole table.
        function: Gives a function of the notebook's that a name stands for, or None.
        names: What names stand for; those that are not there are "outside".
        given: Names of what is the table itself, which must not change.
        depth: How many functions may still call each other.
        moved: Where rows were put in another order than that of the table.
        spans: Statements that make spans of time of groups, by the name that they bind.
        joining: Those of them that must give a value at both ends, or what is computed looks beyond a part.
    """

    by: frozenset[str]
    barred: Collection[str]
    function: Callable[[str], Function | None]
    names: dict[str, Kind] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    depth: int = _DEPTH
    moved: list[ast.Call] = field(default_factory=list)
    spans: dict[str, ast.stmt] = field(default_factory=dict)
    joining: list[ast.stmt] = field(default_factory=list)

    def read_statement(self, node: ast.stmt) -> None:
        """Read what a statement binds.

        Args:
            node: The statement.

        Raises:
            UnfitError: It does something else, or changes what is not its own.
        """
        if not isinstance(node, (ast.Assign, ast.AugAssign)):
            raise UnfitError
        kind = self.read(node.value)
        target = node.target if isinstance(node, ast.AugAssign) else node.targets[-1]
        if isinstance(node, ast.Assign) and len(node.targets) > 1:
            raise UnfitError
        if isinstance(target, ast.Name):
            if isinstance(node, ast.AugAssign):
                kind = of_rows([kind, self.names.get(target.id, "outside")])
            self._bind(target.id, kind, node)
        elif not (_is_own_column(self, target) or _renames(self, target, node.value)) or kind not in {*ROWS, "outside"}:
            raise UnfitError

    def _bind(self, name: str, kind: Kind, node: ast.Assign | ast.AugAssign) -> None:
        same = isinstance(node.value, ast.Name) and node.value.id in self.given
        if name in self.given and not same:
            if isinstance(node, ast.AugAssign):
                raise UnfitError
            self.given.discard(name)
        elif same:
            self.given.add(name)
        self.names[name] = kind
        self.spans.pop(name, None)
        if _is_of_spans(node.value) and self.by and kind == "rows":
            self.spans[name] = node

    def read(self, node: ast.expr) -> Kind:
        """Tell what an expression gives.

        Raises:
            UnfitError: It cannot be told, or is neither a part nor a total.
        """
        words = names_in(node)
        if names_by_row(node) & {*self.barred} - self.names.keys():
            raise UnfitError
        if all(self.names.get(one, "outside") == "outside" for one in words):
            return "outside"
        if isinstance(node, ast.Name):
            return self.names[node.id]
        if isinstance(node, ast.ListComp):
            return "outside" if _goes_through_columns(self, node) else unfit()
        if isinstance(node, ast.Subscript):
            return self._read_subscript(node)
        if isinstance(node, ast.Attribute):
            return self._read_attribute(node)
        return self._read_call(node) if isinstance(node, ast.Call) else self._read_operation(node)

    def _read_operation(self, node: ast.expr) -> Kind:
        if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.MatMult):
            return self._of_rows([node.left, node.right])
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            return self._of_rows([node.operand])
        if isinstance(node, ast.Compare):
            return self._of_rows([node.left, *node.comparators])
        return self._of_rows(node.elts) if isinstance(node, (ast.List, ast.Tuple)) else unfit()

    def _of_rows(self, nodes: Iterable[ast.expr]) -> Kind:
        return of_rows([self.read(one) for one in nodes])

    def _read_attribute(self, node: ast.Attribute) -> Kind:
        if node.attr in ("columns", "dtypes"):
            return "outside"
        kind = self.read(node.value)
        fit = node.attr not in _OF_ALL and kind in {*ROWS, "groups", "split"}
        return kind if fit else unfit()

    def _read_subscript(self, node: ast.Subscript) -> Kind:
        kind, at = self.read(node.value), node.slice
        located = isinstance(node.value, ast.Attribute) and node.value.attr in ("loc", "at")
        rows: ast.expr | None = at
        if located and isinstance(at, ast.Tuple) and len(at.elts) == 2:
            rows = None if ast.unparse(at.elts[0]) == ":" else at.elts[0]
            if self.read(at.elts[1]) != "outside":
                raise UnfitError
        elif isinstance(node.value, ast.Attribute) and node.value.attr == "str":  # `.str[0]`: of each text
            return of_rows([kind, self.read(at)])
        elif not located and self.read(at) == "outside":
            rows = None
            if isinstance(at, (ast.Slice, ast.UnaryOp, ast.Compare, ast.BinOp, ast.Lambda)) or _is_one(self, node):
                raise UnfitError
        if rows is None:
            return kind if kind in {*ROWS, "groups", "split", "windows"} else unfit()
        if kind not in ROWS or self.read(rows) not in ROWS:
            raise UnfitError
        more = isinstance(rows, ast.Call) and last_name(rows.func) not in _TAKE_FEWER  # `x.index.repeat(x["term"])`
        return kind if more else "fewer"

    def _read_call(self, call: ast.Call) -> Kind:
        if is_unpacked(call):
            raise UnfitError
        if isinstance(call.func, ast.Name):
            return _of_function(self, call, call.func.id)
        if not isinstance(call.func, ast.Attribute):
            raise UnfitError
        kind, name = self.read(call.func.value), call.func.attr
        given = _given(self, call)
        if _moves(call, kind, given):
            self.moved.append(call)
        if kind == "outside":
            return frame_methods.of_module(call, given, self.by) if {*given} - {"outside"} else kind
        if kind in ROWS:
            return _of_table(self, call, kind, given)
        if {*given} - {"outside"}:
            raise UnfitError
        if kind == "split":
            return frame_methods.of_split_groups(call, name)
        if kind == "groups":
            return frame_methods.of_groups(name)
        return frame_methods.of_windows(name) if kind == "windows" else unfit()


def _of_function(reader: Reader, call: ast.Call, name: str) -> Kind:
    """Functions of the notebook's, and Python's."""
    given = [reader.read(one) for one in call.args]
    named = {one.arg or "": reader.read(one.value) for one in call.keywords}
    if name in ("abs", "round") or not {*given, *named.values()} - {"outside"}:
        return of_rows(given)
    function = reader.function(name)
    if function is None or not reader.depth or {*given, *named.values()} - ROWS - {"outside"}:
        raise UnfitError
    return _inside(reader, function, given, named)


def _given(reader: Reader, call: ast.Call) -> list[Kind]:
    """What a call is given; of a table that is joined by a key it does not matter where its rows lie."""
    joined: dict[ast.expr, Kind] = {one: reader.names.get(one.id, "outside") for one in _joined_by_key(call)}
    return [joined[one] if one in joined else reader.read(one) for one in arguments(call)]


def _of_table(reader: Reader, call: ast.Call, kind: Kind, given: list[Kind]) -> Kind:
    """What a method of rows gives; spans of time of groups may be filled like all of them together."""
    if last_name(call.func) != "interpolate":
        return frame_methods.of_table(call, kind, given, reader.by)
    made = reader.spans.get(getattr(getattr(call.func, "value", None), "id", ""))
    if made is None or given:
        raise UnfitError
    reader.joining.append(made)
    return kind


def names_by_row(node: ast.AST) -> set[str]:
    """Give the names in some code but for those of tables that are joined by what stands in them.

    Args:
        node: The code.
    """
    joined = [name for one in ast.walk(node) if isinstance(one, ast.Call) for name in _joined_by_key(one)]
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and one not in joined}


def _joined_by_key(call: ast.Call) -> list[ast.Name]:
    """The tables that a call is given to join by a column, wherever their rows lie: `x.merge(y, on="k")`."""
    told = {one.arg for one in call.keywords}
    if last_name(call.func) != "merge" or "on" not in told or told - {"on", "how", "suffixes", "right"}:
        return []
    on = frame_methods.keyword(call, "on")
    return [one for one in arguments(call) if isinstance(one, ast.Name) and one is not on]


def _is_of_spans(node: ast.expr) -> bool:
    """Whether it is one value for each span of time, of each group: `x.groupby("id")["v"].resample("1s").mean()`."""
    spans = node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
    groups = spans.func.value if isinstance(spans, ast.Call) and isinstance(spans.func, ast.Attribute) else None
    column = groups.value if isinstance(groups, ast.Subscript) and frame_methods.is_text(groups.slice) else None
    return (
        isinstance(column, ast.Call) and last_name(column.func) == "groupby" and last_name(spans.func) == "resample"  # type: ignore[union-attr]
    )


def kind_of(reader: Reader, node: ast.expr) -> Kind | None:
    """Tell what an expression gives; None where it cannot be told, or is neither a part nor a total.

    Args:
        reader: Knows the table.
        node: The expression.
    """
    try:
        return reader.read(node)
    except UnfitError:
        return None


def _moves(call: ast.Call, kind: Kind, given: list[Kind]) -> bool:
    """Whether rows come in another order than they lie in the table."""
    name, sort = last_name(call.func), frame_methods.keyword(call, "sort")
    if kind in ROWS:
        return name in ("sort_values", "sort_index", "melt") or sort is not None
    if name != "merge" or not {*given} & ROWS:
        return False
    left = len(call.args) == 2 and given[0] in ROWS  # `pd.merge(x, items)`
    right = ast.unparse(frame_methods.keyword(call, "how") or ast.Constant("")) == "'right'"
    return sort is not None or left == right


def _is_one(reader: Reader, node: ast.Subscript) -> bool:
    """Whether it is one row's: `x["day"].values[0]`; and not a column of that name: `x[0]`."""
    owner = node.value
    arrays = isinstance(owner, ast.Attribute) and owner.attr in ("values", "index", "array")
    if arrays or (isinstance(owner, ast.Call) and last_name(owner.func) in ("to_numpy", "unique")):
        return True
    table = isinstance(owner, ast.Name) and owner.id in reader.given
    table = table or (isinstance(owner, ast.Call) and last_name(owner.func) == "extract")
    number = isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int)
    return number and not table


def _is_own_column(reader: Reader, target: ast.expr) -> bool:
    """Whether a column of what was made here is set, and not one by which groups are told."""
    if not isinstance(target, ast.Subscript) or not isinstance(target.value, ast.Name):
        return False
    owner = target.value.id
    names = frame_methods.texts_of(target.slice)
    return bool(names) and reader.names.get(owner) in ROWS and owner not in reader.given and not names & reader.by


def _renames(reader: Reader, target: ast.expr, names: ast.expr) -> bool:
    """Whether all columns of what was made here get other names, none of them one by which groups are told."""
    if not isinstance(target, ast.Attribute) or target.attr != "columns" or not isinstance(target.value, ast.Name):
        return False
    other = isinstance(names, ast.ListComp) and not isinstance(names.elt, ast.Name)  # `[f"{c}_share" for c in numbers]`
    told = isinstance(names, ast.List) and all(map(frame_methods.is_text, names.elts))
    fit = not reader.by or ((other or told) and not reader.by & frame_methods.texts_of_all(ast.walk(names)))
    return target.value.id not in reader.given and fit


def _goes_through_columns(reader: Reader, node: ast.ListComp) -> bool:
    """Whether a list is made of the names of the table's columns: `[c for c in sales if c != "day"]`."""
    over = node.generators[0].iter
    own = isinstance(over, ast.Name) and over.id in reader.given
    read = [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)]
    return own and sum(reader.names.get(one, "outside") != "outside" for one in read) == 1


def _inside(reader: Reader, function: Function, given: list[Kind], named: dict[str, Kind]) -> Kind:
    """What a function gives for that."""
    places = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    names: dict[str, Kind] = {**dict(zip(places, given, strict=False)), **named}
    read = names_in(function) - {*names} - names_bound(function.body)
    barred = read & {one for one, kind in reader.names.items() if kind != "outside"} | read & {*reader.barred}
    inner = replace(reader, barred=barred, names=names, given={*names}, depth=reader.depth - 1)
    return _read_body(inner, function.body)


def _read_body(reader: Reader, body: list[ast.stmt]) -> Kind:
    for node in body:
        if isinstance(node, ast.Return) and node.value is not None:
            return reader.read(node.value)
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            reader.read_statement(node)
    raise UnfitError
