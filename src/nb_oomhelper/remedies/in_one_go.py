"""What is done at once where parts would do: all rows through a model, or all compared with all."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.may_move import models_in
from nb_oomhelper.remedies.on_the_way import learns
from nb_oomhelper.remedies.part_sizes import count_parts
from nb_oomhelper.remedies.places import Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import cures
from nb_oomhelper.source.in_parts import PARTS, joins_rows, model_in_parts, pairs_in_parts
from nb_oomhelper.source.tree import is_at, last_name, walk

_OTHER_AXES = {"1", "2", "3", "-1", "-2"}
_FEW = 8  # rows, that are too few to go in parts: one large image


def find_in_one_go(written: Written, event: OomEvent, shortage: Shortage, places: list[Place]) -> Iterator[Mistake]:
    """Find what can be done in parts, where nothing of it is trained.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        shortage: What the cell needs.
        places: Where it may be written.
    """
    if event.phase == "train":
        return
    detached = evaluates_with_graph(written, event, places)
    if written.autograd and not detached:
        return
    for place in places:
        if place.line is None:
            continue
        needs, count = shortage.needs, count_parts(event, shortage)
        if not detached and (found := pairs_in_parts(place.text, place.body, place.line, count)):
            left = None if needs is None else needs - needs // count
            yield Mistake(
                kind="pairs_in_parts", subject=found[0], place=place, edits=found[1], explains=left, in_cell=True
            )
        elif (
            event.backend != "host"
            and written.autograd is not None
            and (
                found := model_in_parts(
                    place.text, place.body, place.line, models_in(written, apart=True), ".detach()" if detached else ""
                )
            )
        ):
            rows = _rows_of(written, place, found[0])
            if rows is None or rows < _FEW or any(map(joins_rows, model_code(written))) or _lacks_axis(written, rows):
                continue
            # how much of it comes out, nobody has seen
            half = None if needs is None or _is_given_back(place) else needs // 2
            yield Mistake(
                kind="model_in_parts", subject=found[0], place=place, edits=found[1], explains=half, in_cell=True
            )


def evaluates_with_graph(written: Written, event: OomEvent, places: list[Place]) -> bool:
    """Tell whether a graph is made that nobody goes back through: it is said so, and nothing on the way trains.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        places: Where it may be written.
    """
    if not written.autograd:
        return False
    words = {word for place in places for node in place.body for word in cures.words_in(node)}
    said = event.phase == "infer" or not words.isdisjoint({"eval", "detach"} | models_in(written, evaluating=True))
    return said and not learns(written) and not any(cures.trains(node) for place in places for node in place.body)


def _lacks_axis(written: Written, rows: int) -> bool:
    """Whether a part has one row, of which `squeeze()` in a model would take the axis of the rows, too."""
    last = (rows - 1) % -(-rows // PARTS) + 1
    calls = [one for one in walk(model_code(written)) if isinstance(one, ast.Call) and last_name(one.func) == "squeeze"]
    axes = [{ast.unparse(part) for part in (*one.args, *(key.value for key in one.keywords))} for one in calls]
    return last == 1 and any(not told & _OTHER_AXES for told in axes)


def model_code(written: Written) -> list[cures.Function]:
    """Give what the notebook's models do: `forward`, and the functions and methods that may be called by it.

    Args:
        written: What the notebook's code says.
    """
    todo, met, found = {"forward"}, set[str](), list[cures.Function]()
    while todo:
        met |= todo
        functions = [written.function(one) for one in written.definitions if one.name in todo]
        found += [one[1] for one in functions if one is not None]
        todo = {word for one in functions if one is not None for word in cures.words_in(one[1])} - met
    return found


def _rows_of(written: Written, place: Place, text: str) -> int | None:
    """How many rows something has, by the name that is written; None where nobody knows."""
    name = text.removesuffix(")").rpartition("(")[2]  # `torch.from_numpy(X)`
    kept = written.kept_in(place.definition).get(name)
    return None if kept is None or kept.shape is None else next(iter(kept.shape), 1)


def _is_given_back(place: Place) -> bool:
    """Whether what comes out is returned right there: nobody sees then whether it is a tensor."""
    line = place.line or 0
    returns = [one for part in place.body for one in ast.walk(part) if isinstance(one, ast.Return)]
    return any(is_at(one, line) and isinstance(one.value, ast.Call) for one in returns)
