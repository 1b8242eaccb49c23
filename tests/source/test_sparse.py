"""Matrices that stay sparse: the changed cell runs and gives the same; where it would not, none is offered."""

from __future__ import annotations

import ast
import contextlib
import io
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.source import sparse_takers
from nb_oomhelper.source.estimators_made import Learn
from nb_oomhelper.source.sparse import KeptSparse, keep_sparse
from nb_oomhelper.source.text_edits import read_text, write_edits

DENSE = "X = vec.fit_transform(docs).toarray()\n"
CELLS = tomllib.loads(Path(__file__).with_name("sparse_cells.toml").read_text())
SETUP = """
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import accuracy_score, silhouette_score
from sklearn.metrics.pairwise import cosine_similarity, linear_kernel
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
rng = np.random.default_rng(0)
docs = [" ".join(rng.choice(["aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "ii", "jj"], 4)) for _ in range(60)]
y, yr, cols = rng.integers(0, 2, 60), rng.normal(size=60), ["a", "b"]
df = pd.DataFrame({"a": rng.choice(list("pqrst"), 60), "b": rng.choice(list("uvwxyz"), 60), "n": rng.normal(size=60)})
df["t"] = docs
"""


def kept(source: str, **known: str) -> KeptSparse | None:
    text = read_text(source)
    assert text is not None
    learn = Learn(known={name: ast.parse(one, mode="eval").body for name, one in known.items()}, modern=True)
    return keep_sparse(text, text.tree.body, text.tree.body, learn)


def changed(source: str, **known: str) -> str | None:
    text, found = read_text(source), kept(source, **known)
    assert text is not None
    cure = None if found is None else write_edits(text, found.edits)
    return None if cure is None else cure.source


def ran(source: str) -> dict[str, Any]:
    """The numbers that a cell makes."""
    pytest.importorskip("sklearn")
    import numpy as np

    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(SETUP + "vec, cv = TfidfVectorizer(), CountVectorizer()", names)
        exec(source, names)
    return {name: one for name, one in names.items() if isinstance(one, (int, float, np.ndarray))}


