"""Sides of one comparison, timed in turns: what slows the machine down for a while slows all of them down."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Time = Callable[[], float]  # one measurement, in milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the things that are compared: its name and its times in milliseconds, in the order they were taken."""

    name: str
    times: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one of the times."""
        return statistics.median(self.times)

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the times lies below the first, a quarter above the second."""
        if len(self.times) < 2:
            return self.times[0], self.times[0]
        low, _, high = statistics.quantiles(self.times, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One comparison.

    Attributes:
        name: The benchmark that it belongs to.
        title: What was compared.
        sides: Ours first; the second is what the ratio is to, if there is one.
        goal: The most that the ratio should be; None where there is no such goal.
        notes: What the figures alone do not say.
        skipped: Why it was not measured, or None.
    """

    name: str
    title: str
    sides: tuple[Side, ...] = ()
    goal: float | None = None
    notes: tuple[str, ...] = ()
    skipped: str | None = None

    @property
    def ratio(self) -> float | None:
        """Median of the first side over that of the second."""
        return self.sides[0].median / self.sides[1].median if len(self.sides) > 1 else None


def take_turns(sides: Mapping[str, Time], repeats: int, warm_up: int = 1) -> tuple[Side, ...]:
    """Measure each side once a round, in an order that turns from round to round.

    Args:
        sides: What to measure, by name.
        repeats: Rounds that count.
        warm_up: Rounds before them that do not.
    """
    names: Sequence[str] = list(sides)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm_up + repeats):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            time = sides[name]()
            if turn >= warm_up:
                times[name].append(time)
    return tuple(Side(name=name, times=tuple(times[name])) for name in names)
