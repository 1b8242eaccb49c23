"""Where in the user's source a call stands: the statement around it, what that binds, and why it cannot run by itself.

Only source text is read, and never run.
"""

from __future__ import annotations

import ast
import itertools
import linecache
import textwrap
import warnings
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType

from nb_oomhelper.source.tree import LOOPS, is_at, last_name

_LARGEST = 1_000_000  # characters of a source; a real cell has some thousands
_TIMED = ("<timed exec>", "<timed eval>")  # %time and %%time compile under these names what they were given
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One call in a source.

    Attributes:
        name: Last part of what is called.
        call: The call.
        above: What it is part of, from the inside out, as far as the statement.
        statement: The innermost statement around it.
        outside: The compound statements around that, from the inside out.
    """

    name: str
    call: ast.Call
    above: tuple[ast.AST, ...]
    statement: ast.stmt
    outside: tuple[ast.AST, ...]


def read_source(frames: Sequence[FrameType]) -> str:
    """Give the source that the last of these frames runs, "" where there is none.

    %time does not keep the text that it compiles under its own names; it stands in its frame, as plain text.
    """
    code = frames[-1].f_code
    if code.co_filename in _TIMED:
        for frame in reversed(frames[:-1]):
            if frame.f_code.co_name == "time" and str(frame.f_globals.get("__name__")).startswith("IPython."):
                source = frame.f_locals.get("expr")
                return source if type(source) is str else ""
        return ""
    return "".join(linecache.getlines(code.co_filename, frames[-1].f_globals))


def read_tree(source: str) -> ast.Module | None:
    """Parse a source; None where it is no Python, or far too much."""
    if not source.strip() or len(source) > _LARGEST:
        return None
    try:
        with warnings.catch_warnings():  # of what the user's code is warned, the user was warned when it ran
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def read_expression(text: str) -> ast.expr | None:
    """Parse an expression; None where it is none."""
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def bound_names(node: ast.AST) -> tuple[str, ...]:
    """Give the names that one node of a syntax tree binds, if it does."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return tuple(alias.asname or alias.name.partition(".")[0] for alias in node.names)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (node.name,)
    return (node.id,) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else ()


def sites_on(tree: ast.Module, line: int) -> Iterator[Site]:
    """Find every call by a name that covers a line, the outer ones first.

    Args:
        tree: The source.
        line: From 1.
    """
    todo: deque[tuple[ast.AST, tuple[ast.AST, ...]]] = deque([(tree, ())])
    while todo:
        node, above = todo.popleft()
        if isinstance(node, ast.Call) and is_at(node, line):
            name = last_name(node.func)
            if name is not None:
                yield _site(name, node, above)
        if _covers(node, line):
            todo.extend((child, (node, *above)) for child in ast.iter_child_nodes(node))


