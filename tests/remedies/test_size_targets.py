"""Where a smaller size is set, beyond the failed cell: what the cell's functions read, and what is written in them."""

from __future__ import annotations

import argparse
import ast
import linecache
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holding
from nb_oomhelper.records.remedy import FixPlan, Shortage
from nb_oomhelper.remedies.fitting import find_fit
from nb_oomhelper.remedies.notebook import Notebook, inspect_notebook
from nb_oomhelper.remedies.planning import plan
from tests.makers import EVENT, GIB, MIB, NOTHING, SNAPSHOT, held, holding

pytestmark = pytest.mark.plain

CATALOG = load_catalog()
TRAIN = replace(EVENT, phase="train", requested=GIB // 2)
INFER = replace(TRAIN, phase="infer")
RELEASE = "import nb_oomhelper\nnb_oomhelper.release()\n"
FACTS = Diagnosis(requested=GIB // 2, free=3 * GIB // 2, capacity=8 * GIB, short=0, rerun=4 * GIB, made=7 * GIB // 2)
NET = holding("variable", "net", 8 * MIB, role="model", count=6, parts=(("parameters", 8 * MIB),))


def notebook(*cells: str) -> tuple[dict[str, Any], str]:
    """The names that some cells make, but for the last one, which fails; and that one."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells[:-1]):
        file = f"/tmp/ipykernel_1/{number}{abs(hash(cell))}.py"
        linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
        exec(compile(cell, file, "exec"), names)
    return {name: thing for name, thing in names.items() if not name.startswith("__")}, cells[-1]


def plans(
    *cells: str, event: OomEvent = TRAIN, facts: Diagnosis = FACTS, rows: tuple[Holding, ...] = ()
) -> list[FixPlan]:
    """The plans that make something smaller, in their order."""
    names, source = notebook(*cells)
    snapshot = replace(SNAPSHOT, holdings=held(*rows))
    found = plan(CATALOG, event, snapshot, facts, notebook=inspect_notebook(names, source, cells[:-1]))
    return [one for one in found if one.steps]


TRAINS = "def train(model, config):\n    bs = config['batch_size']\n    return bs\n"


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        (("config = {'batch_size': 100, 'lr': 64}", TRAINS, "train(1, config)"), 'config["batch_size"] = '),
        (("config = {'data': {'batch_size': 100}}", "f(config)"), 'config["data"]["batch_size"] = '),
        (("class CFG:\n    train_bs = 100", "def train():\n    return CFG.train_bs", "train()"), "CFG.train_bs = "),
        (("class C:\n    bs = 100\ncfg = C()", "train(cfg)"), "cfg.bs = "),
        (
            (
                "class T:\n    def __init__(s): s.batch_size = 100\n    def fit(s): return s.batch_size\nt = T()",
                "t.fit()",
            ),
            "t.batch_size = ",
        ),
        (("BATCH = 100", "def f():\n    return BATCH", "def g():\n    return f()", "g()"), "BATCH = "),
    ],
)
def test_settings_that_the_cell_reads(cells: tuple[str, ...], line: str) -> None:
    found = plans(*cells)[0]
    new = found.code.removeprefix(RELEASE).removeprefix(line).split()[0]
    assert found.fix == "smaller-batch-number", found
    assert found.code == f"{RELEASE}{line}{new}  # was 100\n{cells[-1]}"
    assert 1 < int(new) < 50
    assert (found.reruns, found.applicability) == (True, "unsafe")


def test_objects_of_libraries() -> None:
    for made in (argparse.Namespace(batch_size=100), SimpleNamespace(batch_size=100)):
        found = inspect_notebook({"args": made}, "train(args)")
        assert found.numbers == {"args.batch_size": 100}


def test_what_cannot_be_set_is_left_alone() -> None:
    frozen = (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass C:\n    batch_size: int = 100\ncfg = C()"
    )
    assert [one.fix for one in plans(frozen, "train(cfg)")] == []
    assert plans("config = {'batch_size': 100}", "config = {'lr': 1}\ntrain(config)") == []


def test_accumulation_is_set_beside_the_size() -> None:
    made = "class A:\n    def __init__(s):\n        s.per_device_train_batch_size = 64\n"
    made += "        s.gradient_accumulation_steps = 1\nargs = A()"
    (found,) = plans(made, "train(args)")
    names, _ = notebook(made, "")
    exec(found.code.removeprefix(RELEASE).removesuffix("\ntrain(args)"), names)
    args = names["args"]
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == 64


def test_a_number_within_a_function_is_changed_there() -> None:
    define = "def scores(x):\n    out = []\n    for i in range(0, len(x), 100):\n        out += x[i:i + 100]\n"
    define += "    return out\n"
    found = plans(define, "scores(list(range(1000)))", event=INFER)[0]
    assert found.fix == "smaller-batch-definition"
    assert ast.parse(found.code)
    assert "100" in found.before
    names: dict[str, Any] = {}
    exec(found.code.removeprefix(RELEASE).replace("scores(list", "out = scores(list"), names)
    assert names["out"] == list(range(1000))


def test_what_the_cell_gives_goes_before_what_a_function_has_by_itself() -> None:
    found = plans("def train(x, batch_size=100): return x", "train(1, batch_size=100)")
    assert [one.fix for one in found] == ["smaller-batch-cell"]


def test_a_parameter_that_is_not_given() -> None:
    found = plans("def train(x, batch_size=100): return x", "out = train(1)")[0]
    assert found.code.startswith(f"{RELEASE}out = train(1, batch_size=")


def test_a_wrapped_function() -> None:
    wrap = "import functools\ndef no_grad(f):\n    @functools.wraps(f)\n    def g(*a, **k): return f(*a, **k)\n"
    wrap += "    return g\n"
    found = plans(wrap + "@no_grad\ndef predict(x, bs=100): return bs", "out = predict(1)", event=INFER)[0]
    assert "out = predict(1, bs=" in found.code


class TestFit:
    """How much smaller: less than what fits by a straight line, for more comes than was made."""

    SHORT = Shortage(needs=2 * GIB, measured=True, room=2 * GIB)

    @pytest.mark.parametrize("event", [TRAIN, INFER, replace(TRAIN, stage="backward")])
    def test_it_leaves_a_margin(self, event: OomEvent) -> None:
        fit = find_fit(event, held(NET), self.SHORT, Notebook())
        assert fit is not None
        assert fit.needs is not None
        assert (fit.needs - fit.fixed) * fit.share + fit.fixed <= 0.91 * 2 * GIB

    def test_the_forward_pass_has_more_before_it_than_the_backward_pass(self) -> None:
        shares = [
            found.share
            for event in (TRAIN, replace(TRAIN, stage="backward"))
            if (found := find_fit(event, held(NET), self.SHORT, Notebook())) is not None
        ]
        assert shares[0] < shares[1]

    def test_a_deeper_model_needs_more(self) -> None:
        deep = find_fit(TRAIN, held(replace(NET, count=40)), self.SHORT, Notebook())
        flat = find_fit(TRAIN, held(NET), self.SHORT, Notebook())
        assert deep is not None
        assert flat is not None
        assert deep.share < flat.share

    def test_where_many_have_come_that_are_as_large_all_may_come(self) -> None:
        short = replace(self.SHORT, needs=30 * (TRAIN.requested or 0))
        deep, deeper = (find_fit(TRAIN, held(replace(NET, count=count)), short, Notebook()) for count in (100, 200))
        assert deep is not None
        assert deeper is not None
        assert deep.needs is not None
        assert deeper.needs is not None
        assert 1.9 * deep.needs < deeper.needs < 2 * deep.needs

    def test_gradients_and_adams_numbers_still_come(self) -> None:
        adam = holding("variable", "opt", 0, role="optimizer", type_name="AdamW", parts=(("parameters", 8 * MIB),))
        plain = find_fit(TRAIN, held(NET), self.SHORT, Notebook())
        more = find_fit(TRAIN, held(NET, adam), self.SHORT, Notebook())
        assert plain is not None
        assert more is not None
        assert (plain.fixed, more.fixed) == (8 * MIB, 24 * MIB)

    def test_an_optimizers_state_has_no_batch(self) -> None:
        assert find_fit(replace(TRAIN, stage="optimizer"), held(NET), self.SHORT, Notebook()) is None
        names: Mapping[str, object] = {"bs": 64}
        facts = plan(
            CATALOG, replace(TRAIN, stage="optimizer"), NOTHING, FACTS, notebook=inspect_notebook(names, "train(bs)")
        )
        assert not {one.fix for one in facts} & {"smaller-batch-number", "autocast"}

    @pytest.mark.parametrize("unknown", [{"measured": False}, {"needs": None}, {"room": None}, {"grows": True}])
    def test_where_nothing_is_known_it_is_half_without_a_promise(self, unknown: dict[str, Any]) -> None:
        fit = find_fit(TRAIN, held(NET), replace(self.SHORT, **unknown), Notebook())
        assert fit is not None
        assert (fit.share, fit.needs) == (0.5, None)


def test_it_is_expected_to_run_and_comes_before_guesses() -> None:
    names, source = notebook("batch_size = 64", "loss = step(batch_size)\nloss.backward()")
    snapshot = replace(SNAPSHOT, holdings=held(NET))
    found = plan(CATALOG, TRAIN, snapshot, FACTS, notebook=inspect_notebook(names, source))
    order = [one.fix for one in found]
    assert found[0].fix == "smaller-batch-number"
    assert found[0].verdict == "runs"
    assert order.index("autocast") > 0


STEPS = "def decode(x, max_len=20):\n    for _ in range(max_len):\n        x = step(x)\n    return x\n"
ROWS = "def embed(x, max_len=20):\n    return net(pad(x, max_len))\n"


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        (("bs = 64", "data = ids.view(bs, -1) if 0 else 1", "h = zeros(bs)\nloss = f(h, data)"), "may"),
        (("bs = 64", "def make():\n    return ids.view(bs, -1)", "h = zeros(bs)\nloss = f(h, make())"), "runs"),
        (("bs = 64", "print('bs is 64')", "h = zeros(bs)\nloss = f(h)"), "runs"),
        ((ROWS, "out = embed(x)"), "runs"),
        ((STEPS, "out = decode(x)"), "may"),
        ((STEPS, "out = decode(x, max_len=40)"), "may"),
    ],
)
def test_it_is_expected_to_run_only_where_the_size_is_what_memory_goes_with(
    cells: tuple[str, ...], verdict: str
) -> None:
    """What another cell made has the old size; the first of many steps needs as much as it did."""
    found = plans(*cells, event=INFER, rows=(NET,))
    assert [one.verdict for one in found][:1] == [verdict]


def test_the_next_smaller_one_is_ready() -> None:
    one: FixPlan | None = plans("batch_size = 64", "loss = step(batch_size)")[0]
    sizes = []
    while one is not None:
        sizes.append(int(one.code.split(" = ")[1].split()[0]))
        one = one.next_smaller
    assert len(sizes) > 1
    assert sizes == sorted(set(sizes), reverse=True)


@pytest.mark.parametrize("remote", ["dataloader worker", "process pool"])
def test_errors_of_workers(remote: Any) -> None:
    found = plans("batch_size = 64", "run(batch_size)", event=replace(EVENT, backend="host", remote=remote))
    assert [one.fix for one in found] == ["smaller-batch-number"]
    assert plans("batch_size = 64", "run(batch_size)", event=replace(EVENT, backend="host", remote="ray")) == []
