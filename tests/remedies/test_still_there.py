"""What a fix was made for may be gone or changed when it is clicked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.remedy import FixPlan, Outcome
from nb_oomhelper.remedies.notebook import inspect_notebook
from nb_oomhelper.remedies.planning import plan
from nb_oomhelper.remedies.still_there import marked_anew, marks_of, only_wanted, without_stale
from tests.makers import EVENT, GIB, NOTHING

pytestmark = pytest.mark.plain


def a_plan(*targets: str, **facts: Any) -> FixPlan:
    return FixPlan(number=1, fix="one", code="pass", applicability="unsafe", targets=targets, **facts)


def state(names: dict[str, Any], change: Callable[[dict[str, Any]], object], one: FixPlan) -> str:
    """The obstacle of a plan after something was done to the user's names; "" where it can still be run."""
    marks = only_wanted(marks_of(names), [one])
    change(names)
    (now,) = without_stale([one], [], marks, names)
    assert (now.applicability == "display_only") == bool(now.obstacle)
    return now.obstacle


class Net:
    pass


def bound(text: str) -> Callable[[dict[str, Any]], object]:
    return lambda names: exec(text, {"Net": Net}, names)


FUNCTION = "def step(x):\n    return x + 1"


@pytest.mark.parametrize(
    ("before", "after", "target", "expected"),
    [
        ("x = Net()", "y = 1", "x", ""),
        ("x = Net()", "del x", "x", "gone"),
        ("x = Net()", "x = Net()", "x", "changed"),
        ("x = Net()", "del x; x = Net()", "x", "changed"),  # most likely at the address of the first
        ("x = [1]", "x.append(2)", "x", ""),
        ("x = [1]", "x = [1]", "x", "changed"),
        ("x = Net(); x.kept = []", "x.kept.append(1)", "x.kept", ""),
        ("x = Net(); x.kept = []", "x = None", "x.kept", "changed"),
        ("size = 64", "size = 32", "size", "changed"),
        ("size = 64", "size = 8 * 8", "size", ""),
        ("size = 70000", "size = int('70000')", "size", ""),
        ("size = 64", "size = '64'", "size", "changed"),
        ("c = {'bs': 64, 'lr': 1}", "c['lr'] = 2", 'c["bs"]', ""),
        ("c = {'bs': 64}", "c['bs'] = 32", 'c["bs"]', "changed"),
        ("c = {'bs': 64}", "c = {'bs': 64}", 'c["bs"]', ""),
        ("c = {'bs': 64}", "c.clear()", 'c["bs"]', "gone"),
        (FUNCTION, FUNCTION, "step", ""),  # its cell was run once more
        (FUNCTION, "def step(x):\n    return x + 2", "step", "changed"),
        ("def step(x, bs=64):\n    return x", "def step(x, bs=8):\n    return x", "step", "changed"),
        ("def step(*, bs=64):\n    return bs", "def step(*, bs=8):\n    return bs", "step", "changed"),
        ("def step(x=[1]):\n    return x", "def step(x=[1]):\n    return x", "step", ""),
        ("x = 1", "y = 1", "f(x)", ""),  # no name of the user's: nobody can tell
    ],
)
def test_what_it_is_about(before: str, after: str, target: str, expected: str) -> None:
    names: dict[str, Any] = {}
    exec(before, {"Net": Net}, names)
    assert state(names, bound(after), a_plan(target)) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("y = 1", "y = 2", ""),
        ("y = 1", "model = Net()", "changed"),  # loaded by hand meanwhile
        ("model = Net()", "del model", ""),
        ("model = Net()", "model = None", ""),
        ("model = Net()", "model = Net()", "changed"),
    ],
)
def test_a_load_must_not_lose_what_came_meanwhile(before: str, after: str, expected: str) -> None:
    names: dict[str, Any] = {}
    exec(before, {"Net": Net}, names)
    assert state(names, bound(after), a_plan("model", loads=True)) == expected


def test_what_was_run_is_done_and_what_it_changed_is_no_reason_against_others() -> None:
    names: dict[str, Any] = {"a": Net(), "b": Net()}
    first, both, same = (
        a_plan("a", subject="a"),
        replace(a_plan("a", "b", subject="a, b"), number=2),
        a_plan("b", subject="b"),
    )
    plans = (first, both, same)
    marks = only_wanted(marks_of(names), plans)
    done = Outcome(fix="one", subject="a", before=None, after=None, freed=0)  # type: ignore[arg-type]
    del names["a"]
    marks = marked_anew(marks, first, plans, names)
    assert [one.obstacle for one in without_stale(plans, [done], marks, names)] == ["", "gone", ""]
    names["b"] = Net()
    marks = marked_anew(marks, same, plans, names)  # it has bound the name itself
    assert without_stale([same], [], marks, names)[0].obstacle == ""
    names["b"] = Net()
    assert without_stale([same], [], marked_anew(marks, first, plans, names), names)[0].obstacle == "changed"
    marks = marked_anew(marks, replace(first, reruns=True), plans, names)  # the cell has
    assert without_stale([same], [], marks, names)[0].obstacle == ""


def test_nothing_is_kept_alive() -> None:
    names: dict[str, Any] = {"x": Net()}
    gone = []

    class Last:
        def __del__(self) -> None:
            gone.append(1)

    names["x"].last = Last()
    marks = marks_of(names)
    del names["x"]
    assert gone == [1]
    assert set(marks) == {"x"}


def test_plans_say_what_they_are_about() -> None:
    names: dict[str, Any] = {"args": SimpleNamespace(batch_size=64), "train": print}
    facts = Diagnosis(requested=GIB, free=GIB, capacity=8 * GIB, short=0, rerun=4 * GIB, made=3 * GIB)
    notebook = inspect_notebook(names, "train(args)")
    event = replace(EVENT, phase="train", requested=GIB)
    found = plan(load_catalog(), event, NOTHING, facts, notebook=notebook)
    smaller = next(one for one in found if one.fix == "smaller-batch-number")
    assert smaller.targets == ("args.batch_size",)
    marks = only_wanted(notebook.marks, found)
    names["args"].batch_size = 16  # by hand
    now = {one.fix: one.obstacle for one in without_stale(found, [], marks, names)}
    assert now["smaller-batch-number"] == "changed"
    assert now["release-failed-cell"] == ""
