"""What the notebook keeps, as it really is; and a changed function put where the old one is."""

from __future__ import annotations

import functools
from collections import defaultdict, deque
from typing import Any, NamedTuple

import pytest

from nb_oomhelper.remedies.definitions import Definition, put_in_place
from nb_oomhelper.remedies.elements import describe, find_kept
from nb_oomhelper.source.element import Element


class Hostile:
    """Anything that is asked of it ends the test."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)

    def __len__(self) -> int:
        raise AssertionError("len")


def test_what_can_be_emptied() -> None:
    trainer = type("Trainer", (), {})()
    trainer.outputs = [bytes(1 << 20), bytes(1 << 20)]
    found = find_kept(
        {
            "trainer": trainer,
            "features": functools.lru_cache(lambda: None),
            "batches": (one for one in [1]),
            "recent": deque(),
            "history": defaultdict(list, loss=[1]),
            "both": (1, 2),
            "hostile": Hostile(),
        }
    )
    calls = {path: kept.call for path, kept in found.items()}
    assert calls == {
        "trainer.outputs": "clear",
        "features": "cache_clear",
        "batches": "close",
        "recent": "clear",
        "history": "clear",
        "history['loss']": "clear",
        "both": "",
    }
    assert found["trainer.outputs"].size == {"host": 2 << 20}
    assert found["trainer.outputs"].owners == {"Trainer", "object"}


def test_of_very_many_some_stand_for_all() -> None:
    assert find_kept({"many": [bytes(100 + at % 2) for at in range(4_000)]})["many"].size == {"host": 402_000}


def test_tensors_with_a_graph_and_without() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.ones(2, requires_grad=True)
    assert describe(weight * 2) == Element("graph")
    assert describe((weight * 2).sum()) == Element("number")
    assert describe(weight) == describe((weight * 2).detach()) == describe(Hostile()) == Element("other")
    assert describe((1, {"out": weight * 2})) == Element(
        "parts", {0: Element("other"), 1: Element("parts", {"out": Element("graph")})}
    )
    assert find_kept({"mixed": [weight * 2, None]})["mixed"].element == Element("other")


def test_lists_in_a_dict_are_what_is_in_them_and_all_of_it_counts() -> None:
    torch = pytest.importorskip("torch")
    bank = {"a": [torch.ones(1 << 18) for _ in range(3)], "b": [torch.ones(1 << 18) for _ in range(20)], "c": []}
    kept = find_kept({"bank": bank})["bank"]
    assert kept.element == Element("other", listed=True)
    assert kept.size == {"host": 23 << 20}
    assert find_kept({"bank": bank | {"d": torch.ones(2)}})["bank"].element == Element("other")


class Result:
    def __init__(self, step: int, out: Any = None) -> None:
        self.step, self.out = step, out


class Pair(NamedTuple):
    step: int
    out: Any


@pytest.mark.parametrize("kind", [Result, Pair])
def test_what_an_object_of_the_notebook_was_made_of(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = pytest.importorskip("numpy")
    assert describe(kind(1, numpy.ones(2))) == Element("other")  # a library's object may be anything
    monkeypatch.setattr(kind, "__module__", "__main__")
    other, array = Element("other"), Element("float64")
    parts = {0: other, "step": other, 1: array, "out": array}
    assert describe(kind(1, numpy.ones(2))) == Element("parts", parts, maker=kind.__name__)
    if kind is Result:
        made = kind(1)
        made.__dict__.pop("out")
        assert describe(made) == other


def test_arrays_and_errors() -> None:
    numpy = pytest.importorskip("numpy")
    assert describe(numpy.ones(2)) == Element("float64")
    assert describe(numpy.ones(2, dtype="float32")) == Element("other")
    assert describe(ValueError()) == Element("error")
    view = numpy.ones((8, 1 << 20), dtype="uint8")
    assert find_kept({"views": [view[0], view[1]]})["views"].size == {"host": 1 << 20}


SOURCE = '''x = 1
@decorated
def fit(n):
    return n

class A:
    limit = 3

    def fit(self, n):
        """Fit."""
        return n

    def more(self, n=limit):
        return super().more(n)

    def hidden(self):
        return self.__kept

    @staticmethod
    def free(n):
        return n
'''


def definition(name: str, line: int, owner: str = "A") -> Definition:
    return Definition(name=name, owner=owner, file="<cell>", line=line, source=SOURCE, cell=1)


def test_a_function_is_defined_anew_with_its_decorators() -> None:
    changed = SOURCE.replace("return n\n\nclass", "return n + 1\n\nclass")
    assert put_in_place(changed, [definition("fit", 2, "")], ()) == "@decorated\ndef fit(n):\n    return n + 1"


def test_a_method_is_put_on_its_class() -> None:
    changed = SOURCE.replace('"""Fit."""\n        return n', '"""Fit."""\n        return n + 1')
    written = put_in_place(changed, [definition("fit", 9)], ())
    assert written == 'def fit(self, n):\n    """Fit."""\n    return n + 1\nA.fit = fit\ndel fit'
    a = type("A", (), {})
    names: dict[str, Any] = {"A": a}
    exec(written, names)
    assert a().fit(1) == 2
    assert "fit" not in names


def test_a_static_method_stays_one() -> None:
    written = put_in_place(SOURCE, [definition("free", 19)], ())
    assert written == "@staticmethod\ndef free(n):\n    return n\nA.free = free\ndel free"


@pytest.mark.parametrize(("name", "line"), [("more", 13), ("hidden", 16)])
def test_a_method_that_needs_its_class_around_it_is_not_written(name: str, line: int) -> None:
    assert put_in_place(SOURCE, [definition(name, line)], ()) is None


def test_a_name_of_the_users_is_not_overwritten() -> None:
    assert put_in_place(SOURCE, [definition("fit", 9)], {"fit"}) is None


def test_code_that_a_decorator_has_made_is_put_under_every_name_that_stands_for_it() -> None:
    source = "def memo(f):\n    def inner(x):\n        return f(x)\n    return inner"
    one = Definition(name="inner", owner="", file="<cell>", line=2, source=source, cell=1, bound=("first", "second"))
    names: dict[str, Any] = {}
    exec(source + "\nfirst, second = memo(abs), memo(str)", names)
    written = put_in_place(source.replace("f(x)", "[f(x)]"), [one], names)
    assert written is not None
    exec(written, names)
    assert (names["first"](-1), names["second"](2)) == ([1], ["2"])
    assert put_in_place(source, [one], {"memo"}) is None