def running(sites: Sequence[Site], link: TracebackType) -> list[Site]:
    """Choose the call that failed.

    Of a method's call the interpreter tells the place of the name as its beginning, so ends are compared: no two calls
    share one.

    Args:
        sites: The calls on the failing line.
        link: The frame's link of the traceback.

    Returns:
        One; or all of them where the interpreter keeps no columns.
    """
    positions = itertools.islice(link.tb_frame.f_code.co_positions(), max(link.tb_lasti, 0) // 2, None)
    line, end_line, column, end_column = next(positions, (None,) * 4)
    if line is None or end_line is None or column is None or end_column is None:
        return list(sites)
    ends = [((site.call.end_lineno or 0, site.call.end_col_offset or 0), site) for site in sites]
    exact = [site for end, site in ends if end == (end_line, end_column)]
    return exact or [site for end, site in ends if (line, column) < end < (end_line, end_column)]


def _covers(node: ast.AST, line: int) -> bool:
    """Whether a line can be within a node; what has no place may be anywhere, and a decorator is above its def."""
    if isinstance(node, ast.stmt):
        return line <= (node.end_lineno or node.lineno)
    return not isinstance(node, ast.expr) or is_at(node, line)


def _site(name: str, call: ast.Call, above: tuple[ast.AST, ...]) -> Site:
    number = next(number for number, node in enumerate(above) if isinstance(node, ast.stmt))
    statement = above[number]
    assert isinstance(statement, ast.stmt)
    return Site(name=name, call=call, above=above[:number], statement=statement, outside=above[number + 1 :])


def statement_text(source: str, site: Site) -> tuple[str, tuple[int, int]] | None:
    """Cut out the whole statement, not indented, with the comment at its end.

    Args:
        source: The source.
        site: A call in it.

    Returns:
        The text, and the call's line from 1 and column in UTF-8 bytes; None where it does not stand by itself.
    """
    node = site.statement
    lines = source.split("\n")[node.lineno - 1 : node.end_lineno]
    first, last = lines[0].encode(), lines[-1].encode()
    end = node.end_col_offset or 0
    rest = last[end:].decode().strip()
    lines[-1] = last.decode().rstrip() if rest.startswith("#") else last[:end].decode()
    head = b" " * node.col_offset if first[: node.col_offset].strip() else first[: node.col_offset]
    lines[0] = (head + lines[0].encode()[node.col_offset :]).decode()
    written = "\n".join(lines)
    for text in (textwrap.dedent(written), written.lstrip()):  # a text of several lines may not be dedented
        place = _same(text, site)
        if place is not None:
            return text, place
    return None


def _same(text: str, site: Site) -> tuple[int, int] | None:
    """Where the call begins, if the text is the same statement."""
    tree = read_tree(text)
    if tree is None or len(tree.body) != 1 or ast.dump(tree.body[0]) != ast.dump(site.statement):
        return None
    number = next(number for number, node in enumerate(ast.walk(site.statement)) if node is site.call)
    call = next(node for other, node in enumerate(ast.walk(tree.body[0])) if other == number)
    return (call.lineno, call.col_offset) if isinstance(call, ast.Call) else None


def find_target(site: Site, keeps: Collection[str], in_place: Collection[str]) -> str | None:
    """Find the name that the call's result is bound to by its statement, also through methods that give it back.

    Args:
        site: The call.
        keeps: Methods of a model that give the model itself back.
        in_place: Methods that change the object that they are called on: `model.to("cuda")` needs no name.
    """
    value: ast.AST = site.call
    above = [*site.above, site.statement]
    while len(above) > 1 and isinstance(above[0], ast.Attribute) and above[0].attr in keeps:
        if not isinstance(above[1], ast.Call) or above[1].func is not above[0]:
            break
        value, above = above[1], above[2:]
    return _bound(above[0], value) or _changed(site, in_place)


def _bound(node: ast.AST, value: ast.AST) -> str | None:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.AST = node.targets[0]
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
        target = node.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) and node.value is value else None


def _changed(site: Site, in_place: Collection[str]) -> str | None:
    """The variable that a statement without a result changes: its own method call, or the one around the call."""
    if not isinstance(site.statement, ast.Expr):
        return None
    for call in (site.call, site.statement.value):
        function = call.func if isinstance(call, ast.Call) else None
        if isinstance(function, ast.Attribute) and function.attr in in_place and isinstance(function.value, ast.Name):
            return function.value.id
    return None


def find_obstacle(site: Site, calls: Collection[str]) -> str | None:
    """Tell why the statement cannot be run again by itself with other arguments; the heaviest reason first.

    Args:
        site: The call.
        calls: The names that are called for the same purpose: there must not be two.
    """
    around = (*site.outside, site.statement)
    inside = list(ast.walk(site.statement))
    reasons = {
        "function": any(isinstance(node, _FUNCTIONS) for node in (*around, *site.above)),
        "comprehension": any(isinstance(node, _COMPREHENSIONS) for node in site.above),
        "loop": any(isinstance(node, LOOPS) for node in around),
        "block": any(hasattr(node, "body") for node in around if not isinstance(node, ast.Module)),
        "await": any(isinstance(node, ast.Await) for node in inside),
        "several": sum(isinstance(node, ast.Call) and last_name(node.func) in calls for node in inside) > 1,
        "starred": any(isinstance(argument, ast.Starred) for argument in site.call.args)
        or any(keyword.arg is None for keyword in site.call.keywords),
    }
    return next((key for key, holds in reasons.items() if holds), None)
