"""A function tried on a few rows, before it is called with all of them in parts."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from nb_oomhelper.failure.detection import detect
from nb_oomhelper.remedies.releasing import give_back

DEPEND = "the rows depend on each other: in parts something else would come out"


def attempt(function: Callable[..., Any], rows: list[Any], *, last: bool) -> tuple[Any] | None:
    """Give what a function gives for some rows.

    Args:
        function: The function.
        rows: Of each table.
        last: There are no fewer rows to try.

    Returns:
        One thing; None where they were too many.
    """
    try:
        return (function(*rows),)
    except Exception as error:
        if last or detect(error) is None:
            raise
    give_back(None)
    return None


def drawn_apart(
    function: Callable[..., Any], calls: list[tuple[Callable[..., Any], list[Any]]], *, last: bool
) -> tuple[list[Any], bool] | None:
    """Give what comes out of some calls, and whether they draw; random numbers go on from where they were before.

    Args:
        function: Whose generators are looked at.
        calls: What is called, and what with.
        last: There are no fewer rows to try.

    Returns:
        None where the rows were too many.
    """
    sources = [*_random_sources(), *_own_generators(function)]
    states = [get() for get, _ in sources]
    try:
        made = [attempt(one, rows, last=last) for one, rows in calls]
        drawn = any(_differ(get(), state) for (get, _), state in zip(sources, states, strict=True))
    finally:
        for (_, put), state in zip(sources, states, strict=True):
            put(state)
    whole = [one[0] for one in made if one is not None]
    return (whole, drawn) if len(whole) == len(made) else None


def _differ(state: Any, other: Any) -> bool:
    if isinstance(state, dict):
        return any(_differ(state[key], other[key]) for key in state)
    if isinstance(state, (tuple, list)):
        return any(_differ(one, two) for one, two in zip(state, other, strict=True))
    return bool(state.tolist() != other.tolist()) if hasattr(state, "tolist") else bool(state != other)


def _random_sources() -> list[tuple[Callable[[], Any], Callable[[Any], object]]]:
    """How the state of each source of random numbers is read and set; what is not loaded has none."""
    found: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [(random.getstate, random.setstate)]
    if (numpy := sys.modules.get("numpy")) is not None:
        found.append((numpy.random.get_state, numpy.random.set_state))
    if (torch := sys.modules.get("torch")) is not None:
        found.append((torch.get_rng_state, torch.set_rng_state))
        if torch.cuda.is_initialized():
            found.append((torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all))
    return found


def _own_generators(function: Callable[..., Any]) -> list[tuple[Callable[[], Any], Callable[[Any], object]]]:
    """The same of NumPy's generators that a function knows by a name: `rng = np.random.default_rng()`."""
    numpy, plain = sys.modules.get("numpy"), getattr(function, "__func__", function)
    known = [*getattr(plain, "__globals__", {}).values()]
    for cell in getattr(plain, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # it is empty
            known.append(cell.cell_contents)
    kind = None if numpy is None else numpy.random.Generator
    found = {id(one): one.bit_generator for one in known if type(one) is kind}
    return [(partial(getattr, one, "state"), partial(setattr, one, "state")) for one in found.values()]
