"""Training steps of all rows at once, which parts of them can add up to."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.remedies.elements import Kept
from nb_oomhelper.remedies.in_one_go import model_code
from nb_oomhelper.remedies.may_move import models_in
from nb_oomhelper.remedies.model_weights import still_to_come
from nb_oomhelper.remedies.on_the_way import gathers
from nb_oomhelper.remedies.places import Mistake, Place
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.cures import Function, words_in
from nb_oomhelper.source.in_parts import joins_rows
from nb_oomhelper.source.row_functions import bound_in
from nb_oomhelper.source.source_text import Edit
from nb_oomhelper.source.step_parts import step_in_parts
from nb_oomhelper.source.tree import is_name, last_name, names_bound, pairs, walk

_MEANS = frozenset(
    {"MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCEWithLogitsLoss", "BCELoss", "CrossEntropyLoss"}
)
_LOSS = frozenset({"_Loss", "_WeightedLoss", "Module", "object"})
_DRAWING = frozenset(
    {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "gumbel_softmax"}
    | {"rsample", "sample", "bernoulli", "bernoulli_", "multinomial", "normal", "normal_", "uniform_", "randint"}
    | {"exponential_", "rrelu", "random"}
)
_FLATTENS = frozenset({"view", "reshape", "flatten", "ravel"})
_FEW = 64  # rows: fewer are no data


def find_whole_steps(
    written: Written, event: OomEvent, held: Holdings, shortage: Shortage, places: list[Place]
) -> Iterator[Mistake]:
    """Find steps that go forward and backward with all the data there is.

    Args:
        written: What the notebook's code says.
        event: What failed, with its phase.
        held: Who keeps memory.
        shortage: What the cell needs.
        places: Where it may be written.
    """
    if event.phase == "infer" or event.stage == "optimizer":
        return
    code = model_code(written)
    if any(map(joins_rows, code)) or _draws(code):
        return
    flat = any(map(_may_be_flat, code))
    half = None if shortage.needs is None else shortage.needs // 2 - still_to_come(held)
    for place in places:
        for name, edits in _in_parts(written, place, flat=flat):
            yield Mistake(
                kind="step_in_parts",
                subject=name,
                place=place,
                edits=edits,
                explains=half,
                in_cell=True,
                partly=gathers(written, places, event.backend, ()),
            )


def _in_parts(written: Written, place: Place, *, flat: bool) -> Iterator[tuple[str, list[Edit]]]:
    """The step that was running in a place, for each number of rows that tensors there have."""
    if place.line is None:
        return
    kept = written.kept_in(place.definition)
    own = {name for name in bound_in(place.text.tree, place.body) if f"{name}._modules" not in kept}
    losses = {name: kind for name, kind in _mean_losses(written.known_in(place.definition)).items() if name not in own}
    models = models_in(written, apart=True) - losses.keys() - own  # a loss is a module, too
    read = frozenset[str]() if place.definition else _read_by_functions(written, place)
    shapes = {path: one.shape for path, one in kept.items() if one.shape and _is_data(one)}
    for count in {shape[0] for shape in shapes.values() if shape[0] >= _FEW}:
        found = step_in_parts(
            place.text,
            place.body,
            place.line,
            models,
            {path: len(shape) for path, shape in shapes.items() if shape[0] == count},
            losses,
            written.names,
            read,
            flat=flat,
            at_top=place.definition is None,
        )
        if found is not None:
            yield found


def _mean_losses(kept: Mapping[str, Kept]) -> dict[str, str]:
    """Names of PyTorch's losses that give the mean over all rows, with what they are."""
    found = {}
    for path, one in kept.items():
        name, _, rest = path.partition(".")
        kinds = one.owners - _LOSS
        if rest == "_modules" and one.apart and "_Loss" in one.owners and len(kinds) == 1 and kinds <= _MEANS:
            found[name] = next(iter(kinds))
    return found


def _is_data(one: Kept) -> bool:
    """Whether it is a tensor that nothing goes back through: what lies before it would be gone after the first part."""
    return one.dtype.startswith("torch.") and (one.element is None or one.element.kind not in ("graph", "number"))


def _read_by_functions(written: Written, place: Place) -> frozenset[str]:
    return frozenset(name for name in names_bound(place.body) if written.is_read_by_functions(name))


def _draws(code: list[Function]) -> bool:
    """Whether a model of the notebook's draws random numbers: in parts it would draw others."""
    given = {one.arg for one in walk(code) if isinstance(one, ast.keyword)}
    return "dropout_p" in given or any(_DRAWING & words_in(one) for one in code)


def _may_be_flat(function: Function) -> bool:
    """Whether a model of the notebook's may give no column, or no axis at all for a part of one row."""
    return "squeeze" in words_in(function) or any(
        isinstance(one, ast.Subscript) or (isinstance(one, ast.Call) and last_name(one.func) in _FLATTENS)
        for one in _given_back(function)
    )


def _given_back(function: Function) -> Iterator[ast.expr]:
    """What a function returns; of a name, what was bound to it last."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            name = node.value.id if isinstance(node.value, ast.Name) else ""
            made = [value for one in walk(function.body) for target, value in pairs(one) if is_name(target, name)]
            before = [one for one in made if one.lineno < node.lineno]
            yield max(before, key=lambda one: one.lineno) if before else node.value
