"""Who keeps memory: user variables, displayed results, the failed cell's frames; how many bytes each alone.

The order of a search: what names of the user's lead to comes first, then cells that failed before, modules of other
libraries, and what no name leads to. What it returns is names and numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from nb_oomhelper.failure.retained import of_earlier_cells
from nb_oomhelper.holders.counting import HolderCount, to_holdings
from nb_oomhelper.holders.roots import Root, module_roots, scope_roots
from nb_oomhelper.holders.scope import Scope
from nb_oomhelper.holders.walk import LARGE, Tracer, Walk
from nb_oomhelper.holders.weighing import Weigher, Weight
from nb_oomhelper.introspection import class_name, instances
from nb_oomhelper.records.holdings import Holdings

_WEIGHING = 0.5  # of the time, at most: what it cannot follow is still to be searched for tensors
_PER_OBJECT = 4e-7  # seconds that the search takes for one, at most
_UNWEIGHED = Weight(estimated=True, leads=True)
_log = logging.getLogger(__name__)


def find_holdings(
    scope: Scope,
    tracers: Sequence[Tracer],
    *,
    backend: str,
    device: int | None,
    seconds: float,
    everywhere: bool = False,
    objects: bool = True,
) -> Holdings:
    """Search the scope for tensors and arrays on one device, and on the host for texts, bytes and small objects.

    Args:
        scope: Where to look.
        tracers: The loaded frameworks.
        backend: "cuda", "host", …
        device: The framework's ordinal; None counts all devices of the backend.
        seconds: When the search must end; how far it came is said in the result.
        everywhere: Go on to what no name of the user's leads to: cells that failed before, modules of other
            libraries, and tensors that no name leads to at all.
        objects: On the host, count also what is no tensor or array.

    Returns:
        The holders with their bytes, the largest first.
    """
    walk = Walk(tracers, backend, device, scope.barred, seconds)
    found: list[HolderCount] = []
    weigher = Weigher(walk.sorts, walk.barred, seconds * _WEIGHING) if backend == "host" and objects else None
    roots = [
        root for root in scope_roots(scope, tracers) if walk.may_hold(root) or (weigher and weigher.may_hold(root))
    ]
    searched, total = _follow(walk, roots, found, weigher=weigher), len(roots)
    if everywhere and not walk.clock.expired:  # what names lead to comes first: to look at all objects may take long
        cells, of_cells = _follow_nameless(walk, scope, found, weigher)
        searched, total = searched + cells, total + of_cells
    held = to_holdings(found, searched, total, walk.clock.elapsed())
    return replace(held, everywhere=walk.everywhere and not walk.clock.expired, no_room=walk.no_room)


def _follow(
    walk: Walk,
    roots: Iterable[Root],
    found: list[HolderCount],
    seen: set[int] | None = None,
    weigher: Weigher | None = None,
) -> int:
    """Search roots until time is up; how many were searched through.

    With `seen`, roots share what they have met: modules import from each other, and each would lead through
    all the others again; the first to lead somewhere is enough. With `weigher`, what is no tensor counts, too.
    """
    searched = 0
    for root, weight in _weighed(roots, weigher):
        walk.failed = False
        holder = HolderCount(walk.row(root), {}, {}, {}, [label for label, _ in root.things], {})
        if _is_worth(walk, weight):
            try:
                holder = walk.follow(root, seen)
            except Exception as error:  # no room, say; what others keep is still to be told
                _log.debug("a search failed: %s", class_name(type(error)))  # no traceback, which would keep objects
                walk.failed = True
                walk.no_room |= isinstance(error, MemoryError)
        if seen is not None:
            holder = _without(holder, found)
        holder.add(weight.sizes, weight.first, estimated=weight.estimated)
        if holder.storages:
            found.append(holder)
        searched += not weight.leads or not (walk.failed or walk.clock.expired)
        if walk.clock.expired and weigher is None:
            break
    return searched


def _is_worth(walk: Walk, weight: Weight) -> bool:
    """Whether to search for tensors where weighing has met none: there may be one among what was not followed."""
    if weight.leads or not weight.estimated:
        return weight.leads and not walk.clock.expired
    return weight.count * _PER_OBJECT < walk.clock.left()


def _weighed(roots: Iterable[Root], weigher: Weigher | None) -> Iterator[tuple[Root, Weight]]:
    """Roots with their weights. What may be millions of objects comes last, so that it takes nobody else's time."""
    if weigher is None:
        yield from ((root, _UNWEIGHED) for root in roots)
        return
    weighed = []
    for root in roots:
        try:
            weighed.append((root, weigher.weigh(root)))
        except Exception as error:  # as in `_follow`
            _log.debug("weighing failed: %s", class_name(type(error)))
            weighed.append((root, _UNWEIGHED))
    yield from sorted(weighed, key=lambda pair: pair[1].estimated)


def _follow_nameless(walk: Walk, scope: Scope, found: list[HolderCount], weigher: Weigher | None) -> tuple[int, int]:
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
    searched = _follow(walk, cells, found, weigher=weigher)
    if walk.clock.expired:
        return searched, len(cells)
    lost: list[HolderCount] = []
    if not _follow(walk, [Root("unreachable", [(("not reachable from any name", None, None), tensors)])], lost):
        walk.everywhere = False
    del tensors
    for rest in lost:
        if sum(_without(rest, found).storages.values()) >= LARGE:  # only then is it worth going through all modules
            walk.clock.halve()
            _follow(walk, module_roots(scope), found, seen=set())
        if (left := _without(rest, found)).storages:
            found.append(left)
    return searched, len(cells)


def _without(lost: HolderCount, found: list[HolderCount]) -> HolderCount:
    """What nobody else was found to keep."""
    known = {key for holder in found for key in holder.storages}
    return replace(lost, storages={key: size for key, size in lost.storages.items() if key not in known})
