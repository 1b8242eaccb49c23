"""A function called with some rows at a time, and what it gives joined: `nb_oomhelper.in_parts`."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.failure.detection import detect
from nb_oomhelper.remedies.joined_rows import Joined, is_same
from nb_oomhelper.remedies.releasing import give_back

PARTS = 32
_PROBES = 64  # rows from all over the tables, that are computed in other company as well
_FEW = 8  # rows: of fewer nothing is seen
_DEPEND = "the rows depend on each other: in parts something else would come out"


def in_parts(function: Callable[..., Any], *tables: Any, parts: int = PARTS) -> Any:
    """Call a function with some rows at a time, and give what it would have given for all of them.

    First it is called with rows from all over the tables, alone and together; in their parts the same must come out
    for them. Where something else does, the rows depend on each other, and nothing more is done. Where a part runs
    out of memory, smaller ones are taken from there on.

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
    done, size = 0, max(1, -(-count // max(1, parts)))
    probes = _probed(function, tables, count, min(_PROBES, max(size, _FEW)))
    joined = Joined(count)
    while done < count:
        end = done + size + (size > 1 and count - done == size + 1)  # one row alone may come out in another form
        rows = [one[done:end] for one in tables]
        if (made := _attempt(function, rows, last=size == 1)) is None:
            size = -(-size // 2)
            continue
        joined.put(done, len(rows[0]), made[0])
        probes.check(done, len(rows[0]), made[0])
        done += len(rows[0])
        del made, rows
    return joined.whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probes:
    """Rows that were computed in other company: where they lie, what came out, and whether numbers were drawn."""

    at: list[int]
    made: Any
    drawn: bool

    def check(self, start: int, count: int, part: Any) -> None:
        """See that those among a part's rows have come out the same."""
        own = [(one, at - start) for one, at in enumerate(self.at) if start <= at < start + count]
        if not is_same(part, self.made, values=not self.drawn, rows=([at for _, at in own], [one for one, _ in own])):
            raise RowsError(_DEPEND)


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


def _probed(function: Callable[..., Any], tables: Sequence[Any], count: int, most: int) -> _Probes:
    """Compute rows from all over the tables, alone and together; of fewer where they run out of memory, too."""
    made = None
    while made is None:
        many = min(most, count)
        at = [one * (count - 1) // (many - 1) for one in range(many)]
        half = many // 2
        calls = [[_taken(one, some) for one in tables] for some in (at[:half], at[half:], at)]
        made = _drawn_apart(function, calls, last=most == _FEW)
        most = max(_FEW, most // 2)
    (first, second, together), drawn = made
    joined = Joined(many)
    joined.put(0, half, first)
    joined.put(half, many - half, second)
    if not is_same(joined.whole(), together, values=not drawn):
        raise RowsError(_DEPEND)
    return _Probes(at=at, made=together, drawn=drawn)


def _drawn_apart(function: Callable[..., Any], calls: list[list[Any]], *, last: bool) -> tuple[list[Any], bool] | None:
    """What comes out of some calls, and whether they draw; random numbers go on from where they were before."""
    sources = [*_random_sources(), *_own_generators(function)]
    states = [get() for get, _ in sources]
    try:
        made = [_attempt(function, rows, last=last) for rows in calls]
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


def _taken(table: Any, at: list[int]) -> Any:
    """Copies of some rows, which a function may change."""
    if hasattr(table, "shape"):
        return table[at]
    rows = [table[one] for one in at]
    with contextlib.suppress(Exception):  # of a tensor with a graph there is none
        rows = copy.deepcopy(rows)
    return tuple(rows) if isinstance(table, tuple) else rows


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
