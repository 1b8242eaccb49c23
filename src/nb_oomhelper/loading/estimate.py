"""Where a model would fit, before anybody has tried to load it: `plan()` and `%oom plan`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nb_oomhelper.errors import KnowledgeError, UsageError
from nb_oomhelper.knowledge.catalog import Catalog, load_catalog
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.loading.checkpoint import FLOATING, FORMS, Checkpoint, measure, measure_online
from nb_oomhelper.loading.generation import (
    SPARE,
    TOKENS,
    ForwardPassEstimate,
    Generation,
    TextRoom,
    VllmStart,
    beside,
    cache_size,
    find_room,
    formula_of,
    needed_for,
    start_vllm,
)
from nb_oomhelper.loading.layers import LayersOnGpu, layers_on_gpu
from nb_oomhelper.loading.loaders import load_rows, spell
from nb_oomhelper.loading.placement import SLACK, MemoryBudget, estimate_placement
from nb_oomhelper.loading.reload import room_for
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.memory.segments import segments
from nb_oomhelper.memory.snapshot import open_driver, read_driver, take_snapshot
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.records.note import Note
from nb_oomhelper.records.remedy import LoadOption, Placement
from nb_oomhelper.session import current_shell

_ROW = "transformers"  # the loader whose options are weighed
WHOLE: tuple[LoadOption, ...] = ("as_asked", "half", "8bit", "4bit")
"""Ways of loading that keep a model on one device."""
_AS_STORED = frozenset({"as_asked", "device", "host"})  # ways that leave the weights as they are, for llama.cpp
NOT_HERE = "checkpoint.not_here"
_MOST = 1 << 40  # tokens, or texts
_DTYPES = ("auto", "float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """What generating text takes beside a model's weights.

    Attributes:
        wanted: Length and batch that were asked for.
        form: What keys and values are kept in, as the model is asked for.
        cache: Bytes of keys and values once the text is there: to the byte, or None for unknown.
        peak: Bytes while the prompt, if it is as long as the text, is read in one go, estimated.
        formula: How `cache` was counted.
        rooms: Fix id, and what there is room for then; of ways that keep the model on one device.
        vllm: What vLLM would do with the GPU.
    """

    wanted: Generation
    form: str
    cache: int | None
    peak: int | None
    formula: Note
    rooms: tuple[tuple[str, TextRoom], ...]
    vllm: VllmStart | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What loading a model would take, each way.

    Attributes:
        model: As it was asked for.
        checkpoint: Its size, and how that was told.
        dtype: What floats are loaded as if nothing else is said, or None for unknown.
        backend, device: Where it is to go: "cuda" and an ordinal, or "host" and None.
        free: Bytes free there.
        host: Bytes of host memory.
        context: Bytes that this process has on the GPU beside its tensors (the CUDA context), or None.
        beside: What a forward pass takes beside the weights, estimated.
        rows: Fix id and placement, the least loss first.
        writing: What generating text takes, where that was asked for.
        layers: Of a GGUF file that does not fit on the GPU: how many of its layers would.
    """

    model: str
    checkpoint: Checkpoint
    dtype: str | None
    backend: str
    device: int | None
    free: int | None
    host: int | None
    context: int | None
    beside: ForwardPassEstimate
    rows: tuple[tuple[str, Placement], ...]
    writing: Writing | None = None
    layers: LayersOnGpu | None = None


def plan(
    model: str | os.PathLike[str],
    *,
    device: int | None = None,
    dtype: str | None = None,
    tokens: int | None = None,
    batch: int | None = None,
    cache: str | None = None,
    revision: str | None = None,
    online: bool = False,
    catalog: Catalog | None = None,
) -> Estimate:
    """Weigh every way of loading a model. Nothing is loaded.

    Args:
        model: A folder, a file, or a name in the hub's cache.
        device: The framework's ordinal of a GPU; None takes the first, or the host where there is none.
        dtype: "auto" for as it is stored, "float16", …; None for what transformers does if it is not told.
        tokens: Length of the text that is to be generated, its prompt included.
        batch: How many of them side by side.
        cache: What keys and values are kept in: "float16", "fp8", "int8", "int4", "int2" (QuantizedCache), "q8_0",
            "q4_0" (llama.cpp); None for what the model computes in. With any of these three there is `writing`.
        revision: Branch, tag or commit in the hub's cache.
        online: Ask the hub for the headers of a model that is not here; else nothing goes over the network.
        catalog: The knowledge; None reads the packaged one.

    Returns:
        One row a way, with bytes on the GPU, in host memory and on disk, and whether there is room for it.

    Raises:
        UsageError: There is no such GPU, or no such dtype, or no such length.
        KnowledgeError: The row of loaders.toml that says how models are loaded is not there.
    """
    if dtype is not None and dtype not in _DTYPES:
        raise UsageError(f"dtype is one of {', '.join(_DTYPES)}, not {dtype!r}")
    wanted = _wanted(tokens, batch, cache)
    row = load_rows().row(_ROW)
    if row is None:
        raise KnowledgeError(f"loaders.toml has no row {_ROW!r}")
    told = dtype or spell(row, "$default_dtype", {}, installed_version)
    with open_driver(current_shell()) as driver:
        backend, ordinal = _place(driver, device)
        checkpoint = measure(model, revision=revision, build=True)  # it may import torch, and take its time
        if online and checkpoint.note is not None and checkpoint.note.key == NOT_HERE:
            checkpoint = measure_online(os.fspath(model), revision=revision)
        snapshot = take_snapshot(driver, backend=backend, device=ordinal, framework="pytorch")
    room = replace(room_for(snapshot, backend, ordinal), wanted=wanted)
    gguf = checkpoint.how == "gguf"
    if gguf and dtype not in (None, "auto"):
        raise UsageError("a GGUF file is used as it is stored: no dtype goes with it")
    asked = "auto" if gguf else told
    weighed = [
        (fix.id, found)
        for fix in (catalog or load_catalog()).fixes
        if fix.options and all(row.option(name) for name in fix.options)
        if not gguf or _AS_STORED.issuperset(fix.options)
        if (found := estimate_placement(fix.options, checkpoint, asked, room)) is not None
    ]
    return Estimate(
        model=os.fspath(model),
        checkpoint=checkpoint,
        dtype=asked,
        backend=backend,
        device=ordinal,
        free=room.free,
        host=room.host,
        context=_context(snapshot, backend),
        beside=beside(checkpoint.config),
        rows=tuple(weighed),
        writing=None if wanted is None else _write(wanted, checkpoint, asked, room, tuple(weighed), snapshot),
        layers=layers_on_gpu(checkpoint, wanted or Generation(tokens=TOKENS), room) if gguf else None,
    )


