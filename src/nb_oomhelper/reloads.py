"""The failed load, written anew: for each fix about a call the user's own statement, and where its bytes would go."""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nb_oomhelper import rewrite
from nb_oomhelper.calltext import CallText, UnwritableError
from nb_oomhelper.catalog import Fix, installed_version, render
from nb_oomhelper.checkpoint import FLOATING, Checkpoint, TensorSize, measure
from nb_oomhelper.diagnose import host_free, tightest
from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.host import mapped_files, scratch
from nb_oomhelper.loaders import Loader, Option, load_rows, missing, spell
from nb_oomhelper.loadplan import Room, half_of, weigh
from nb_oomhelper.model import FailedCall, FixPlan, MemorySnapshot, OomEvent, Placement

DEADLINE = 0.2  # seconds to read a checkpoint's headers while a panel is made
# What stands where the user's own call could not be read.
_BLANK = 'model = AutoModelForCausalLM.from_pretrained("your-model")'
_FOLDER = 'tempfile.mkdtemp(prefix="oom-offload-"{at})'


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A load that is to be written anew.

    Attributes:
        call: The user's call, or a blank one.
        row: Its loader.
        checkpoint: Its model's size.
        dtype: What it asks for, as `loadplan.weigh` wants it.
        room: What there is once the failed cell is released.
        bound: Whether its target's name stands for something now.
    """

    call: FailedCall
    row: Loader
    checkpoint: Checkpoint
    dtype: str | None
    room: Room
    bound: bool


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
    call = event.call or replace(_blank("transformers"), obstacle="no_source")
    row = load_rows().row(call.row)
    if row is None:
        return None
    checkpoint = moved(call, loaded) if row.in_place else measured(call, DEADLINE)
    held = snapshot.holdings
    gone = held.of_kind("failed_cell") | (held.named(call.target) if call.target else frozenset())
    return Load(
        call=call,
        row=row,
        checkpoint=checkpoint,
        dtype=asked_dtype(call, row),
        room=room_for(snapshot, event.backend, event.device, gone, checkpoint.folder),
        bound=call.target in names,
    )


def moved(call: FailedCall, loaded: Callable[[str], Sequence[tuple[str, int]]]) -> Checkpoint:
    """The size of a model that is there already: `model.to("cuda")`."""
    name = call.loader.partition(".")[0]
    dtypes = tuple(loaded(name)) if name.isidentifier() else ()
    if not dtypes:
        return Checkpoint(source=name, how="unknown", note="what is moved could not be measured")
    tensors = tuple(
        TensorSize(name="", dtype=dtype, shape=(size * 8 // FLOATING.get(dtype, 8),), size=size)
        for dtype, size in dtypes
    )
    size = sum(size for _, size in dtypes)
    return Checkpoint(source=name, how="memory", tensors=tensors, size=size, dtypes=dtypes)


def measured(call: FailedCall, seconds: float) -> Checkpoint:
    """The size of a call's model, with the words of the call that say which files of it are meant."""
    if call.value is None:
        return Checkpoint(source="", how="unknown", note="the call does not say in plain text which model it loads")
    cache_dir, revision, variant, subfolder = (
        _literal(_argument(call, (name,))) for name in ("cache_dir", "revision", "variant", "subfolder")
    )
    return measure(
        call.value,
        cache_dir=cache_dir,
        revision=revision,
        variant=variant,
        subfolder=subfolder or "",
        deadline=seconds,
    )


def _argument(call: FailedCall, names: Sequence[str]) -> str | None:
    """The text of an argument that is written with one of these names."""
    if call.statement is None or call.position is None:
        return None
    try:
        text = CallText(call.statement, call.position, call.loader)
    except UnwritableError:
        return None
    found = text.keyword(names)
    return None if found is None else text.source(found.value)


def _literal(text: str | None) -> str | None:
    """The text that a literal stands for."""
    try:
        value = ast.literal_eval(text or "None")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, str) else None


def asked_dtype(call: FailedCall, row: Loader) -> str | None:
    """The dtype that a call asks for: a name, "auto" for the file's own, or None where it cannot be told."""
    if row.in_place and _argument(call, ("dtype",)) is None:
        return "auto"
    written = _argument(call, next((names for names in row.same if "dtype" in names), ("dtype",)))
    if written is None:
        default = {one.field for one in row.spelling} & {"default_dtype"}
        return spell(row, "$default_dtype", {}, installed_version) if default else None
    name = written.strip("\"'").removeprefix("torch.")
    name = {"half": "float16", "float": "float32", "double": "float64"}.get(name, name)
    return name if name == "auto" or name in FLOATING else None


def room_for(
    snapshot: MemorySnapshot,
    backend: str,
    device: int | None,
    gone: frozenset[int] = frozenset(),
    files: str | None = None,
) -> Room:
    """What a load may take, once some holders are gone.

    Args:
        snapshot: Memory now, with its holders.
        backend, device: Where the model is to go.
        gone: Those holders: indexes of rows of the snapshot's holdings.
        files: The checkpoint's folder: of address space, what a failed load has mapped of it comes back, too.
    """
    back = snapshot.holdings.freed_by(gone)
    on_host = backend == "host"
    free = _device_free(snapshot, back)
    host = host_free(snapshot.host)
    maps = tightest(snapshot.host)[0] == "RLIMIT_AS"
    if host is not None and on_host:
        host += back + (mapped_files(files) if files and maps else 0)
    folder, disk = scratch()
    return Room(
        backend=backend,
        device=None if on_host else (device or 0),
        free=host if on_host else free,
        others=() if on_host else _others(snapshot, device),
        host=host,
        maps=maps,
        disk=disk,
        folder=folder,
    )


