"""Which columns of a table some code reads, by their names, where it never looks at the table as a whole."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from nb_oomhelper.source import columns_of_calls
from nb_oomhelper.source.column_lists import lists_of_columns
from nb_oomhelper.source.columns_of_calls import Kind
from nb_oomhelper.source.frame_methods import is_list_of_texts, texts_of
from nb_oomhelper.source.frame_words import is_mask
from nb_oomhelper.source.row_sources import UnfitError
from nb_oomhelper.source.tree import as_read, last_name, names_in, reads_all_names, walk

_BY_TEXT = frozenset({"sql", "execute", "sqldf", "read_sql", "read_sql_query"})
_BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try)
_OF_ALL = frozenset({"values", "columns", "dtypes", "shape", "size", "T", "axes", "empty", "style", "attrs"})


def columns_used(
    body: list[ast.stmt], table: str, known: Collection[str], methods: Collection[str]
) -> frozenset[str] | None:
    """Find the columns of a table that code reads.

    Args:
        body: The statements after the one that made the table.
        table: What it is called.
        known: Its columns; none where they are not known.
        methods: What attributes a table has that are no columns.

    Returns:
        None where it cannot be told, or where something looks at all of them.
    """
    calls = {last_name(one.func) for one in walk(body) if isinstance(one, ast.Call)}
    if calls & _BY_TEXT or reads_all_names(body):
        return None
    reader = Columns(known=known, methods=methods, table=table, tables={table}, lists=lists_of_columns(body))
    try:
        reader.read_all(body)
    except UnfitError:
        return None
    return frozenset(reader.read)


@dataclass(slots=True, kw_only=True)
class Columns:
    """Reads code statement by statement.

    Attributes:
        known: The table's columns; none where they are not known.
        methods: What attributes a table has that are no columns.
        table: What it is called.
        tables: Names of what has all of its columns.
        groups: Names of groups of such rows.
        made: Columns that the code itself has set.
        masks: Names of what is true or false for each row.
        lists: Names of lists of columns that stay as they were made.
        read: The columns that were read.
        in_block, in_loop: It is not certain that what is read here is run; it may run more than once.
        others: Tables have been joined to it: what is unknown may be theirs.
    """

    known: Collection[str]
    methods: Collection[str]
    table: str
    tables: set[str]
    groups: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    masks: set[str] = field(default_factory=set)
    lists: dict[str, frozenset[str]] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    in_block: int = 0
    in_loop: bool = False
    others: bool = False

    def read_all(self, body: Iterable[ast.stmt]) -> None:
        """Read some statements.

        Args:
            body: The statements.

        Raises:
            UnfitError: One looks at a table as a whole, or it cannot be told which columns it reads.
        """
        for node in body:
            _read_statement(self, node)

    def names_in(self, node: ast.AST) -> set[str]:
        """Give the names of tables and groups in some code.

        Args:
            node: The code.
        """
        return names_in(node) & (self.tables | self.groups)

    def add_new(self, names: Collection[str]) -> None:
        """Take columns as made; those of that name that are there stay where they are.

        Args:
            names: Theirs.

        Raises:
            UnfitError: It is not known which are there.
        """
        if self.in_block and not self.known:
            raise UnfitError
        self.made |= {*names} - {*self.known}
        self.read |= {*names} & {*self.known}

    def plain(self, node: ast.expr) -> None:
        """Read code that must not give a table.

        Args:
            node: The code.

        Raises:
            UnfitError: It does.
        """
        if self.kind_of(node) != "other":
            raise UnfitError

    def add(self, names: Collection[str], *, maybe: bool = False) -> None:
        """Take columns as read.

        Args:
            names: Theirs.
            maybe: They need not be columns of the table.

        Raises:
            UnfitError: There are none such.
        """
        for name in {*names} - self.made:
            short = name[:-2] if name.endswith(("_x", "_y")) else name
            if not self.known:
                if maybe or self.others:
                    raise UnfitError
                self.read.add(name)
            elif name in self.known or (self.others and short in self.known):
                self.read.add(name if name in self.known else short)
            elif not maybe and not self.others:
                raise UnfitError

    def kind_of(self, node: ast.expr) -> Kind:
        """Tell what code gives, and take what it reads as read.

        Args:
            node: The code.

        Raises:
            UnfitError: It looks at a table as a whole, or it cannot be told which columns it reads.
        """
        if isinstance(node, ast.Name):
            return "table" if node.id in self.tables else "groups" if node.id in self.groups else "other"
        if not self.names_in(node) and not isinstance(node, ast.Lambda):
            return "other"
        if isinstance(node, ast.Subscript):
            return _of_subscript(self, node)
        if isinstance(node, ast.Attribute):
            return _of_attribute(self, node)
        if isinstance(node, ast.Call):
            return columns_of_calls.kind_of_call(self, node)
        for one in ast.iter_child_nodes(node):
            for part in [one.iter, *one.ifs] if isinstance(one, ast.comprehension) else [one]:
                if isinstance(part, ast.expr):
                    self.plain(part)
        return "other"

    def takes_columns(self, at: ast.expr) -> bool:
        """Tell whether names of columns stand somewhere, which are read then."""
        names = self.lists.get(at.id) if isinstance(at, ast.Name) else texts_of(at)
        if not names or (isinstance(at, ast.List) and not is_list_of_texts(at)):
            return False
        self.add(names)
        return True

    def takes_rows(self, at: ast.expr) -> bool:
        """Tell whether rows are chosen somewhere, by their places or by one value for each."""
        if isinstance(at, ast.Slice):
            return not self.names_in(at)
        if not is_mask(at, self.masks):
            return False
        self.plain(at)
        return True


def _of_subscript(reader: Columns, node: ast.Subscript) -> Kind:
    owner, at = node.value, node.slice
    located = isinstance(owner, ast.Attribute) and owner.attr in ("loc", "iloc", "at", "shape")
    if located and reader.kind_of(owner.value) == "table":  # type: ignore[attr-defined]
        return _of_located(reader, owner.attr, at)  # type: ignore[attr-defined]
    kind = reader.kind_of(owner)
    if kind == "other" and not isinstance(at, ast.Slice):
        reader.plain(at)
    if kind == "other" or reader.takes_columns(at):
        return "other"
    if kind == "table" and reader.takes_rows(at):
        return "table"
    raise UnfitError


def _of_attribute(reader: Columns, node: ast.Attribute) -> Kind:
    kind = reader.kind_of(node.value)
    if kind == "other" or (node.attr == "index" and kind == "table"):
        return "other"
    if node.attr in reader.methods or node.attr in _OF_ALL or node.attr.startswith("_"):
        raise UnfitError
    reader.add({node.attr})
    return "other"


def _of_located(reader: Columns, name: str, at: ast.expr) -> Kind:
    if name == "shape":
        if not isinstance(at, ast.Constant) or at.value != 0:
            raise UnfitError
        return "other"
    rows = at
    if isinstance(at, ast.Tuple) and len(at.elts) == 2:
        rows, columns = at.elts
        if name == "iloc" or not reader.takes_columns(columns):
            raise UnfitError
    if not reader.takes_rows(rows) and rows is at:  # one row: what its values are goes by all columns
        raise UnfitError
    reader.plain(rows) if not isinstance(rows, ast.Slice) else None
    return "table" if rows is at else "other"


def _read_statement(reader: Columns, node: ast.stmt) -> None:
    if isinstance(node, ast.Assign):
        kind = reader.kind_of(node.value)
        for target in node.targets:
            _set(reader, target, kind, node.value)
    elif isinstance(node, ast.AugAssign):
        reader.plain(node.value)
        reader.plain(as_read(node.target))
    elif isinstance(node, ast.Expr):
        wanted = "table" if columns_of_calls.is_in_place(node.value) else "other"
        if reader.kind_of(node.value) != wanted:
            raise UnfitError
    elif isinstance(node, ast.Delete):
        _delete(reader, node)
    elif isinstance(node, _BLOCKS):
        _read_block(reader, node)
    elif reader.names_in(node):
        raise UnfitError


def _delete(reader: Columns, node: ast.Delete) -> None:
    for target in node.targets:
        if not isinstance(target, ast.Name):
            reader.plain(as_read(target))
        elif not reader.in_block:
            reader.tables.discard(target.id)


def _read_block(reader: Columns, node: ast.stmt) -> None:
    reader.in_block += 1
    if isinstance(node, ast.For):
        _read_loop(reader, node)
    elif isinstance(node, ast.With):
        for one in node.items:
            reader.plain(one.context_expr)
    elif isinstance(node, (ast.If, ast.While)):
        reader.plain(node.test)
    parts = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
    parts += [one.body for one in getattr(node, "handlers", [])]
    reader.in_loop |= (outermost := isinstance(node, (ast.For, ast.While)) and not reader.in_loop)
    before = None
    # What is set at the end of a loop stands at its beginning.
    while before != (before := [*map(len, (reader.tables, reader.groups, reader.masks))]):
        for part in parts:
            reader.read_all(part)
        if not outermost:  # the loop around it comes again
            break
    reader.in_loop &= not outermost
    reader.in_block -= 1


def _read_loop(reader: Columns, node: ast.For) -> None:
    call = node.iter if isinstance(node.iter, ast.Call) else None
    row = node.target
    if isinstance(row, ast.Tuple) and len(row.elts) == 2:
        row = row.elts[1]
    of_rows = call is not None and last_name(call.func) == "itertuples" and not isinstance(node.target, ast.Tuple)
    owner = call.func.value if call is not None and isinstance(call.func, ast.Attribute) else None
    if of_rows and owner is not None and isinstance(row, ast.Name) and reader.kind_of(owner) == "table":
        reader.tables.add(row.id)
        return
    if reader.kind_of(node.iter) == "groups" and isinstance(row, ast.Name) and row is not node.target:
        reader.tables.add(row.id)
    elif reader.kind_of(node.iter) != "other":
        raise UnfitError


def _set(reader: Columns, target: ast.expr, kind: Kind, value: ast.expr) -> None:
    if isinstance(target, ast.Name):
        for names, fits in ((reader.tables, kind == "table"), (reader.groups, kind == "groups")):
            if fits:
                names.add(target.id)
            elif not reader.in_block:  # what a block sets may stay as it was
                names.discard(target.id)
        mask = kind == "other" and is_mask(value, reader.masks)
        (reader.masks.add if mask and not reader.in_block else reader.masks.discard)(target.id)
    elif kind != "other":
        raise UnfitError
    elif isinstance(target, ast.Subscript) and getattr(target.value, "id", "") in reader.tables:
        _set_column(reader, target)
    else:
        reader.plain(as_read(target))


def _set_column(reader: Columns, target: ast.Subscript) -> None:
    names = texts_of(target.slice)
    if not names:
        raise UnfitError
    if isinstance(target.value, ast.Name) and target.value.id != reader.table and not reader.known:
        raise UnfitError  # the table itself may have one of that name
    reader.add_new(names)
