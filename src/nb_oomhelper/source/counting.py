"""How often a loop goes round, as code that can be run before it, and as a number where that is known."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nb_oomhelper.source.numbers import folded
from nb_oomhelper.source.tree import arguments, is_name, is_path, last_name, names_in, pairs, walk

_SAME = frozenset({"tqdm", "enumerate", "reversed", "sorted", "track"})  # as many as what they go through
_RANGES = frozenset({"range", "trange"})
_EVEN = frozenset({"arange", "linspace", "logspace", "geomspace"})
_CUT = frozenset({"array_split", "split", "chunk"})  # views, as many as there are parts
_LISTED = frozenset({"os.listdir", "glob.glob"})
_ROWS_OF_TABLES = frozenset({"iterrows", "itertuples"})
_OF_DICTS = frozenset({"items", "keys", "values"})
_PLAIN = (
    *(ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop),
    *(ast.expr_context, ast.Slice, ast.Tuple, ast.keyword, ast.Call),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What is known of numbers and lengths.

    Attributes:
        lengths: Of what has one, by path; None where it has one that is not known.
        tables: Names of pandas' tables, whose columns are as long.
        numbers: Whole numbers by what is written for them.
        body: The statements in which the loops are.
    """

    lengths: Mapping[str, int | None] = field(default_factory=dict)
    tables: Collection[str] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    body: Sequence[ast.stmt] = ()

    def of_loops(self, loops: Sequence[ast.For | ast.comprehension]) -> str:
        """Give how many rounds there are of loops within each other, as code; "" where no code tells.

        Args:
            loops: The outermost first.
        """
        counts, bound = [], set[str]()
        for one in loops:
            skips = isinstance(one, ast.comprehension) and (one.ifs or one.is_async)
            if skips or names_in(one.iter) & bound:
                return ""
            counts.append(self._of(one.iter))
            bound |= names_in(one.target)
        product = " * ".join(one if one.isidentifier() else f"({one})" for one in counts)
        return "" if not all(counts) else counts[0] if len(counts) == 1 else product

    def number(self, count: str) -> int | None:
        """Give what code of `of_loops` stands for; None where that is not known.

        Args:
            count: The code.
        """
        return self._number(ast.parse(count, mode="eval").body)

    def _of(self, node: ast.expr) -> str:
        name = last_name(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, (ast.List, ast.Tuple)):
            return "" if any(isinstance(one, ast.Starred) for one in node.elts) else str(len(node.elts))
        if not isinstance(node, ast.Call):
            return f"len({ast.unparse(node)})" if self._has_length(node) else ""
        if name in _SAME and node.args:
            return self._of(node.args[0])
        if name == "zip" and node.args:
            return self._of_zip(node)
        if name in _RANGES and isinstance(node.func, ast.Name) and not node.keywords:
            plain = all(map(_is_plain, node.args))
            if len(node.args) == 1:
                return ast.unparse(node.args[0]) if plain else ""
            return f"len(range({', '.join(map(ast.unparse, node.args))}))" if plain and node.args else ""
        if not all(map(_is_plain, arguments(node))):
            return ""
        method = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name in _OF_DICTS and method is not None and not node.args:
            return self._of(method)
        if method is not None and (name in _ROWS_OF_TABLES and ast.unparse(method) in self.tables):
            return f"len({ast.unparse(method)})"
        cut = name in _CUT and any(map(self._has_length, [*node.args[:1], *([method] if method else [])]))
        known = cut or ast.unparse(node.func) in _LISTED or (name in _EVEN and method is not None)
        return f"len({ast.unparse(node)})" if known else ""

    def _of_zip(self, call: ast.Call) -> str:
        counts = [self._of(one) for one in call.args]
        if call.keywords or not all(counts):
            return ""
        return counts[0] if len(set(counts)) == 1 else f"min({', '.join(dict.fromkeys(counts))})"

    def _has_length(self, node: ast.expr) -> bool:
        """Whether `len` of it is known to work, and to compute nothing: a list, an array, a table's column, a slice."""
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice) and _is_plain(node.slice):
            return ast.unparse(node.value) in self.lengths
        if not is_path(node):
            return False
        if ast.unparse(node) in self.lengths:
            return True
        if isinstance(node, ast.Name):
            values = [value for one in walk(self.body) for target, value in pairs(one) if is_name(target, node.id)]
            return len(values) == 1 and isinstance(values[0], ast.Call) and last_name(values[0].func) in _RANGES | _EVEN
        return self._is_column(node)

    def _is_column(self, node: ast.expr) -> bool:
        """`df["path"]`, `df.index`, `df["path"].values`."""
        if isinstance(node, ast.Subscript):
            return isinstance(node.slice, ast.Constant) and ast.unparse(node.value) in self.tables
        of = node.value if isinstance(node, ast.Attribute) else node
        return isinstance(node, ast.Attribute) and (ast.unparse(of) in self.tables or self._is_column(of))

    def _number(self, node: ast.expr) -> int | None:
        told = ast.unparse(node)
        if told in self.numbers:
            return self.numbers[told]
        if isinstance(node, ast.BinOp):
            left, right = self._number(node.left), self._number(node.right)
            both = ast.BinOp(ast.Constant(left), node.op, ast.Constant(right))
            return None if left is None or right is None else folded(both)
        if told.endswith(".shape[0]"):
            return self.lengths.get(told.removesuffix(".shape[0]"))
        if not isinstance(node, ast.Call):
            return folded(node)
        if last_name(node.func) == "min":
            known = [self._number(one) for one in node.args]
            return None if None in known else min(one for one in known if one is not None)
        if last_name(node.func) == "range":
            ends = [self._number(one) for one in node.args]
            return None if None in ends else len(range(*(one for one in ends if one is not None)))
        if last_name(node.func) != "len":
            return None
        inner = node.args[0]
        if isinstance(inner, ast.Call) and last_name(inner.func) in ("split", "array_split"):
            return self._number_of_cuts(inner)
        called = isinstance(inner, ast.Call) and last_name(inner.func) == "range"
        return self._number(inner) if called else self.lengths.get(ast.unparse(inner))

    def _number_of_cuts(self, call: ast.Call) -> int | None:
        """`np.array_split(x, 20)`, `torch.split(x, 64)`, `x.split(64)`."""
        of = call.func.value if isinstance(call.func, ast.Attribute) and len(call.args) == 1 else None
        if call.keywords or (of is None and len(call.args) != 2):
            return None
        size, given = self._number(call.args[-1]), ast.unparse(call.args[0] if of is None else of)
        if (
            size is None
            or last_name(call.func) == "array_split"
            or ast.unparse(call.func) in ("np.split", "numpy.split")
        ):
            return size
        length = self.lengths.get(given)
        return None if length is None or size < 1 else -(-length // size)


def _is_plain(node: ast.expr) -> bool:
    """Whether it gives the same each time, and computes next to nothing."""
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    plain = all(is_name(one.func, "len") and all(map(is_path, one.args)) for one in calls)
    return plain and all(isinstance(one, _PLAIN) for one in ast.walk(node))
