"""The failed load, written anew: for each fix about a call the user's own statement, and where its bytes would go."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.knowledge.fix import Fix
from nb_oomhelper.knowledge.render import render
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.loading.checkpoint import FLOATING, Checkpoint, TensorSize, measure
from nb_oomhelper.loading.disk import OFFLOAD_PREFIX, mapped_files, scratch
from nb_oomhelper.loading.loaders import Loader, load_rows, missing
from nb_oomhelper.loading.placement import MemoryBudget, converts, estimate_placement, half_of, needed
from nb_oomhelper.loading.statement import argument, asked_dtype, blank_call, literal, names_bound, restate, uses_itself
from nb_oomhelper.memory.room import device_free, host_free, tightest
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.event import FailedCall, OomEvent
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.records.note import note
from nb_oomhelper.records.remedy import FixPlan, Placement

DEADLINE = 0.2  # seconds to read a checkpoint's headers while a panel is made
_ONE_DEVICE = re.compile(r"(?:cuda|hip|xpu|cpu)(?::\d+)?")
_FOLDER = f'tempfile.mkdtemp(prefix="{OFFLOAD_PREFIX}"{{at}})'


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A load that is to be written anew.

    Attributes:
        call: The user's call, or a blank one.
        row: Its loader.
        checkpoint: Its model's size.
        dtype: What it asks for, as `placement.estimate_placement` wants it.
        room: What there is once the failed cell is released.
        bound: Whether its target's name stands for something now.
        forgets: Whether that goes before the load: the statement does not need it.
        gone: The holders that a release and that lets go: indexes of rows of the snapshot's holdings.
        old: Bytes of the room that only come back with what the name stands for now.
        names: The user's variables.
    """

    call: FailedCall
    row: Loader
    checkpoint: Checkpoint
    dtype: str | None
    room: MemoryBudget
    bound: bool
    forgets: bool
    gone: frozenset[int]
    old: int
    names: frozenset[str]


def study(
    event: OomEvent,
    snapshot: MemorySnapshot,
    names: frozenset[str],
    loaded: Callable[[str], Sequence[tuple[str, int]]] = lambda _: (),
) -> Load | None:
    """Read what is to be known of a failed load; None where no load failed.

    Args:
        event: What failed.
        snapshot: Memory then, with its holders.
        names: The user's variables.
        loaded: Gives bytes by dtype of what a variable keeps, for a model that is moved as a whole.
    """
    if event.call is None and event.phase != "load":
        return None
    row = load_rows().row(event.call.row if event.call else "transformers")
    if row is None:
        return None
    call = event.call or replace(blank_call(row), obstacle="no_source")
    checkpoint = moved(call, loaded) if row.in_place else measured(call, DEADLINE)
    dtype = asked_dtype(call, row)
    bound = call.target in names
    forgets = bound and not row.in_place and not uses_itself(call)
    held = snapshot.holdings
    gone = held.of_failures()
    if call.target and (forgets or row.in_place):  # what is moved is part of what is to be moved
        gone |= held.named(call.target)
    room = room_for(snapshot, event.backend, event.device, gone)
    if event.backend == "host" and room.host is not None:
        mapped = mapped_again(snapshot, gone, checkpoint, converts(checkpoint, dtype)) if room.maps else 0
        room = replace(room, host=room.host + mapped, free=room.host + mapped)
    return Load(
        call=call,
        row=row,
        checkpoint=checkpoint,
        dtype=dtype,
        room=room,
        bound=bound,
        forgets=forgets,
        gone=gone,
        old=held.freed_by(gone) - held.freed_by(held.of_failures()) if forgets else 0,
        names=names,
    )


def estimate_whole(diagnosis: Diagnosis, load: Load) -> Diagnosis:
    """Add what the load as it was asked for takes in all: its last request is only a small part.

    Args:
        diagnosis: The diagnosis of that last request.
        load: The load.

    Returns:
        The diagnosis; unchanged where that is not known, or the call itself spreads the model.
    """
    whole, rerun = needed(load.checkpoint, load.dtype, load.room), diagnosis.rerun
    if whole is None or _spreads(load.call):
        return diagnosis
    free = load.room.free if load.room.whole else None
    room = None if free is None else max(0, free - load.old)
    # of a part that was moved already, and of files that stay mapped, less than all is needed again
    all_again = load.room.backend != "host" and not load.row.in_place
    if rerun is not None and (all_again or (room is not None and whole > room)):
        rerun = max(rerun, whole)
    return replace(diagnosis, rerun=rerun, load=whole, room=room)


