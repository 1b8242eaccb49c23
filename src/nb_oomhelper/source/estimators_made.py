"""What made the estimators that a name in some code stands for: a call in it, or what an earlier cell had made."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from nb_oomhelper.source.tree import last_name, pairs, root_name, walk


@dataclass(frozen=True, slots=True, kw_only=True)
class Learn:
    """What is known of scikit-learn beside the code.

    Attributes:
        known: Estimators of earlier cells by name, as one would write them.
        foreign: Names that stand for functions and classes which are not scikit-learn's.
        modern: Whether its PCA takes a sparse matrix.
        places: Names of arrays of whole numbers or flags, which can say which rows are meant.
    """

    known: Mapping[str, ast.expr] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    modern: bool = False
    places: frozenset[str] = frozenset()


class Made:
    """What the names in some code stand for, as far as estimators are concerned."""

    def __init__(self, body: list[ast.stmt], learn: Learn) -> None:
        """Read the code.

        Args:
            body: The code.
            learn: What is known of scikit-learn beside it.
        """
        self.learn = learn
        self.made: dict[str, list[ast.expr]] = {}
        self._changed = {name for node in walk(body) for name in _changed_by(node)}
        self._defined = {one.name for one in walk(body) if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
        for node in walk(body):
            for target, value in pairs(node):
                self._note(target, value)
        for node in walk(body):
            if isinstance(node, (ast.For, ast.comprehension)):
                for one in self._members(node.iter):
                    self._unpack(node.target, one)

    def is_foreign(self, function: ast.expr) -> bool:
        """Tell whether what is called is not scikit-learn's, though its name may be."""
        name = function.id if isinstance(function, ast.Name) else ""
        return name in self.learn.foreign or name in self.made or name in self._defined

    def _note(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.made.setdefault(target.id, []).append(value)

    def _unpack(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for one, part in zip(target.elts, value.elts, strict=True):
                self._note(one, part)
        else:
            self._note(target, value)

    def _members(self, node: ast.expr) -> list[ast.expr]:
        """What a loop goes through, where it is written out: a list, or `models.items()`."""
        if isinstance(node, ast.Name):
            values = self.made.get(node.id, [])
            return self._members(values[0]) if len(values) == 1 and not isinstance(values[0], ast.Name) else []
        if isinstance(node, (ast.List, ast.Tuple)):
            return node.elts
        items = node.func if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
        values = self.made.get(items.value.id, []) if items is not None and isinstance(items.value, ast.Name) else []
        if items is None or len(values) != 1 or not isinstance(values[0], ast.Dict) or None in values[0].keys:
            return []
        if items.attr == "values":
            return values[0].values
        both = zip(values[0].keys, values[0].values, strict=True)
        return [ast.Tuple([key, value], ast.Load()) for key, value in both if key] if items.attr == "items" else []

    def calls(self, node: ast.expr, depth: int = 8) -> list[ast.Call]:
        """Give the calls that may have made what an expression stands for; none where that is not known.

        Args:
            node: The expression.
            depth: How many names to follow.
        """
        if isinstance(node, ast.Name) and node.id not in self._changed:
            values = self.made.get(node.id) or [one for one in [self.learn.known.get(node.id)] if one is not None]
            found = [self.calls(one, depth - 1) for one in values if depth]
            return [call for calls in found for call in calls] if all(found) else []
        if not isinstance(node, ast.Call) or self.is_foreign(node.func):
            return []
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("fit", "partial_fit"):
            return self.calls(node.func.value, depth)
        if last_name(node.func) == "clone" and len(node.args) == 1:
            return self.calls(node.args[0], depth)
        return [node]


def _changed_by(node: ast.AST) -> set[str]:
    """Names of what is told something else once it is there: `model.set_params(…)`, `model.metric = …`."""
    function = node.func if isinstance(node, ast.Call) else node
    told = isinstance(function, ast.Attribute) and function.attr in ("set_params", "set_output")
    stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    return {root_name(function)} if told or stored else set()
