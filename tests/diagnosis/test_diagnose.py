"""From an event and memory at that moment to causes with their bytes: pure, so every case is a table's row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from nb_oomhelper.diagnosis.diagnose import diagnose
from nb_oomhelper.diagnosis.request import free_for
from nb_oomhelper.memory.room import host_free, tightest
from nb_oomhelper.memory.segments import segments, with_self
from nb_oomhelper.records.diagnosis import Cause, CauseKind, DeadEnd, DeadEndKind, Diagnosis
from nb_oomhelper.records.event import OomEvent, Phase
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.memory import (
    DeviceMemory,
    HostMemory,
    MemorySnapshot,
    ProcessMemory,
)
from tests.makers import ALLOCATOR, CUPY, DEVICE, EVENT, HOST, HOST_EVENT, JAX, NOTHING, SNAPSHOT, US, held, holding

pytestmark = pytest.mark.plain

MIB, GIB = 1 << 20, 1 << 30


def causes(
    event: OomEvent = EVENT, snapshot: MemorySnapshot = SNAPSHOT, *kinds: CauseKind, **changes: Any
) -> list[Cause]:
    """The causes of these kinds (all if none is named)."""
    found = diagnose(event, replace(snapshot, **changes)).causes
    return [cause for cause in found if not kinds or cause.kind in kinds]


FAILED = holding("failed_cell", "batch, outputs", 3 * GIB, function="train_step", line=12)
EARLIER = holding("earlier_cell", "batch", 2 * GIB, function="step", line=2)


class TestHolders:
    def test_failed_cell(self) -> None:
        assert causes(EVENT, SNAPSHOT, "failed_cell", holdings=held(FAILED)) == [
            Cause(kind="failed_cell", size=3 * GIB, names=("batch", "outputs"), function="train_step", line=12)
        ]

    def test_cells_that_failed_before(self) -> None:
        """A release lets go of them, too; but the same cell does not need that again."""
        rows = (FAILED, EARLIER, holding("variable", "x"), holding("output_history", "Out[1]"))
        found = held(*rows, shares={(0, 1): MIB, (1, 2): 2 * MIB, (1, 3): 4 * MIB})
        assert [(cause.kind, cause.size) for cause in causes(holdings=found) if cause.names] == [
            ("failed_cell", 3 * GIB),
            ("earlier_cell", 2 * GIB + MIB),
            ("output_history", 4 * MIB),
            ("variable", 2 * MIB),
        ]
        assert causes(EVENT, SNAPSHOT, "earlier_cell", holdings=held(EARLIER))[0].function == "step"
        assert diagnose(EVENT, replace(SNAPSHOT, holdings=found)).rerun == (EVENT.requested or 0) + 3 * GIB

    def test_what_it_shares_with_a_variable_is_not_its(self) -> None:
        found = causes(holdings=held(FAILED, holding("variable", "model"), shares={(0, 1): GIB}))
        assert [(cause.kind, cause.size) for cause in found if cause.names] == [
            ("failed_cell", 3 * GIB),
            ("variable", GIB),
        ]

    @pytest.mark.parametrize("size", [0, MIB - 1])
    def test_less_than_a_mebibyte_explains_nothing(self, size: int) -> None:
        rows = [holding(kind, f"{kind}_name", size) for kind in ("failed_cell", "variable", "output_history")]
        assert causes(EVENT, SNAPSHOT, "failed_cell", "variable", "output_history", holdings=held(*rows)) == []

    def test_variables_once_the_failed_cell_is_gone(self) -> None:
        rows = (
            FAILED,
            holding("variable", "model", GIB, role="pretrained model"),
            holding("variable", "losses", 2 * GIB, role="other"),
        )
        assert causes(EVENT, SNAPSHOT, "variable", holdings=held(*rows, shares={(0, 1): GIB // 2})) == [
            Cause(kind="variable", size=2 * GIB, names=("losses",), role="other"),
            Cause(kind="variable", size=GIB + GIB // 2, names=("model",), role="pretrained model"),
        ]

    def test_at_most_four_variables(self) -> None:
        rows = [holding("variable", name, size * GIB) for size, name in enumerate("abcdef", 1)]
        found = causes(EVENT, SNAPSHOT, "variable", holdings=held(*rows))
        assert [cause.names for cause in found] == [("f",), ("e",), ("d",), ("c",)]

    def test_what_variables_keep_together(self) -> None:
        """A model's parameters are its optimizer's, too: neither alone would give them back."""
        rows = (
            FAILED,
            holding("variable", "optimizer", GIB, role="optimizer"),
            holding("variable", "model", role="model"),
            holding("output_history", "Out[3]"),
        )
        shares = {(1, 2): GIB, (0, 1, 2): GIB, (2, 3): 2 * MIB, (0, 3): MIB // 2}
        found = causes(EVENT, SNAPSHOT, "variable", "output_history", holdings=held(*rows, shares=shares))
        assert found == [
            Cause(kind="variable", size=2 * GIB, names=("optimizer", "model")),
            Cause(kind="variable", size=GIB, names=("optimizer",), role="optimizer"),
            Cause(kind="variable", size=2 * MIB, names=("model", "Out[3]")),
        ]

    def test_output_history(self) -> None:
        rows = [holding("output_history", f"Out[{n}]", n * GIB) for n in (6, 5, 4, 3, 2)]
        (found,) = causes(EVENT, SNAPSHOT, "output_history", holdings=held(*rows, shares={(0, 1): MIB}))
        assert (found.size, found.names) == (20 * GIB + MIB, ("Out[6]", "Out[5]", "Out[4]", "Out[3]"))

    def test_results_that_share_with_the_failed_cell(self) -> None:
        rows = (FAILED, holding("output_history", "Out[1]"))
        found = causes(holdings=held(*rows, shares={(0, 1): GIB}))
        assert [(cause.kind, cause.size) for cause in found if cause.names] == [
            ("failed_cell", 3 * GIB),
            ("output_history", GIB),
        ]

    def test_unnamed(self) -> None:
        rows = (holding("variable", "x", GIB), holding("variable", "y"))
        (found,) = causes(EVENT, SNAPSHOT, "unnamed", holdings=held(*rows, shares={(0, 1): GIB}))
        assert found == Cause(kind="unnamed", size=3 * GIB)

    @pytest.mark.parametrize(
        "changes",
        [
            {"holdings": Holdings()},  # nobody searched
            {"holdings": held(FAILED, complete=False)},  # a variable that was not searched may have it
            {"holdings": held(replace(FAILED, own=5 * GIB))},
            {"holdings": held(FAILED), "allocator": None},
            {"holdings": held(FAILED), "allocator": replace(ALLOCATOR, allocated=None)},
            {"holdings": held(FAILED), "allocator": replace(ALLOCATOR, allocated=3 * GIB + MIB - 1)},
        ],
        ids=["not searched", "not all searched", "all named", "no allocator", "not told", "less than a mebibyte"],
    )
    def test_nothing_is_unnamed(self, changes: dict[str, Any]) -> None:
        assert causes(EVENT, SNAPSHOT, "unnamed", **changes) == []


def with_rows(*rows: ProcessMemory) -> DeviceMemory:
    return replace(DEVICE, processes=rows)


class TestProcesses:
    def test_named_and_unnamed_largest_first(self) -> None:
        rows = (
            US,
            ProcessMemory(pid=1, used=2 * GIB, name="python", detail="train.ipynb"),
            ProcessMemory(pid=2, used=3 * GIB),
            ProcessMemory(pid=3, used=None, name="Xorg"),
            ProcessMemory(pid=4, used=MIB - 1),
        )
        assert causes(EVENT, SNAPSHOT, "other_process", device=replace(DEVICE, processes=rows)) == [
            Cause(kind="other_process", size=3 * GIB, pid=2),
            Cause(kind="other_process", size=2 * GIB, pid=1, process="python · train.ipynb"),
            Cause(kind="other_process", size=None, pid=3, process="Xorg"),
        ]

    @pytest.mark.parametrize("device", [None, replace(DEVICE, processes=None), replace(DEVICE, processes=())])
    def test_those_of_the_message_where_the_driver_tells_none(self, device: DeviceMemory | None) -> None:
        event = replace(EVENT, processes=(US, ProcessMemory(pid=9, used=GIB)))
        assert causes(event, SNAPSHOT, "other_process", device=device) == [Cause(kind="other_process", size=GIB, pid=9)]

    def test_the_drivers_count_before_the_messages(self) -> None:
        event = replace(EVENT, processes=(ProcessMemory(pid=9, used=GIB),))
        assert causes(event, SNAPSHOT, "other_process") == []

    @pytest.mark.parametrize(
        ("bound", "told"),
        [
            ({}, True),
            ({"cgroup_limit": 8 * GIB, "cgroup_used": 8 * GIB}, True),
            ({"address_space_limit": GIB, "virtual": GIB}, False),  # that is for each of them
        ],
    )
    def test_children_take_of_what_the_host_has_for_all(self, bound: dict[str, int], told: bool) -> None:
        rows = tuple(
            ProcessMemory(pid=pid, used=used, name="python", is_child=True)
            for pid, used in ((20, GIB), (21, GIB), (22, MIB))
        )
        host = HostMemory(capacity=64 * GIB, available=9 * GIB, **bound)  # type: ignore[arg-type]
        found = diagnose(HOST_EVENT, replace(NOTHING, host=host, children=rows)).causes
        expected = Cause(kind="child_process", size=2 * GIB, pid=20, pids=(20, 21), process="python")
        assert [cause for cause in found if cause.kind == "child_process"] == ([expected] if told else [])

    def test_those_of_one_kind_together_and_children_apart(self) -> None:
        ranks = [ProcessMemory(pid=pid, used=GIB, name="python", detail="train.py") for pid in (7, 8, 9)]
        workers = [ProcessMemory(pid=pid, used=pid * MIB, name="python", is_child=True) for pid in (20, 22)]
        found = causes(EVENT, SNAPSHOT, "other_process", "child_process", device=with_rows(US, *ranks, *workers))
        assert found == [
            Cause(kind="other_process", size=3 * GIB, pid=7, pids=(7, 8, 9), process="python · train.py"),
            Cause(kind="child_process", size=42 * MIB, pid=20, pids=(20, 22), process="python"),
        ]
        unknown = replace(ranks[0], used=None)
        (cause,) = causes(EVENT, SNAPSHOT, "other_process", device=with_rows(US, unknown, *ranks[1:]))
        assert cause.size is None

    def test_none_on_the_host(self) -> None:
        assert causes(HOST_EVENT, replace(SNAPSHOT, device=None, allocator=None), "other_process") == []

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ([(77, 6 * GIB), (78, GIB)], [(78, False), (77, True)]),  # only one is large enough to be us
            ([(77, 6 * GIB), (78, 7 * GIB)], []),  # either may be us
            ([(77, None), (78, GIB)], [(78, False), (77, True)]),
            ([(78, GIB)], [(78, False)]),
            ([], []),
        ],
    )
    def test_in_a_container_we_are_who_could_be_us(self, rows: list[Any], expected: list[Any]) -> None:
        given = tuple(ProcessMemory(pid=pid, used=used) for pid, used in rows)
        assert [(row.pid, row.is_self) for row in with_self(given, ALLOCATOR.reserved)] == expected

    def test_one_with_a_name_is_somebody_else(self) -> None:
        rows = (ProcessMemory(pid=77, used=6 * GIB), ProcessMemory(pid=78, used=7 * GIB, name="python"))
        assert [(row.pid, row.is_self) for row in with_self(rows, GIB)] == [(78, False), (77, True)]

    @pytest.mark.parametrize("reserved", [None, 0])
    def test_without_an_allocator_nobody_can_tell(self, reserved: int | None) -> None:
        rows = (ProcessMemory(pid=77, used=6 * GIB),)
        assert with_self(rows, reserved) == rows

    def test_where_the_driver_knows_us_it_counts(self) -> None:
        rows = (ProcessMemory(pid=77, used=9 * GIB), US)
        assert with_self(rows, GIB) == rows

    def test_the_messages_figure_finds_us_where_there_is_no_allocator(self) -> None:
        rows = (ProcessMemory(pid=77, used=6 * GIB), ProcessMemory(pid=78, used=GIB))
        event = replace(EVENT, reserved=5 * GIB)
        found = causes(event, SNAPSHOT, "other_process", device=replace(DEVICE, processes=rows), allocator=None)
        assert [cause.pid for cause in found] == [78]


class TestSizes:
    def test_too_large(self) -> None:
        assert causes(replace(EVENT, requested=9 * GIB), SNAPSHOT, "too_large") == [
            Cause(kind="too_large", size=9 * GIB, largest=8 * GIB)
        ]
        limited = replace(ALLOCATOR, limit=6 * GIB)
        assert causes(replace(EVENT, requested=7 * GIB), SNAPSHOT, "too_large", allocator=limited) == [
            Cause(kind="too_large", size=7 * GIB, limit="memory fraction", largest=6 * GIB)
        ]
        assert causes(replace(EVENT, requested=6 * GIB), SNAPSHOT, "too_large", allocator=limited) == []
        assert causes(replace(EVENT, requested=8 * GIB), SNAPSHOT, "too_large") == []
        assert causes(replace(EVENT, requested=9 * GIB), NOTHING, "too_large") == []
        assert causes(replace(EVENT, requested=9 * GIB, capacity=8 * GIB), NOTHING, "too_large") != []
        assert causes(replace(EVENT, requested=None), SNAPSHOT, "too_large") == []

    def test_too_large_for_a_limit_of_the_host(self) -> None:
        host = replace(HOST, address_space_limit=21 * GIB)
        assert causes(replace(HOST_EVENT, requested=22 * GIB), SNAPSHOT, "too_large", host=host) != []
        assert causes(replace(HOST_EVENT, requested=22 * GIB), SNAPSHOT, "too_large") == []

    @pytest.mark.parametrize(
        ("cached", "requested", "expected"),
        [(3 * GIB, 2 * GIB, 3 * GIB), (2 * GIB, 2 * GIB, 2 * GIB), (GIB, 2 * GIB, None), (3 * GIB, None, None)],
    )
    def test_fragmentation(self, cached: int, requested: int | None, expected: int | None) -> None:
        wanted = [] if expected is None else [Cause(kind="fragmentation", size=expected)]
        event = replace(EVENT, requested=requested, cached=cached)
        assert causes(event, SNAPSHOT, "fragmentation") == wanted
        allocator = replace(ALLOCATOR, allocated=GIB, reserved=GIB + cached)
        assert causes(replace(event, cached=None), SNAPSHOT, "fragmentation", allocator=allocator) == wanted
        assert causes(replace(event, backend="host"), SNAPSHOT, "fragmentation") == []

    def test_no_fragmentation_without_figures(self) -> None:
        assert causes(EVENT, NOTHING, "fragmentation") == []

    def test_rest(self) -> None:
        assert causes(EVENT, SNAPSHOT, "rest") == [Cause(kind="rest", size=512 * MIB)]
        assert causes(EVENT, SNAPSHOT, "rest", allocator=replace(ALLOCATOR, reserved=6 * GIB)) == []
        assert causes(EVENT, SNAPSHOT, "rest", device=replace(DEVICE, processes=())) == []
        assert causes(EVENT, SNAPSHOT, "rest", allocator=None) == []
        assert causes(HOST_EVENT, SNAPSHOT, "rest") == []

    @pytest.mark.parametrize(
        ("host", "expected"),
        [
            ({}, None),
            ({"address_space_limit": 21 * GIB}, ("RLIMIT_AS", 21 * GIB)),
            ({"cgroup_limit": 8 * GIB, "cgroup_used": 7 * GIB}, ("cgroup", 8 * GIB)),
            (
                {"address_space_limit": 21 * GIB, "cgroup_limit": 8 * GIB, "cgroup_used": 6 * GIB},
                ("RLIMIT_AS", 21 * GIB),
            ),
            ({"address_space_limit": 60 * GIB, "available": GIB}, None),  # the machine itself is the tightest
            ({"address_space_limit": 21 * GIB, "virtual": None}, None),
            ({"cgroup_limit": 8 * GIB}, None),
        ],
    )
    def test_limits_of_the_host(self, host: dict[str, Any], expected: tuple[str, int] | None) -> None:
        found = causes(HOST_EVENT, SNAPSHOT, "limit", host=replace(HOST, **host))
        assert [(cause.limit, cause.size) for cause in found] == ([] if expected is None else [expected])

    @pytest.mark.parametrize(
        ("event", "allocator", "expected"),
        [
            ({"limit": 4 * GIB}, None, 4 * GIB),
            ({}, {"limit": 3 * GIB}, 3 * GIB),
            ({"limit": 4 * GIB}, {"limit": 3 * GIB}, 3 * GIB),  # exact, and the text rounds
            ({"limit": 8 * GIB, "capacity": 8 * GIB}, None, None),
            ({"limit": 7 * GIB, "capacity": 8 * GIB}, None, 7 * GIB),
            ({}, {}, None),
            ({}, None, None),
        ],
    )
    def test_a_memory_fraction(self, event: dict[str, Any], allocator: Any, expected: int | None) -> None:
        one = None if allocator is None else replace(ALLOCATOR, **allocator)
        found = causes(replace(EVENT, **event), SNAPSHOT, "limit", allocator=one)
        assert [(cause.limit, cause.size) for cause in found] == (
            [] if expected is None else [("memory fraction", expected)]
        )


def test_every_kind_of_cause_and_their_order() -> None:
    rows = (
        FAILED,
        holding("variable", "x", 2 * MIB),
        holding("output_history", "Out[1]", 4 * MIB),
        holding("earlier_cell", "batch", 5 * MIB),
    )
    device = replace(DEVICE, processes=(US, ProcessMemory(pid=7, used=5 * MIB - 1)))
    allocator = replace(ALLOCATOR, allocated=3 * GIB + 14 * MIB, limit=6 * GIB, reserved=6 * GIB - 2 * MIB)
    event = replace(EVENT, requested=9 * GIB, cached=10 * GIB)
    found = causes(event, SNAPSHOT, device=device, allocator=allocator, holdings=held(*rows))
    assert [cause.kind for cause in found] == [
        "too_large",  # what no fix can change
        *("fragmentation", "failed_cell", "earlier_cell", "other_process", "output_history", "unnamed", "variable"),
        "limit",
        "rest",  # only part of the picture
    ]
    mistakes = {"graph", "copies", "gradients", "stale_optimizer", "module"}  # test_mistakes.py
    below = {"pinned", "pool", "pool_kept"}  # of the host; of other frameworks
    below |= {"private_pool", "workspace", "rounding", "elsewhere"}  # TestAllocator
    below |= {"context", "handle", "pinned_refused"}  # TestRefusals
    below |= {"child_process", "not_short"}  # TestProcesses, and of what failed although more was free
    assert {cause.kind for cause in found} == set(get_args(CauseKind)) - mistakes - below
    assert causes(replace(EVENT, requested=None), NOTHING) == []


class TestOtherFrameworks:
    """Several of them on one device: each has a pool of its own, which the others cannot use."""

    SMALLER = replace(ALLOCATOR, allocated=GIB // 2, reserved=GIB // 2)

    def test_what_they_hold_and_do_not_use(self) -> None:
        found = causes(EVENT, SNAPSHOT, "pool", "pool_kept", others=(CUPY, JAX))
        assert found == [
            Cause(kind="pool_kept", size=3 * GIB, names=("jax",)),
            Cause(kind="pool", size=GIB * 3 // 4, names=("cupy",)),
        ]
        assert causes(EVENT, SNAPSHOT, "pool", "pool_kept", others=(replace(CUPY, reserved=GIB // 4),)) == []
        split = replace(ALLOCATOR, allocated=GIB, inactive_split=4 * GIB)  # in pieces that a release does not give back
        assert [one.size for one in causes(EVENT, SNAPSHOT, "pool", others=(split,))] == [GIB // 2]
        assert causes(HOST_EVENT, SNAPSHOT, "pool", "pool_kept", others=(CUPY,)) == []

    def test_the_bar_has_all_of_them(self) -> None:
        snapshot = replace(SNAPSHOT, allocator=self.SMALLER, others=(CUPY, JAX))
        sizes = {part.kind: part.size for part in segments(snapshot, "cuda")}
        assert (sizes["allocated"], sizes["cached"]) == (GIB * 7 // 4, GIB * 15 // 4)
        assert sizes["rest"] == 6 * GIB - GIB * 11 // 2

    def test_their_arrays_are_no_unnamed_memory_of_ours(self) -> None:
        rows = held(holding("variable", "params", GIB), holding("variable", "model", GIB // 2))
        assert causes(EVENT, SNAPSHOT, "unnamed", allocator=self.SMALLER, others=(JAX,), holdings=rows) == []
        (cause,) = causes(EVENT, SNAPSHOT, "unnamed", allocator=self.SMALLER, others=(CUPY, JAX), holdings=rows)
        assert cause.size == GIB // 4

    def test_a_framework_has_its_own_pool_to_take_from(self) -> None:
        event = replace(EVENT, framework="jax")
        assert free_for(event, replace(SNAPSHOT, allocator=JAX)) == 3 * GIB  # of 4, whatever the driver has
        assert free_for(EVENT, replace(SNAPSHOT, others=(JAX,))) == GIB  # PyTorch has what the driver has

    def test_emptying_pytorchs_cache_is_not_what_others_try(self) -> None:
        for event in (EVENT, HOST_EVENT):
            found = diagnose(replace(event, framework="jax"), replace(SNAPSHOT, allocator=JAX))
            assert "empty_cache" not in {end.kind for end in found.dead_ends}


def test_a_piece_that_is_large_enough_is_no_fragmentation() -> None:
    event = replace(EVENT, framework="jax")
    pool = replace(JAX, reserved=5 * GIB, largest_free_block=4 * GIB)
    assert causes(event, SNAPSHOT, "fragmentation", allocator=pool) == []
    (cause,) = causes(event, SNAPSHOT, "fragmentation", allocator=replace(pool, largest_free_block=GIB))
    assert cause.largest == GIB


def test_what_one_framework_does_not_tell_is_unknown_of_all() -> None:
    snapshot = replace(SNAPSHOT, others=(replace(CUPY, reserved=None),))
    assert (snapshot.allocated, snapshot.reserved, snapshot.cached) == (5 * GIB + GIB // 4, None, None)


def test_pinned_memory_is_the_hosts() -> None:
    snapshot = replace(NOTHING, host=replace(HOST, pinned=3 * GIB))
    assert Cause(kind="pinned", size=3 * GIB) in diagnose(HOST_EVENT, snapshot).causes
    assert "pinned" not in {cause.kind for cause in diagnose(EVENT, snapshot).causes}
    assert "pinned" not in {cause.kind for cause in diagnose(HOST_EVENT, replace(NOTHING, host=HOST)).causes}


class TestFree:
    @pytest.mark.parametrize(
        ("event", "changes", "expected"),
        [
            ({}, {}, GIB),
            ({"free": 5 * MIB}, {}, GIB),  # the driver's figure is exact
            ({"free": 5 * MIB}, {"device": None}, 5 * MIB),
            ({"free": 0}, {"device": None}, 0),
            ({}, {"device": None}, None),
            ({}, {"device": replace(DEVICE, free=None)}, None),
            ({"limit": 6 * GIB, "reserved": 5 * GIB + GIB // 2}, {}, GIB // 2),
            ({"limit": 6 * GIB}, {}, GIB // 2),  # the allocator's own figure
            ({"limit": 6 * GIB}, {"allocator": None}, GIB),
            ({}, {"allocator": replace(ALLOCATOR, limit=5 * GIB)}, 0),
            ({}, {"allocator": replace(ALLOCATOR, limit=6 * GIB), "device": None}, GIB // 2),
            ({"free": MIB}, {"allocator": replace(ALLOCATOR, limit=6 * GIB)}, GIB // 2),
            ({"reserved": 0}, {"allocator": replace(ALLOCATOR, limit=6 * GIB)}, GIB // 2),
            ({"reserved": 0}, {"allocator": replace(ALLOCATOR, limit=GIB // 4, reserved=None)}, GIB // 4),
        ],
    )
    def test_on_a_gpu(self, event: dict[str, Any], changes: dict[str, Any], expected: int | None) -> None:
        assert free_for(replace(EVENT, **event), replace(SNAPSHOT, **changes)) == expected

    @pytest.mark.parametrize(
        ("host", "expected", "name"),
        [
            (HOST, 32 * GIB, "machine"),
            (replace(HOST, address_space_limit=21 * GIB), GIB, "RLIMIT_AS"),
            (replace(HOST, address_space_limit=19 * GIB), 0, "RLIMIT_AS"),
            (replace(HOST, cgroup_limit=8 * GIB, cgroup_used=6 * GIB), 2 * GIB, "cgroup"),
            (HostMemory(), None, "machine"),
            (HostMemory(available=GIB), GIB, "machine"),
        ],
    )
    def test_on_the_host(self, host: HostMemory, expected: int | None, name: str) -> None:
        assert host_free(host) == expected
        assert tightest(host)[:2] == (name, expected)
        assert free_for(HOST_EVENT, replace(NOTHING, host=host)) == expected

    @pytest.mark.parametrize(
        ("requested", "free", "short"),
        [(2 * GIB, GIB, GIB), (GIB, GIB, 0), (GIB, 2 * GIB, 0), (None, GIB, None), (GIB, None, None)],
    )
    def test_short(self, requested: int | None, free: int | None, short: int | None) -> None:
        found = diagnose(replace(EVENT, requested=requested, free=free), NOTHING)
        assert (found.requested, found.free, found.short) == (requested, free, short)

    def test_capacity(self) -> None:
        assert diagnose(EVENT, SNAPSHOT).capacity == 8 * GIB
        assert diagnose(replace(EVENT, capacity=7 * GIB), SNAPSHOT).capacity == 8 * GIB
        assert diagnose(replace(EVENT, capacity=7 * GIB), NOTHING).capacity == 7 * GIB
        assert diagnose(EVENT, NOTHING).capacity is None
        assert diagnose(HOST_EVENT, SNAPSHOT).capacity == 64 * GIB
        assert (
            diagnose(HOST_EVENT, replace(NOTHING, host=HostMemory(address_space_limit=GIB, virtual=0))).capacity == GIB
        )

    def test_nothing_known_is_nothing_said(self) -> None:
        event = replace(EVENT, requested=None, device=None)
        assert diagnose(event, NOTHING) == Diagnosis(requested=None, free=None, capacity=None, short=None)


class TestRerun:
    def test_what_the_cell_had_taken_and_the_request(self) -> None:
        assert diagnose(EVENT, replace(SNAPSHOT, holdings=held(FAILED))).rerun == 5 * GIB
        assert diagnose(EVENT, SNAPSHOT).rerun == 2 * GIB
        assert diagnose(replace(EVENT, requested=None), replace(SNAPSHOT, holdings=held(FAILED))).rerun is None


class TestDeadEnds:
    @staticmethod
    def of(kind: DeadEndKind, event: OomEvent, **changes: Any) -> DeadEnd | None:
        found = [end for end in diagnose(event, replace(SNAPSHOT, **changes)).dead_ends if end.kind == kind]
        assert len(found) < 2
        return found[0] if found else None

    @pytest.mark.parametrize(
        ("inactive", "free", "frees"),
        [
            (0, GIB, 512 * MIB),  # short by 1 GiB
            (500 * MIB, GIB, 12 * MIB),
            (0, 2 * GIB - 512 * MIB, None),  # it would do
            (0, 2 * GIB, None),  # nothing is short: to empty the cache may help
            (512 * MIB, 2 * GIB, 0),
            (0, None, 512 * MIB),
        ],
    )
    def test_empty_cache(self, inactive: int, free: int | None, frees: int | None) -> None:
        changes: dict[str, Any] = {"allocator": replace(ALLOCATOR, inactive_split=inactive)}
        changes["device"] = replace(DEVICE, free=free)
        found = self.of("empty_cache", EVENT, **changes)
        wanted = None if frees is None else DeadEnd(kind="empty_cache", frees=frees, reason="empty_cache_short")
        assert found == wanted

    def test_empty_cache_where_nobody_can_tell(self) -> None:
        assert self.of("empty_cache", EVENT, allocator=None) is None
        assert self.of("empty_cache", EVENT, allocator=replace(ALLOCATOR, reserved=None)) is None

    def test_empty_cache_on_the_host(self) -> None:
        assert self.of("empty_cache", HOST_EVENT) == DeadEnd(kind="empty_cache", frees=None, reason="empty_cache_host")

    def test_gc_collect(self) -> None:
        wanted = DeadEnd(kind="gc_collect", frees=None, reason="gc_collect_pinned")
        assert self.of("gc_collect", EVENT, holdings=held(FAILED)) == wanted
        assert self.of("gc_collect", EVENT) is None

    @pytest.mark.parametrize(("cycles", "told"), [(GIB // 2, True), (GIB, False)])
    def test_gc_collect_where_only_cycles_keep_enough(self, cycles: int, told: bool) -> None:
        rows = held(FAILED, holding("unreachable", "", cycles))
        assert (self.of("gc_collect", EVENT, holdings=rows) is not None) == told  # short by 1 GiB

    def test_another_library_may_find_room_in_an_emptied_cache(self) -> None:
        event = replace(EVENT, requested=None, format="pt.cublas_alloc")
        assert self.of("empty_cache", event) is None
        full = replace(ALLOCATOR, reserved=ALLOCATOR.allocated)
        assert self.of("empty_cache", event, allocator=full) is not None

    def test_functions_of_torch_only_where_it_is_loaded(self) -> None:
        rows = held(FAILED, holding("variable", "model", GIB, role="pretrained model"))
        for phase in ("train", "infer"):
            event = replace(HOST_EVENT, phase=phase)
            kinds = {end.kind for end in diagnose(event, replace(SNAPSHOT, holdings=rows), torch=False).dead_ends}
            assert not kinds & {"empty_cache", "no_grad", "checkpointing"}

    @pytest.mark.parametrize(
        ("phase", "requested", "pinned", "reason"),
        [
            ("load", 2 * GIB, False, "smaller_batch_loading"),
            ("load", None, True, "smaller_batch_loading"),
            ("train", 2 * GIB + 2, True, "smaller_batch_pinned"),  # half of it is more than 1 GiB
            ("train", 2 * GIB, True, None),
            ("unknown", 4 * GIB, True, None),  # no batch is known of
            ("train", 4 * GIB, False, None),
            ("train", None, True, None),
        ],
    )
    def test_smaller_batch(self, phase: Any, requested: int | None, pinned: bool, reason: str | None) -> None:
        event = replace(EVENT, phase=phase, requested=requested)
        found = self.of("smaller_batch", event, holdings=held(FAILED) if pinned else Holdings())
        assert (found and found.reason) == reason

    def test_smaller_batch_where_free_is_unknown(self) -> None:
        changes: dict[str, Any] = {"holdings": held(FAILED), "device": None}
        assert self.of("smaller_batch", replace(EVENT, requested=4 * GIB), **changes) is None

    @pytest.mark.parametrize(
        ("requested", "pinned", "reason"),
        [
            (9 * GIB, True, "restart_too_large"),
            (9 * GIB, False, "restart_too_large"),
            (2 * GIB, True, "restart_not_needed"),
            (2 * GIB, False, None),
            (None, True, "restart_not_needed"),
        ],
    )
    def test_restart(self, requested: int | None, pinned: bool, reason: str | None) -> None:
        event = replace(EVENT, requested=requested)
        found = self.of("restart_unchanged", event, holdings=held(FAILED) if pinned else Holdings())
        assert (found and found.reason) == reason

    @pytest.mark.parametrize(
        ("message", "cached", "frees"),
        [
            ("try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True", GIB, GIB),
            ("try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True", 2 * GIB, None),  # it is fragmentation
            ("CUDA out of memory.", GIB, None),  # nobody said so
        ],
    )
    def test_expandable_segments(self, message: str, cached: int, frees: int | None) -> None:
        found = self.of("expandable_segments", replace(EVENT, message=message, cached=cached))
        assert (found and found.frees) == frees
        assert self.of("expandable_segments", replace(EVENT, message=message, requested=None)) is None

    def test_checkpointing_where_nothing_is_trained(self) -> None:
        rows = held(holding("variable", "model", GIB, role="pretrained model"))
        for phase, given, kept in (("infer", rows, True), ("infer", Holdings(), False), ("train", rows, False)):
            found = self.of("checkpointing", replace(EVENT, phase=phase), holdings=given)  # type: ignore[arg-type]
            assert (found is not None) == kept

    def test_no_grad_while_training(self) -> None:
        assert [bool(self.of("no_grad", replace(EVENT, phase=one))) for one in get_args(Phase)] == [
            one == "train" for one in get_args(Phase)
        ]

    def test_no_more_than_five(self) -> None:
        event = replace(EVENT, phase="train", requested=4 * GIB, message="expandable_segments:True", cached=GIB)
        found = diagnose(event, replace(SNAPSHOT, holdings=held(FAILED))).dead_ends
        assert [end.kind for end in found] == [
            "empty_cache",
            "gc_collect",
            "smaller_batch",
            "restart_unchanged",
            "expandable_segments",
        ]


class TestSegments:
    @staticmethod
    def parts(snapshot: MemorySnapshot, backend: str, requested: int | None = None) -> dict[str, int | None]:
        found = segments(snapshot, backend, requested)
        assert len({part.kind for part in found}) == len(found)
        return {part.kind: part.size for part in found}

    def test_a_gpu_with_an_allocator(self) -> None:
        assert self.parts(SNAPSHOT, "cuda") == {
            "allocated": 5 * GIB,
            "cached": 512 * MIB,
            "rest": 512 * MIB,
            "other": GIB,
            "free": GIB,
        }

    def test_known_parts_add_up_to_what_is_used_and_free(self) -> None:
        parts = segments(SNAPSHOT, "cuda")
        assert sum(part.size or 0 for part in parts) == 7 * GIB + GIB

    def test_a_gpu_whose_driver_does_not_say_which_share_is_ours(self) -> None:
        for processes in (None, (), (ProcessMemory(pid=1, used=6 * GIB), ProcessMemory(pid=2, used=6 * GIB))):
            device = replace(DEVICE, processes=processes)
            assert self.parts(replace(SNAPSHOT, device=device), "cuda") == {
                "allocated": 5 * GIB,
                "cached": 512 * MIB,
                "elsewhere": 7 * GIB - 5 * GIB - 512 * MIB,
                "free": GIB,
            }

    def test_a_gpu_without_an_allocator(self) -> None:
        assert self.parts(replace(SNAPSHOT, allocator=None), "cuda") == {
            "allocated": None,
            "cached": None,
            "process": 6 * GIB,
            "other": GIB,
            "free": GIB,
        }

    def test_an_allocator_without_a_driver(self) -> None:
        assert self.parts(replace(SNAPSHOT, device=None), "cuda") == {
            "allocated": 5 * GIB,
            "cached": 512 * MIB,
            "elsewhere": None,
            "free": None,
        }

    def test_nothing(self) -> None:
        assert set(self.parts(NOTHING, "cuda").values()) == {None}
        assert set(self.parts(NOTHING, "host").values()) == {None}

    def test_figures_that_do_not_agree_are_never_negative(self) -> None:
        """They are read one after the other: memory may have moved meanwhile."""
        device = replace(DEVICE, used=4 * GIB, processes=(replace(US, used=5 * GIB),))
        parts = self.parts(replace(SNAPSHOT, device=device), "cuda")
        assert (parts["rest"], parts["other"]) == (0, 0)

    def test_the_host(self) -> None:
        assert self.parts(SNAPSHOT, "host") == {"process": 4 * GIB, "other": 28 * GIB, "free": 32 * GIB}

    def test_the_host_under_rlimit_as(self) -> None:
        host = replace(HOST, address_space_limit=21 * GIB)
        assert self.parts(replace(NOTHING, host=host), "host") == {"mapped": 20 * GIB, "free": GIB}

    def test_the_host_in_a_cgroup(self) -> None:
        host = replace(HOST, cgroup_limit=8 * GIB, cgroup_used=6 * GIB)
        assert self.parts(replace(NOTHING, host=host), "host") == {
            "process": 4 * GIB,
            "other": 2 * GIB,
            "free": 2 * GIB,
        }

    @pytest.mark.parametrize(("requested", "short"), [(None, None), (GIB, None), (GIB + 1, 1), (3 * GIB, 2 * GIB)])
    def test_what_is_missing_is_a_part_of_its_own(self, requested: int | None, short: int | None) -> None:
        parts = self.parts(SNAPSHOT, "cuda", requested)
        assert parts.get("short") == short
        assert ("short" in parts) == (short is not None)
        assert list(parts)[-1] == ("free" if short is None else "short")

    def test_nothing_is_missing_where_free_is_unknown(self) -> None:
        assert "short" not in self.parts(NOTHING, "cuda", GIB)


# -- what is not said, and what fails ---------------------------------------------------------------------------------


def test_pieces_are_no_cause_where_as_much_is_free_beside_them() -> None:
    event = replace(EVENT, requested=2 * MIB, cached=4 * GIB, free=28 * GIB)
    assert causes(event, SNAPSHOT, "fragmentation") == []
    assert causes(event, SNAPSHOT, "fragmentation", device=replace(DEVICE, free=MIB))
    said = replace(event, message="try setting expandable_segments:True")
    assert "expandable_segments" not in {end.kind for end in diagnose(said, SNAPSHOT).dead_ends}


def test_the_cache_of_a_framework_that_is_not_loaded_is_no_dead_end() -> None:
    assert "empty_cache" in {end.kind for end in diagnose(HOST_EVENT, SNAPSHOT).dead_ends}
    assert "empty_cache" not in {end.kind for end in diagnose(HOST_EVENT, SNAPSHOT, torch=False).dead_ends}


def test_of_another_process_only_what_its_text_tells() -> None:
    event = replace(EVENT, remote="ray", requested=2 * GIB, free=MIB, processes=(ProcessMemory(pid=9, used=GIB),))
    found = diagnose(event, replace(SNAPSHOT, holdings=held(FAILED)))
    assert found == Diagnosis(requested=2 * GIB, free=MIB, capacity=None, short=2 * GIB - MIB)
    unknown = diagnose(replace(HOST_EVENT, remote="dask"), SNAPSHOT)
    assert (unknown.free, unknown.short, unknown.causes, unknown.dead_ends) == (None, None, (), ())


def test_a_part_that_fails_costs_only_itself() -> None:
    whole = diagnose(EVENT, replace(SNAPSHOT, holdings=held(FAILED)))
    problems: list[Exception] = []
    broken = replace(SNAPSHOT, holdings=held(FAILED), others=(None,))  # type: ignore[arg-type]
    found = diagnose(EVENT, broken, failed=problems.append)
    assert problems
    assert {type(problem) for problem in problems} == {AttributeError}
    assert [one for one in found.causes if one.kind == "failed_cell"] == [
        one for one in whole.causes if one.kind == "failed_cell"
    ]
    assert (found.requested, found.free, found.rerun) == (whole.requested, whole.free, whole.rerun)
    assert found.dead_ends == whole.dead_ends


def test_a_process_with_more_than_the_device_has_is_none() -> None:
    rows = (ProcessMemory(pid=1, used=9 * GIB), ProcessMemory(pid=7, used=GIB), ProcessMemory(pid=8))
    event = replace(EVENT, capacity=8 * GIB, processes=rows)
    (cause,) = causes(event, NOTHING, "other_process")
    assert (cause.pids, cause.size) == ((7, 8), None)


@pytest.mark.parametrize(
    ("free", "told", "found"),
    [(28 * GIB, 28 * GIB, True), (28 * GIB, GIB, False), (GIB, 28 * GIB, False), (28 * GIB, None, True)],
)
def test_more_was_free_than_was_asked_for(free: int, told: int | None, found: bool) -> None:
    event = replace(EVENT, requested=2 * GIB, free=told)
    snapshot = replace(SNAPSHOT, device=replace(DEVICE, capacity=40 * GIB, free=free))
    assert bool(causes(event, snapshot, "not_short")) == found
    assert causes(event, snapshot, "fragmentation") == []
    assert causes(replace(event, backend="host"), snapshot, "not_short") == []
    rounded = replace(event, requested=free, free=None)  # "Tried to allocate 28.00 GiB. 28.00 GiB is free"
    assert causes(rounded, snapshot, "not_short") == []


def test_what_may_be_no_lack_of_memory_is_not_certain() -> None:
    assert diagnose(EVENT, SNAPSHOT).certain
    assert not diagnose(replace(EVENT, certainty="probable"), SNAPSHOT).certain
