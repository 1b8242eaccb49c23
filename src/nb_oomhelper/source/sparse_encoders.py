"""Encoders that are told to make a dense matrix: where they are used, and how they are told otherwise."""

from __future__ import annotations

import ast

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.sparse_takers import COMPOUNDS, Estimators, Flow
from nb_oomhelper.source.sparse_uses import METHODS, WITH_ESTIMATOR
from nb_oomhelper.source.tree import last_name, pairs, parents_of, walk

_TOLD = frozenset({"get_feature_names_out", "get_feature_names", "categories_", "n_features_in_", "feature_names_in_"})
_FITTING = frozenset({"fit", "fit_transform", "fit_predict"})
_SPARSE = {"sparse_threshold": "0.3", "encode": '"onehot"'}


class Encoders:
    """Those that some code uses, by themselves or within pipelines.

    Attributes:
        are_fine: All that is done with them can be done with encoders that make a sparse matrix.
        makers: Where they make one that goes on.
        used: Where they are at work.
        names: The names that stand for them, and for what they are within.
        nearly: Estimators behind them whose numbers are nearly the same.
        unsure: A `ColumnTransformer` decides whether what it gives is sparse.
    """

    def __init__(self, body: list[ast.stmt], estimators: Estimators) -> None:
        """Read the code.

        Args:
            body: The code.
            estimators: What it makes.
        """
        self.are_fine = True
        self.makers: list[ast.expr] = []
        self.used: list[ast.expr] = []
        self.names: set[str] = set()
        self.nearly: list[str] = []
        self.unsure = False
        self._estimators = estimators
        self._dense: dict[int, ast.keyword] = {}
        self._fitted: set[int] = set()
        self._parents = parents_of(walk(body))
        self._bound = {id(value): target for node in walk(body) for target, value in pairs(node)}
        for node in walk(body):
            if isinstance(node, ast.Call) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
                self._look(node)

    def _look(self, node: ast.Call | ast.Name) -> None:
        flow = Flow()
        out = self._estimators.through(node, flow, sparse=False)
        if not flow.dense:
            return
        self._dense |= {id(keyword): keyword for keyword in flow.dense}
        self.names |= {node.id} if isinstance(node, ast.Name) else set()
        self.nearly += flow.nearly
        self.unsure |= flow.columns
        self.are_fine = self.are_fine and out is not None and self._is_fine(node, flow, sparse=out)

    def _is_fine(self, node: ast.expr, flow: Flow, *, sparse: bool) -> bool:
        """Whether an encoder is used in a way that is understood where it is read."""
        parent = self._parents.get(node)
        if isinstance(parent, ast.Attribute):
            return self._is_fine_attribute(parent, flow, sparse=sparse)
        if id(node) in self._bound:
            return isinstance(self._bound[id(node)], ast.Name)
        if isinstance(parent, ast.Call) and last_name(parent.func) in WITH_ESTIMATOR:
            self._note(parent, flow)
            return parent.args[:1] == [node]
        while isinstance(parent, (ast.Tuple, ast.List, ast.keyword)):
            parent = self._parents.get(parent)
        inside = isinstance(parent, ast.Call) and last_name(parent.func) in COMPOUNDS
        return isinstance(parent, (ast.Expr, ast.Delete)) or inside

    def _is_fine_attribute(self, node: ast.Attribute, flow: Flow, *, sparse: bool) -> bool:
        call = self._parents.get(node)
        if node.attr in _TOLD:
            return True
        if node.attr not in METHODS or not isinstance(call, ast.Call) or call.func is not node:
            return False
        if node.attr in _FITTING:
            self._note(call, flow)
        else:
            self.used.append(call)
        if sparse and node.attr in ("transform", "fit_transform"):
            self.makers.append(call)
        return True

    def _note(self, call: ast.Call, flow: Flow) -> None:
        self.used.append(call)
        self._fitted |= {id(keyword) for keyword in flow.dense}

    def edits(self, text: SourceText) -> list[Edit]:
        """Give what tells all of them to make a sparse matrix; nothing where that cannot be written.

        Args:
            text: The source.
        """
        found: list[Edit] = []
        paths = self._estimators.paths()
        for key, keyword in self._dense.items():
            said = _SPARSE.get(keyword.arg or "", "True")
            if key not in paths:
                found.append((*text.span(keyword.value), said))
            elif "__" not in paths[key] or key in self._fitted:  # what is within others is copied when these are fitted
                name, _, path = paths[key].partition(".")
                found.append((0, 0, f"{name}.set_params({path}={said})\n"))
            else:
                return []
        return found
