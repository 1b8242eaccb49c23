"""Statements that read a table from a file: `df = pd.read_csv(path)`, and what is said there of the file."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.source.frame_methods import is_list_of_texts, is_text, keyword, texts_of
from nb_oomhelper.source.tree import last_name, walk

_COLUMNS = {"read_csv": "usecols", "read_table": "usecols", "read_parquet": "columns", "read_feather": "columns"}
_FORMS = frozenset({"comment", "compression", "quotechar"})  # with these lines are not read here
_SAID = ("sep", "delimiter", "skiprows", "header", "encoding")  # how lines are read
_SEPARATORS = {"read_csv": ",", "read_table": "\t"}
_PLAIN = frozenset(  # arguments that say how values are read, of each by itself
    {"sep", "delimiter", "dtype", "encoding", "low_memory", "na_values", "keep_default_na", "engine", "thousands"}
    | {"decimal", "quotechar", "skiprows", "nrows", "converters", "date_format", "dayfirst", "true_values"}
    | {"false_values", "memory_map", "compression", "encoding_errors", "skipinitialspace", "dtype_backend", "comment"}
    | {"cache_dates", "header", "names", "index_col", "parse_dates", "na_filter", "float_precision", "quoting"}
    | {"filepath_or_buffer", "infer_datetime_format", "skip_blank_lines", "storage_options", "escapechar"}
)
_PLAIN_PARQUET = frozenset({"path", "engine", "dtype_backend", "storage_options", "filters", "filesystem"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRead:
    """A statement that reads a table.

    Attributes:
        block: The statements that it is one of.
        at: Which of them it is.
        name: What the table is called.
        call: The call.
        each: It reads one file after another, which are put together: `pd.concat([pd.read_csv(f) for f in files])`.
    """

    block: list[ast.stmt]
    at: int
    name: str
    call: ast.Call
    each: bool = False

    @property
    def function(self) -> str:
        """What is called: "read_csv"."""
        return last_name(self.call.func) or ""

    @property
    def reader(self) -> str:
        """What a function is called that reads it in parts: "read_df"."""
        return f"read_{self.name}"

    @property
    def after(self) -> list[ast.stmt]:
        """The statements that follow."""
        return self.block[self.at + 1 :]

    @property
    def node(self) -> ast.Assign:
        """The statement."""
        return self.block[self.at]  # type: ignore[return-value]

    @property
    def source(self) -> ast.expr | None:
        """What says where the file is."""
        named = keyword(self.call, "filepath_or_buffer") or keyword(self.call, "path")
        return named or next(iter(self.call.args), None)


def find_reads(body: list[ast.stmt]) -> list[TableRead]:
    """Find the reads of tables among some statements.

    Args:
        body: The statements of the cell.
    """
    found = list[TableRead]()
    for at, node in enumerate(body):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            inner, name = _read_each(node.value), node.targets[0].id
            call = node.value if inner is None else inner
            if isinstance(call, ast.Call) and len(call.args) <= 1 and _of_pandas(call) in _COLUMNS:
                found.append(TableRead(block=body, at=at, name=name, call=call, each=inner is not None))
    return found


def _of_pandas(call: ast.Call) -> str:
    """The name of a function of pandas' that is called, or ""."""
    function = call.func
    known = isinstance(function, ast.Attribute) and last_name(function.value) in ("pd", "pandas")
    return function.attr if known else ""  # type: ignore[attr-defined]


def _read_each(node: ast.expr) -> ast.expr | None:
    """What is read of each file where tables of several are put together; None where they are not."""
    if not isinstance(node, ast.Call) or _of_pandas(node) != "concat" or len(node.args) != 1:
        return None
    parts, options = node.args[0], {one.arg for one in node.keywords}
    if not isinstance(parts, (ast.ListComp, ast.GeneratorExp)) or len(parts.generators) != 1:
        return None
    return parts.elt if options <= {"ignore_index", "copy", "sort"} else None


