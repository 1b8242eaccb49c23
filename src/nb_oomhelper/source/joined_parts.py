"""Arrays that are made one by one and joined: `np.stack([f(x) for x in xs])`, or a list that a loop fills."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nb_oomhelper.source.counting import Counts
from nb_oomhelper.source.demand_reads import Find
from nb_oomhelper.source.disk_puts import changes_any
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import (
    LOOPS,
    blocks_of,
    is_at,
    is_name,
    last_name,
    names_in,
    nodes_above,
    pairs,
    parents_of,
    reads_all_names,
    statement_around,
    walk,
)
from nb_oomhelper.source.view_forms import root_shared

_SECOND = {"array": "dtype", "asarray": "dtype", "stack": "axis", "concatenate": "axis"}
_SECOND |= dict.fromkeys(("vstack", "hstack", "dstack", "column_stack"), "")
_SECOND_OF_TORCH = {"stack": "dim", "cat": "dim", "concat": "dim", "concatenate": "dim"}
_SECOND_OF_TORCH |= dict.fromkeys(("vstack", "hstack", "dstack"), "")
_JOINS = {f"{module}.{name}": second for module in ("np", "numpy") for name, second in _SECOND.items()}
_JOINS |= {f"torch.{name}": second for name, second in _SECOND_OF_TORCH.items()}
_OPTIONS = frozenset({"axis", "dim", "dtype"})
_TOLD_FREELY = frozenset({"np", "numpy", "torch", "float", "int", "bool"})
_NO_ARRAYS = (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp)
_NO_ARRAYS_MADE_BY = frozenset({"list", "tuple", "dict", "set", "str", "int", "float", "bool", "len"})
_NO_ARRAYS_MADE_BY |= {"tolist", "split"}
_LITTLE = frozenset(
    {"shape", "dtype", "ndim", "size", "nbytes", "mean", "sum", "min", "max", "std", "var", "any", "all"}
)
_OUTSIDE = (ast.Await, ast.Yield, ast.YieldFrom)
_AGAIN = (*LOOPS, ast.ListComp, ast.GeneratorExp, ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """One place where parts are joined.

    Attributes:
        call: The call that joins them.
        name: The list that a loop fills; "" of a comprehension.
        count: How many parts there are, as code; "" where no code tells.
        axis: The axis that the parts are laid along as one of its own; None where they have that axis already.
        edits: What lets each part be written into the result.
        rebinds: The list's name is that of the result then.
    """

    call: ast.Call
    name: str
    count: str
    axis: int | None
    edits: list[Edit]
    rebinds: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A list that is joined, whose parts can be moved into the result.

    Attributes:
        call: The call that joins them.
        name: The list.
        edits: What lets them be moved.
        changed: The list, or the result, is written into afterwards.
        read: The list is read afterwards.
        small: Next to nothing is made of the result, as far as the code says.
    """

    call: ast.Call
    name: str
    edits: list[Edit]
    changed: bool
    read: bool
    small: bool


def find_joined(text: SourceText, body: list[ast.stmt], counts: Counts) -> Iterator[Joined]:
    """Find parts that are made one by one, and joined by NumPy or PyTorch.

    Args:
        text: The source.
        body: The statements to look in.
        counts: What tells how many there are.
    """
    nodes = list(walk(body))
    parents = parents_of(nodes)
    for call in nodes:
        if not isinstance(call, ast.Call) or (options := _options(call)) is None:
            continue
        parts = call.args[0]
        if isinstance(parts, ast.ListComp):
            count = counts.of_loops(parts.generators)
            if count and _makes_arrays(parts):
                edits = _edits_of_comprehension(text, call, parts, count)
                yield Joined(call=call, name="", count=count, axis=_axis(call), edits=edits)
        elif isinstance(parts, ast.Name) and not reads_all_names(body):
            count, edits = _Filled(parts.id, call, body, parents).edits(text, counts, options)
            if count:
                bound = [target for target, value in pairs(parents[call]) if value is call]
                again = any(is_name(one, parts.id) for one in bound)
                yield Joined(call=call, name=parts.id, count=count, axis=_axis(call), edits=edits, rebinds=again)


def _options(call: ast.Call) -> list[tuple[str, ast.expr]] | None:
    """What a call that joins is given beside the parts, by name; None of any other call."""
    second = _JOINS.get(ast.unparse(call.func)) if isinstance(call.func, ast.Attribute) else None
    if second is None or not 1 <= len(call.args) <= 1 + bool(second) or isinstance(call.args[-1], ast.Starred):
        return None
    named = [(one.arg or "", one.value) for one in call.keywords]
    return [*((second, one) for one in call.args[1:]), *named] if {name for name, _ in named} <= _OPTIONS else None


