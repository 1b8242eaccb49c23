"""Which columns a call reads that is of a table or of groups of its rows, and what it gives."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from typing import Literal, Protocol

from nb_oomhelper.source.frame_methods import (
    elements_of,
    is_across,
    is_text,
    keyword,
    texts_of,
    texts_of_all,
)
from nb_oomhelper.source.row_sources import UnfitError
from nb_oomhelper.source.tree import arguments, is_unpacked, last_name, root_name, walk

Kind = Literal["other", "table", "groups"]
"""What a value is: nothing that has all columns; a table that has; or groups of such a table's rows."""

_SAME = frozenset(  # a table with all columns; what they are given names none
    {"copy", "head", "tail", "sample", "sort_index", "reset_index", "fillna", "round", "ffill", "bfill"}
    | {"convert_dtypes"}
)
_KEYED = {  # a table with all columns; by which argument they are told some
    "sort_values": "by",
    "drop_duplicates": "subset",
    "dropna": "subset",
    "set_index": "keys",
    "drop": "columns",
    "explode": "column",
    "astype": "dtype",
}
TAKE_NAMES = frozenset({*_KEYED, "groupby", "merge", "nlargest", "nsmallest", "value_counts", "duplicated"})
"""Methods that are given names of columns."""

_COUNTS = {"value_counts": "subset", "duplicated": "subset", "pop": "item"}  # nothing that has all columns
_OF_GROUPS = frozenset({"size", "ngroup", "cumcount"})
_SOME_OF_EACH = frozenset({"head", "tail", "nth", "sample"})
_PLOTS = frozenset({"sns", "seaborn", "px", "alt"})
_LOOKS = frozenset({"ax", "palette", "order", "hue_order", "bins", "height", "aspect"})
_PIVOTS = frozenset({"index", "values"})


class Columns(Protocol):
    """Reads code, and takes columns as read.

    Attributes:
        known: The table's columns; none where they are not known.
        tables: Names of what has all of its columns.
        lists: What names stand for that are lists of columns.
        others: Tables have been joined to it: what is unknown may be theirs.
    """

    known: Collection[str]
    tables: set[str]
    lists: dict[str, frozenset[str]]
    others: bool

    def kind_of(self, node: ast.expr) -> Kind:
        """Tell what code gives."""

    def plain(self, node: ast.expr) -> None:
        """Read code that must not give a table."""

    def add(self, names: Collection[str], *, maybe: bool = False) -> None:
        """Take columns as read.

        Args:
            names: Theirs.
            maybe: They need not be columns of the table.
        """

    def add_new(self, names: Collection[str]) -> None:
        """Take columns as made."""

    def names_in(self, node: ast.AST) -> set[str]:
        """Give the names of tables and groups in some code."""


def is_in_place(node: ast.expr) -> bool:
    """Tell whether a call changes the table that it is of: `inplace=True`."""
    told = keyword(node, "inplace") if isinstance(node, ast.Call) else None
    return isinstance(told, ast.Constant) and told.value is True


def kind_of_call(reader: Columns, call: ast.Call) -> Kind:
    """Tell what a call gives, and take what it reads as read.

    Args:
        reader: Reads code.
        call: The call, which names a table or groups.

    Raises:
        UnfitError: It looks at a table as a whole, or it cannot be told which columns it reads.
    """
    if is_unpacked(call):
        raise UnfitError
    if isinstance(call.func, ast.Name):
        return _of_name(reader, call)
    if not isinstance(call.func, ast.Attribute):
        raise UnfitError
    if root_name(call.func) in _PLOTS:
        return _of_plot(reader, call)
    kind = reader.kind_of(call.func.value)
    for one in arguments(call):
        reader.plain(one)
    if kind == "table":
        return _of_table(reader, call, call.func.attr)
    if kind == "groups":
        return _of_groups(reader, call, call.func.attr)
    return "other"


def _of_name(reader: Columns, call: ast.Call) -> Kind:
    """`len(df)`: how many rows there are has nothing to do with the columns."""
    counts = call.func.id == "len" and len(call.args) == 1  # type: ignore[attr-defined]
    for one in arguments(call):
        if reader.kind_of(one) != "other" and not counts:
            raise UnfitError
    return "other"


def _of_plot(reader: Columns, call: ast.Call) -> Kind:
    """`sns.histplot(data=df, x="price", hue="kind")`."""
    data = keyword(call, "data") or next(iter(call.args), None)
    if data is not None and reader.kind_of(data) == "table":
        if not any(one.arg in ("x", "y") for one in call.keywords):
            raise UnfitError
        if any(
            isinstance(one.value, ast.Name) and one.arg not in _LOOKS for one in call.keywords if one.value is not data
        ):
            raise UnfitError  # it may stand for the name of a column
        reader.add(_texts(call), maybe=True)
    else:
        reader.plain(call.func)
    for one in arguments(call):
        if one is not data:
            reader.plain(one)
    return "other"


def _texts(call: ast.Call) -> frozenset[str]:
    return texts_of_all(walk(arguments(call)))


