"""The records that travel from the exception to the panel.

They hold numbers and text only: never an exception, a traceback, a frame or a tensor, because whoever
keeps the exception keeps the memory that is meant to come back. Sizes are bytes; None is "unknown".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["load", "train", "infer", "unknown"]
Certainty = Literal["sure", "probable"]
Remote = Literal["ray", "ipyparallel", "dask", "dataloader worker", "process pool", "launcher", "other"]
Applicability = Literal["safe", "unsafe", "display_only"]
CauseKind = Literal[
    "failed_cell",
    "earlier_cell",
    "variable",
    "output_history",
    "graph",
    "copies",
    "gradients",
    "stale_optimizer",
    "module",
    "unnamed",
    "pinned",
    "pool",
    "pool_kept",
    "other_process",
    "too_large",
    "fragmentation",
    "limit",
    "rest",
]
DeadEndKind = Literal[
    "empty_cache",
    "gc_collect",
    "smaller_batch",
    "restart_unchanged",
    "expandable_segments",
    "checkpointing",
    "no_grad",
]
LoadOption = Literal["as_asked", "half", "device", "spread", "offload", "8bit", "4bit", "context", "host"]
StepKind = Literal[
    "frames",
    "elsewhere",
    "exception",
    "results",
    "variable",
    "collect",
    "cuda_cache",
    "cuda_shared",
    "pinned_cache",
    "cupy_pool",
    "cupy_pinned",
    "jax_compiled",
]
HolderKind = Literal[
    "variable", "output_history", "failed_cell", "earlier_cell", "module", "unreachable", "unexplained"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """What one process holds on a device.

    Attributes:
        pid: As the driver counts it: in a container this is the pid on the host.
        used: Bytes on the device; None where the driver does not tell.
        name: The process's name, or None where it cannot be seen from here.
        is_self: True for the process that we run in.
        detail: What tells it from others of that name (a notebook's path, a script), or None.
    """

    pid: int
    used: int | None = None
    name: str | None = None
    is_self: bool = False
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCall:
    """The loader call of the user's that failed, as far as it could be read off the frames.

    Attributes:
        loader: How the user's code names it, e.g. "AutoModelForCausalLM.from_pretrained".
        module: The package that defines it, e.g. "transformers".
        model: The model's name or path as the user's code writes it (an expression), or None.
        target: The variable that the loaded model was to be, or None.
        row: Id of the loader in `knowledge/loaders.toml`.
        statement: The whole statement as the user wrote it, with its comments, not indented; None where not read.
        position: Where the call begins in it: line from 1, and column in UTF-8 bytes, as `ast` counts.
        value: The model's name or path as plain text, or None.
        obstacle: Why the statement cannot be written anew, as a key of its sentence; None where it can.
    """

    loader: str
    module: str
    model: str | None = None
    target: str | None = None
    row: str = ""
    statement: str | None = None
    position: tuple[int, int] | None = None
    value: str | None = None
    obstacle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OomEvent:
    """One out-of-memory error, as its exception tells it.

    Attributes:
        framework: "pytorch", "numpy", …
        backend: Where memory ran out: "cuda" or "host".
        device: The framework's ordinal (after CUDA_VISIBLE_DEVICES), or None.
        requested: Bytes of the allocation that failed.
        capacity, free, allocated, reserved, cached, limit: Bytes, as the message gives them.
        processes: Other processes that the message names, with their bytes.
        exception_type: Class name as a traceback prints it, without a module of builtins.
        message: The error's text, cut to 4,000 characters.
        phase: What was going on, read off the traceback's function names.
        certainty: "probable" where the same text also has causes that are not a lack of memory.
        format: Id of the message format that matched, e.g. "pt.cuda.capacity".
        function: Name of the innermost function of the user's that was running, or None.
        line: Line number in it, or None.
        call: The loader call that failed, or None.
        remote: What kind of process ran out, where it was not this one: "ray", "ipyparallel", "dask", "dataloader
            worker", "process pool", "launcher" or "other"; None for this process.
    """

    framework: str
    backend: str
    exception_type: str
    message: str
    format: str
    device: int | None = None
    requested: int | None = None
    capacity: int | None = None
    free: int | None = None
    allocated: int | None = None
    reserved: int | None = None
    cached: int | None = None
    limit: int | None = None
    processes: tuple[ProcessMemory, ...] = ()
    phase: Phase = "unknown"
    certainty: Certainty = "sure"
    function: str | None = None
    line: int | None = None
    call: FailedCall | None = None
    remote: Remote | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """One GPU as the driver sees it.

    Attributes:
        nvml_index: The driver's number.
        uuid: "GPU-…" or "MIG-…".
        device: The ordinal that frameworks in this process use for it; None where it is hidden from
            them or cannot be told.
        name: As the driver prints it.
        capacity, used, free: Bytes, all processes counted.
        system_reserved: Bytes that the driver keeps for itself.
        processes: One row a process; None where the driver does not tell.
        note: One line on what could not be read, or None.
    """

    nvml_index: int
    uuid: str | None = None
    device: int | None = None
    name: str | None = None
    capacity: int | None = None
    used: int | None = None
    free: int | None = None
    system_reserved: int | None = None
    processes: tuple[ProcessMemory, ...] | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverReading:
    """All GPUs at one moment.

    Attributes:
        devices: In the driver's order; empty where there is no driver.
        note: One line on why there is nothing to show, or None.
    """

    devices: tuple[DeviceMemory, ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """The machine's own memory.

    Attributes:
        capacity, available: Bytes of the machine.
        this_process: Resident bytes of this process.
        virtual: Bytes of address space that this process has mapped.
        address_space_limit: RLIMIT_AS in bytes; None where it is not set.
        data: Bytes that count against RLIMIT_DATA: private memory that can be written to.
        data_limit: RLIMIT_DATA in bytes; None where it is not set.
        cgroup_limit, cgroup_used: The container's limit and use in bytes; None where there is none.
        pinned: Bytes that a framework keeps pinned for copies to a GPU; None where there is none.
    """

    capacity: int | None = None
    available: int | None = None
    this_process: int | None = None
    virtual: int | None = None
    address_space_limit: int | None = None
    data: int | None = None
    data_limit: int | None = None
    cgroup_limit: int | None = None
    cgroup_used: int | None = None
    pinned: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorMemory:
    """A framework's allocator on one device, in this process.

    Attributes:
        framework, backend, device: Whose allocator, and on which of its devices.
        allocated: Bytes in live tensors.
        reserved: Bytes held from the driver.
        inactive_split: Cached bytes in pieces of a larger block that is still in use: not releasable.
        peak_allocated: The most that was allocated since the process began or the peak was reset.
        limit: Bytes that this process may reserve, where there is such a limit; else None.
        largest_free_block: The largest cached block in bytes; None where it was not read.
        uuid: The device's uuid as the framework knows it, "GPU-…", or None.
        keeps: Whether it never gives memory back to the driver while the process lives, as JAX's does.
    """

    framework: str
    backend: str
    device: int | None = None
    allocated: int | None = None
    reserved: int | None = None
    inactive_split: int | None = None
    peak_allocated: int | None = None
    limit: int | None = None
    largest_free_block: int | None = None
    uuid: str | None = None
    keeps: bool = False

    @property
    def cached(self) -> int | None:
        """Reserved bytes that no live tensor uses."""
        if self.reserved is None or self.allocated is None:
            return None
        return max(0, self.reserved - self.allocated)

    @property
    def releasable(self) -> int | None:
        """Cached bytes that emptying the cache gives back to the driver; None where pieces in use are not told."""
        if not self.cached:
            return self.cached
        if self.keeps:
            return 0
        if self.allocated == 0:
            return self.cached
        return None if self.inactive_split is None else max(0, self.cached - self.inactive_split)

    @property
    def releasable_at_most(self) -> int | None:
        """The same where it is told, and else all that is cached."""
        return self.cached if self.releasable is None else self.releasable

    @property
    def reusable(self) -> int | None:
        """Cached bytes that the framework's own next request can have."""
        return self.cached if self.keeps else self.releasable


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Something with a name that keeps memory of one backend and device.

    Attributes:
        name: As the user would write it: "model", "Out[12]"; for a failed cell the local names.
        kind: Which sort of holder it is.
        backend, device: Where the bytes lie.
        own: Bytes that only this holder keeps: they come back if it goes.
        shared: Bytes that other holders keep as well.
        count: Number of storages.
        parts: Bytes by what they are for, largest first: "parameters", "gradients", "buffers",
            "optimizer state", "graph" (only an autograd graph leads there), "tensors".
        shapes: The largest tensors and arrays, "float32 (8000, 8000)", at most three.
        dtypes: Bytes by dtype, largest first; of tensors and arrays from 1 MiB on.
        type_name: Class name of the object, or None for a group.
        role: "model", "pretrained model", "optimizer", "tensor", "array" or "other".
        path: For a variable: where below it most of that lies, as the user would write it,
            "losses[…]", "trainer.optimizer"; "" where that is the variable itself.
        function, line: For failed cells: where the names live.
    """

    name: str
    kind: HolderKind
    backend: str
    device: int | None = None
    own: int = 0
    shared: int = 0
    count: int = 0
    parts: tuple[tuple[str, int], ...] = ()
    shapes: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, int], ...] = ()
    type_name: str | None = None
    role: str = "other"
    path: str = ""
    function: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """All holders found on one backend and device, and how much of the search was done.

    Attributes:
        rows: Largest `own` first.
        shares: One row for each set of holders that keep storages together: the indexes of these
            holders in `rows`, ascending, and the bytes that exactly they keep.
        complete: False where the deadline ended the search; then bytes may be kept by more holders
            than are named here.
        searched, total: How many holders were searched through, of how many.
        everywhere: False where time was up before modules and all living tensors were looked at.
        seconds: How long the search took.
    """

    rows: tuple[Holding, ...] = ()
    shares: tuple[tuple[tuple[int, ...], int], ...] = ()
    complete: bool = True
    searched: int = 0
    total: int = 0
    seconds: float = 0.0
    everywhere: bool = True

    def of_kind(self, *kinds: HolderKind) -> frozenset[int]:
        """Indexes of the rows of these kinds."""
        return frozenset(index for index, row in enumerate(self.rows) if row.kind in kinds)

    def of_failures(self) -> frozenset[int]:
        """What every release lets go of: the failed cell, and cells that failed before and were not released."""
        return self.of_kind("failed_cell", "earlier_cell")

    def named(self, name: str) -> frozenset[int]:
        """Index of the variable of that name."""
        return frozenset(index for index in self.of_kind("variable") if self.rows[index].name == name)

    def freed_by(self, gone: frozenset[int]) -> int:
        """Bytes that come back if all these holders go: what they keep alone or among themselves."""
        return sum(size for holders, size in self.shares if gone.issuperset(holders))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySnapshot:
    """Memory at one moment: the driver's, the framework's and the host's view of it.

    Attributes:
        taken_at: Seconds since the epoch.
        driver: All GPUs.
        device: The GPU that the event is about, or None.
        allocator: The framework's view of that device, or None.
        others: The views of the other frameworks that have started it.
        host: The machine's own memory.
        holdings: Who keeps what.
    """

    taken_at: float
    driver: DriverReading
    host: HostMemory
    device: DeviceMemory | None = None
    allocator: AllocatorMemory | None = None
    others: tuple[AllocatorMemory, ...] = ()
    holdings: Holdings = field(default_factory=Holdings)

    @property
    def allocated(self) -> int | None:
        """Bytes in live tensors and arrays of all frameworks on that device; None where one of them does not tell."""
        return self._sum("allocated")

    @property
    def reserved(self) -> int | None:
        """Bytes that all frameworks hold from the driver."""
        return self._sum("reserved")

    @property
    def cached(self) -> int | None:
        """Reserved bytes that no live tensor or array uses."""
        return self._sum("cached")

    @property
    def releasable(self) -> int | None:
        """Cached bytes that emptying all caches gives back to the driver."""
        return self._sum("releasable")

    @property
    def releasable_at_most(self) -> int | None:
        """The same where all of them tell it, and of the others all that they have cached."""
        return self._sum("releasable_at_most")

    @property
    def mixed(self) -> bool:
        """Whether bytes that come back to one framework need not be there for another: kept, or past a limit."""
        others = [row for row in self.others if row.reserved != 0]
        own = self.allocator
        one_keeps = any(row.keeps for row in (own, *others) if row is not None)
        return bool(others) and (one_keeps or (own is not None and own.limit is not None))

    def _sum(self, figure: str) -> int | None:
        rows = [row for row in (self.allocator, *self.others) if row is not None]
        sizes: list[int | None] = [getattr(row, figure) for row in rows]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part of the memory bar: a kind, and its bytes (None: unknown, and not drawn).

    "rest" is this process beside its allocator, "other" all other processes; where the driver does not
    tell them apart, "elsewhere" is both. "process" is this process on the host, "mapped" its address space.
    """

    kind: Literal["allocated", "cached", "rest", "process", "mapped", "other", "elsewhere", "free", "short"]
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One reason why the request did not fit, with its evidence.

    Attributes:
        kind: Which reason.
        size: Bytes of evidence; None where the reason is sure but its size is not known.
        names: Names of the user's behind it, largest first.
        function, line: Where those names live, for a failed cell.
        role: For a variable: what it is ("model", "tensor", …).
        path: For a variable: where below it most of that lies, or "".
        pid, process: For another process.
        limit: For a limit: its name, e.g. "RLIMIT_AS".
        largest: For fragmentation: bytes of the largest piece; None where it was not read.
    """

    kind: CauseKind
    size: int | None
    names: tuple[str, ...] = ()
    function: str | None = None
    line: int | None = None
    role: str | None = None
    path: str = ""
    pid: int | None = None
    process: str | None = None
    limit: str | None = None
    largest: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadEnd:
    """Something that people try and that would not help here.

    Attributes:
        kind: What they try.
        frees: Bytes it would free here; None where that is not the point.
        reason: Key of the sentence that says why not.
    """

    kind: DeadEndKind
    frees: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Our reading of one event.

    Attributes:
        requested: Bytes of the allocation that failed, or None.
        free: Bytes that could still be had at that moment, or None.
        capacity: Bytes of the device, or of the limit that stands for it.
        short: Bytes missing; None where either side is unknown; 0 where enough was free in sum.
        rerun: Bytes that the same cell needs again, at least: what it had taken, and the request; of a load that
            does not fit, all of it; or None.
        load: Bytes that the load that failed takes in all, as it was asked for; or None.
        room: Bytes that there are for it once the failed cell is released; or None.
        causes: Largest evidence first.
        dead_ends: What would not help.
    """

    requested: int | None
    free: int | None
    capacity: int | None
    short: int | None
    rerun: int | None = None
    load: int | None = None
    room: int | None = None
    causes: tuple[Cause, ...] = ()
    dead_ends: tuple[DeadEnd, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a load puts a model's weights, in bytes; None is unknown.

    Attributes:
        gpu, host, disk: Bytes on the GPU, in host memory, and on disk.
        fits: Whether there is room for all that; None where nobody knows.
        device: The GPU's ordinal, or None.
        dtype: What floats are loaded as: a dtype's name, or "auto" for as they are stored.
        budget: The most that weights may take of each, as the text of accelerate's `max_memory`.
        why: Why the bytes are not known, in one plain line, or None.
    """

    gpu: int | None = None
    host: int | None = None
    disk: int | None = None
    fits: bool | None = None
    device: int | None = None
    dtype: str | None = None
    budget: str = "{}"
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FixPlan:
    """A fix made ready for this notebook.

    Attributes:
        number: Its place in the panel, from 1.
        fix: Id of the fix.
        code: Exactly what runs.
        applicability: "display_only" code is shown and copied, never run.
        predicted: Bytes it would free, at least; None where nobody knows.
        fits: Whether the failed request would fit then; None where nobody knows.
        again: Whether the whole cell, unchanged, would; None where nobody knows.
        subject: The name, pid or model that it is about, or "".
        gone: The holders that it lets go: indexes of rows of the snapshot's holdings.
        releases: It gives back what the failed cell keeps, and the caches of the frameworks.
        loads: It makes the failed request itself: if it runs, that has fitted.
        reruns: It runs the failed cell, changed: if it runs, the whole cell has fitted.
        placement: For a load: where its bytes would go; else None.
        once_loaded: For a load: its code once another one has loaded its name.
        makes_folder: For a load: it makes a temporary folder for weights.
        before, after: For a load: the user's statement, and what runs in its place; "" for what is only shown.
        obstacle: Why it is only shown, as a key of a sentence, or "".
    """

    number: int
    fix: str
    code: str
    applicability: Applicability
    predicted: int | None = None
    fits: bool | None = None
    again: bool | None = None
    subject: str = ""
    gone: frozenset[int] = frozenset()
    releases: bool = False
    loads: bool = False
    reruns: bool = False
    placement: Placement | None = None
    once_loaded: str = ""
    makes_folder: bool = False
    before: str = ""
    after: str = ""
    obstacle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """The figures that an outcome compares, read at one moment.

    Attributes:
        backend: "cuda" or "host".
        device_used: Driver's figure for the device, all processes; None on the host.
        allocated, reserved: The framework's figures in bytes; None on the host.
        resident, virtual: This process's host memory in bytes.
        free: Bytes that an allocation could still get.
    """

    backend: str
    device_used: int | None = None
    allocated: int | None = None
    reserved: int | None = None
    resident: int | None = None
    virtual: int | None = None
    free: int | None = None


def fall(before: int | None, after: int | None) -> int | None:
    """By how many bytes a figure fell; None where either reading is unknown."""
    return None if before is None or after is None else before - after


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of giving memory back, and by how much each figure fell over it; None where it was not read.

    Attributes:
        done: What was done, as a key of its sentence.
        count: Of how many things; None where it is not about several.
        name: The variable it is about, or None.
        error: Class name of the error that stopped it, or None.
        allocated: Bytes off the framework's figure; None on the host.
        device_used: Bytes off the driver's figure; None on the host.
        resident: Bytes off this process's host memory.
    """

    done: StepKind
    count: int | None = None
    name: str | None = None
    error: str | None = None
    allocated: int | None = None
    device_used: int | None = None
    resident: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a fix did, measured.

    Attributes:
        fix: Id of the fix.
        subject: What it was about, or "".
        before, after: The figures around it.
        freed: Bytes by which the event's own figure fell (allocated on a GPU, resident on the host);
            may be negative; None where it could not be read.
        requested: The request that had failed, or None.
        fits: Whether it would fit now; None where nobody knows.
        again: Whether the whole cell, unchanged, would fit now; None where nobody knows.
        error: One line of the error that the code raised, or None.
        seconds: How long it took.
        predicted: What the plan had promised, or None.
        steps: What each step of the release did, in order.
        held: Who still keeps most, by name, with bytes; at most three.
        loaded: The fix has made the failed request itself, and it fitted.
        ran: Whether the failed cell, changed, ran to its end; None where the fix did not run it.
        planned, placed: For a load: where the weights were to go, and where they are.
        folder: For a load: the temporary folder that it has made for weights on disk, or None.
    """

    fix: str
    before: Measure
    after: Measure
    freed: int | None
    requested: int | None = None
    fits: bool | None = None
    again: bool | None = None
    error: str | None = None
    seconds: float = 0.0
    subject: str = ""
    predicted: int | None = None
    steps: tuple[Step, ...] = ()
    held: tuple[tuple[str, int], ...] = ()
    loaded: bool = False
    ran: bool | None = None
    planned: Placement | None = None
    placed: Placement | None = None
    folder: str | None = None