def _device_free(snapshot: MemorySnapshot, back: int) -> int | None:
    """Bytes free on the GPU once `back` bytes of tensors are gone and the cache is emptied, below the set limit."""
    allocator = snapshot.allocator
    free = snapshot.device.free if snapshot.device else None
    if free is not None:
        free += back + ((allocator.releasable if allocator else None) or 0)
    if allocator is None or allocator.limit is None or allocator.allocated is None:
        return free
    below = max(0, allocator.limit - allocator.allocated + back)
    return below if free is None else min(free, below)


def _others(snapshot: MemorySnapshot, device: int | None) -> tuple[tuple[int, int], ...]:
    own = snapshot.device.device if snapshot.device else (device or 0)
    found = [
        (row.device, row.free)
        for row in snapshot.driver.devices
        if row.device is not None and row.free is not None and row.device != own
    ]
    return tuple(sorted(found, key=lambda pair: -pair[1]))


def plan_reload(fix: Fix, load: Load) -> FixPlan | None:
    """One fix about the failed call made ready; None where its options make no sense here or do not fit.

    What cannot be run is shown all the same, with a blank call of the same loader and the reason.
    """
    options = [found for name in fix.options if (found := load.row.option(name)) is not None]
    placement = weigh(fix.options, load.checkpoint, load.dtype, load.room)
    if len(options) < len(fix.options) or placement is None or placement.fits is False:
        return None
    imports, written, obstacle = _write(load, options, _fields(load, placement))
    absent = [name for option in options for name in missing(option, installed_version)]
    if absent:
        imports = [f"# pip install {' '.join(dict.fromkeys(absent))}", *imports]
    forgets = load.bound and not _uses_itself(load.call)
    try:
        code = render(
            fix,
            {
                "imports": "\n".join(imports),
                "forget": f"{load.call.target} = None" if forgets and obstacle is None else "",
                "statement": written,
            },
            installed_version,
        )
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
        loads=True,
        placement=placement,
        before=load.call.statement or "",
        after=written,
        obstacle=obstacle or ("not_installed" if absent else ""),
    )
    return replace(plan, applicability="display_only", before="") if plan.obstacle else plan


def _fields(load: Load, placement: Placement) -> dict[str, str]:
    """What the options' blanks are filled in with."""
    room = load.room
    at = "" if room.folder in (None, tempfile.gettempdir()) else f", dir={room.folder!r}"
    return {
        "half": f"torch.{half_of(load.checkpoint, room.backend)}",
        "device": f"cuda:{placement.device or 0}",
        "max_memory": placement.budget,
        "folder": _FOLDER.format(at=at),
        "context": str(_shorter(load.checkpoint)),
    }


def _shorter(checkpoint: Checkpoint) -> int:
    known = checkpoint.config.context if checkpoint.config else None
    return max(512, known // 4) if known else 4096


def _write(load: Load, options: Sequence[Option], fields: dict[str, str]) -> tuple[list[str], str, str | None]:
    """The statement with all options, its imports, and why it can only be shown (then it is a blank one)."""
    found = _change(load.call, options, fields)
    if not isinstance(found, str):
        return *found, None
    plain = _blank(load.row.id, load.call, load.row.keyword is not None)
    blank = _change(plain, options, fields)
    if isinstance(blank, str):
        return [], plain.statement or "", found
    return *blank, found


def _change(call: FailedCall, options: Sequence[Option], fields: dict[str, str]) -> tuple[list[str], str] | str:
    imports: list[str] = []
    for option in options:
        changed = rewrite.change(call, option, fields)
        if isinstance(changed, str):
            return changed
        imports += changed.imports
        call = replace(call, statement=changed.statement, loader=changed.loader)
    if call.statement is None or call.obstacle == "no_target":
        return call.obstacle or "no_source"
    if "tempfile." in call.statement:
        imports.append("import tempfile")
    return list(dict.fromkeys(imports)), call.statement


def _blank(row: str, call: FailedCall | None = None, takes_model: bool = True) -> FailedCall:
    """A plain call of a loader, for the user to fill in, with what could be read of their own."""
    statement = _BLANK
    if call is not None and _is_code(call.loader):
        model = (call.model or repr("your-model")) if takes_model else ""
        statement = f"{call.target or 'model'} = {call.loader}({model})"
    at = (1, len(statement.partition("= ")[0].encode()) + 2)
    loader = statement.partition("= ")[2].partition("(")[0]
    return FailedCall(
        loader=loader, module="", row=row, target="model", statement=statement, position=at, obstacle=None
    )


def _is_code(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return "(" not in text


def _uses_itself(call: FailedCall) -> bool:
    """Whether a statement reads the name that it binds: `model = model.to("cuda")`."""
    try:
        tree = ast.parse(call.statement or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return call.target in read
