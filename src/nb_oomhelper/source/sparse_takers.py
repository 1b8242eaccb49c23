"""What scikit-learn's estimators do with a sparse matrix: which take one, which compute otherwise."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nb_oomhelper.source.estimators_made import Made
from nb_oomhelper.source.tree import is_unpacked, last_name, walk

_SAME = frozenset(
    {"MultinomialNB", "BernoulliNB", "ComplementNB", "LogisticRegression", "LogisticRegressionCV", "LinearSVC"}
    | {"LinearSVR", "SVC", "NuSVC", "SVR", "NuSVR", "OneClassSVM", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV"}
    | {"RandomForestClassifier", "ExtraTreesClassifier", "DecisionTreeClassifier", "IsolationForest"}
    | {"MLPClassifier", "MLPRegressor", "DummyClassifier", "DummyRegressor", "PoissonRegressor", "MiniBatchKMeans"}
    | {"NMF", "TruncatedSVD", "LatentDirichletAllocation"}
)
# Another solver, no centering, the intercept learned more slowly, sums in another order, or another order of ties.
NEARLY = frozenset(
    {"Ridge", "RidgeClassifier", "LinearRegression", "SGDClassifier", "SGDRegressor", "Perceptron", "KMeans", "PCA"}
    | {"PassiveAggressiveClassifier", "PassiveAggressiveRegressor", "HuberRegressor", "BisectingKMeans", "DBSCAN"}
    | {"RandomForestRegressor", "ExtraTreesRegressor", "DecisionTreeRegressor", "NearestNeighbors", "NearestCentroid"}
    | {"KNeighborsClassifier", "KNeighborsRegressor", "GradientBoostingClassifier", "GradientBoostingRegressor"}
)
KEEP = frozenset(
    {"MaxAbsScaler", "Normalizer", "TfidfTransformer", "VarianceThreshold", "SelectKBest", "SelectPercentile"}
    | {"StandardScaler"}
)
ALL = _SAME | NEARLY | KEEP
"""All that take one."""

_VECTORIZERS = frozenset({"TfidfVectorizer", "CountVectorizer", "HashingVectorizer"})
_MACHINES = frozenset({"SVC", "NuSVC", "SVR", "NuSVR", "OneClassSVM"})
_SEARCHES = frozenset({"NearestNeighbors", "KNeighborsClassifier", "KNeighborsRegressor"})
_TREES = {
    f"{kind}{task}" for kind in ("RandomForest", "ExtraTrees", "DecisionTree") for task in ("Classifier", "Regressor")
}
NEIGHBORS = _SEARCHES | {"DBSCAN"}
"""What looks for neighbors."""

STRICT = _MACHINES | _SEARCHES
"""What cannot be given a sparse matrix when it was fitted to a dense one."""

_AROUND = frozenset(
    {"GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "OneVsRestClassifier"}
    | {"OneVsOneClassifier", "CalibratedClassifierCV", "MultiOutputClassifier"}
)
_SEARCHED = {"param_grid", "param_distributions"}
_PIPELINES = frozenset({"Pipeline", "make_pipeline"})
_COLUMNS = frozenset({"ColumnTransformer", "make_column_transformer"})
_SIDE_BY_SIDE = _COLUMNS | {"FeatureUnion", "make_union"}
COMPOUNDS = _PIPELINES | _SIDE_BY_SIDE | _AROUND
"""What is made of other estimators."""

METRICS = frozenset({"euclidean", "l2", "manhattan", "l1", "cityblock", "cosine"})
"""Distances that are computed of sparse matrices, too."""

_DISTANCES = {"metric": METRICS | {"minkowski"}, "p": {1, 2}, "algorithm": {"auto", "brute"}}
_ANY_WAY = {"monotonic_cst": {None}}
_KERNELS = {"kernel": {"linear", "rbf", "poly", "sigmoid"}}
# What may be written for some arguments, where others do not go with a sparse matrix, or give something else.
_OPTIONS: dict[str, Mapping[str, Iterable[object]]] = {
    "Ridge": {"solver": {"auto", "sparse_cg", "sag"}, "positive": {False}},
    "RidgeClassifier": {"solver": {"auto", "sparse_cg", "sag"}, "positive": {False}},
    "LinearRegression": {"positive": {False}},
    "PCA": {"svd_solver": {"auto", "arpack"}, "n_components": set(range(1, 51))},
    **dict.fromkeys(NEIGHBORS, _DISTANCES),
    **dict.fromkeys(_MACHINES, _KERNELS),
    **dict.fromkeys(_TREES, _ANY_WAY),
    "NearestCentroid": {"metric": {"euclidean"}},
    "GradientBoostingClassifier": {"init": {None, "zero"}},
    "GradientBoostingRegressor": {"init": {None, "zero"}},
    "StandardScaler": {"with_mean": {False}},
}
_NEEDED = {"PCA": "n_components", "StandardScaler": "with_mean"}  # what stands for it else does not go
_SCORES = frozenset({"chi2", "f_classif", "f_regression"})
_UNSEARCHABLE = ("solver", "metric", "with_mean", "positive", "sparse_output", "sparse", "sparse_threshold", "kernel")


@dataclass(slots=True)
class Flow:
    """What becomes of matrices in a chain of estimators.

    Attributes:
        dense: The arguments of encoders, and of tables of transformers, that would make a matrix dense.
        nearly: Names of estimators whose numbers are nearly the same with a sparse matrix.
        met: Names of all estimators that are given one.
        columns: A `ColumnTransformer` decides by itself whether what it gives is sparse.
    """

    dense: list[ast.keyword] = field(default_factory=list)
    nearly: list[str] = field(default_factory=list)
    met: set[str] = field(default_factory=set)
    columns: bool = False


class Estimators(Made):
    """The estimators that some code makes, or finds there."""

    def paths(self) -> dict[int, str]:
        """Give where arguments of the estimators of earlier cells stand: "model.encode__sparse_output", by `id`."""
        return {key: path for name, one in self.learn.known.items() for key, path in _paths(one, f"{name}.")}

    def through(self, node: ast.expr, flow: Flow, *, sparse: bool) -> bool | None:
        """Tell whether what comes out of an estimator is sparse; None where it does not take what it is given.

        Args:
            node: The estimator.
            flow: Gets what is met.
            sparse: Whether it is given a sparse matrix; what else it is given is no matter.
        """
        calls = self.calls(node)
        found = {self._through_call(one, flow, sparse=sparse) for one in calls}
        if not calls:
            return None if sparse else False
        return found.pop() if len(found) == 1 else None

    def _through_call(self, call: ast.Call, flow: Flow, *, sparse: bool) -> bool | None:
        name = last_name(call.func) or ""
        if name in COMPOUNDS:
            return self._through_compound(call, name, flow, sparse=sparse)
        if name == "KBinsDiscretizer":
            return None if sparse or is_unpacked(call) else _of_bins(call, flow)
        if name == "OneHotEncoder":
            said = [one for one in call.keywords if one.arg in ("sparse", "sparse_output") and _is(one.value, {False})]
            flow.dense += said
            told = [one.value for one in call.keywords if one.arg is None or one.arg in ("sparse", "sparse_output")]
            return None if sparse or not all(_is(one, {True, False, "deprecated"}) for one in told) else True
        if not sparse:
            return name in _VECTORIZERS
        if not self._takes(call, name):
            return None
        flow.met.add(name)
        nearly = name in NEARLY or any(_is(one.value, {"sag", "saga"}) for one in call.keywords if one.arg == "solver")
        flow.nearly += [name] if nearly else []
        return name in KEEP

    def _takes(self, call: ast.Call, name: str) -> bool:
        options = _OPTIONS.get(name, {})
        given = {one.arg: one.value for one in call.keywords}
        if name not in ALL or is_unpacked(call) or (name == "PCA" and not self.learn.modern):
            return False
        if name == "PCA" and call.args:
            given["n_components"] = call.args[0]
        if name in ("SelectKBest", "SelectPercentile"):
            score = [*call.args[:1], *(one for key, one in given.items() if key == "score_func")]
            return all(last_name(one) in _SCORES for one in score)
        if _NEEDED.get(name, name) not in (name, *given):
            return False
        return all(key not in options or _is(value, options[key]) for key, value in given.items() if key)

    def _through_compound(self, call: ast.Call, name: str, flow: Flow, *, sparse: bool) -> bool | None:
        parts = parts_of(call)
        if parts is None or (name in _AROUND and not self._is_searchable(call)):
            return None
        if name in _PIPELINES:
            state: bool | None = sparse
            for part in parts:
                skipped = _is(part, {None, "passthrough"})
                state = state if skipped or state is None else self.through(part, flow, sparse=state)
            return state
        if name in _AROUND:
            inner = [self.through(one, flow, sparse=sparse) for one in parts]
            return None if None in inner else False
        if sparse:
            return None
        ends = [self.through(one, flow, sparse=False) for one in parts if not _is(one, {"drop", "passthrough"})]
        said = [one for one in call.keywords if one.arg == "sparse_threshold"]
        if None in ends or not all(isinstance(one.value, ast.Constant) for one in said):
            return None
        flow.dense += [one for one in said if _is(one.value, {0}) and any(ends)]
        flow.columns |= name in _COLUMNS and any(ends)
        return any(ends)

    def _is_searchable(self, call: ast.Call) -> bool:
        """Whether a search leaves alone what decides whether a sparse matrix is taken."""
        grids = [*call.args[1:2], *(one.value for one in call.keywords if one.arg in _SEARCHED)]
        grids += [value for one in grids if isinstance(one, ast.Name) for value in self.made.get(one.id, [])]
        if any(isinstance(one, ast.Name) and one.id not in self.made for one in grids):
            return False
        told = [one for one in walk(grids) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        classes = [
            one for one in walk(grids) if isinstance(one, ast.Call) and (last_name(one.func) or "")[:1].isupper()
        ]
        return not classes and not any(str(one.value).rpartition("__")[2] in _UNSEARCHABLE for one in told)


def _of_bins(call: ast.Call, flow: Flow) -> bool | None:
    """What `KBinsDiscretizer` gives: numbers, or columns of which one in some is 1, sparse or made dense."""
    said = [one for one in call.keywords if one.arg == "encode"]
    way = getattr(said[0].value, "value", "") if said else "onehot"
    flow.dense += said if way == "onehot-dense" else []
    return {"onehot": True, "onehot-dense": True, "ordinal": False}.get(way)


def parts_of(call: ast.Call) -> list[ast.expr] | None:
    """Give the estimators that one is made of, in their order; None where they are not written out.

    Args:
        call: What makes it: `Pipeline([("scale", scaler), ("model", model)])`, `make_pipeline(scaler, model)`.
    """
    name = last_name(call.func) or ""
    if is_unpacked(call):
        return None
    if name in _AROUND:
        return [*call.args[:1], *(one.value for one in call.keywords if one.arg in ("estimator", "base_estimator"))]
    if name.startswith("make_") and name != "make_column_transformer":
        return call.args
    rows = call.args
    if not name.startswith("make_"):
        told = [one.value for one in call.keywords if one.arg in ("steps", "transformers", "transformer_list")]
        given = [*call.args[:1], *told]
        if len(given) != 1 or not isinstance(given[0], (ast.List, ast.Tuple)):
            return None
        rows = given[0].elts
    at = 0 if name.startswith("make_") else 1
    found = [one.elts[at] for one in rows if isinstance(one, ast.Tuple) and len(one.elts) > at]
    return found if len(found) == len(rows) else None


def _paths(node: ast.expr, before: str) -> Iterator[tuple[int, str]]:
    """The arguments of an estimator, and of those within it, with the names that lead to them."""
    if not isinstance(node, ast.Call):
        return
    yield from ((id(one), f"{before}{one.arg}") for one in node.keywords)
    if last_name(node.func) in _AROUND:
        yield from _paths(node.args[0], f"{before}estimator__")
    elif node.args and isinstance(node.args[0], ast.List):
        for row in node.args[0].elts:
            name, part, *_ = row.elts  # type: ignore[attr-defined]
            yield from _paths(part, f"{before}{name.value}__")


def _is(node: ast.expr, values: Iterable[object]) -> bool:
    """Whether an expression is one of some constants; 0 is not False here."""
    return isinstance(node, ast.Constant) and any(
        node.value == one and isinstance(node.value, bool) == isinstance(one, bool) for one in values
    )
