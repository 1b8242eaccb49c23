"""Where a model would fit, before anybody has tried to load it: `plan()` and `%oom plan`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from nb_oomhelper.errors import KnowledgeError, UsageError
from nb_oomhelper.knowledge.catalog import Catalog, load_catalog
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.loading.checkpoint import Checkpoint, measure
from nb_oomhelper.loading.loaders import load_rows, spell
from nb_oomhelper.loading.placement import TOKENS, ForwardPassEstimate, MemoryBudget, beside, estimate_placement
from nb_oomhelper.loading.reload import room_for
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.memory.segments import segments
from nb_oomhelper.memory.snapshot import open_driver, read_driver, take_snapshot
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.records.remedy import LoadOption, Placement
from nb_oomhelper.session import current_shell

_ROW = "transformers"  # the loader whose options are weighed
WHOLE: tuple[LoadOption, ...] = ("as_asked", "half", "8bit", "4bit")
"""Ways of loading that keep a model on one device."""
_DTYPES = ("auto", "float16", "bfloat16", "float32", "float64")


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


def plan(
    model: str | os.PathLike[str],
    *,
    device: int | None = None,
    dtype: str | None = None,
    tokens: int = TOKENS,
    revision: str | None = None,
    catalog: Catalog | None = None,
) -> Estimate:
    """Weigh every way of loading a model that is on this machine. Nothing is loaded.

    Args:
        model: A folder, a file, or a name in the hub's cache.
        device: The framework's ordinal of a GPU; None takes the first, or the host where there is none.
        dtype: "auto" for as it is stored, "float16", …; None for what transformers does if it is not told.
        tokens: Length of the text that keys, values and activations are estimated for.
        revision: Branch, tag or commit in the hub's cache.
        catalog: The knowledge; None reads the packaged one.

    Returns:
        One row a way, with bytes on the GPU, in host memory and on disk, and whether there is room for it.

    Raises:
        UsageError: There is no such GPU, or no such dtype.
        KnowledgeError: The row of loaders.toml that says how models are loaded is not there.
    """
    if dtype is not None and dtype not in _DTYPES:
        raise UsageError(f"dtype is one of {', '.join(_DTYPES)}, not {dtype!r}")
    row = load_rows().row(_ROW)
    if row is None:
        raise KnowledgeError(f"loaders.toml has no row {_ROW!r}")
    asked = dtype or spell(row, "$default_dtype", {}, installed_version)
    with open_driver(current_shell()) as driver:
        backend, ordinal = _place(driver, device)
        checkpoint = measure(model, revision=revision, build=True)  # it may import torch, and take its time
        snapshot = take_snapshot(driver, backend=backend, device=ordinal, framework="pytorch")
    room = room_for(snapshot, backend, ordinal, tokens=tokens)
    weighed = [
        (fix.id, found)
        for fix in (catalog or load_catalog()).fixes
        if fix.options and all(row.option(name) for name in fix.options)
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
        beside=beside(checkpoint.config, tokens),
        rows=tuple(weighed),
    )


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
    weighed = {way: estimate_placement((way,), found.checkpoint, found.dtype, room) for way in WHOLE}
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
