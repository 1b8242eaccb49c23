"""What the notebook's code collects on a GPU, which has room for some of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.may_move import may_lie_on_host
from nb_oomhelper.remedies.on_the_way import functions_of
from nb_oomhelper.remedies.places import WORTH_MENDING, Mistake, Place, find_keepers, graph_of
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.by_hooks import is_in_function, move_each_step
from nb_oomhelper.source.collecting import binds, find_kept, grows_as_tuple, root_of
from nb_oomhelper.source.element import Element
from nb_oomhelper.source.flows import calls_any
from nb_oomhelper.source.given_on import is_given_on
from nb_oomhelper.source.kept_models import optimizers_to_host
from nb_oomhelper.source.remembered import only_looked_at, remember_on_host
from nb_oomhelper.source.to_host import find_gathered, find_to_host, is_only_collected
from nb_oomhelper.source.tree import is_at

_LARGE_PART = 0.25  # of what is kept with its graph: then it fills the GPU without the graph, too


@dataclass(frozen=True, slots=True)
class _Keeper:
    """What collects: its path, what is in it, the bytes of that, and of the graphs behind it."""

    path: str
    element: Element
    size: int
    graph: int
    local: bool

    @property
    def has_graph(self) -> bool:
        """Whether what is in it has a graph behind it."""
        return self.element.has("graph", "number")

    @property
    def is_large(self) -> bool:
        """Whether it is large without its graphs; where these are not known it may be small."""
        known = self.graph or not self.has_graph
        return bool(known) and self.size >= max(WORTH_MENDING, _LARGE_PART * (self.size + self.graph))


def find_kept_on_device(written: Written, event: OomEvent, held: Holdings, places: list[Place]) -> Iterator[Mistake]:
    """Find `preds.append(model(x))`: every result stays on the GPU.

    Args:
        written: What the notebook's code says.
        event: What failed, and where.
        held: Who keeps what.
        places: Where a mistake may be written.
    """
    for place in places if event.backend != "host" else ():
        keepers = sorted(_keepers(written, event, held, places, place), key=lambda one: -one.size)
        if event.phase == "train":  # what goes backward keeps its graph
            top = place.definition is None
            keepers = [one for one in keepers if not one.has_graph or not is_given_on(place.body, one.path, at_top=top)]
        elements = {one.path: one.element for one in keepers}
        # what is joined and then compared must lie in one place, so that all or none of it is moved
        if not any(one.is_large for one in keepers) or not all(is_only_collected(one.body, elements) for one in places):
            continue
        if not may_lie_on_host(written, places, place, [one.path for one in keepers]):
            continue
        graph = keepers[0].graph  # that of the others is the same
        optimizers = optimizers_to_host(place.text, place.body, elements)
        for one in keepers:
            in_loop = place.definition is None or (one.local and "." not in one.path)
            edits = find_to_host(place.text, place.body, {one.path: one.element}, in_loop=in_loop)
            if one.element.has("model"):
                edits, optimizers = [*edits, *optimizers], []
            if edits and not (one.element.has("model") and calls_any(place.body, [one.path])):
                hooked = place.definition is not None and is_in_function(place.body, one.path)
                yield Mistake(
                    kind="append_host",
                    subject=one.path,
                    place=place,
                    edits=edits,
                    explains=None if hooked and _is_in_loop(place) else one.size + graph,
                    in_cell=one.local,
                    grows=one.is_large,
                )
            graph = 0


def find_gathered_on_device(
    written: Written, event: OomEvent, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find `out = torch.cat([net(b) for b in parts])`, without a graph: every result stays on the GPU.

    Args:
        written: What the notebook's code says.
        event: What failed, and where.
        shortage: What the cell needs.
        places: Where a mistake may be written.
    """
    if event.backend == "host" or event.phase == "train" or written.autograd is not False:
        return
    for place in places:
        for name, edits in find_gathered(place.text, place.body, place.line) if place.line is not None else ():
            if not may_lie_on_host(written, places, place, [name]):
                continue
            yield Mistake(
                kind="append_host", subject=name, place=place, edits=edits, explains=shortage.needs, in_cell=True
            )


