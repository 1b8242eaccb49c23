"""How a list or a dict is read whose items lie on disk, and what changes there."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from nb_oomhelper.source.demand_reads import Find
from nb_oomhelper.source.disk_puts import CHANGES, changes, changes_any
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import arguments, last_name, names_in, pairs, root_name, statement_around, walk

# Functions that make a table of items, with the methods that do it of items on disk; and arguments that want all items.
_TABLES = {"pd.DataFrame": "frame", "pandas.DataFrame": "frame", "pd.concat": "concat", "pandas.concat": "concat"}
_NOT_IN_PARTS = frozenset({"index", "axis", "keys", "join", "data", "objs", None})
_READS = frozenset({"items", "keys", "values", "get"})
# These make a list of all items, or want one.
_WHOLE = frozenset(
    {"list", "sorted", "tuple", "dict", "join", "dump", "dumps", "isinstance", "type", "id", "print", "repr", "str"}
    | {"copy", "deepcopy", "display", "pprint", "append", "insert", "Series", "merge_asof", "fit", "fit_transform"}
    | {"transform", "stack", "vstack", "hstack", "dstack", "column_stack", "concatenate", "concat", "cat", "block"}
    | {"tensor", "from_numpy", "pad_sequence", "chain", "shuffle", "sample", "product", "permutations", "combinations"}
)
_LISTS = frozenset({"dump", "dumps", "isinstance", "type", "from_numpy", "pad_sequence", "join"})
_SMALL = frozenset({"len", "sum", "min", "max", "any", "all", "mean", "std", "median"})
_NUMBER = frozenset(
    {"sum", "mean", "std", "var", "max", "min", "len", "norm", "float", "int", "item", "median", "any", "all", "abs"}
    | {"argmax", "argmin", "percentile", "quantile", "trace", "sqrt", "round", "count_nonzero"}
)


@dataclass(slots=True)
class ItemReads:
    """Reads of one name.

    Attributes:
        text: The source.
        body: The code.
        parents: Of its nodes, as `parents_of` gives them.
        name: The name.
        find: Finds a function of the notebook by its name.
        keyed: It stands for a dict.
        small: All that was made of it is known to take next to nothing.
        returned: It was given back.
    """

    text: SourceText
    body: list[ast.stmt]
    parents: Mapping[ast.AST, ast.AST]
    name: str
    find: Find
    keyed: bool = False
    small: bool = True
    returned: bool = False

    def edits(self, node: ast.AST) -> list[Edit] | None:
        """Give what changes where it is read; None where it must be a list or a dict.

        Args:
            node: The name there.
        """
        above = self.parents.get(node)
        if isinstance(above, ast.Attribute):
            call = self.parents.get(above)
            if above.attr not in _READS or not isinstance(call, ast.Call) or call.func is not above:
                return None
            if above.attr != "get":
                return self._gone_through(call)
            above = call
        if isinstance(above, ast.Call) and above.func is not node and node not in above.args:
            return [] if self._is_left(above) else None
        if isinstance(above, ast.Subscript) and above.value is node and isinstance(above.ctx, ast.Load):
            return [] if self._is_left(above) and not self._wants_list(above) else None
        if isinstance(above, (ast.Return, ast.Tuple)) and isinstance(statement_around(node, self.parents), ast.Return):
            self.returned = True
            return []
        method = _TABLES.get(ast.unparse(above.func)) if isinstance(above, ast.Call) and node in above.args else None
        if method is not None and isinstance(above, ast.Call):
            return self._table(above, method)
        return self._gone_through(node)

    def _table(self, call: ast.Call, method: str) -> list[Edit] | None:
        """`pd.DataFrame(rows, columns=names)` → `rows.frame(columns=names)`."""
        if self.keyed or len(call.args) != 1 or any(one.arg in _NOT_IN_PARTS for one in call.keywords):
            return None
        self.small = False
        told = ", ".join(f"{one.arg}={self.text.text[slice(*self.text.span(one.value))]}" for one in call.keywords)
        return [(*self.text.span(call), f"{self.name}.{method}({told})")]

    def _gone_through(self, node: ast.AST | None) -> list[Edit] | None:
        """What changes where it is gone through."""
        above = self.parents.get(node) if node is not None else None
        if isinstance(above, ast.Call) and node in above.args:
            name = last_name(above.func)
            if name in ("enumerate", "zip", "iter", "reversed", "tqdm"):
                return self._gone_through(above)
            if name in _WHOLE or (isinstance(above.func, ast.Attribute) and name in CHANGES - {"update", "extend"}):
                return None
            self.small = self.small and name in _SMALL
            return []
        if isinstance(above, ast.keyword):
            self.small = False
            return None if above.arg in ("key", "data") else []
        if isinstance(above, ast.For) and above.iter is node:
            self.small = self.small and not _keeps(above)
            return None if changes_any(names_in(above.target), above.body, self.find) else []
        if isinstance(above, ast.comprehension) and above.iter is node:
            made = self.parents.get(above)
            element = getattr(made, "elt", None) or getattr(made, "value", None)
            self.small = self.small and isinstance(element, ast.expr) and _is_number(element)
            return None if made is None or changes_any(names_in(above.target), [made], self.find) else []
        if isinstance(above, (ast.If, ast.While, ast.UnaryOp, ast.BoolOp, ast.Assert)):
            return []
        return None

    def _is_left(self, item: ast.expr) -> bool:
        """Whether nobody changes an item that is read."""
        above = self.parents.get(item)
        while isinstance(above, (ast.Subscript, ast.Attribute)):
            if not isinstance(above.ctx, ast.Load) or (isinstance(above, ast.Attribute) and above.attr in CHANGES):
                return False
            above = self.parents.get(above)
        if isinstance(above, ast.AugAssign) and root_name(above.target) == self.name:
            return False
        given = isinstance(above, ast.Call) and item in arguments(above)
        if given and changes(above, {self.name}, self.find):  # type: ignore[arg-type]
            return False
        statement = statement_around(item, self.parents)
        bound = [*pairs(statement, unpacked=True)] if statement is not None else []
        named = {root_name(target) for target, value in bound if self.name in names_in(value)} - {"", self.name}
        return not changes_any(named, self.body, self.find)

    def _wants_list(self, item: ast.Subscript) -> bool:
        """Whether a long slice, which is no list either, is given to what wants one."""
        above = self.parents.get(item)
        if not isinstance(item.slice, ast.Slice):
            return False
        call = above if isinstance(above, ast.Call) else None
        return isinstance(above, ast.BinOp) or (
            call is not None and (root_name(call.func) == "torch" or last_name(call.func) in _LISTS)
        )


def _is_number(node: ast.expr) -> bool:
    """Whether an expression surely is a number."""
    if isinstance(node, ast.Call):
        return last_name(node.func) in _NUMBER and not any(one.arg in ("axis", "dim") for one in node.keywords)
    if isinstance(node, ast.Tuple):
        return all(map(_is_number, node.elts))
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right)
    return isinstance(node, ast.Constant)


def _keeps(loop: ast.For) -> bool:
    """Whether a loop may keep more than numbers of what it goes through."""
    calls = [one for one in walk(loop.body) if isinstance(one, ast.Call)]
    puts = [one for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr in CHANGES]
    stores = [one for one in walk(loop.body) if isinstance(one, ast.Subscript) and isinstance(one.ctx, ast.Store)]
    return bool(stores) or any(not all(map(_is_number, one.args)) for one in puts)
