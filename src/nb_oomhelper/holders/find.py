"""Searches for holders: all of them, those of a variable, where what was loaded is."""

from __future__ import annotations

from nb_oomhelper.frameworks import FRAMEWORKS
from nb_oomhelper.holders.scope import Scope, scope_of
from nb_oomhelper.holders.search import find_holdings
from nb_oomhelper.memory.allocators import allocators, busiest, known_ordinals
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.remedy import Placement
from nb_oomhelper.session import current_shell

_WORTH_SAYING = 1 << 20  # bytes
THOROUGH = 5.0  # seconds for holdings that were asked for
DEADLINE = 0.3  # seconds for holdings in the panel: it must be there at once


def holdings(device: int | None = None, *, seconds: float = THOROUGH) -> list[Holding]:
    """List who keeps memory, largest share of its own first; the rows account for all that is allocated.

    Nothing is changed, nothing is kept, and no code of the user's runs.

    Args:
        device: The framework's ordinal of a GPU. None takes all GPUs of this process, or the host where no
            framework has started one.
        seconds: When the search must end. If it had to, a last row says so by its name.

    Returns:
        One row a holder: your variables, `Out[n]`, the failed cell, other libraries' modules, tensors that
        no name leads to, and what no Python object explains.
    """
    shell = current_shell()
    return all_holdings(scope_of(shell) if shell is not None else Scope(), device, seconds)


def all_holdings(scope: Scope, device: int | None, seconds: float = THOROUGH) -> list[Holding]:
    """Do as `holdings` does, for one scope.

    Args:
        scope: Where to look.
        device: The framework's ordinal of a GPU; None takes all, or the host.
        seconds: When the search must end.

    Returns:
        One row a holder, largest share of its own first.
    """
    backend = "cuda" if device is not None else busiest()[0]
    found = search(scope, backend, device, seconds, everywhere=True)
    rows = [row for row in found.rows if row.own + row.shared]
    if found.complete and found.everywhere:
        rows.extend(
            Holding(name=name, kind="unexplained", backend=backend, device=device, own=size)
            for name, size in _unexplained(found, backend, device)
        )
    if not found.complete:
        name = f"not searched: {found.total - found.searched} of {found.total} names, time was up"
        rows.append(Holding(name=name, kind="unexplained", backend=backend, device=device))
    return rows


def search(
    scope: Scope,
    backend: str,
    device: int | None,
    seconds: float,
    *,
    everywhere: bool = False,
    objects: bool = True,
) -> Holdings:
    """Search a scope with all loaded frameworks.

    Args:
        scope: Where to look.
        backend: "cuda", "host" or "meta".
        device: The framework's ordinal; None takes all devices of the backend.
        seconds: When the search must end.
        everywhere: Search also what no name of the user's leads to.
        objects: On the host, count also what is no tensor or array.

    Returns:
        Who keeps what, in bytes; `complete` is False where time was up, or where there was no room to search.
    """
    loaded = [framework for framework in FRAMEWORKS if framework.loaded()]
    try:
        return find_holdings(
            scope, loaded, backend=backend, device=device, seconds=seconds, everywhere=everywhere, objects=objects
        )
    except MemoryError:  # the search itself found no room: what else is known must still be told
        return Holdings(complete=False, no_room=True)


def still_held(
    scope: Scope, backend: str, device: int | None, seconds: float = DEADLINE
) -> tuple[tuple[str, int], ...]:
    """Find the three holders that would give back most.

    Args:
        scope: Where to look.
        backend: "cuda" or "host".
        device: The framework's ordinal; None takes all devices of the backend.
        seconds: When the search must end.

    Returns:
        Name, or names of those that keep it together, and bytes; largest first.
    """
    found = search(scope, backend, device, seconds)
    rows = [(row.name, row.own) for row in found.rows if row.own >= _WORTH_SAYING]
    together = [
        (", ".join(found.rows[index].name for index in holders), size)
        for holders, size in found.shares
        if len(holders) > 1 and size >= _WORTH_SAYING
    ]
    return tuple(sorted([*rows, *together], key=lambda pair: -pair[1])[:3])


def loaded(scope: Scope, name: str, seconds: float = DEADLINE) -> tuple[tuple[str, int], ...]:
    """Count by dtype what one of the user's variables keeps, on all devices.

    Args:
        scope: Where the user keeps things.
        name: The variable.
        seconds: When the search of each backend must end.

    Returns:
        Dtype and bytes; empty where it cannot be told.
    """
    if name not in scope.variables:
        return ()
    alone = Scope(variables={name: scope.variables[name]}, barred=scope.barred)
    sizes: dict[str, int] = {}
    for backend in ("cuda", "host"):
        found = search(alone, backend, None, seconds, objects=False)
        if not found.complete:
            return ()
        for row in found.rows:
            for dtype, size in row.dtypes:
                sizes[dtype] = sizes.get(dtype, 0) + size
    return tuple(sizes.items())


def placed(thing: object, device: int | None, seconds: float = THOROUGH) -> Placement:
    """Find where a loaded object's tensors are.

    Args:
        thing: A model, a pipeline, a dict of tensors.
        device: The framework's ordinal of the GPU that is meant, or None.
        seconds: When the search must end.

    Returns:
        Bytes on that GPU, in host memory (files that are mapped into it count), and on disk: what accelerate
        keeps there stands on PyTorch's device "meta", as does what it keeps in host memory for a GPU.
    """
    scope = Scope(variables={"it": thing})
    sizes = {}
    for backend, ordinal in (("cuda", device), ("host", None), ("meta", None)):
        found = search(scope, backend, ordinal, seconds, objects=False)
        sizes[backend] = sum(size for _, size in found.shares) if found.complete else None
    gpu, host, away = sizes["cuda"], sizes["host"], sizes["meta"]
    disk = None if away is None or host is None else away
    if gpu and disk and host is not None:  # layers for the GPU that host memory keeps stand there, too
        disk = max(0, disk - host)
    return Placement(gpu=gpu, host=host, disk=disk, device=device)


def _unexplained(found: Holdings, backend: str, device: int | None) -> list[tuple[str, int]]:
    """What the allocator has given out and no Python object holds: CUDA graphs' pools, libraries in C++."""
    devices = [device] if device is not None else known_ordinals(backend)
    allocated = [one.allocated or 0 for ordinal in devices for one in allocators(backend, ordinal)]
    rest = max(0, sum(allocated) - sum(size for _, size in found.shares))
    pools = sum(framework.private_pools(backend, ordinal) for framework in FRAMEWORKS for ordinal in devices)
    graphs = min(rest, pools)
    named = [("private pools, such as those of CUDA graphs", graphs), ("no Python object", rest - graphs)]
    return [(name, size) for name, size in named if size]
