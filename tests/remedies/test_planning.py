"""From a remedy to the exact code for a notebook, what it promises, and what it did."""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nb_oomhelper
from nb_oomhelper.case import Case, open_case, record_run, run_fix
from nb_oomhelper.diagnosis.diagnose import diagnose
from nb_oomhelper.errors import UsageError
from nb_oomhelper.failure.detection import read_failure
from nb_oomhelper.holders.scope import Scope
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.loading.reload import study
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.records.diagnosis import Cause, Diagnosis
from nb_oomhelper.records.event import FailedCall, OomEvent
from nb_oomhelper.records.holdings import HolderKind, Holding, Holdings
from nb_oomhelper.records.memory import (
    AllocatorMemory,
    DriverReading,
    HostMemory,
    Measure,
    MemorySnapshot,
    ProcessMemory,
)
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.remedies import running
from nb_oomhelper.remedies.fix_targets import SUBJECTS
from nb_oomhelper.remedies.history import measured_rates
from nb_oomhelper.remedies.notebook import UNREAD, Notebook, inspect_notebook
from nb_oomhelper.remedies.planning import plan, predict_effect
from nb_oomhelper.remedies.running import run
from nb_oomhelper.remedies.subjects import find_together
from nb_oomhelper.services import Services
from nb_oomhelper.source.call_sites import bound_names
from tests.makers import CUPY, DEVICE, EVENT, JAX, SNAPSHOT, held, holding

pytestmark = pytest.mark.plain

MIB, GIB = 1 << 20, 1 << 30
CATALOG = load_catalog()
CALL = FailedCall(
    loader="AutoModel.from_pretrained",
    module="transformers",
    model="'no/such'",
    target="llm",
    row="transformers",
    statement="llm = AutoModel.from_pretrained('no/such')",
    position=(1, 6),
    value="no/such",
)
RELOADS = [("clear-then-reload", "llm", None, None, None)] + [
    (fix, "llm", None, None, None) for fix in ("reload-half", "reload-spread", "reload-disk", "reload-offload")
]
QUANTIZED = [(fix, "llm", None, None, None) for fix in ("reload-8bit", "reload-4bit")]  # bitsandbytes is not installed
FAILED = holding("failed_cell", "batch", 3 * GIB, function="step", line=2)


def plans_for(
    *rows: Holding,
    shares: dict[tuple[int, ...], int] | None = None,
    event: OomEvent = EVENT,
    allocator: AllocatorMemory | None = None,
    others: tuple[AllocatorMemory, ...] = (),
    processes: tuple[ProcessMemory, ...] = (),
) -> tuple[FixPlan, ...]:
    """Plans where these holders were found, 1 GiB is free, and nothing is cached unless an allocator says so."""
    device = replace(DEVICE, processes=processes)
    found = held(*rows, shares=shares)
    snapshot = replace(SNAPSHOT, holdings=found, allocator=allocator, others=others, device=device)
    return plan(CATALOG, event, snapshot, diagnose(event, snapshot), study(event, snapshot, frozenset()))


