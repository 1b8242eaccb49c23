"""Whether what the notebook collects may lie in host memory: nothing puts it through a model as it lies."""

from __future__ import annotations

from collections.abc import Collection

from nb_oomhelper.remedies.places import Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.flows import given_by, meets_model

_OF_MODEL = "._modules"  # what each model keeps its layers in


def may_lie_on_host(written: Written, places: list[Place], place: Place, names: Collection[str]) -> bool:
    """Tell whether nothing that is collected in a place, or given back by its function, goes through a model again.

    Args:
        written: What the notebook's code says.
        places: The functions that the failed cell leads to, and the cell itself.
        place: Where it is collected.
        names: What it is collected under, as the place calls it.
    """
    models = models_in(written)
    if meets_model(place.body, names, models):
        return False
    todo = [place.definition.name] if place.definition is not None else []
    met = set(todo)
    while todo:
        function = todo.pop()
        for one in places:
            given = given_by(one.body, function)
            if meets_model(one.body, given, models, function):
                return False
            if not given:
                continue
            if one.definition is not None and one.definition.name not in met:
                met.add(one.definition.name)
                todo.append(one.definition.name)
    return True


def models_in(written: Written, *, apart: bool = False, evaluating: bool = False) -> set[str]:
    """Give the names of models, and of attributes that are one.

    Args:
        written: What the notebook's code says.
        apart: Only those through which each row of a batch goes by itself.
        evaluating: Only those of which `eval()` was called.
    """
    found = [one for known in (written.kept, *written.local.values()) for one in known.items()]
    models = [
        (path.removesuffix(_OF_MODEL).rpartition(".")[2], kept) for path, kept in found if path.endswith(_OF_MODEL)
    ]
    others = {name for name, one in models if (apart and not one.apart) or (evaluating and not one.evaluates)}
    return {name for name, _ in models} - others
