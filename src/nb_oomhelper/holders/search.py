"""Who keeps memory: user variables, displayed results, the failed cell's frames; how many bytes each alone.

The order of a search: what names of the user's lead to comes first, then cells that failed before, modules of other
libraries, and what no name leads to. What it returns is names and numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from nb_oomhelper.failure.retained import of_earlier_cells
from nb_oomhelper.holders.counting import HolderCount, to_holdings
from nb_oomhelper.holders.roots import Root, module_roots, scope_roots
from nb_oomhelper.holders.scope import Scope
from nb_oomhelper.holders.walk import LARGE, Tracer, Walk
from nb_oomhelper.introspection import class_name, instances
from nb_oomhelper.records.holdings import Holdings

_log = logging.getLogger(__name__)


def find_holdings(
    scope: Scope,
    tracers: Sequence[Tracer],
    *,
    backend: str,
    device: int | None,
    seconds: float,
    everywhere: bool = False,
) -> Holdings:
    """Search the scope for tensors and arrays on one device.

    Args:
        scope: Where to look.
        tracers: The loaded frameworks.
        backend: "cuda", "host", …
        device: The framework's ordinal; None counts all devices of the backend.
        seconds: When the search must end; how far it came is said in the result.
        everywhere: Go on to what no name of the user's leads to: cells that failed before, modules of other
            libraries, and tensors that no name leads to at all.

    Returns:
        The holders with their bytes, the largest first.
    """
    walk = Walk(tracers, backend, device, scope.barred, seconds)
    found: list[HolderCount] = []
    roots = [root for root in scope_roots(scope, tracers) if walk.may_hold(root)]
    searched, total = _follow(walk, roots, found), len(roots)
    if everywhere and not walk.expired:  # what names lead to comes first: to look at all objects may take long
        cells, of_cells = _follow_nameless(walk, scope, found)
        searched, total = searched + cells, total + of_cells
    held = to_holdings(found, searched, total, walk.elapsed())
    return replace(held, everywhere=walk.everywhere and not walk.expired)


def _follow(walk: Walk, roots: Iterable[Root], found: list[HolderCount], seen: set[int] | None = None) -> int:
    """Search roots until time is up; how many were searched through.

    With `seen`, roots share what they have met: modules import from each other, and each would lead through
    all the others again; the first to lead somewhere is enough.
    """
    searched = 0
    for root in roots:
        walk.failed = False
        try:
            holder = walk.follow(root, seen)
        except Exception as error:  # no room, say; what others keep is still to be told
            _log.debug("a search failed: %s", class_name(type(error)))  # no traceback, which would keep objects
            continue
        if seen is not None:
            holder = _without(holder, found)
        if holder.storages:
            found.append(holder)
        if walk.expired:
            break
        searched += not walk.failed
    return searched


def _follow_nameless(walk: Walk, scope: Scope, found: list[HolderCount]) -> tuple[int, int]:
    """Search what no name of the user's leads to: cells that failed before, modules of other libraries, what is left.

    Returns:
        How many of the cells' holders were searched through, of how many.
    """
    # taken once, and as late as can be: whoever has them keeps alive what other threads let go of meanwhile
    things = walk.alive([BaseException, *(kind for tracer in walk.tracers for kind in tracer.array_classes())])
    errors: dict[int, Any] = dict(instances(things, BaseException))
    tensors = [thing for index, thing in enumerate(things) if index not in errors]
    earlier = of_earlier_cells(errors.values(), scope.frames)
    cells = [root for root in scope_roots(Scope(), walk.tracers, earlier) if walk.may_hold(root)]
    del things, errors, earlier
    searched = _follow(walk, cells, found)
    if walk.expired:
        return searched, len(cells)
    lost: list[HolderCount] = []
    if not _follow(walk, [Root("unreachable", [(("not reachable from any name", None, None), tensors)])], lost):
        walk.everywhere = False
    del tensors
    for rest in lost:
        if sum(_without(rest, found).storages.values()) >= LARGE:  # only then is it worth going through all modules
            walk.halve_deadline()
            _follow(walk, module_roots(scope), found, seen=set())
        if (left := _without(rest, found)).storages:
            found.append(left)
    return searched, len(cells)


def _without(lost: HolderCount, found: list[HolderCount]) -> HolderCount:
    """What nobody else was found to keep."""
    known = {key for holder in found for key in holder.storages}
    return replace(lost, storages={key: size for key, size in lost.storages.items() if key not in known})
