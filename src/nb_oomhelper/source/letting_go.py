"""What code keeps though nothing reads it any more: names that may go, and collections that nobody looks at."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable
from typing import Any

from nb_oomhelper.source.collecting import is_keeper
from nb_oomhelper.source.meeting import JOINS
from nb_oomhelper.source.row_calls import REDUCING
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_at, last_name, reads_by_name, walk

_LATE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.GeneratorExp)
_BY_ADDRESS = frozenset({"ctypes", "data_ptr", "__array_interface__", "__cuda_array_interface__", "buffer_info"})
_BY_WEAK = frozenset({"id", "ref", "proxy", "addressof", "finalize", "from_buffer"})
# What ends with its last name: files, folders, connections, timers.
_ENDING = frozenset(
    {"open", "connect", "urlopen", "socket", "memmap", "mmap", "Popen", "create_engine", "submit", "start"}
    | {"TemporaryDirectory", "NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile", "File", "ZipFile"}
    | {"FuncAnimation", "ArtistAnimation", "Timer", "Thread", "Pool", "ThreadPoolExecutor", "ProcessPoolExecutor"}
    | {"Session", "Client", "ExitStack", "Lock", "create_string_buffer", "Observer", "SummaryWriter", "load_file"}
)
_PURE = frozenset({"copy", "deepcopy", "detach", "clone", "cpu", "numpy", "item", "tolist", "astype"})
_NUMBERS = frozenset({"len", "int", "float", "round", "size", "numel", "dim", "item", "time", "perf_counter"})
_LESS = frozenset({"head", "tail", "nlargest", "nsmallest", "describe", "value_counts", "groupby", "agg", "print"})
_SAME, _WINDOWS = frozenset({"T", "values"}), frozenset({"rolling", "expanding", "ewm"})
_BLOCKS = ("body", "orelse", "finalbody")


def dead_names(body: list[ast.stmt], line: int) -> tuple[list[str], ast.stmt | None]:
    """Give the names that some statements have bound and that nothing reads from where they failed on.

    Args:
        body: The statements of a cell, or of a function.
        line: Where they failed.

    Returns:
        The names, in the order in which they were bound, and the statement before which they may go.
    """
    if reads_by_name(body) or any(map(_keeps_address, walk(body))):
        return [], None
    late = _read_late(body)
    found: list[str] = []
    at: ast.stmt | None = None
    block, again = body, False
    while block:
        number = next((n for n, one in enumerate(block) if is_at(one, line)), None)
        if number is None:
            break
        node = block[number]
        done = {id(one) for before in block[:number] for one in ast.walk(before)}
        read = {name for one in walk(body) if id(one) not in done and (name := _read_name(one))}
        names = [name for name in _bound_in(block[:number], again=again) if name not in read | late]
        if names:
            found, at = names, node
            if block is not body:
                break
        inner = [part for name in _BLOCKS if (part := getattr(node, name, None)) and _covers(part, line)]
        if isinstance(node, _LATE) or not inner:
            break
        if isinstance(node, (ast.For, ast.While)):
            again = True  # what a loop binds may be read in its next step
        block = inner[0]
    return found, at


def dead_later(body: list[ast.stmt], line: int, gone: Collection[str]) -> list[tuple[list[str], ast.stmt]]:
    """Give the statements that compute more of what was to be made, with the names that nothing reads from there on.

    Args:
        body: The statements of a cell, or of a function.
        line: Where they failed: before that, `dead_names` tells.
        gone: The names that are deleted already.
    """
    at = next((number for number, one in enumerate(body) if is_at(one, line)), len(body))
    made, found = {*_bound_in(body[at : at + 1], again=False)}, list[tuple[list[str], ast.stmt]]()
    passed = _read_late(body).union(gone)
    for number, node in enumerate(body[at + 1 :], at + 1):
        value = node.value if isinstance(node, ast.Assign) else None
        if value is None or not _read_in([value]) & made or _is_less(value):
            continue
        kept = _read_in(body[number:]) | _little(body[:number]) | passed
        names = [name for name in _bound_in(body[:number], again=False) if name not in kept]
        found.append((names, node))
        made, passed = made.union(_bound(node)), passed.union(names)
    return found


def _little(before: list[ast.stmt]) -> set[str]:
    """Names of totals, and of what is computed of such and of numbers alone: these take nothing."""
    found = set[str]()
    for node in before:
        value = node.value if isinstance(node, ast.Assign) else None
        if value is not None and (_is_less(value) or _read_in([value]) <= found):
            found |= {*_bound(node)}
    return found


def _read_late(body: list[ast.stmt]) -> set[str]:
    """Names that functions of the code read, whenever they are called."""
    late = [one for one in walk(body) if isinstance(one, _LATE)]
    outer = {name for one in walk(body) if isinstance(one, (ast.Global, ast.Nonlocal)) for name in one.names}
    return outer | {one.id for one in walk(late) if isinstance(one, ast.Name)}


def _is_less(value: ast.expr) -> bool:
    """Whether a value is less than what it is computed of: a total, a part, or text."""
    if isinstance(value, ast.Attribute):
        return value.attr not in _SAME or _is_less(value.value)
    if not isinstance(value, ast.Call):
        return isinstance(value, (ast.Subscript, ast.Name)) or _is_number(value)
    of = value.func.value if isinstance(value.func, ast.Attribute) else None
    windows = isinstance(of, ast.Call) and last_name(of.func) in _WINDOWS
    return last_name(value.func) in _NUMBERS | REDUCING | _LESS and not windows


def is_on_the_way(body: list[ast.stmt], name: str) -> bool:
    """Tell whether something else is computed from a name: one that is only bound, or printed, may be a result.

    Args:
        body: The statements.
        name: The name.
    """
    makers = [one for one in walk(body) if isinstance(one, (ast.Assign, ast.AugAssign, ast.AnnAssign)) and one.value]
    return any(name in _read_in([one.value]) for one in makers if one.value is not None and name not in _bound(one))


def more_to_come(body: list[ast.stmt], line: int) -> bool:
    """Tell whether after a line a step of a loop computes more, or arrays are joined: nobody knows what that needs.

    Args:
        body: The statements of a cell, or of a function.
        line: Where they failed.
    """
    loops = [one for one in walk(body) if isinstance(one, (ast.For, ast.While)) and _covers(one.body, line)]
    after = [one for loop in loops for one in walk(loop.body) if isinstance(one, ast.Assign) and one.lineno > line]
    calls = [one for one in walk(body) if isinstance(one, ast.Call) and one.lineno > line]
    return bool(after) or any(last_name(one.func) in JOINS for one in calls)


def let_go(text: SourceText, names: Collection[str], node: ast.stmt) -> list[Edit]:
    """Delete names before a statement.

    Args:
        text: The source.
        names: The names.
        node: The statement.
    """
    start = text.span(node)[0]
    decorators = getattr(node, "decorator_list", ())
    line = text.line_start(start)
    indent = text.text[line:start]
    if indent.strip() or decorators or not names:
        return []
    return [(line, line, f"{indent}del {', '.join(names)}\n")]


def unread(text: SourceText, body: list[ast.stmt], path: str, sources: Iterable[list[ast.stmt]]) -> list[Edit]:
    """Take out what collects in a place that no code looks at.

    Args:
        text: The source.
        body: The statements to look in.
        path: The place: "pipeline.snapshots".
        sources: All code that is known.
    """
    puts = [node for node in walk(body) if isinstance(node, ast.stmt) and _puts(node, path)]
    if not puts or any(_is_looked_at(code, path) for code in sources):
        return []
    edits: list[Edit] = []
    for node in puts:
        start, end = text.span(node)
        line, last = text.line_start(start), text.line_end(end)
        if text.text[line:last].strip() != text.text[start:end]:
            return []
        alone = any(
            part == [node] for one in walk(body) for name in _BLOCKS if isinstance(part := getattr(one, name, 0), list)
        )
        alone = alone or body == [node]
        edits.append((start, end, "pass") if alone else (line, min(last + 1, len(text.text)), ""))
    return edits


def _puts(node: ast.stmt, path: str) -> bool:
    """`self.kept.append(frame.copy())`, `self.kept[name] = frame`: nothing else happens there."""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "append":
        return is_keeper(call.func.value, path) and len(call.args) == 1 and _is_pure(call.args[0])
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Subscript):
        return is_keeper(node.targets[0].value, path) and _is_pure(node.value)
    return False


def _is_pure(node: ast.expr) -> bool:
    """Whether nothing happens where an expression is computed."""
    if any(isinstance(one, (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)) for one in ast.walk(node)):
        return False
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    return all(isinstance(one.func, ast.Attribute) and one.func.attr in _PURE for one in calls)


def _is_looked_at(code: list[ast.stmt], path: str) -> bool:
    fine: set[int] = set()
    for node in walk(code):
        if isinstance(node, ast.stmt) and _puts(node, path):
            target: Any = node.targets[0] if isinstance(node, ast.Assign) else node.value.func  # type: ignore[attr-defined]
            fine.add(id(target.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "clear":
            fine.add(id(node.func.value))
    return any(is_keeper(node, path) and _is_read(node) and id(node) not in fine for node in walk(code))


def _is_read(node: ast.AST) -> bool:
    return not isinstance(getattr(node, "ctx", None), ast.Store)


def _read_in(nodes: Iterable[ast.AST]) -> set[str]:
    return {name for node in nodes for one in ast.walk(node) if (name := _read_name(one))}


def _read_name(node: ast.AST) -> str:
    """The name that a node reads, or ""; `a += 1` reads it as well."""
    read = node.target if isinstance(node, ast.AugAssign) else node
    known = isinstance(read, ast.Name) and (read is not node or _is_read(read))
    return read.id if known and isinstance(read, ast.Name) else ""


def _bound_in(before: list[ast.stmt], *, again: bool) -> list[str]:
    """Names that these statements have bound, and not deleted; where they run again, that they do not read first."""
    found: dict[str, None] = {}
    read: set[str] = set()
    for node in before:
        read |= _read_in([node])
        found.update(dict.fromkeys(name for name in _bound(node) if not again or name not in read or name in found))
    return [name for name in found if not _is_deleted(before, name)]


def _keeps_address(node: ast.AST) -> bool:
    """Whether code goes on with where something is, which keeps nothing alive."""
    if isinstance(node, ast.Attribute):
        return node.attr in _BY_ADDRESS
    return isinstance(node, ast.Call) and last_name(node.func) in _BY_WEAK


def _bound(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
    if any(isinstance(one, ast.Call) and last_name(one.func) in _ENDING for one in ast.walk(value or ast.Pass())):
        return []
    if value is not None and _is_number(value):
        return []
    return [one.id for one in targets if isinstance(one, ast.Name)]


def _is_number(node: ast.expr) -> bool:
    """Whether a value is surely a number, or a text: these take nothing."""
    if isinstance(node, ast.Call):
        return last_name(node.func) in _NUMBERS
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right)
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
    return isinstance(node, (ast.Constant, ast.JoinedStr))


def _is_deleted(before: list[ast.stmt], name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Del) for one in walk(before))


def _covers(part: object, line: int) -> bool:
    return isinstance(part, list) and any(isinstance(one, ast.stmt) and is_at(one, line) for one in part)
