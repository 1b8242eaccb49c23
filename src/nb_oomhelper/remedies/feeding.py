"""Whether a size, or a loader, can be in what the failing statements compute: else it may be as small as one likes."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from nb_oomhelper.remedies.places import find_places
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.collecting import last_of, root_of
from nb_oomhelper.source.cures import words_in
from nb_oomhelper.source.sources_of import sources_of
from nb_oomhelper.source.tree import walk


def feeds(path: str, written: Written) -> bool:
    """Tell whether what was running depends on a number or a loader; it does where nobody can tell.

    Args:
        path: What the user would write for it: "bs", 'config["batch_size"]', "self.loader".
        written: What the notebook's code says.
    """
    names = {last_of(path), root_of(path)} if "." in path or "[" in path else {path}
    told = False
    running = [one for one in find_places(written) if one.line is not None]
    own = {one.definition.name for one in running if one.definition is not None}  # each is looked at by itself
    for place in running:
        sources = sources_of(place.body, place.line or 0) if _mentions(place.body, {last_of(path)}) else []
        if sources is None or _mentions(sources, {last_of(path)}) or _leads_to(sources, names, written, own):
            return True
        told = told or bool(sources)
    return not told


def _mentions(body: Iterable[ast.AST], names: set[str]) -> bool:
    """Whether code has one of some names, attributes, keywords or texts in it."""
    return any(
        getattr(one, key, None) in names
        for one in walk(body)
        for key in ("id", "attr", "arg", "value")
        if isinstance(getattr(one, key, None), str)
    )


def _leads_to(nodes: list[ast.AST], names: set[str], written: Written, own: set[str]) -> bool:
    """Whether functions of the notebook that some code may call, but for some, have one of the names in them."""
    todo, met = {word for one in nodes for word in words_in(one)} - own, set[str]()
    while todo:
        met |= todo
        functions = [written.function(one) for one in written.definitions if one.name in todo or one.owner in todo]
        bodies = [one[1] for one in functions if one is not None]
        if _mentions(bodies, names):
            return True
        todo = {word for one in bodies for word in words_in(one)} - met - own
    return False