def told(plans: Sequence[FixPlan]) -> list[tuple[str, str, int | None, bool | None, bool | None]]:
    return [
        (one.fix, one.subject, None if one.predicted is None else one.predicted // MIB, one.fits, one.whole_cell_fits)
        for one in plans
    ]


class TestPlan:
    def test_ranking(self) -> None:
        """First what makes it fit, the least loss first; then the unknown; then what is not enough."""
        rows = (
            replace(FAILED, own=GIB // 2),
            holding("variable", "large", 4 * GIB),
            holding("variable", "small", GIB // 8),
            holding("output_history", "Out[3]", 2 * GIB),
        )
        event = replace(EVENT, phase="load", call=CALL)
        others = (ProcessMemory(pid=7, used=2 * GIB, name="a"), ProcessMemory(pid=8, used=GIB // 4, name="b"))
        assert told(plans_for(*rows, event=event, processes=others)) == [
            ("forget-output-history", "", 2560, True, True),
            ("delete-variable", "large", 4608, True, True),
            *RELOADS,  # how large the model is, nobody knows
            *QUANTIZED,
            ("stop-other-process", "7", 2048, True, True),  # it can only be shown: what can be tried goes before
            ("release-failed-cell", "", 512, False, False),
            ("delete-variable", "small", 640, False, False),
            ("stop-other-process", "8", 256, False, False),
        ]

    def test_numbers_are_places(self) -> None:
        plans = plans_for(FAILED, holding("variable", "x", GIB))
        assert [one.number for one in plans] == [1, 2]
        assert [one.fix for one in plans] == ["delete-variable", "release-failed-cell"]

    def test_the_request_fits_but_the_whole_cell_does_not(self) -> None:
        """The cell had taken 3 GiB and asked for 2 more; with it gone 4 are free, and it needs 5 again."""
        (one,) = plans_for(FAILED)
        assert told([one]) == [("release-failed-cell", "", 3072, True, False)]

    def test_what_the_cache_gives_back_counts(self) -> None:
        rows = (replace(FAILED, own=GIB // 2),)
        cached = AllocatorMemory(framework="pytorch", backend="cuda", allocated=GIB, reserved=2 * GIB, inactive_split=0)
        assert [one.fits for one in plans_for(*rows)] == [False]
        assert [one.fits for one in plans_for(*rows, allocator=cached)] == [True]
        split = replace(cached, inactive_split=GIB - 1)
        assert [one.fits for one in plans_for(*rows, allocator=split) if one.released_holders] == [False]

    def test_releasing_is_offered_even_where_nothing_was_found(self) -> None:
        assert told(plans_for()) == [("release-failed-cell", "", None, None, None)]

    @pytest.mark.parametrize("requested", [None, GIB // 2])
    def test_what_gives_nothing_back_is_offered_for_nothing(self, requested: int | None) -> None:
        """The cell, unchanged, has failed in the same room, whatever it asked for, and though that was free."""
        event = replace(EVENT, requested=requested)
        rows = (holding("variable", "texts", GIB), holding("failed_cell", "row", 4096))
        assert [one.fix for one in plans_for(*rows, event=event)] == ["delete-variable"]
        (alone,) = plans_for(rows[1], event=event)  # then it is told, among what would not be enough
        assert (alone.fix, alone.predicted, alone.verdict) == ("release-failed-cell", 4096, "again")
        cached = AllocatorMemory(framework="pytorch", backend="cuda", allocated=GIB, reserved=2 * GIB, inactive_split=0)
        (release,) = [one for one in plans_for(*rows, event=event, allocator=cached) if not one.subject]
        assert release.verdict == "may"  # a cache comes back

    def test_nothing_is_said_of_what_comes_back_where_nobody_reads_the_device(self) -> None:
        found = replace(held(holding("variable", "x", GIB)), everywhere=True)
        snapshot = replace(SNAPSHOT, holdings=found, device=None, allocator=None)
        event = replace(EVENT, requested=None, free=None, capacity=None)
        plans = plan(CATALOG, event, snapshot, diagnose(event, snapshot))
        (release,) = [one for one in plans if one.fix == "release-failed-cell"]
        assert (release.predicted, release.verdict) == (None, "may")

    def test_a_request_that_is_too_large_fits_after_nothing(self) -> None:
        event = replace(EVENT, requested=9 * GIB, phase="load", call=CALL)
        found = told(plans_for(FAILED, holding("variable", "x", GIB), event=event))
        assert ("release-failed-cell", "", 3072, False, False) in found
        assert ("delete-variable", "x", 4096, False, False) in found

    def test_but_a_load_across_devices_does_not_ask_for_it_again(self) -> None:
        event = replace(EVENT, requested=9 * GIB, phase="load", call=CALL)
        assert told(plans_for(FAILED, event=event)[: len(RELOADS)]) == RELOADS

    def test_free_unknown(self) -> None:
        snapshot = replace(SNAPSHOT, holdings=held(FAILED), device=None, allocator=None)
        (one,) = plan(CATALOG, EVENT, snapshot, diagnose(EVENT, snapshot))
        assert told([one]) == [("release-failed-cell", "", 3072, None, None)]

    def test_a_release_lets_go_of_cells_that_failed_before(self) -> None:
        rows = (FAILED, holding("earlier_cell", "batch", GIB, function="step", line=2))
        (found,) = [one for one in plans_for(*rows) if one.fix == "release-failed-cell"]
        assert found.predicted == 4 * GIB

    def test_a_variable_goes_with_the_failed_cell_that_shares_it(self) -> None:
        found = plans_for(FAILED, holding("variable", "x"), shares={(0, 1): GIB})
        assert told(found) == [
            ("delete-variable", "x", 4096, True, None),  # to the byte, of what is printed in GiB
            ("release-failed-cell", "", 3072, True, False),
        ]

    def test_what_several_keep_together_goes_with_all_of_them(self) -> None:
        rows = (holding("variable", "model", role="model"), holding("variable", "optimizer", role="optimizer"))
        found = told(plans_for(*rows, shares={(0, 1): GIB}))
        assert [(fix, name, frees) for fix, name, frees, *_ in found] == [("delete-variable", "model, optimizer", 1024)]

    def test_the_fewest_variables_that_are_enough_go_together(self) -> None:
        rows = tuple(holding("variable", name, GIB) for name in ("first", "second", "third"))
        event = replace(EVENT, requested=5 * GIB // 2)
        subjects = [one.subject for one in plans_for(*rows, event=event) if one.fix == "delete-variable"]
        assert subjects == ["first, second", "first", "second", "third"]
        event = replace(EVENT, requested=3 * GIB // 2)
        subjects = [one.subject for one in plans_for(*rows, event=event) if one.fix == "delete-variable"]
        assert subjects == ["first", "second", "third"]

    @pytest.mark.parametrize(("hidden", "together"), [(GIB, True), (5 * GIB, False)])
    def test_for_what_was_not_seen_more_go_only_if_that_is_enough(self, hidden: int, together: bool) -> None:
        """A model was to be deleted where one array alone made the room, as far as that was known."""
        rows = held(*(holding("variable", name, GIB) for name in ("first", "second", "third")))
        found = Diagnosis(requested=GIB, free=0, capacity=8 * GIB, short=GIB, rerun=GIB, made=GIB, hidden=hidden)
        named = tuple(Cause(kind="variable", size=GIB, names=(name,)) for name in ("first", "second", "third"))
        subjects = [one.name for one in find_together(0, rows, replace(found, causes=named), Notebook())]
        assert subjects == (["first, second"] if together else [])

    def test_what_other_frameworks_hold_counts_if_a_release_gives_it_back(self) -> None:
        rows = (holding("failed_cell", "x", GIB // 2),)
        cupy = replace(CUPY, allocated=0, reserved=GIB // 2)
        assert told(plans_for(*rows, others=(cupy,)))[0] == ("release-failed-cell", "", 512, None, False)  # printed
        cupy = replace(cupy, reserved=GIB // 2 + 8 * MIB)
        assert told(plans_for(*rows))[0] == ("release-failed-cell", "", 512, False, False)
        assert told(plans_for(*rows, others=(cupy,)))[0] == ("release-failed-cell", "", 512, True, False)
        large = replace(CUPY, allocated=0, reserved=2 * GIB)
        (only,) = told(plans_for(holding("variable", "x"), others=(large,)))  # nothing is held, but a pool is
        assert only == ("release-failed-cell", "", 0, True, True)

    def test_bytes_of_one_framework_need_not_be_anothers(self) -> None:
        """JAX keeps what its arrays give back, and a limit of PyTorch's counts PyTorch's own."""
        rows = (holding("failed_cell", "x", 5 * GIB),)
        for allocator, other in ((None, JAX), (AllocatorMemory(framework="x", backend="cuda", limit=4 * GIB), CUPY)):
            found = told(plans_for(*rows, allocator=allocator, others=(other,)))
            assert ("release-failed-cell", "", 5120, None, False) in found
        idle = replace(JAX, allocated=0, reserved=0)
        assert ("release-failed-cell", "", 5120, True, False) in told(plans_for(*rows, others=(idle,)))
        small = holding("failed_cell", "x", GIB // 8)  # whoever has those bytes, they are not enough
        assert ("release-failed-cell", "", 128, False, False) in told(plans_for(small, others=(JAX,)))

    def test_what_a_pool_gives_back_is_not_known_where_its_blocks_are_in_use(self) -> None:
        rows = (holding("variable", "x", GIB // 4),)
        split = replace(CUPY, reserved=3 * GIB)
        (release, *_) = told(plans_for(*rows, others=(split,)))
        assert release == ("release-failed-cell", "", 0, None, None)
        (release, *_) = told(plans_for(*rows, others=(replace(split, inactive_split=0),)))
        assert release == ("release-failed-cell", "", 0, True, True)

    def test_checkpointing_is_offered_for_a_model_whose_optimizer_keeps_it_too(self) -> None:
        rows = (
            holding("variable", "optimizer", GIB, role="optimizer"),
            holding("variable", "model", role="pretrained model"),
            holding("output_history", "Out[1]", role="pretrained model"),
        )
        event = replace(EVENT, phase="train")
        found = {one.fix: one for one in plans_for(*rows, shares={(0, 1): GIB}, event=event)}
        assert found["gradient-checkpointing"].code == "model.gradient_checkpointing_enable()"
        assert found["gradient-checkpointing"].applicability == "safe"
        assert (found["gradient-checkpointing"].predicted, found["gradient-checkpointing"].fits) == (None, None)

    def test_a_plain_model_has_no_such_switch(self) -> None:
        event = replace(EVENT, phase="train")
        found = plans_for(holding("variable", "model", GIB, role="model"), event=event)
        assert "gradient-checkpointing" not in {one.fix for one in found}


class TestCode:
    def test_everything_that_may_run_is_python(self) -> None:
        event = replace(EVENT, phase="load", call=CALL)
        rows = (
            FAILED,
            holding("variable", "x", GIB, role="pretrained model"),
            holding("output_history", "Out[1]", GIB),
            holding("variable", "losses", GIB, type_name="list", parts=(("graph", GIB),)),
            holding("variable", "loss", GIB, type_name="Tensor", parts=(("graph", GIB),)),
            holding("variable", "net", GIB, role="model", parts=(("gradients", GIB // 2), ("parameters", GIB // 2))),
        )
        found = [*plans_for(*rows, event=event), *plans_for(*rows, event=replace(EVENT, phase="train"))]
        absent = {"reload-device", "reload-host", "reload-context", "stop-other-process"}  # nothing here to go to
        work = {fix.id for fix in CATALOG.fixes if fix.subject in SUBJECTS}  # test_notebook.py
        assert {one.fix for one in found} == {fix.id for fix in CATALOG.fixes} - absent - work
        for one in found:
            assert ast.parse(one.code).body
            assert "$" not in one.code

    @pytest.mark.parametrize("name", ["a b", "x'); import os; (", "1x", "\n", "`x`", "é\u202e"])
    def test_any_name_can_be_deleted_because_it_stands_as_text(self, name: str) -> None:
        (one,) = [one for one in plans_for(holding("variable", name, GIB)) if one.fix == "delete-variable"]
        call = ast.parse(one.code).body[-1]
        assert isinstance(call, ast.Expr)
        assert isinstance(call.value, ast.Call)
        assert ast.literal_eval(call.value.keywords[0].value) == [name]

    @pytest.mark.parametrize("name", ["a b", "x'); import os; (", "1x", "\n", "import os\nx", "x #", "lambda: x", ""])
    def test_a_name_that_is_none_is_left_out_where_it_would_stand_as_code(self, name: str) -> None:
        event = replace(EVENT, phase="train")
        found = plans_for(holding("variable", name, GIB, role="pretrained model"), event=event)
        assert "gradient-checkpointing" not in {one.fix for one in found}
        assert "delete-variable" in {one.fix for one in found}

    def test_process_numbers(self) -> None:
        processes = (ProcessMemory(pid=4711, used=GIB, name="python"),)
        (one,) = [one for one in plans_for(processes=processes) if one.fix == "stop-other-process"]
        assert (one.code, one.applicability, one.subject) == ("ps -fp 4711\n# kill 4711", "display_only", "4711")

    def test_processes_of_one_kind_are_stopped_together(self) -> None:
        ranks = tuple(ProcessMemory(pid=pid, used=GIB, name="python", detail="train.py") for pid in (4711, 4712))
        (one,) = [one for one in plans_for(processes=ranks) if one.fix == "stop-other-process"]
        assert (one.code, one.predicted) == ("ps -fp 4711 4712\n# kill 4711 4712", 2 * GIB)
        first = replace(ranks[0], pid=1)
        assert "stop-other-process" not in {one.fix for one in plans_for(processes=(first, ranks[1]))}

    def test_a_child_of_the_kernels_is_not_killed(self) -> None:
        workers = (ProcessMemory(pid=4711, used=GIB, name="python", is_child=True),)
        assert "stop-other-process" not in {one.fix for one in plans_for(processes=workers)}

    def test_what_may_be_no_lack_of_memory_promises_nothing(self) -> None:
        rows = (replace(FAILED, own=4 * GIB),)
        assert told(plans_for(*rows))[0][3] is True
        found = plans_for(*rows, event=replace(EVENT, certainty="probable"))
        assert {one.fits for one in found} <= {None, False}
        assert "runs" not in {one.verdict for one in found}

    @pytest.mark.parametrize(
        "process",
        [
            ProcessMemory(pid=1, used=GIB, name="init"),
            ProcessMemory(pid=0, used=GIB, name="?"),
            ProcessMemory(pid=4711, used=17179869184 * GIB, name="python"),  # as in a container of WSL
            ProcessMemory(pid=4711, used=(8 * GIB) + 1, name="python"),  # more than the device has
            ProcessMemory(pid=4711, used=GIB),  # not seen from here
        ],
    )
    def test_a_process_that_nobody_should_stop(self, process: ProcessMemory) -> None:
        found = plans_for(processes=(process,), event=replace(EVENT, processes=(process,)))
        assert "stop-other-process" not in {one.fix for one in found}
        event = replace(EVENT, processes=(process,), capacity=8 * GIB)  # told by the message alone
        snapshot = replace(SNAPSHOT, device=None)
        found = plan(CATALOG, event, snapshot, diagnose(event, snapshot))
        assert "stop-other-process" not in {one.fix for one in found}

    @pytest.mark.parametrize("name", ["nb_oomhelper", "torch"])
    def test_a_name_of_the_users_is_never_imported_over(self, name: str, monkeypatch: Any) -> None:
        """Of all fixes, those of the user's variables as well as those that run the cell."""
        rows = (FAILED, holding("variable", "losses", GIB, type_name="list", parts=(("graph", GIB),)))
        event, snapshot = replace(EVENT, phase="infer"), replace(SNAPSHOT, holdings=held(*rows))
        diagnosis = diagnose(event, snapshot)

        def shown(thing: object) -> set[str]:
            found = plan(
                CATALOG, event, snapshot, diagnosis, notebook=inspect_notebook({name: thing}, "f(x, batch_size=4)")
            )
            for one in found:
                bound = {text for node in ast.walk(ast.parse(one.code)) for text in bound_names(node)}
                assert (one.obstacle == "shadowed") == (thing == 5 and name in bound)
                assert (one.applicability == "display_only") == (one.obstacle == "shadowed")
            return {one.fix for one in found if one.obstacle}

        assert shown(5) >= {"torch": {"detach-list", "no-grad"}, "nb_oomhelper": {"release-failed-cell"}}[name]
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        assert shown(module) == set()

    def test_a_fix_that_fails_costs_itself_alone(self) -> None:
        """Python refuses to print so large a number: what would make it smaller cannot be made ready."""
        event, snapshot = replace(EVENT, phase="train"), replace(SNAPSHOT, holdings=held(FAILED))
        errors: list[Exception] = []
        notebook = replace(inspect_notebook({}, "f(bs, batch_size)"), numbers={"bs": 10**5000, "batch_size": 8})
        found = plan(CATALOG, event, snapshot, diagnose(event, snapshot), notebook=notebook, failed=errors.append)
        assert {type(one) for one in errors} == {ValueError}
        assert {"release-failed-cell", "autocast"} <= {one.fix for one in found}
        assert "smaller-batch-number" not in {one.fix for one in found}
        assert plan(CATALOG, event, snapshot, diagnose(event, snapshot), notebook=notebook) == found


class TestNeeded:
    """What the cell reads is not offered for deletion."""

    ROWS = (FAILED, holding("variable", "model", GIB), holding("variable", "old", GIB))
    HISTORY = holding("output_history", "Out[3]", GIB)

    def deleted(self, source: str, **variables: object) -> set[str]:
        snapshot = replace(SNAPSHOT, holdings=held(*self.ROWS, self.HISTORY))
        notebook = inspect_notebook({"model": 1, "old": 2, **variables}, source)
        found = plan(CATALOG, EVENT, snapshot, diagnose(EVENT, snapshot), notebook=notebook)
        assert "release-failed-cell" in {one.fix for one in found}
        return {one.subject or "Out" for one in found if one.fix in ("delete-variable", "forget-output-history")}

    @pytest.mark.parametrize(
        ("source", "deleted"),
        [
            ("f(1)", {"model", "old", "Out"}),
            ("out = model(x)", {"old", "Out"}),
            ("for x in y:\n    model(x)", {"old", "Out"}),
            ("model += 1", {"old", "Out"}),
            ("del model", {"old", "Out"}),
            ("with f() as model:\n    pass\nmodel(1)", {"old", "Out"}),  # it may fail before it binds
            ("%time model(x)", {"old", "Out"}),
            ("%%time\nmodel(x)", {"old", "Out"}),
            ("print(f'{model}')", {"old", "Out"}),
            ("def f(): return model(1)\nf()", {"old", "Out"}),
            ("def f(model): return model(1)\nf(x)", {"model", "old", "Out"}),
            ("x.model(1)", {"model", "old", "Out"}),
            ("model = Net()\nmodel(x)", {"model", "old", "Out"}),  # the one that is kept goes anyway
            ("import model\nmodel.f()", {"model", "old", "Out"}),
            ("model = Net(model)", {"old", "Out"}),
            ("model = old", {"model", "Out"}),
            ("await model(x)", {"old", "Out"}),
            ("f(_)", {"model", "old"}),
            ("f(Out[3], _12)", {"model", "old"}),
            ("for _ in y: pass", {"model", "old", "Out"}),
            ("files = !ls\nmodel(files)", {"old", "Out"}),
            ("y = %time model(x)", {"old", "Out"}),
            ("model?", {"old", "Out"}),
            ("y = %time f(_)", {"model", "old"}),
            # what cannot be read may read whatever it names
            ("from __future__ import annotations\nmodel(x)", {"old", "Out"}),
            ("%%bash\necho $model; done", {"old", "Out"}),
            ("no python", {"model", "old", "Out"}),
            ("no python: model", {"old", "Out"}),
            ("no python: models, _model", {"model", "old", "Out"}),
            ("no python: Out[3]", {"model", "old"}),
            ("model(x)" + "\n# long" * 20_000, {"old", "Out"}),
        ],
    )
    def test_by_the_cell(self, source: str, deleted: set[str]) -> None:
        assert self.deleted(source) == deleted

    def test_where_nobody_could_look(self) -> None:
        snapshot = replace(SNAPSHOT, holdings=held(*self.ROWS, self.HISTORY))
        found = plan(CATALOG, EVENT, snapshot, diagnose(EVENT, snapshot), notebook=UNREAD)
        assert {one.fix for one in found} == {"release-failed-cell"}

    @pytest.mark.parametrize("fails", [False, True])
    def test_looking_fails(self, fails: bool) -> None:
        """The names can be read by the search alone: nothing is offered for deletion, and the problem is kept."""
        numpy = pytest.importorskip("numpy")

        class Names(dict[str, object]):
            left = [RuntimeError("not now")] if fails else []

            def items(self) -> Any:
                if self.left:
                    raise self.left.pop()
                return super().items()

        scope = Scope(variables=Names(big=numpy.ones(64 * MIB, dtype=numpy.uint8)))
        services = Services(driver=Driver(), catalog=lambda: CATALOG, history=lambda: None)
        with pytest.raises(MemoryError) as failed:
            numpy.empty(1 << 60, dtype=numpy.uint8)
        case = open_case(read_failure(failed.value), lambda: scope, services, "1")
        assert case is not None
        assert case.snapshot.holdings.named("big")
        assert ("delete-variable" in {one.fix for one in case.plans}) != fails
        assert services.problem == ("RuntimeError: not now" if fails else None)

    def test_what_its_functions_read(self) -> None:
        """Also through a class, an object of it, and a decorator of a library."""
        names: dict[str, Any] = {"__name__": "__main__"}
        source = """
import functools
def inner(): return model
def outer(): return [inner() for _ in range(3)]
@functools.lru_cache
def cached(): return inner()
class Base:
    @staticmethod
    def work(): return outer()
class Trainer(Base):
    model = None
t = Trainer()
wrapped = inner
def fine(old): return old.model
def loop(): pass
loop.__wrapped__ = loop
"""
        exec(source, names)
        for called, deleted in {
            "outer": {"old", "Out"},
            "t.work": {"old", "Out"},
            "Trainer": {"old", "Out"},
            "fine": {"model", "old", "Out"},
            "loop": {"model", "old", "Out"},
        }.items():
            assert self.deleted(f"{called}()", **names) == deleted, called
        library = functools.wraps(names["inner"])(lambda: None)
        assert self.deleted("library()", **names, library=library) == {"old", "Out"}


class TestForetell:
    """What is promised after another fix has run."""

    ROWS = (FAILED, holding("variable", "x", GIB + 8 * MIB), holding("variable", "y", GIB + 8 * MIB))

    def test_what_is_gone_is_not_freed_twice(self) -> None:
        snapshot = replace(SNAPSHOT, holdings=held(*self.ROWS), allocator=None)
        diagnosis = diagnose(EVENT, snapshot)
        plans = plan(CATALOG, EVENT, snapshot, diagnosis)
        release = next(one for one in plans if one.fix == "release-failed-cell")
        later = [predict_effect(one, snapshot, diagnosis, release.released_holders) for one in plans]
        assert {one.fix + one.subject: (one.predicted, one.fits, one.whole_cell_fits) for one in later} == {
            "release-failed-cell": (0, True, False),
            "delete-variablex": (GIB + 8 * MIB, True, True),
            "delete-variabley": (GIB + 8 * MIB, True, True),
        }

    def test_it_is_the_same_plan_otherwise(self) -> None:
        snapshot = replace(SNAPSHOT, holdings=held(*self.ROWS))
        diagnosis = diagnose(EVENT, snapshot)
        for one in plan(CATALOG, EVENT, snapshot, diagnosis):
            later = predict_effect(one, snapshot, diagnosis, frozenset({0, 1, 2}))
            effect = {name: getattr(one, name) for name in ("predicted", "fits", "whole_cell_fits", "room")}
            assert replace(later, **effect) == one


PLAN = FixPlan(number=1, fix="release-failed-cell", code="the code", applicability="safe", predicted=5)
CUDA = Measure(backend="cuda", device_used=9, allocated=100, reserved=120, resident=1000, virtual=5000, free=10)


def reader(*measures: Measure) -> Any:
    return iter(measures).__next__


class TestRun:
    DIAGNOSIS = Diagnosis(requested=50, free=10, capacity=200, short=40, rerun=90)

    def test_the_code_that_is_shown_runs_between_two_readings(self) -> None:
        order: list[str] = []

        def readings() -> Iterator[Measure]:
            order.append("before")
            yield CUDA
            order.append("after")
            yield replace(CUDA, allocated=30, free=80, resident=400)

        def run_code(code: str) -> None:
            order.append(code)

        outcome = run(replace(PLAN, subject="x"), run_code, readings().__next__, self.DIAGNOSIS)
        assert order == ["before", "the code", "after"]
        assert (outcome.fix, outcome.subject, outcome.predicted) == ("release-failed-cell", "x", 5)
        assert (outcome.freed, outcome.requested, outcome.error) == (70, 50, None)
        assert (outcome.fits, outcome.whole_cell_fits) == (True, False)
        assert (outcome.before.allocated, outcome.after.allocated) == (100, 30)
        assert outcome.seconds >= 0

    @pytest.mark.parametrize(
        ("after", "freed", "fits", "again"),
        [
            ({"allocated": 10, "free": 90}, 90, True, True),
            ({"allocated": 130, "free": 50}, -30, True, False),
            ({"allocated": None, "free": 49}, None, False, False),
            ({"free": None}, 0, None, None),
        ],
    )
    def test_figures(self, after: dict[str, Any], freed: int | None, fits: bool | None, again: bool | None) -> None:
        outcome = run(PLAN, lambda _: None, reader(CUDA, replace(CUDA, **after)), self.DIAGNOSIS)
        assert (outcome.freed, outcome.fits, outcome.whole_cell_fits) == (freed, fits, again)

    def test_on_the_host_what_is_resident_counts(self) -> None:
        host = Measure(backend="host", resident=1000, virtual=5000, free=10)
        after = replace(host, resident=300, virtual=5000, free=60)
        outcome = run(PLAN, lambda _: None, reader(host, after), self.DIAGNOSIS)
        assert (outcome.freed, outcome.fits) == (700, True)

    def test_an_error_is_told_and_measured_all_the_same(self) -> None:
        outcome = run(PLAN, lambda _: "NameError: x", reader(CUDA, CUDA), self.DIAGNOSIS)
        assert (outcome.error, outcome.freed) == ("NameError: x", 0)

    def test_nothing_known(self) -> None:
        unknown = Diagnosis(requested=None, free=None, capacity=None, short=None)
        outcome = run(PLAN, lambda _: None, reader(CUDA, CUDA), unknown)
        assert (outcome.requested, outcome.fits, outcome.whole_cell_fits) == (None, None, None)


class TestCase:
    """`case.run_fix`: what is refused, and what is kept of an outcome."""

    @pytest.fixture
    def case(self) -> Case:
        kinds: tuple[tuple[HolderKind, str], ...] = (("failed_cell", "batch"), ("variable", "x"))
        rows = tuple(Holding(kind=kind, name=name, backend="host", own=GIB) for kind, name in kinds)
        holdings = Holdings(rows=rows, shares=(((0,), GIB), ((1,), GIB)), searched=2, total=2)
        snapshot = MemorySnapshot(
            taken_at=0.0, driver=DriverReading(), host=HostMemory(capacity=8 * GIB, available=GIB), holdings=holdings
        )
        event = replace(EVENT, backend="host", framework="numpy", device=None)
        diagnosis = diagnose(event, snapshot)
        return Case(
            event=event, snapshot=snapshot, diagnosis=diagnosis, plans=plan(CATALOG, event, snapshot, diagnosis)
        )

    def services(self, history: Path | None) -> Services:
        return Services(driver=Driver(), catalog=lambda: CATALOG, history=lambda: history)

    def test_an_outcome_is_kept_and_later_promises_follow(self, case: Case, tmp_path: Path) -> None:
        ran: list[str] = []
        services = self.services(tmp_path / "h.sqlite")
        outcome = run_fix(case, 2, lambda code: ran.append(code), Scope, services)
        assert ran == [case.plans[1].code]
        assert case.outcomes == [outcome]
        assert [one.predicted for one in case.plans] == [GIB, 0]
        assert measured_rates(tmp_path / "h.sqlite") == {}  # nobody knows yet whether the cell runs then
        assert services.problem is None

    @pytest.mark.parametrize("ran", [True, False])
    def test_the_first_run_after_a_fix_tells(self, case: Case, tmp_path: Path, ran: bool) -> None:
        services, path = self.services(tmp_path / "h.sqlite"), tmp_path / "h.sqlite"
        record_run(case, services, ran=ran)  # nothing was done yet
        assert not path.exists()
        for _ in range(2):
            run_fix(case, 2, lambda _: None, Scope, services)
        for told in (ran, not ran):
            record_run(case, services, ran=told)
        assert [one.ran for one in case.outcomes] == [None, ran]
        assert measured_rates(path) == {"release-failed-cell": (int(ran), 1)}

    def test_a_run_after_a_fix_that_failed_is_no_merit_of_it(self, case: Case, tmp_path: Path) -> None:
        services = self.services(tmp_path / "h.sqlite")
        for error, figures in (("ValueError: x", (0, 1)), ("KeyboardInterrupt", (0, 1))):
            run_fix(case, 2, lambda _, error=error: error, Scope, services)  # type: ignore[misc]
            record_run(case, services, ran=True)
            assert measured_rates(tmp_path / "h.sqlite") == {"release-failed-cell": figures}

    def test_a_run_is_told_where_no_history_is_kept(self, case: Case, tmp_path: Path) -> None:
        run_fix(case, 2, lambda _: None, Scope, self.services(None))
        record_run(case, self.services(None), ran=True)
        assert case.outcomes[-1].ran

    def test_a_history_that_breaks_in_between_costs_a_line(self, case: Case, tmp_path: Path) -> None:
        services = self.services(tmp_path / "h.sqlite")
        run_fix(case, 2, lambda _: None, Scope, services)
        (tmp_path / "h.sqlite").write_bytes(b"this is no database, and long enough to be taken for one" * 50)
        record_run(case, services, ran=True)
        assert case.outcomes[-1].ran
        assert services.problem is not None
        assert services.problem.startswith("the history h.sqlite cannot be used")
        assert services.trace is None

    def test_a_fix_that_failed_changes_no_promise(self, case: Case) -> None:
        before = case.plans
        assert run_fix(case, 1, lambda _: "NameError", Scope, self.services(None)).error == "NameError"
        assert case.plans == before

    def test_a_history_that_cannot_be_written_costs_nothing_but_a_line(self, case: Case, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        services = self.services(tmp_path / "file" / "h.sqlite")
        assert run_fix(case, 1, lambda _: None, Scope, services).error is None
        assert services.problem is not None
        assert services.problem.startswith("the history h.sqlite cannot be used")

    def test_what_is_refused(self, case: Case) -> None:
        with pytest.raises(UsageError, match="there is no fix 9; the last panel has 2"):
            run_fix(case, 9, lambda _: None, Scope, self.services(None))
        case.plans = (replace(case.plans[0], applicability="display_only"),)
        with pytest.raises(UsageError, match="fix 1 is only shown: copy its code"):
            run_fix(case, 1, lambda _: None, Scope, self.services(None))
        assert case.outcomes == []


def test_the_public_names() -> None:
    assert set(nb_oomhelper.__all__) <= set(dir(nb_oomhelper))
    for name in nb_oomhelper.__all__:
        assert getattr(nb_oomhelper, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothere'"):
        _ = nb_oomhelper.nothere


class TestReload:
    """A fix that makes the failed request itself is judged by whether it ran; test_reloads.py has what it runs."""

    def test_what_was_loaded_is_not_missing(self) -> None:
        found = plans_for(event=replace(EVENT, phase="load", call=CALL))
        chosen = next(one for one in found if one.fix == "reload-offload")
        full = Measure(backend="cuda", allocated=8 * GIB, free=0)
        facts = Diagnosis(requested=GIB, free=0, capacity=8 * GIB, short=GIB, rerun=2 * GIB)
        done = run(chosen, lambda _: None, lambda: full, facts)
        assert (done.fits, done.whole_cell_fits, done.loaded) == (True, None, True)
        failed = run(chosen, lambda _: "OutOfMemoryError: again", lambda: full, facts)
        assert (failed.fits, failed.whole_cell_fits, failed.loaded) == (False, None, False)

    @pytest.mark.parametrize(
        ("cell", "error", "ran"),
        [
            ("import x\nmodel = load(x)", None, True),
            ("model = load(x)  \n\n", None, True),
            ("model = load(x)\nmodel(1)", None, None),
            ("def f():\n    model = load(x)", None, None),
            ("", None, None),
            ("model = load(x)", "OutOfMemoryError: again", None),
        ],
    )
    def test_one_that_ends_its_cell_has_run_the_cell(self, cell: str, error: str | None, ran: bool | None) -> None:
        """A run of the cell as it was tells nothing of it: that would load the model as before."""
        found = next(one for one in plans_for(event=replace(EVENT, phase="load", call=CALL)) if one.loads)
        facts = Diagnosis(requested=GIB, free=0, capacity=8 * GIB, short=GIB)
        snapshot = MemorySnapshot(taken_at=0.0, driver=DriverReading(), host=HostMemory())
        plan = replace(found, before="model = load(x)", applicability="unsafe")
        case = Case(event=replace(EVENT, device=None), snapshot=snapshot, diagnosis=facts, plans=(plan,), cell=cell)
        services = Services(driver=Driver(), catalog=lambda: CATALOG, history=lambda: None)
        outcome = run_fix(case, plan.number, lambda _: error, Scope, services)
        assert (outcome.ran, outcome.helped) == (ran, False if error else ran)
        record_run(case, services, ran=False)
        assert case.outcomes == [outcome]

    def test_a_folder_for_weights_is_found_on_every_system(self, tmp_path: Path, monkeypatch: Any) -> None:
        """Windows has no user numbers."""
        found = plans_for(event=replace(EVENT, phase="load", call=CALL))
        chosen = next(one for one in found if one.fix == "reload-offload")
        monkeypatch.setattr(running, "scratch", lambda: (str(tmp_path), 1))
        facts = Diagnosis(requested=GIB, free=0, capacity=8 * GIB, short=GIB)

        def load(code: str) -> None:
            (tmp_path / "oom-offload-1" / "part").mkdir(parents=True, exist_ok=True)

        for system in ("posix", "windows"):
            if system == "windows":
                monkeypatch.delattr(os, "getuid")
            done = run(chosen, load, lambda: CUDA, facts)
            assert done.folder == str(tmp_path / "oom-offload-1"), system
        half = next(one for one in found if one.fix == "reload-half")
        assert run(half, load, lambda: CUDA, facts).folder is None


def test_what_the_cell_makes_anew_may_do() -> None:
    """`cov = …` in the cell: what `cov` keeps comes back while it runs, so that nobody can say that it will not."""
    snapshot = replace(SNAPSHOT, holdings=held(holding("variable", "raw", GIB)), allocator=None)
    found = Diagnosis(requested=GIB, free=GIB, capacity=8 * GIB, short=0, rerun=3 * GIB, made=2 * GIB)
    deletion = FixPlan(
        number=1, fix="delete-variable", code="", applicability="unsafe", released_holders=frozenset({0})
    )
    alone, replaced = (
        predict_effect(deletion, snapshot, replace(found, replaced=size)).whole_cell_fits for size in (0, GIB)
    )
    assert (alone, replaced) == (False, None)