def _axis(call: ast.Call) -> int | None:
    """The axis that is the parts' own: 0 of `np.array`, the one that is told of `np.stack`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name in ("array", "asarray"):
        return 0
    told = [*call.args[1:], *(one.value for one in call.keywords if one.arg in ("axis", "dim"))]
    value = ast.literal_eval(told[0]) if told and _is_number(told[0]) else None if told else 0
    return value if name == "stack" else None


def _is_number(node: ast.expr) -> bool:
    node = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node
    return isinstance(node, ast.Constant) and type(node.value) is int


def _makes_arrays(parts: ast.ListComp) -> bool:
    """Whether a comprehension may make something new with each round, and not views or plain numbers."""
    made = parts.elt
    if any(isinstance(one, (*_OUTSIDE, ast.NamedExpr)) for one in ast.walk(parts)) or isinstance(made, _NO_ARRAYS):
        return False
    if isinstance(made, ast.Call) and last_name(made.func) in _NO_ARRAYS_MADE_BY:
        return False
    if isinstance(made, ast.Subscript) and isinstance(made.slice, ast.Name):
        return True  # `vectors[ids]` is a view only where that is a slice, and takes nothing then
    return any(isinstance(one, (ast.Call, ast.BinOp)) for one in ast.walk(made)) and not root_shared(made)


def _edits_of_comprehension(text: SourceText, call: ast.Call, parts: ast.ListComp, count: str) -> list[Edit]:
    """`np.stack([f(x) for x in xs], 1)` → `nb_oomhelper.joined(np.stack, (f(x) for x in xs), len(xs), axis=1)`."""
    opened, closed = text.span(parts)
    inner = [(opened, opened + 1, "("), (closed - 1, closed, f"), {count}")]
    return _given_to("nb_oomhelper.joined", text, call) + inner


def _given_to(function: str, text: SourceText, call: ast.Call) -> list[Edit]:
    """`np.stack(parts, 1)` → `function(np.stack, parts, axis=1)`."""
    start, end = text.span(call.func)
    bracket = text.token_from(end)
    edits = [(start, start, f"{function}("), (bracket.start, bracket.end, ", ")]
    second = _JOINS[ast.unparse(call.func)]
    return edits + [(place, place, f"{second}=") for place, _ in map(text.span, call.args[1:])]


def find_moved(text: SourceText, body: list[ast.stmt], line: int, find: Find) -> Iterator[Moved]:
    """Find lists that a line joins, and let their parts be moved: `np.array(images)`.

    Args:
        text: The source.
        body: The statements to look in.
        line: The line, from 1.
        find: Finds a function of the notebook by its name.
    """
    parents = parents_of(walk(body))
    after = [one for one in walk(body) if isinstance(one, ast.stmt) and one.lineno > line]
    for call in walk(body):
        if not isinstance(call, ast.Call) or not is_at(call, line) or _options(call) is None:
            continue
        if isinstance(call.args[0], ast.Name):
            bound = {
                target.id for target, value in pairs(parents[call]) if value is call and isinstance(target, ast.Name)
            }
            edits = _given_to("nb_oomhelper.joined_in_place", text, call)
            small = bool(bound) and all(_is_looked_at(one, parents) for one in walk(body) if _is_read(one, bound, line))
            name = call.args[0].id
            changed = changes_any(bound | {name}, after, find)
            read = any(_is_read(one, {name} - bound, line) for one in walk(after))
            yield Moved(call=call, name=name, edits=edits, changed=changed, read=read, small=small)


def _is_read(node: ast.AST, names: set[str], line: int) -> bool:
    return isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load) and node.lineno > line


def _is_looked_at(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether next to nothing is made of an array: `x.shape`, `x.mean(axis=0)`, `len(x)`, `x[0]`."""
    above = parents.get(node)
    if isinstance(above, ast.Attribute):
        return above.attr in _LITTLE
    if isinstance(above, ast.Subscript):
        return isinstance(above.slice, (ast.Constant, ast.Name, ast.UnaryOp))
    return isinstance(above, (ast.Return, ast.Tuple)) or (
        isinstance(above, ast.Call) and last_name(above.func) == "len"
    )