def _spreads(call: FailedCall) -> bool:
    """Whether a call says itself that its model goes to several places; one that cannot be read may."""
    placed = argument(call, ("device_map",))
    alone = placed is None or placed == "None" or placed.isdigit() or _ONE_DEVICE.fullmatch(literal(placed) or "")
    return not alone or argument(call, ("max_memory",)) is not None


def mapped_again(snapshot: MemorySnapshot, gone: frozenset[int], checkpoint: Checkpoint, converted: bool) -> int:
    """Estimate the bytes of address space that come back of a checkpoint's files, beside the tensors that were found.

    Args:
        snapshot: Memory now, with its holders.
        gone: The holders that are released: indexes of rows of the snapshot's holdings.
        checkpoint: The model's, with the folder of its files.
        converted: Whether the load made new tensors; others are the mapped files themselves, and were counted already.
    """
    if checkpoint.folder is None:
        return 0
    held, mapped = snapshot.holdings, mapped_files(checkpoint.folder)
    counted = held.freed_by(gone)
    if converted:  # those of the failed cell lie elsewhere
        counted -= held.freed_by(held.of_failures() & gone)
    return max(0, mapped - counted)


def moved(call: FailedCall, loaded: Callable[[str], Sequence[tuple[str, int]]]) -> Checkpoint:
    """Measure a model that is there already: `model.to("cuda")`.

    Args:
        call: The method's call.
        loaded: Gives bytes by dtype of what a variable keeps.
    """
    name = call.loader.rpartition(".")[0]
    dtypes = tuple(loaded(name)) if name.isidentifier() else ()
    if not dtypes:
        return Checkpoint(source=name, how="unknown", note=note("checkpoint.not_measured"))
    tensors = tuple(
        TensorSize(name="", dtype=dtype, shape=(size * 8 // FLOATING.get(dtype, 8),), size=size)
        for dtype, size in dtypes
    )
    size = sum(size for _, size in dtypes)
    return Checkpoint(source=name, how="memory", tensors=tensors, size=size, dtypes=dtypes)


def measured(call: FailedCall, seconds: float) -> Checkpoint:
    """Measure a call's model, with the words of the call that say which files of it are meant.

    Args:
        call: The load.
        seconds: After so many no further file is begun.
    """
    if call.value is None:
        return Checkpoint(source="", how="unknown", note=note("checkpoint.not_literal"))
    cache_dir, revision, variant, subfolder = (
        literal(argument(call, (name,))) for name in ("cache_dir", "revision", "variant", "subfolder")
    )
    return measure(
        call.value, cache_dir=cache_dir, revision=revision, variant=variant, subfolder=subfolder or "", deadline=seconds
    )


def room_for(
    snapshot: MemorySnapshot, backend: str, device: int | None, gone: frozenset[int] = frozenset()
) -> MemoryBudget:
    """Tell what a load may take, once some holders are gone.

    Args:
        snapshot: Memory now, with its holders.
        backend, device: Where the model is to go: "cuda" and an ordinal, or "host" and None.
        gone: Those holders: indexes of rows of the snapshot's holdings.
    """
    held = snapshot.holdings
    back = held.freed_by(gone)
    on_host = backend == "host"
    host = host_free(snapshot.host)
    if host is not None and on_host:
        host += back
    unsure = not on_host and back > 0 and snapshot.mixed  # nobody knows whose those bytes are
    folder, disk = scratch()
    return MemoryBudget(
        backend=backend,
        device=None if on_host else (device or 0),
        free=host if on_host else device_free(snapshot, 0 if unsure else back),
        others=() if on_host else _others(snapshot, device),
        host=host,
        maps=tightest(snapshot.host)[0] == "RLIMIT_AS",
        disk=disk,
        folder=folder,
        whole=held.searched == held.total and not unsure,
    )


def _others(snapshot: MemorySnapshot, device: int | None) -> tuple[tuple[int, int], ...]:
    own = snapshot.device.device if snapshot.device else (device or 0)
    found = [
        (row.device, row.free)
        for row in snapshot.driver.devices
        if row.device is not None and row.free is not None and row.device != own
    ]
    return tuple(sorted(found, key=lambda pair: -pair[1]))


def plan_reload(fix: Fix, load: Load) -> FixPlan | None:
    """Make one fix about the failed call ready.

    Args:
        fix: The fix, whose subject is "call".
        load: The load that failed.

    Returns:
        None where its options make no sense here or do not fit. What cannot be run is shown all the same, with a
        blank call of the same loader and the reason.
    """
    options = [found for name in fix.options if (found := load.row.option(name)) is not None]
    placement = estimate_placement(fix.options, load.checkpoint, load.dtype, load.room)
    if len(options) < len(fix.options) or placement is None:
        return None
    if placement.fits is False:
        if load.room.whole:
            return None
        placement = replace(placement, fits=None)  # more may come back than was found in time
    imports, written, obstacle = restate(load.row, load.call, options, _fields(load, placement))
    absent = [name for option in options for name in missing(option, installed_version)]
    if absent:
        imports = [f"# pip install {' '.join(dict.fromkeys(absent))}", *imports]
    binds = fix.does.binds | names_bound(imports)
    if obstacle is None and binds & load.names:
        obstacle = "shadowed"
    fields = {"imports": "\n".join(imports), "statement": written}
    forget = {"forget": f"{load.call.target} = None"} if obstacle is None else {}
    replaces = not load.row.in_place and not uses_itself(load.call)  # it has no use for what its name stands for
    try:
        code = render(fix, fields | (forget if load.forgets else {}), installed_version)
        once_loaded = render(fix, fields | (forget if replaces else {}), installed_version)
    except OomHelperError:
        return None
    if placement.gpu is placement.host is None:
        placement = replace(placement, why=load.checkpoint.note)
    plan = FixPlan(
        number=0,
        fix=fix.id,
        code=code,
        applicability="unsafe" if load.bound else "safe",
        fits=placement.fits,
        subject=load.call.target or "model",
        targets=(load.call.target,) if load.call.target else (),
        released_holders=load.gone,
        releases=fix.does.releases,
        binds=binds,
        loads=True,
        once_loaded=once_loaded,
        makes_folder=any("folder" in option.fields for option in options),
        placement=placement,
        before=load.call.statement or "",
        after=written,
        obstacle=obstacle or ("not_installed" if absent else ""),
    )
    return replace(plan, applicability="display_only", before="") if plan.obstacle else plan


def after_load(plan: FixPlan, chosen: FixPlan) -> FixPlan:
    """Give a plan as it is once another one has loaded: its name stands for what was loaded, which it would lose.

    Args:
        plan: Any plan of the panel.
        chosen: The one that has run.
    """
    if plan.subject != chosen.subject or plan.number == chosen.number or plan.applicability == "display_only":
        return plan
    if not plan.loads:  # it deletes, say: what that would free now, nobody has searched
        return replace(plan, predicted=None, fits=None, whole_cell_fits=None, released_holders=frozenset())
    return replace(plan, applicability="unsafe", code=plan.once_loaded)


def _fields(load: Load, placement: Placement) -> dict[str, str]:
    """What the options' blanks are filled in with."""
    folder = load.room.folder
    at = "" if folder is None or folder == tempfile.gettempdir() else f", dir={folder!r}"
    return {
        "half": f"torch.{half_of(load.checkpoint, load.room.backend)}",
        "device": f"cuda:{placement.device or 0}",
        "max_memory": placement.budget,
        "folder": _FOLDER.format(at=at),
        "context": str(_shorter(load.checkpoint)),
    }


def _shorter(checkpoint: Checkpoint) -> int:
    known = checkpoint.config.context if checkpoint.config else None
    return max(512, known // 4) if known else 4096