def option_for_columns(read: TableRead) -> str:
    """Give the name of the argument that names the columns to read; "" where other arguments may not go with it.

    Args:
        read: The read.
    """
    option = _COLUMNS[read.function]
    plain = _PLAIN if option == "usecols" else _PLAIN_PARQUET
    if not all(one.arg in plain for one in read.call.keywords) or any(
        isinstance(one, ast.Starred) for one in walk(read.call.args)
    ):
        return ""
    index, header = keyword(read.call, "index_col"), keyword(read.call, "header")
    fit = not isinstance(index, ast.Constant) or is_text(index) or _is_first(index)
    fit = fit and (header is None or isinstance(header, ast.Constant))  # one line names the columns
    return option if fit and all(map(_is_told, _named(read))) else ""


def can_be_parted(read: TableRead) -> bool:
    """Tell whether a file's parts say the same as the whole file, as far as the call tells.

    Args:
        read: The read.
    """
    if read.function not in _SEPARATORS or "category" in ast.unparse(read.call):
        return False
    if any(one.arg not in _PLAIN | {"usecols"} or one.arg == "nrows" for one in read.call.keywords):
        return False
    engine, dates = keyword(read.call, "engine"), keyword(read.call, "parse_dates")
    if engine is not None and ast.unparse(engine) not in ("'c'", "'python'"):
        return False
    return dates is None or keyword(read.call, "date_format") is not None  # which form they have is guessed otherwise


def _named(read: TableRead) -> Iterator[ast.expr]:
    for name in ("index_col", "parse_dates", "names"):
        if (one := keyword(read.call, name)) is not None:
            yield one


def _is_told(node: ast.expr) -> bool:
    """Whether columns are told by their names: `"day"`, `["day", "hour"]`; or by none: `True`, `0`, `None`."""
    plain = isinstance(node, ast.Constant) and (type(node.value) in (str, bool) or node.value in (0, None))
    return plain or is_list_of_texts(node)


def _is_first(node: ast.expr | None) -> bool:
    """Whether it is told by its place that the first column is meant."""
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value == 0


def columns_told(read: TableRead, header: Collection[str]) -> frozenset[str] | None:
    """Give the columns that the read itself names, and must find in the file; None where that cannot be told.

    Args:
        read: The read.
        header: The file's columns, in their order; none where they are not known.
    """
    found = texts_of(keyword(read.call, "index_col")) | texts_of(keyword(read.call, "parse_dates"))
    if _is_first(keyword(read.call, "index_col")):
        if not header:
            return None
        found |= {next(iter(header))}
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a file of text is laid out, as the read says.

    Attributes:
        separator: What stands between two columns.
        skipped: Lines above the header.
        names: The columns, where the read names them itself.
        has_header: A line of the file names them.
        encoding: Of the file.
    """

    separator: str
    skipped: int
    names: tuple[str, ...]
    has_header: bool
    encoding: str


def layout_of(read: TableRead) -> Layout | None:
    """Tell how the file is laid out; None where that cannot be told from the call.

    Args:
        read: The read.
    """
    told = {one.arg or "": one.value for one in read.call.keywords}
    if read.function not in _SEPARATORS or told.keys() & _FORMS:
        return None
    names, said = told.get("names"), {name: told[name] for name in _SAID if name in told}
    elements = names.elts if isinstance(names, ast.List) else []
    if not all(isinstance(one, ast.Constant) for one in (*elements, *said.values())):
        return None
    given: dict[str, Any] = {name: one.value for name, one in said.items()}  # type: ignore[attr-defined]
    separator = given.get("sep") or given.get("delimiter")
    separator = separator if given.keys() & {"sep", "delimiter"} else _SEPARATORS[read.function]
    skipped = given.get("skiprows") or 0
    header = given.get("header", 0 if names is None else None)
    if not isinstance(separator, str) or len(separator) != 1 or not isinstance(skipped, int):
        return None
    if header not in (0, None) or (header is None and not elements):
        return None
    return Layout(
        separator=separator,
        skipped=skipped,
        names=tuple(one.value for one in elements),  # type: ignore[attr-defined]
        has_header=header is not None,
        encoding=given["encoding"] if isinstance(given.get("encoding"), str) else "utf-8-sig",
    )
