"""What becomes of a sparse matrix in some code: whether all that is done with it can be done with a sparse one."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from nb_oomhelper.source.sparse_takers import METRICS, NEIGHBORS, STRICT, Estimators, Flow
from nb_oomhelper.source.tree import changes_of, is_name, is_unpacked, last_name, names_bound, pairs, parents_of, walk

FITTING = frozenset({"fit", "partial_fit", "fit_predict", "fit_transform"})
"""Methods of estimators that learn from what they are given."""

METHODS = FITTING | {"transform", "predict", "predict_proba", "predict_log_proba", "decision_function", "score"}
METHODS |= {"score_samples", "kneighbors"}
"""Methods of estimators that are given a matrix."""

WITH_ESTIMATOR = frozenset(
    {"cross_val_score", "cross_validate", "cross_val_predict", "learning_curve", "validation_curve"}
)
"""Functions that are given an estimator and then a matrix."""

_PAIRS = frozenset({"cosine_similarity", "cosine_distances", "linear_kernel", "euclidean_distances"})
_OF_PAIRS = _PAIRS | {"pairwise_distances"}
_SPLITTERS = frozenset({"KFold", "StratifiedKFold", "ShuffleSplit", "StratifiedShuffleSplit", "RepeatedKFold"})
_SCORES = frozenset({"silhouette_score", "silhouette_samples"})
_SAME = frozenset({"shape", "ndim", "dtype"})
_NUMBERED = frozenset({"permutation", "arange", "argsort", "randint", "integers", "flatnonzero"})
_SHUT_OFF = frozenset({"coef_", "support_vectors_", "dual_coef_"})  # of support vectors they would be sparse, too


class Uses:
    """What is done with some matrices, and with what is made of them.

    Attributes:
        are_fine: All of it can be done with sparse ones.
        names: Names that stand for sparse matrices then.
        nodes: Where a sparse matrix is read or made, by `id`.
        nearly: Estimators and functions whose numbers are nearly the same.
        pairs: Of all pairs of rows something is computed.
        taken: Something takes one.
        chunked: Distances are computed in parts, of which scikit-learn lets each take up to 1 GiB.
        tables: Calls that make a table of a matrix, and the matrix.
    """

    def __init__(self, body: list[ast.stmt], estimators: Estimators) -> None:
        """Read the code.

        Args:
            body: The code.
            estimators: What it makes.
        """
        self.are_fine = True
        self.names: set[str] = set()
        self.nodes: dict[int, ast.expr] = {}
        self.nearly: list[str] = []
        self.pairs = False
        self.taken = False
        self.chunked = False
        self._says_cosine = any(isinstance(one, ast.Constant) and one.value == "cosine" for one in walk(body))
        self._asks_shut_off = any(isinstance(one, ast.Attribute) and one.attr in _SHUT_OFF for one in walk(body))
        self.tables: list[tuple[ast.Call, ast.expr]] = []
        self._body, self._estimators = body, estimators
        self._parents = parents_of(walk(body))
        self._targets: dict[int, list[ast.expr]] = {}
        for node in walk(body):
            for target, value in pairs(node):
                self._targets.setdefault(id(value), []).append(target)
        self._cut = False
        self._left: list[ast.expr] = []
        self._asked: list[ast.expr] = []

    def follow(self, makers: Iterable[ast.expr], *, cut: bool) -> None:
        """Look at all that is done with what some expressions make.

        Args:
            makers: The expressions.
            cut: Whether rows can be taken from what they make.
        """
        self._cut = cut
        for one in makers:
            self._add(one)
        while self._left and self.are_fine:
            self.are_fine = self._is_fine(self._left.pop())
        apart = _keeps_kinds_apart(self._body, self._estimators, self._asked, self.nodes)
        self.are_fine = self.are_fine and apart and _are_taken(self._body, self._estimators, self.tables)

    def _add(self, node: ast.expr) -> bool:
        if id(node) not in self.nodes:
            self.nodes[id(node)] = node
            self._left.append(node)
        return True

    def _add_names(self, targets: Iterable[ast.expr]) -> bool:
        """Follow what is bound to names; False where it is bound to something else."""
        for target in targets:
            if not isinstance(target, ast.Name) or changes_of(self._body, target.id):
                return False
            if target.id not in self.names:
                self.names.add(target.id)
                for one in walk(self._body):
                    if is_name(one, target.id) and not isinstance(one.ctx, ast.Store):  # type: ignore[attr-defined]
                        self._add(one)  # type: ignore[arg-type]
        return True

    def _is_fine(self, node: ast.expr) -> bool:
        parent = self._parents.get(node)
        if id(node) in self._targets:
            return self._add_names(self._targets[id(node)])
        if isinstance(parent, ast.Attribute):
            return self._is_fine_attribute(parent)
        if isinstance(parent, ast.Subscript):
            rows = _is_of_rows(parent.slice, self._body, self._estimators.learn.places)
            return parent.value is node and self._cut and rows and self._add(parent)
        if isinstance(parent, ast.keyword):
            call = self._parents.get(parent)
            return isinstance(call, ast.Call) and self._is_fine_given(call, parent.arg, node)
        if isinstance(parent, ast.Call) and not is_unpacked(parent):
            return self._is_fine_given(parent, parent.args.index(node), node)
        return isinstance(parent, ast.Delete)

    def _is_fine_attribute(self, node: ast.Attribute) -> bool:
        call = self._parents.get(node)
        called = isinstance(call, ast.Call) and call.func is node
        if called and node.attr in ("toarray", "todense"):
            return True
        if called and node.attr in ("astype", "copy"):
            return not call.keywords and self._add(call)  # type: ignore[union-attr, arg-type]
        return node.attr in _SAME and not called and isinstance(node.ctx, ast.Load)

    def _is_fine_given(self, call: ast.Call, at: int | str | None, node: ast.expr) -> bool:
        """Whether a function takes a sparse matrix in a place among what it is given."""
        name = last_name(call.func) or ""
        if name == "DataFrame" and at == 0 and {one.arg for one in call.keywords} <= {"columns", "index"}:
            self.tables.append((call, node))
            return len(call.args) == 1 and self._add(call)
        if isinstance(call.func, ast.Attribute) and name in METHODS:
            return at in (0, "X") and self._is_taken(call, call.func.value, name)
        if self._estimators.is_foreign(call.func):
            return False
        if name == "train_test_split":
            return isinstance(at, int) and self._add_halves(call, at)
        if name in WITH_ESTIMATOR:
            given = [*call.args[:1], *(one.value for one in call.keywords if one.arg == "estimator")]
            return at in (1, "X") and len(given) == 1 and self._is_taken(call, given[0], "fit")
        if name in _OF_PAIRS:
            return self._is_of_pairs(call, name, node)
        if name in _SCORES:
            self.taken = self.chunked = True
            return at in (0, "X") and _is_known_metric(call, 2)
        made = call.func.value if isinstance(call.func, ast.Attribute) and name == "split" else None
        return made is not None and at in (0, "X") and _splits(made, self._estimators)

    def _is_taken(self, call: ast.Call, estimator: ast.expr, method: str) -> bool:
        flow = Flow()
        out = self._estimators.through(estimator, flow, sparse=True)
        if out is None or ("PCA" in flow.met and method not in ("fit", "fit_transform", "transform")):
            return False
        self.taken = True
        self.nearly += flow.nearly
        self.chunked |= bool(flow.met & NEIGHBORS) and self._says_cosine
        if flow.met & STRICT and last_name(call.func) in METHODS:
            self._asked.append(estimator)
        if flow.met & STRICT - {"NearestNeighbors"} and self._asks_shut_off:
            return False
        return not (out and method in ("transform", "fit_transform")) or self._add(call)

    def _add_halves(self, call: ast.Call, at: int) -> bool:
        targets = _targets_of(self._parents.get(call))
        if len(targets) != 2 * len(call.args):
            return False
        return self._add_names(targets[2 * at : 2 * at + 2])

    def _is_of_pairs(self, call: ast.Call, name: str, node: ast.expr) -> bool:
        if not _can_be_of_pairs(call, name, node):
            return False
        self.taken = True
        self.nearly.append(name)
        self.pairs |= not any(isinstance(one, ast.Subscript) for one in call.args)
        return True


def _is_known_metric(call: ast.Call, at: int) -> bool:
    given = [*call.args[at : at + 1], *(one.value for one in call.keywords if one.arg == "metric")]
    return all(isinstance(one, ast.Constant) and one.value in METRICS for one in given)


def _numbers_of_rows(body: list[ast.stmt]) -> set[str]:
    """Names that surely stand for arrays of whole numbers."""
    found = set[str]()
    for node in walk(body):
        if isinstance(node, (ast.For, ast.comprehension)) and isinstance(node.iter, ast.Call):
            calls = [one for one in (node.iter, *node.iter.args[:1]) if isinstance(one, ast.Call)]
            found |= names_bound([node.target]) if any(last_name(one.func) == "split" for one in calls) else set()
        for target, value in pairs(node):
            if isinstance(value, ast.Call) and last_name(value.func) in _NUMBERED and isinstance(target, ast.Name):
                found.add(target.id)
    return found


def _is_of_rows(index: ast.expr, body: list[ast.stmt], places: frozenset[str]) -> bool:
    """Whether an index takes some rows of a sparse matrix as it does of an array."""
    if not isinstance(index, ast.Name):
        return isinstance(index, ast.Slice)
    return index.id in _numbers_of_rows(body) | (places - names_bound(body))


def _keeps_kinds_apart(
    body: list[ast.stmt], estimators: Estimators, asked: list[ast.expr], nodes: dict[int, ast.expr]
) -> bool:
    """Whether what may not meet both kinds of matrices meets none but sparse ones."""
    fits = [one for one in walk(body) if isinstance(one, ast.Call) and last_name(one.func) in FITTING]
    for one_asked in asked:
        made = {id(one) for one in estimators.calls(one_asked)}
        given = [
            one.args[:1]
            for one in fits
            if isinstance(one.func, ast.Attribute) and made & {id(call) for call in estimators.calls(one.func.value)}
        ]
        if not given or not all(one and id(one[0]) in nodes for one in given):
            return False
    return True


def _splits(node: ast.expr, estimators: Estimators) -> bool:
    calls = estimators.calls(node)
    return bool(calls) and all(last_name(one.func) in _SPLITTERS for one in calls)


def _can_be_of_pairs(call: ast.Call, name: str, node: ast.expr) -> bool:
    """Whether a function of all pairs of rows gives an array where it is given a sparse matrix."""
    options = {one.arg for one in call.keywords} & {"dense_output", "out", "X_norm_squared", "Y_norm_squared"}
    known = name != "pairwise_distances" or _is_known_metric(call, 2)
    given = [*call.args[:2], *(one.value for one in call.keywords if one.arg in ("X", "Y"))]
    return not options and known and node in given


def _are_taken(body: list[ast.stmt], estimators: Estimators, tables: Iterable[tuple[ast.Call, ast.expr]]) -> bool:
    """Whether each table is made for an estimator of this code: another cell would look for its columns."""
    for call, _ in tables:
        uses = Uses(body, estimators)
        uses.follow([call], cut=True)
        if not uses.taken:
            return False
    return True


def _targets_of(statement: ast.AST | None) -> list[ast.expr]:
    """What the results of a call are bound to, one by one."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return targets[0].elts if len(targets) == 1 and isinstance(targets[0], (ast.Tuple, ast.List)) else []
