"""What the notebook has of scikit-learn, as one would write it."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from nb_oomhelper.remedies.estimators import find_learned

sklearn: Any = pytest.importorskip("sklearn")
compose: Any = pytest.importorskip("sklearn.compose")
feature_selection: Any = pytest.importorskip("sklearn.feature_selection")
linear_model: Any = pytest.importorskip("sklearn.linear_model")
model_selection: Any = pytest.importorskip("sklearn.model_selection")
pipeline: Any = pytest.importorskip("sklearn.pipeline")
preprocessing: Any = pytest.importorskip("sklearn.preprocessing")


def shorter(node: ast.expr) -> str:
    """An estimator's text with those arguments alone that are looked at here."""
    for one in ast.walk(node):
        if isinstance(one, ast.Call):
            one.keywords = [part for part in one.keywords if part.arg in ("sparse_output", "solver", "score_func")]
    return ast.unparse(node)


def test_estimators_are_written_as_they_are() -> None:
    encoder = preprocessing.OneHotEncoder(sparse_output=False)
    frames = preprocessing.OneHotEncoder(sparse_output=False).set_output(transform="pandas")
    made = pipeline.make_pipeline(
        compose.ColumnTransformer([("a", encoder, [0]), ("b", "drop", [1])]),
        feature_selection.SelectKBest(feature_selection.chi2),
        linear_model.Ridge(),
    )
    names = {
        "p": made,
        "g": model_selection.GridSearchCV(linear_model.Ridge(), {}),
        "frames": frames,
        "n": 5,
        "text": "Ridge()",
    }
    found = find_learned(names)
    assert {name: shorter(one) for name, one in found.estimators.items()} == {
        "p": "Pipeline([('columntransformer', ColumnTransformer([('a', OneHotEncoder(sparse_output=False), ()),"
        " ('b', 'drop', ())]), ()), ('selectkbest', SelectKBest(score_func=chi2), ()),"
        " ('ridge', Ridge(solver='auto'), ())])",
        "g": "GridSearchCV(Ridge(solver='auto'))",
    }
    assert found.version >= (1, 2)
    assert not found.gives_frames


def test_what_has_only_such_a_name() -> None:
    class KMeans:
        pass

    names = {
        "Ridge": linear_model.Ridge,
        "KMeans": KMeans,
        "split": model_selection.train_test_split,
        "shorter": shorter,
        "len": len,
        "x": 3,
    }
    assert find_learned(names).foreign == {"KMeans", "shorter", "len"}


def test_transformers_that_give_frames() -> None:
    with sklearn.config_context(transform_output="pandas"):
        assert find_learned({}).gives_frames


class _Told:
    """Whoever asks it for anything is told off."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)

    def __str__(self) -> str:
        raise AssertionError


def test_no_object_is_asked_for_anything() -> None:
    def function() -> None: ...

    named = type("Named", (), {"__module__": _Told()})
    function.__module__ = _Told()  # type: ignore[assignment]
    found = find_learned({"a": _Told(), "b": _Told, "c": named, "d": named(), "e": function})
    assert found.estimators == {}
    assert found.foreign == {"b", "c", "e"}