@pytest.mark.parametrize("name", CELLS["sparse"])
@pytest.mark.filterwarnings("ignore")
def test_the_changed_cell_gives_the_same(name: str) -> None:
    source = changed(CELLS["sparse"][name])
    assert source is not None
    assert "toarray" not in source
    assert "sparse_output=False" not in source
    dense, sparse = ran(CELLS["sparse"][name]), ran(source)
    assert dense.keys() - {"X", "Z", "a", "b", "X_train", "X_test", "X_tr", "X_te", "X5"} <= sparse.keys()
    for one in sparse.keys() & dense.keys() - {"idx", "d", "i"}:
        assert dense[one] == pytest.approx(sparse[one], rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("name", CELLS["dense"])
def test_what_needs_it_dense(name: str) -> None:
    assert kept(CELLS["dense"][name]) is None


def test_what_changes() -> None:
    assert changed("X = c.todense()\nm = SVC()\nm.fit(X, y)") == "X = c\nm = SVC()\nm.fit(X, y)"
    encoder = "X = OneHotEncoder(sparse=False).fit_transform(d)\nm = Ridge().fit(X, y)"
    assert changed(encoder) == encoder.replace("False", "True")
    bins = 'b = KBinsDiscretizer(encode="onehot-dense")\nX = b.fit_transform(d)\nm = LogisticRegression().fit(X, y)'
    assert changed(bins) == bins.replace("onehot-dense", "onehot")
    assert changed(bins.replace("onehot-dense", "ordinal")) is None


def test_what_an_earlier_cell_has_made() -> None:
    encoder, cell = "OneHotEncoder(sparse_output=False, handle_unknown='ignore')", "X = e.transform(d)\nm.predict(X)"
    assert changed(cell, e=encoder, m="Ridge(solver='auto')") == f"e.set_params(sparse_output=True)\n{cell}"
    assert changed(cell, e=encoder, m="GaussianNB()") is None
    bins = 'KBinsDiscretizer(encode="onehot-dense")'
    assert changed(cell, e=bins, m="LinearSVC()") == f'e.set_params(encode="onehot")\n{cell}'
    assert changed(cell, e=encoder, m="SVC(kernel='rbf')") is None  # it may know a dense matrix
    table = f"ColumnTransformer([('c', {encoder}, ()), ('n', StandardScaler(), ())], sparse_threshold=0)"
    pipeline = f"Pipeline([('p', {table}, ()), ('m', Ridge(solver='auto'), ())])"
    assert changed("p.fit(d, y)", p=pipeline) == (
        "p.set_params(p__c__sparse_output=True)\np.set_params(p__sparse_threshold=0.3)\np.fit(d, y)"
    )
    assert changed("p.predict(d)", p=pipeline) is None  # it works with copies that were made when it was fitted
    assert changed("p.fit(d, y)", p=pipeline.replace("Ridge", "HistGradientBoostingRegressor")) is None


def test_what_is_told_beside() -> None:
    found = kept(DENSE + "S = cosine_similarity(X)\nKMeans(3).fit(X)\nLogisticRegression(solver='saga').fit(X, y)")
    assert found is not None
    assert found.pairs
    assert {*found.nearly} == {"cosine_similarity", "KMeans", "LogisticRegression"}
    assert not found.chunked
    found = kept(DENSE + "d, i = NearestNeighbors(metric='cosine').fit(X).kneighbors(X)")
    assert found is not None
    assert found.chunked
    table = kept("t = make_column_transformer((OneHotEncoder(sparse_output=False), a))\nX = t.fit_transform(d)")
    assert table is not None
    assert table.unsure
    assert table.estimators == {"t"}


@pytest.mark.parametrize("name", sorted(sparse_takers.ALL))
@pytest.mark.filterwarnings("ignore")
def test_each_takes_a_sparse_matrix(name: str) -> None:
    """And predicts of a dense one the same, within what its kind of solver allows."""
    discovery: Any = pytest.importorskip("sklearn.utils.discovery")
    import numpy as np

    sp: Any = pytest.importorskip("scipy.sparse")

    estimators = dict(discovery.all_estimators())
    if name not in estimators:
        pytest.skip("not in this version")
    options: dict[str, dict[str, Any]] = {
        "PCA": {"n_components": 3},
        "StandardScaler": {"with_mean": False},
        "SelectKBest": {"k": 5},
    }
    rng = np.random.default_rng(0)
    dense = np.zeros((200, 40))
    for first in (0, 20):
        dense[np.arange(200), first + rng.integers(0, 20, 200)] = rng.random(200) + 0.5
    y = rng.integers(0, 2, 200)
    results = []
    for matrix in (dense, sp.csr_matrix(dense)):
        made = estimators[name](**options.get(name, {}))
        if "random_state" in made.get_params():
            made.set_params(random_state=0)
        made.fit(matrix, y)
        method = next((one for one in ("predict", "transform", "kneighbors") if hasattr(made, one)), "fit_predict")
        found = getattr(made, method)(matrix)
        found = found[0] if isinstance(found, tuple) else found
        assert matrix is dense or sp.issparse(found) == (name in sparse_takers.KEEP)
        results.append(found.toarray() if sp.issparse(found) else found)
    if name not in sparse_takers.NEARLY:
        assert results[1] == pytest.approx(results[0], rel=1e-6, abs=1e-6)


def test_rows_that_an_array_of_an_earlier_cell_says() -> None:
    cell = f"{DENSE}print(LogisticRegression().fit(X[train], y[train]).score(X[test], y[test]))"
    text = read_text(cell)
    assert text is not None
    body = text.tree.body
    assert keep_sparse(text, body, body[:1], Learn()) is None
    assert keep_sparse(text, body, body[:1], Learn(places=frozenset({"train"}))) is None
    assert keep_sparse(text, body, body[:1], Learn(places=frozenset({"train", "test"}))) is not None
    bound = read_text(f"train = split(y)\n{cell}")
    assert bound is not None
    assert keep_sparse(bound, bound.tree.body, bound.tree.body[1:2], Learn(places=frozenset({"train", "test"}))) is None
