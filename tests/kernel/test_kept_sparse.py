"""Matrices that do not fit when they are dense: the panel's fix keeps them sparse, and the cell runs to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import CASE, LOAD
from tests.kernel.conftest import needs
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.kernel

ROOM = 300  # MiB
SETUP = """
import resource
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
def limit(room):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (room << 20), resource.RLIM_INFINITY))
rng = np.random.default_rng(4)
words = np.array([f"word{i}" for i in range(5000)])
texts = [" ".join(words[rng.integers(0, 5000, 20)]) for _ in range(10_000)]
df = pd.DataFrame({"code": rng.integers(0, 1000, 60_000), "size": rng.normal(size=60_000)})
y, labels = rng.normal(size=60_000), rng.integers(0, 2, 60_000)
encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
table = ColumnTransformer([("code", encoder, ["code"]), ("size", StandardScaler(), ["size"])])
model = Pipeline([("table", table), ("model", LogisticRegression(max_iter=5))])
Ridge().fit(OneHotEncoder().fit_transform(df[["code"]][:900]), y[:900])
MultinomialNB().fit(CountVectorizer().fit_transform(texts[:900]), labels[:900])
KMeans(2, n_init=1).fit(CountVectorizer().fit_transform(texts[:90]))
LogisticRegression().fit(df[["size"]], labels)
"""
CLUSTERS = """
X = CountVectorizer().fit_transform(texts).toarray()
groups = KMeans(3, n_init=1, max_iter=3, random_state=0).fit_predict(X)
done = X.shape == (10_000, 5000) and len(groups) == 10_000
"""
ENCODED = """
X = encoder.fit_transform(df[["code"]])
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
ridge = Ridge().fit(X_train, y_train)
done = X.shape == (60_000, 1000) and len(ridge.predict(X_test)) == 15_000
"""
WITHIN = """
model.fit(df, labels)
done = len(model.predict(df)) == 60_000
"""
LATER = """
X = CountVectorizer(dtype=np.int32).fit_transform(texts).toarray()
X_train, X_test, y_train, y_test = train_test_split(X, labels[:10_000], random_state=0)
done = MultinomialNB().fit(X_train, y_train).score(X_test, y_test) > 0 and X_train.shape == (7500, 5000)
"""


@pytest.fixture
def notebook(start_kernel: StartKernel, kernel_python: Path) -> Kernel:
    """A kernel with texts and a table, and with little room."""
    kernel = start_kernel(kernel_python)
    needs(kernel, "sklearn")
    assert kernel.execute(SETUP, timeout=120).status == "ok"
    kernel.execute(LOAD)
    kernel.poll(2.5)
    kernel.execute(f"limit({ROOM})")
    return kernel


@pytest.mark.parametrize(
    ("cell", "fix", "subject"),
    [
        (CLUSTERS, "nearly-sparse", "KMeans"),
        (ENCODED, "nearly-sparse", "Ridge"),
        (WITHIN, "still-sparse", "toarray"),
        (LATER, "still-sparse", "toarray"),
    ],
    ids=["clusters", "encoded", "within", "later"],
)
def test_the_cell_runs(notebook: Kernel, cell: str, fix: str, subject: str) -> None:
    assert notebook.execute(cell, timeout=120).status == "error"
    plan = f"{CASE}.plans[0]"
    assert notebook.eval(f"[{plan}.fix, {plan}.subject, {plan}.verdict]") == [fix, subject, "runs"]
    reply = notebook.execute("%oom fix 1 --yes", timeout=300)
    assert reply.status == "ok", reply
    assert notebook.eval("bool(done)")
