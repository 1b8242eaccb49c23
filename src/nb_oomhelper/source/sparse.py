"""A sparse matrix made dense for an estimator that takes it as it is."""

from __future__ import annotations

import ast

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_name, last_name, pairs, walk

_TAKE_IT = frozenset({"fit", "partial_fit", "predict", "predict_proba", "decision_function", "score", "fit_predict"})
_SPLIT = frozenset({"train_test_split", "cross_val_score", "cross_validate", "cross_val_predict"})
# scikit-learn's, whose `fit` takes sparse matrices and gives the same with them: not those that have another solver,
# another intercept or another order of ties then (SGD, Ridge, LinearRegression, KMeans, neighbors).
_ESTIMATORS = frozenset(
    {"MultinomialNB", "BernoulliNB", "ComplementNB", "LogisticRegression", "LinearSVC", "SVC", "Lasso", "ElasticNet"}
    | {"RandomForestClassifier", "ExtraTreesClassifier", "DecisionTreeClassifier", "MiniBatchKMeans", "NMF"}
    | {"TruncatedSVD", "LatentDirichletAllocation", "MLPClassifier", "MaxAbsScaler", "Normalizer", "TfidfTransformer"}
    | {"LinearSVR"}
)


def sparse_for_estimators(text: SourceText, body: list[ast.stmt], running: list[ast.stmt]) -> list[Edit]:
    """Leave out `.toarray()` where what it makes goes to estimators alone that take it sparse.

    Args:
        text: The source.
        body: The statements of the cell or the function.
        running: The one that failed.
    """
    made = {target.id: last_name(value.func) for node in walk(body) for target, value in pairs(node)
            if isinstance(target, ast.Name) and isinstance(value, ast.Call)}  # fmt: skip
    fine: set[int] = set()
    names: set[str] = set()
    for node in walk(body):
        given = node.args[:1] if isinstance(node, ast.Call) and _takes_sparse(node, made) else []
        fine.update(map(id, given))
    for node in running:
        for target, value in pairs(node):
            if isinstance(target, ast.Name) and _is_dense(value):
                fine.add(id(value))
                names.add(target.id)
    for name in list(names):  # its halves are sparse, too
        for node in walk(body):
            split = node.value if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
            if split is not None and last_name(split.func) == "train_test_split" and is_name(split.args[0], name):
                parts = getattr(node.targets[0], "elts", [])[:2]  # type: ignore[attr-defined]
                names |= {one.id for one in parts if isinstance(one, ast.Name)}
    if not all(_is_fine(body, name, fine) for name in names):
        return []
    dense = [one for one in walk(running) if isinstance(one, ast.expr) and _is_dense(one) and id(one) in fine]
    return [(text.span(one.func.value)[1], text.span(one)[1], "") for one in dense]  # type: ignore[attr-defined]


def _takes_sparse(call: ast.Call, made: dict[str, str | None]) -> bool:
    if last_name(call.func) in _SPLIT:
        return True
    receiver = call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr in _TAKE_IT else None
    if isinstance(receiver, ast.Call):
        return last_name(receiver.func) in _ESTIMATORS
    return isinstance(receiver, ast.Name) and made.get(receiver.id) in _ESTIMATORS


def _is_fine(body: list[ast.stmt], name: str, fine: set[int]) -> bool:
    shapes = {id(one.value) for one in walk(body) if isinstance(one, ast.Attribute) and one.attr == "shape"}
    reads = [one for one in walk(body) if is_name(one, name) and not isinstance(one.ctx, ast.Store)]  # type: ignore[attr-defined]
    return all(id(one) in fine | shapes for one in reads)


def _is_dense(node: ast.expr) -> bool:
    made = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args and not node.keywords
    return made and node.func.attr in ("toarray", "todense")  # type: ignore[attr-defined]