def _of_table(reader: Columns, call: ast.Call, name: str) -> Kind:
    first = next(iter(call.args), None)
    if name == "groupby":
        _read_keys(reader, keyword(call, "by") or first)
        return "groups"
    if name in _SAME:
        return _rest(reader, call)
    if name in _KEYED:
        if name == "drop" and keyword(call, "columns") is None and not is_across(call):
            raise UnfitError
        _read_named(reader, keyword(call, _KEYED[name]) or first)
        return "table"
    if name in ("query", "eval") and is_text(first):
        words = re.findall(r"`([^`]+)`|(\w+)", first.value)  # type: ignore[union-attr]
        sets = re.search(r"(?<![=!<>])=(?!=)", first.value)  # type: ignore[union-attr]
        if sets or {two for _, two in words} & reader.tables:  # a column; or it asks the table itself
            raise UnfitError
        reader.add({one or two for one, two in words}, maybe=True)
        return "table" if name == "query" else "other"
    if name in _COUNTS:
        _read_named(reader, keyword(call, _COUNTS[name]) or first)
        return "other"
    if name in ("nlargest", "nsmallest"):
        _read_named(reader, keyword(call, "columns") or next(iter(call.args[1:]), None))
        return "table"
    return _of_other(reader, call, name, first)


def _of_other(reader: Columns, call: ast.Call, name: str, first: ast.expr | None) -> Kind:
    if name == "rename" and isinstance(keyword(call, "columns"), ast.Dict):
        names: ast.Dict = keyword(call, "columns")  # type: ignore[assignment]
        if not all(map(is_text, [*names.keys, *names.values])):
            raise UnfitError
        reader.add(texts_of_all(names.keys), maybe=True)
        reader.add_new(texts_of_all(names.values))
        return "table"
    if name == "assign" and not call.args and reader.known:
        for one in call.keywords:
            _read_function(reader, one.value)
            reader.add_new({one.arg or ""})
        return "table"
    if name == "merge":
        return _merged(reader, call, first)
    if name in ("pivot_table", "pivot") and not call.args and {one.arg for one in call.keywords} >= _PIVOTS:
        for one in call.keywords:
            if one.arg in _PIVOTS | {"columns"}:
                _read_named(reader, one.value)
        return "other"
    if name == "plot" and is_text(keyword(call, "y")) and is_text(keyword(call, "x")):
        reader.add(_texts(call), maybe=True)
        return "other"
    raise UnfitError


def _rest(reader: Columns, call: ast.Call) -> Kind:
    if any(one.arg in ("axis", "weights") for one in call.keywords):  # along a row it goes by all columns
        raise UnfitError
    for one in arguments(call):
        if isinstance(one, ast.Dict):
            _read_named(reader, one)
    return "table"


def _merged(reader: Columns, call: ast.Call, first: ast.expr | None) -> Kind:
    """A table with another's columns beside its own; those that both have get other names."""
    key, other = keyword(call, "on") or keyword(call, "left_on"), first or keyword(call, "right")
    if other is None or key is None or not reader.known or keyword(call, "suffixes") is not None:
        raise UnfitError
    _read_named(reader, key)
    reader.others = True
    return "table"


def _of_groups(reader: Columns, call: ast.Call, name: str) -> Kind:
    first = next(iter(call.args), None)
    if name in _OF_GROUPS:
        return "other"
    if name in _SOME_OF_EACH:
        return "table"
    if name in ("agg", "aggregate"):
        if isinstance(first, ast.Dict):
            _read_named(reader, first)
            return "other"
        if first is None and call.keywords and all(isinstance(one.value, ast.Tuple) for one in call.keywords):
            for one in call.keywords:
                _read_named(reader, one.value.elts[0])  # type: ignore[attr-defined]
            return "other"
    if name in ("apply", "filter") and isinstance(first, ast.Lambda):
        _read_function(reader, first)
        return "other" if name == "apply" else "table"
    raise UnfitError


def _read_keys(reader: Columns, node: ast.expr | None) -> None:
    """What rows are grouped by: names, values for each row, or a `pd.Grouper`."""
    for one in elements_of(node):
        if is_text(one):
            reader.add(texts_of(one))
        elif isinstance(one, ast.Call) and last_name(one.func) == "Grouper":
            _read_named(reader, keyword(one, "key"))
        elif isinstance(one, ast.Name) and one.id in reader.lists:
            reader.add(reader.lists[one.id])
        elif one is None or not reader.names_in(one):  # what it names cannot be told
            raise UnfitError
        else:
            reader.plain(one)


def _read_named(reader: Columns, node: ast.expr | None) -> None:
    """Columns that are named: by a text, a list of such, the keys of a dict, or a name that stands for a list."""
    if isinstance(node, ast.Name) and node.id in reader.lists:
        reader.add(reader.lists[node.id])
        return
    parts = node.keys if isinstance(node, ast.Dict) else elements_of(node)
    if not parts or not all(map(is_text, parts)):
        raise UnfitError
    reader.add(texts_of_all(parts))


def _read_function(reader: Columns, node: ast.expr) -> None:
    """What a function of the table, of a row or of a group reads; or a plain value."""
    if not isinstance(node, ast.Lambda):
        reader.plain(node)
        return
    names = {one.arg for one in node.args.args}
    before = {*reader.tables}
    reader.tables |= names
    try:
        reader.plain(node.body)
    finally:
        reader.tables.clear()
        reader.tables.update(before)
