"""Lists and dicts that a cell fills and then only goes through: written so that what is in them lies on disk."""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nb_oomhelper.source.demand_reads import Find, Reads
from nb_oomhelper.source.disk_puts import changes_any, is_copied, parts_named
from nb_oomhelper.source.disk_reads import ItemReads
from nb_oomhelper.source.numbers import folded
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import (
    LOOPS,
    is_name,
    last_name,
    named_values,
    names_in,
    nodes_above,
    pairs,
    parents_of,
    reads_all_names,
    statement_around,
    walk,
)

_LIST, _DICT = "nb_oomhelper.ListOnDisk", "nb_oomhelper.DictOnDisk"
_EMPTY = {"[]": _LIST, "list()": _LIST, "{}": _DICT, "dict()": _DICT}
_LARGEST = 1 << 40  # rounds, where more stand there
_ENDS = (ast.Break, ast.Return, ast.Raise)
_PUTS = frozenset({"append", "extend"})
_MAKERS = frozenset({"product", "permutations", "combinations", "combinations_with_replacement", "map", "starmap"})
_ARRAYS = frozenset(f"{module}.{name}" for module in ("np", "numpy") for name in ("array", "asarray", "stack"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """What is written.

    Attributes:
        name: The list or dict.
        edits: The places that change.
        begun: What it is at first: empty, or a comprehension.
        small: All that is made of it is known to take next to nothing.
        returned: It is given back.
        rounds: How often the loops go round in which it is filled, where that stands there.
    """

    name: str
    edits: list[Edit]
    begun: ast.expr
    small: bool
    returned: bool = False
    rounds: int | None = None


def kept_on_disk(text: SourceText, body: list[ast.stmt], find: Find) -> Iterator[OnDisk]:
    """Find lists and dicts that can be on disk: they are filled, gone through and looked up, and never changed.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        find: Finds a function of the notebook by its name.
    """
    if reads_all_names(body) or any(isinstance(one, (ast.Global, ast.Nonlocal)) for one in walk(body)):
        return
    parents = parents_of(walk(body))
    bound = named_values(body)
    for name in dict.fromkeys(name for name, _ in bound):
        found = _Keeper(text, body, parents, name, find).written([value for one, value in bound if one == name])
        if found is not None:
            yield found


@dataclass(frozen=True, slots=True)
class _Keeper:
    """A name that stands for a list or a dict."""

    text: SourceText
    body: list[ast.stmt]
    parents: Mapping[ast.AST, ast.AST]
    name: str
    find: Find

    def written(self, values: Sequence[ast.expr]) -> OnDisk | None:
        """How it is written, where it can be on disk; it may become an array of its items in the end."""
        first, *others = values
        edits = self._begun(first)
        last = others[0] if len(others) == 1 and self._is_array(others[0]) else None
        if not edits or (others and last is None):
            return None
        keyed = edits[0][2].startswith(_DICT)
        end, reads = self._line(last), ItemReads(self.text, self.body, self.parents, self.name, self.find, keyed)
        nodes = [one for one in walk(self.body) if is_name(one, self.name)]
        for node in nodes:
            statement = statement_around(node, self.parents)
            if statement is None or (end is not None and statement.lineno > end):
                continue
            if isinstance(node.ctx, ast.Store):  # type: ignore[attr-defined]
                longer = isinstance(statement, ast.AugAssign) and statement.target is node
                if not longer and not any(value in (first, last) for _, value in pairs(statement)):
                    return None
            elif self._is_without_end(node):
                return None
            elif not self._is_put(node, keyed=keyed) and isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
                changed = self._as_array(node, keyed=keyed) or reads.edits(node)
                if changed is None:
                    return None
                edits += changed
        if changes_any(parts_named([self.name], [*walk(self.body)]), self.body, self.find):
            return None
        return OnDisk(
            name=self.name,
            edits=edits,
            begun=first,
            small=reads.small,
            returned=reads.returned,
            rounds=self._rounds(nodes),
        )

    def _rounds(self, nodes: list[ast.AST]) -> int | None:
        """How often `for n in range(10**9):` goes round, with the loops around it."""
        puts = [one for one in nodes if self._is_put(one, keyed=True)]
        loops = [one for one in nodes_above(puts[0], self.parents) if isinstance(one, LOOPS)] if puts else []
        counts = [_rounds_of(one) for one in loops]
        known = [one for one in counts if one is not None]
        return math.prod(known) if known and len(known) == len(counts) else None

    def _is_without_end(self, node: ast.AST) -> bool:
        """Whether it is in a loop that nothing ends, `while True`: that would go on until the disk is full."""
        loops = [one for one in nodes_above(node, self.parents) if isinstance(one, ast.While)]
        endless = [one for one in loops if isinstance(one.test, ast.Constant) and one.test.value]
        return any(not any(isinstance(one, _ENDS) for one in walk(loop.body)) for loop in endless)

    def _line(self, value: ast.expr | None) -> int | None:
        statement = None if value is None else statement_around(value, self.parents)
        return None if statement is None else statement.end_lineno

    def _is_array(self, value: ast.expr) -> bool:
        """`frames = np.array(frames)`."""
        given = value.args[0] if isinstance(value, ast.Call) and len(value.args) == 1 else None
        return given is not None and is_name(given, self.name)

    def _as_array(self, node: ast.AST, *, keyed: bool) -> list[Edit]:
        """`frames = np.array(frames)` → `frames.array(np.array)`, where a few rows of it at a time are enough."""
        call, statement = self.parents.get(node), statement_around(node, self.parents)
        if keyed or not isinstance(call, ast.Call) or len(call.args) != 1 or call.keywords or node is call.func:
            return []
        if not isinstance(statement, ast.Assign) or statement.value is not call or statement not in self.body:
            return []
        function, reads = ast.unparse(call.func), Reads(self.text.tree, self.find)
        names = [one.id for one in statement.targets if isinstance(one, ast.Name)]
        after = self.body[self.body.index(statement) + 1 :]
        reading = [one for one in walk(after) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)]
        if function not in _ARRAYS or len(names) != 1 or names[0] not in {one.id for one in reading}:
            return []
        few = reads.are_few(after, names) and not reads.returned
        return [(*self.text.span(call), f"{self.name}.array({function})")] if few else []

    def _begun(self, value: ast.expr) -> list[Edit]:
        """What lets it begin on disk."""
        span = self.text.span(value)
        if (kind := _EMPTY.get(ast.unparse(value))) is not None:
            return [(*span, f"{kind}()")]
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "list" and len(value.args) == 1:
            return [(*self.text.span(value.func), _LIST)] if self._is_made(value.args[0]) else []
        if isinstance(value, ast.List) and not any(isinstance(one, ast.Starred) for one in value.elts):
            return [(span[0], span[0], f"{_LIST}("), (span[1], span[1], ")")] if self._is_copied(value) else []
        if isinstance(value, ast.ListComp) and self._is_copied(value.elt):
            return [(span[0], span[0] + 1, f"{_LIST}("), (span[1] - 1, span[1], ")")]
        if isinstance(value, ast.DictComp) and self._is_copied(value.value):
            key, made = self.text.span(value.key), self.text.span(value.value)
            opened = [(span[0], span[0] + 1, f"{_DICT}("), (span[1] - 1, span[1], ")")]
            pair = [(key[0], key[0], "("), (key[1], made[0], ", "), (made[1], made[1], ")")]
            return [*opened, *pair]
        return []

    def _is_made(self, value: ast.expr) -> bool:
        """Whether items are made one by one: `product(xs, repeat=3)`, `(f(x) for x in xs)`."""
        if isinstance(value, ast.GeneratorExp):
            return self._is_copied(value.elt)
        made = isinstance(value, ast.Call) and last_name(value.func) in _MAKERS
        return made and not changes_any(names_in(value), self.body, self.find)

    def _is_put(self, node: ast.AST, *, keyed: bool) -> bool:
        """`states.append(state)`, `results[key] = made`: of what nobody changes later."""
        above = self.parents.get(node)
        statement = statement_around(node, self.parents)
        if isinstance(above, ast.Attribute) and above.attr in _PUTS and isinstance(statement, ast.Expr):
            call = statement.value
            return isinstance(call, ast.Call) and call.func is above and all(map(self._is_copied, call.args))
        if keyed and isinstance(above, ast.Subscript) and above.value is node and isinstance(above.ctx, ast.Store):
            return isinstance(statement, ast.Assign) and above in statement.targets and self._is_copied(statement.value)
        return False

    def _is_copied(self, made: ast.expr) -> bool:
        return is_copied(made, self.body, self.parents, self.find)


def _rounds_of(loop: ast.AST) -> int | None:
    call = loop.iter if isinstance(loop, ast.For) else None
    if not isinstance(call, ast.Call) or last_name(call.func) not in ("range", "trange"):
        return None
    end = call.args[-1] if len(call.args) in (1, 2) else None
    count = folded(end)
    return _LARGEST if count is None and end is not None and not names_in(end) else count


def is_only_read(text: SourceText, body: list[ast.stmt], names: Collection[str], find: Find) -> bool:
    """Tell whether code only goes through what some names stand for, and looks it up.

    Args:
        text: The source.
        body: The statements.
        names: The names, each bound once.
        find: Finds a function of the notebook by its name.
    """
    parents = parents_of(walk(body))
    for name in names:
        keeper = ItemReads(text, body, parents, name, find)
        nodes = [one for one in walk(body) if is_name(one, name)]
        read = [one for one in nodes if isinstance(one.ctx, ast.Load)]  # type: ignore[attr-defined]
        if len(nodes) != len(read) + 1 or any(keeper.edits(one) != [] for one in read):
            return False
    return not reads_all_names(body)