@dataclass(frozen=True, slots=True)
class _Filled:
    """A list that one loop fills with a part in each round, and that a call joins then."""

    name: str
    call: ast.Call
    body: list[ast.stmt]
    parents: Mapping[ast.AST, ast.AST]

    def edits(self, text: SourceText, counts: Counts, options: list[tuple[str, ast.expr]]) -> tuple[str, list[Edit]]:
        """How many parts it gets, and what lets each be written into the result; "" where the list must be one."""
        begun, loop = self._begun_and_filled()
        count = "" if begun is None or loop is None or not self._is_all(begun, loop) else counts.of_loops([loop])
        told = set[str]().union(*(names_in(value) for _, value in options))
        if begun is None or loop is None or not count or not told <= _TOLD_FREELY:
            return "", []
        given = [f"{name}={text.text[slice(*text.span(value))]}" for name, value in options]
        made = f"nb_oomhelper.Joining({', '.join([ast.unparse(self.call.func), count, *given])})"
        joined = (*text.span(self.call), f"{self.name}.joined()")
        bound = [one for one in walk(self.body) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
        between = {one.id for one in bound if begun.lineno <= one.lineno < loop.lineno}
        if not names_in(ast.parse(count)) & between:
            return count, [(*text.span(begun), made), joined]
        start, _ = text.span(loop)
        line = text.line_start(start)
        indent = text.text[line:start]
        return ("", []) if indent.strip() else (count, [(line, line, f"{indent}{self.name} = {made}\n"), joined])

    def _begun_and_filled(self) -> tuple[ast.expr | None, ast.For | None]:
        """Where the list begins empty, and the loop behind that fills it, in a block in which it is joined once."""
        around = [self.call, *nodes_above(self.call, self.parents)]
        for block in blocks_of(self.body):
            last = next((at for at, one in enumerate(block) if one in around), 0)
            if not last or any(isinstance(one, _AGAIN) for one in around[: around.index(block[last]) + 1]):
                continue
            begun = [value for one in block[:last] for target, value in pairs(one) if is_name(target, self.name)]
            loops = [one for one in _reached(block[:last]) if isinstance(one, ast.For) and self._puts(one)]
            if len(begun) == len(loops) == 1 and ast.unparse(begun[0]) in ("[]", "list()"):
                return begun[0], loops[0] if begun[0].lineno < loops[0].lineno else None
        return None, None

    def _puts(self, loop: ast.For) -> list[ast.Name]:
        """The list's name in each statement of a loop that puts a part into it."""
        calls = [one.value for one in loop.body if isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)]
        calls = [one for one in calls if len(one.args) == 1 and not isinstance(one.args[0], ast.Starred)]
        found = [one.func for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr == "append"]
        return [one.value for one in found if isinstance(one.value, ast.Name) and one.value.id == self.name]

    def _is_all(self, begun: ast.expr, loop: ast.For) -> bool:
        """Whether it gets one part in each round, and nobody looks at it but for its length."""
        put, statement = self._puts(loop), statement_around(self.call, self.parents)
        inner = {part for one in walk(loop.body) if isinstance(one, LOOPS) for part in ast.walk(one)}
        left = [one for one in walk(loop.body) if isinstance(one, (ast.Continue, ast.Break)) and one not in inner]
        if len(put) != 1 or left or loop.orelse or statement is None:
            return False
        again = [target for target, value in pairs(statement) if value is self.call and is_name(target, self.name)]
        whole = any(statement in block and again for block in blocks_of(self.body) if loop in [*_reached(block)])
        first = [target for one in walk(self.body) for target, value in pairs(one) if value is begun]
        known = {id(one) for one in (self.call.args[0], *put, *again, *first)}
        for node in walk(self.body):
            if isinstance(node, (ast.Global, ast.Nonlocal)) and self.name in node.names:
                return False
            behind = whole and getattr(node, "lineno", 0) > (statement.end_lineno or 0)  # the array has its name then
            if is_name(node, self.name) and id(node) not in known and not behind and not self._is_told(node):
                return False
        return True

    def _is_told(self, node: ast.AST) -> bool:
        """`len(frames)`, `del frames`."""
        above = self.parents.get(node)
        return isinstance(above, ast.Delete) or (isinstance(above, ast.Call) and is_name(above.func, "len"))


def _reached(block: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a block, and those in its `with`."""
    for one in block:
        yield one
        if isinstance(one, ast.With):
            yield from _reached(one.body)
