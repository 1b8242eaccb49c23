"""A case made by hand in which there is everything to show, and every name that comes from outside is hostile."""

from __future__ import annotations

import functools
from dataclasses import replace

from nb_oomhelper.case import Case
from nb_oomhelper.diagnosis.diagnose import diagnose
from nb_oomhelper.knowledge.catalog import Catalog, load_catalog
from nb_oomhelper.loading.reload import study
from nb_oomhelper.records.event import FailedCall, OomEvent
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.memory import (
    AllocatorMemory,
    DeviceMemory,
    DriverReading,
    HostMemory,
    Measure,
    MemorySnapshot,
    ProcessMemory,
)
from nb_oomhelper.records.note import note
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.remedies.planning import plan

MIB, GIB = 1 << 20, 1 << 30

SCRIPT = "<script>alert(1)</script>"
STARS = "***bold***"
TICKS = "`code`"
QUOTES = "\"quoted\" 'and' & more"
HOSTILE = (SCRIPT, STARS, TICKS, QUOTES)

EVENT = OomEvent(
    framework="pytorch",
    backend="cuda",
    device=0,
    exception_type="torch.OutOfMemoryError",
    message="CUDA out of memory.",
    format="pt.cuda.capacity",
    requested=2 * GIB,
    phase="load",
    function=SCRIPT,
    line=12,
    call=FailedCall(
        loader="AutoModel.from_pretrained",
        module="transformers",
        model=repr(SCRIPT + STARS + TICKS),
        target="llm",
        row="transformers",
        statement=f"llm = AutoModel.from_pretrained({SCRIPT + STARS + TICKS!r})",
        position=(1, 6),
        value=SCRIPT + STARS + TICKS,
    ),
)
DEVICE = DeviceMemory(
    nvml_index=0,
    uuid="GPU-1",
    device=0,
    name=f"NVIDIA {SCRIPT}",
    capacity=8 * GIB,
    used=7 * GIB,
    free=GIB,
    processes=(
        ProcessMemory(pid=10, used=6 * GIB - 4 * MIB, is_self=True, name="python"),
        ProcessMemory(pid=4711, used=GIB, name=f"python{TICKS}", detail=f"{SCRIPT}.ipynb"),
        ProcessMemory(pid=4712, used=4 * MIB),
    ),
    note=note("nvml.unread", what=note("nvml.name"), reason=SCRIPT),
)
ROWS = (
    Holding(kind="failed_cell", name="batch, outputs", backend="cuda", own=2 * GIB, function=SCRIPT, line=12),
    Holding(kind="variable", name=STARS, backend="cuda", own=GIB, role="tensor"),
    Holding(kind="variable", name=TICKS, backend="cuda", own=GIB // 2, role="pretrained model"),
    Holding(kind="output_history", name="Out[3]", backend="cuda", own=GIB // 4),
    Holding(kind="variable", name=SCRIPT, backend="cuda", own=GIB // 8, role="other"),
    Holding(kind="variable", name=QUOTES, backend="cuda"),
)
HOLDINGS = Holdings(
    rows=ROWS,
    shares=(*(((index,), row.own) for index, row in enumerate(ROWS[:5])), ((4, 5), GIB // 16)),
    complete=False,
    searched=6,
    total=9,
    seconds=0.31,
)
SNAPSHOT = MemorySnapshot(
    taken_at=0.0,
    driver=DriverReading(devices=(DEVICE,), note=note("nvml.unknown", reason=TICKS)),
    host=HostMemory(capacity=64 * GIB, available=32 * GIB, this_process=4 * GIB),
    device=DEVICE,
    allocator=AllocatorMemory(
        framework="pytorch",
        backend="cuda",
        device=0,
        allocated=5 * GIB,
        reserved=5 * GIB + GIB // 2,
        inactive_split=0,
        limit=7 * GIB,
    ),
    holdings=HOLDINGS,
)
BEFORE = Measure(backend="cuda", device_used=7 * GIB, allocated=5 * GIB, reserved=5 * GIB, free=GIB)
OUTCOMES = (
    Outcome(
        fix="release-failed-cell",
        before=BEFORE,
        after=replace(BEFORE, device_used=5 * GIB, allocated=3 * GIB, free=3 * GIB),
        freed=2 * GIB,
        requested=2 * GIB,
        fits=True,
        whole_cell_fits=False,
        seconds=0.25,
        predicted=2 * GIB,
    ),
    Outcome(
        fix="delete-variable",
        subject=STARS,
        before=BEFORE,
        after=BEFORE,
        freed=None,
        requested=2 * GIB,
        fits=False,
        error=f"NameError: {SCRIPT} {STARS} {TICKS}",
    ),
)


@functools.cache
def catalog() -> Catalog:
    """What is packaged, with a file of the user's that was left out."""
    return replace(load_catalog(), problems=(f"entries/{SCRIPT}.toml: code: is missing {TICKS}",))


def rich_case(event: OomEvent = EVENT, snapshot: MemorySnapshot = SNAPSHOT) -> Case:
    """Everything at once; `Case.match` is the packaged entry."""
    known, diagnosis = catalog(), diagnose(event, snapshot)
    return Case(
        event=event,
        snapshot=snapshot,
        diagnosis=diagnosis,
        choice=known.choose(event, diagnosis),
        plans=plan(known, event, snapshot, diagnosis, study(event, snapshot, frozenset({"llm"}))),
        cell="train_step()",
        rates={"release-failed-cell": (2, 3), "reload-offload": (0, 1)},
        outcomes=list(OUTCOMES),
        earlier=OUTCOMES[:1],
    )