def _wanted(tokens: int | None, batch: int | None, cache: str | None) -> Generation | None:
    if tokens is None and batch is None and cache is None:
        return None
    if not all(1 <= number < _MOST for number in (TOKENS if tokens is None else tokens, 1 if batch is None else batch)):
        raise UsageError(f"a text's length in tokens and the batch are whole numbers from 1 to {_MOST - 1:,}")
    if cache is not None and cache not in FORMS:
        raise UsageError(f"cache is one of {', '.join(FORMS)}, not {cache!r}")
    return Generation(tokens=tokens or TOKENS, batch=batch or 1, form=cache)


def _write(
    wanted: Generation,
    checkpoint: Checkpoint,
    asked: str | None,
    room: MemoryBudget,
    rows: tuple[tuple[str, Placement], ...],
    snapshot: MemorySnapshot,
) -> Writing:
    config = checkpoint.config
    computed = _computed(asked, checkpoint)
    form = wanted.in_form(computed)
    rooms = [
        (fix, find_room(config, wanted, _computed(one.dtype, checkpoint), free))
        for fix, one in rows
        if (free := _free_beside(one, room)) is not None
    ]
    on_gpu = snapshot.device if room.backend == "cuda" else None
    half = checkpoint.size if computed in ("float16", "bfloat16") else checkpoint.size_as("float16")
    return Writing(
        wanted=wanted,
        form=form,
        cache=cache_size(config, wanted, form),
        peak=needed_for(config, wanted, computed),
        formula=formula_of(config, wanted, form),
        rooms=tuple(rooms),
        vllm=None if checkpoint.how == "gguf" else start_vllm(config, wanted, half, on_gpu),
    )


def _computed(dtype: str | None, checkpoint: Checkpoint) -> str | None:
    """What a model computes in when it is loaded so; None is unknown."""
    if dtype != "auto":
        return dtype
    made = checkpoint.config.dtype if checkpoint.config else None
    return made or next((name for name, _ in checkpoint.dtypes if name in FLOATING), None)


def _free_beside(one: Placement, room: MemoryBudget) -> int | None:
    """Bytes free on the device that has all of the weights; None where no one device has, or that is unknown."""
    size, free = (one.host, room.host) if room.backend == "host" else (one.gpu, room.free)
    if room.backend != "host" and one.device not in (None, room.device):
        free = dict(room.others).get(one.device or 0)
    whole = size == sum(part or 0 for part in (one.gpu, one.host, one.disk))
    spare = SLACK if room.backend == "host" else SPARE
    return max(0, free - size - spare) if whole and size and free is not None else None


def fit_whole(found: Estimate, backend: str, free: int | None) -> dict[LoadOption, Placement]:
    """Weigh the ways of loading that keep the model on one device, on one of another machine.

    Args:
        found: The model.
        backend: "cuda" or "host".
        free: Bytes free there.

    Returns:
        By way; without those that make no sense there.
    """
    host = free if backend == "host" else None
    room = MemoryBudget(backend=backend, device=None if backend == "host" else 0, free=free, host=host)
    ways = [way for way in WHOLE if found.checkpoint.how != "gguf" or way in _AS_STORED]
    weighed = {way: estimate_placement((way,), found.checkpoint, found.dtype, room) for way in ways}
    return {way: one for way, one in weighed.items() if one is not None}


def fit_together(found: Estimate, backend: str, free: Sequence[int | None]) -> dict[LoadOption, Placement]:
    """Weigh the same on several devices among which a program divides the weights evenly.

    Args:
        found: The model.
        backend: "cuda" or "host".
        free: Bytes free on each; each needs the room beside the weights.
    """
    margin = found.beside.margin
    sizes = [size for size in free if size is not None]
    whole = None if len(sizes) < len(free) else len(sizes) * (min(sizes, default=0) - margin) + margin
    return fit_whole(found, backend, whole)


def _place(driver: Driver, device: int | None) -> tuple[str, int | None]:
    """Backend and ordinal of the GPU that is meant."""
    reading = read_driver(driver)
    known = sorted(row.device for row in reading.devices if row.device is not None)
    if device is not None and device not in known:
        raise UsageError(f"there is no GPU {device} that frameworks in this process can see")
    chosen = device if device is not None else next(iter(known), None)
    return ("host", None) if chosen is None else ("cuda", chosen)


def _context(snapshot: MemorySnapshot, backend: str) -> int | None:
    if backend == "host":
        return None
    return next((part.size for part in segments(snapshot, backend) if part.kind == "rest"), None)