def find_remembered(written: Written, event: OomEvent, places: list[Place]) -> Iterator[Mistake]:
    """Find `if key not in cache: cache[key] = net(x)`: a cache of results fills the GPU.

    Args:
        written: What the notebook's code says.
        event: What failed, and where.
        places: Where a mistake may be written.
    """
    if event.backend == "host" or event.phase == "train" or event.device:  # `.cuda()` is the first device
        return
    for path, kept, within, local in find_keepers(written, places):
        size, element = (kept.size or {}).get(event.backend, 0), kept.element
        plain = element is not None and element.on_device and element.kind in ("other", "graph") and not element.listed
        if not plain or element is None or not kept.call or size < WORTH_MENDING:
            continue
        for place in within:
            edits = remember_on_host(place.text, place.body, path, graph=element.kind == "graph")
            others = [] if local and "." not in path else [one for one in places if one is not place]
            if edits and all(only_looked_at(one.body, path) for one in others):
                clear = _clears_closure(place, path) if local else ""
                yield Mistake(
                    kind="append_host",
                    subject=path,
                    place=place,
                    edits=edits,
                    explains=size,
                    grows=True,
                    clear=clear,
                )


def _clears_closure(place: Place, name: str) -> str:
    """What empties something that only a function made by another one knows."""
    bound = place.definition.bound if place.definition is not None else ()
    free = "{0}.__closure__[{0}.__code__.co_freevars.index({1!r})].cell_contents.clear()"
    return "\n".join(free.format(one, name) for one in bound) if not binds(place.body, name) else ""


def find_kept_by_hooks(written: Written, event: OomEvent, places: list[Place]) -> Iterator[Mistake]:
    """Find what functions fill that nobody calls by name, such as hooks: they are in use already, as they are.

    Args:
        written: What the notebook's code says.
        event: What failed, and where.
        places: Where a mistake may be written.
    """
    if event.backend == "host" or event.phase == "train":
        return
    for path, kept in written.kept.items():
        size, element = (kept.size or {}).get(event.backend, 0), kept.element
        shape = element is not None and element.kind in ("other", "graph") and element.on_device
        if not shape or element is None or not kept.call or size < WORTH_MENDING:
            continue
        hooks = [one.body for one in functions_of(written) if any(True for _ in find_kept(one.body, path))]
        known = any(any(True for _ in find_kept(place.body, path)) for place in places)
        bodies = [*hooks, *(place.body for place in places)]
        if known or not hooks or not all(is_only_collected(one, {path: element}) for one in bodies):
            continue
        for place in places:
            own = place.definition is not None and binds(place.body, root_of(path))
            edits = (
                [] if own or place.line is None else move_each_step(place.text, place.body, place.line, path, element)
            )
            if edits:
                yield Mistake(
                    kind="append_host", subject=path, place=place, edits=edits, explains=size, in_cell=False, grows=True
                )
                break


def _is_in_loop(place: Place) -> bool:
    """Whether a loop was running: what it had registered is there still."""
    line = place.line or 0
    loops = [one for part in place.body for one in ast.walk(part) if isinstance(one, (ast.For, ast.While))]
    return any(is_at(one, line) for one in loops)


def _keepers(written: Written, event: OomEvent, held: Holdings, places: list[Place], place: Place) -> Iterator[_Keeper]:
    for path, kept, within, local in find_keepers(written, places):
        filled = kept.call or (place in within and grows_as_tuple(place.body, path))
        on_device = filled and kept.element is not None and kept.element.reaches_device
        if (
            on_device
            and kept.element is not None
            and place in within
            and any(True for _ in find_kept(place.body, path))
        ):
            size = (kept.size or {}).get(event.backend, 0)
            yield _Keeper(path, kept.element, size, graph_of(held, path, local=local), local)
