"""A function called with some rows at a time, and what it gives joined: `nb_oomhelper.in_parts`."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.failure.detection import detect
from nb_oomhelper.remedies.joined_rows import Joined, is_same
from nb_oomhelper.remedies.releasing import give_back

PARTS = 32
_FEW = 4  # rows, that are computed alone and together with as many others


def in_parts(function: Callable[..., Any], *tables: Any, parts: int = PARTS) -> Any:
    """Call a function with some rows at a time, and give what it would have given for all of them.

    First it is called with the first rows alone and together: where something else comes out, the rows depend on each
    other, and nothing more is done. Where a part runs out of memory, smaller ones are taken from there on.

    Args:
        function: Gets some rows of each table; gives one row for each: an array, a tensor, a list, or a tuple or dict
            of such.
        tables: Arrays, tensors, lists or tuples, of as many rows each.
        parts: In how many parts to begin.

    Returns:
        The parts, joined along their first axis. No gradients go back through tensors.

    Raises:
        RowsError: The rows depend on each other, or a part gave something else than its rows.
        UsageError: There are no tables, or they differ in their number of rows.
    """
    count = _count_rows(tables)
    if count < 2:
        return function(*tables)
    _check_rows(function, tables, min(_FEW, count // 2))
    joined = Joined(count)
    done, size = 0, max(1, -(-count // max(1, parts)))
    while done < count:
        rows = [one[done : done + size] for one in tables]
        if (made := _attempt(function, rows, last=size == 1)) is None:
            size = -(-size // 2)
            continue
        joined.put(done, len(rows[0]), made[0])
        done += len(rows[0])
        del made, rows
    return joined.whole()


def _count_rows(tables: Sequence[Any]) -> int:
    try:
        counts = {len(one) for one in tables}
    except TypeError as error:
        raise UsageError("in_parts needs tables that have rows") from error
    if len(counts) != 1:
        raise UsageError("in_parts needs at least one table, and as many rows in each")
    return counts.pop()


def _attempt(function: Callable[..., Any], rows: list[Any], *, last: bool) -> tuple[Any] | None:
    """What a function gives for some rows; None where they were too many."""
    try:
        return (function(*rows),)
    except Exception as error:
        if last or detect(error) is None:
            raise
    give_back(None)
    return None


def _check_rows(function: Callable[..., Any], tables: Sequence[Any], few: int) -> None:
    """See on the first rows that each is computed by itself; random numbers go on from where they were."""
    sources = _random_sources()
    states = [get() for get, _ in sources]
    made = [
        function(*(_copied(one[start:end]) for one in tables))
        for start, end in ((0, few), (few, 2 * few), (0, 2 * few))
    ]
    drawn = any(_differ(get(), state) for (get, _), state in zip(sources, states, strict=True))
    for (_, put), state in zip(sources, states, strict=True):
        put(state)
    joined = Joined(2 * few)
    joined.put(0, few, made[0])
    joined.put(few, few, made[1])
    if not is_same(joined.whole(), made[2], values=not drawn):
        raise RowsError("the rows depend on each other: in parts something else would come out")


def _differ(state: Any, other: Any) -> bool:
    if isinstance(state, (tuple, list)):
        return any(_differ(one, two) for one, two in zip(state, other, strict=True))
    return bool(state.tolist() != other.tolist()) if hasattr(state, "tolist") else bool(state != other)


def _copied(rows: Any) -> Any:
    """Rows that a function may change; a deep copy of a tensor would copy all that it is a view of."""
    copy = getattr(rows, "clone", None) or getattr(rows, "copy", None)
    return rows if copy is None else copy()


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
