"""What a fix did, by the figures before and after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nb_oomhelper.records.memory import Measure
from nb_oomhelper.records.remedy import Outcome, decrease

ReadMeasure = Callable[[], Measure]


def outcome_between(
    fix: str,
    before: Measure,
    after: Measure,
    *,
    requested: int | None = None,
    rerun: int | None = None,
    printed: int = 0,
    **facts: Any,
) -> Outcome:
    """Compare the figures before and after.

    Args:
        fix: What was done.
        before, after: The figures, in bytes.
        requested, rerun: Bytes that the failed request and the whole cell need.
        printed: Bytes by which these may be more or less, as they were printed.
        facts: More of the outcome's attributes.

    Returns:
        The outcome, with the bytes freed and whether the request and the cell would fit now.
    """
    freed = decrease(before.resident, after.resident)
    if before.backend != "host":
        freed = decrease(before.allocated, after.allocated)
    fits, whole = (_enough(after.free, needed, printed) for needed in (requested, rerun))
    return Outcome(
        fix=fix, before=before, after=after, freed=freed, requested=requested, fits=fits, whole_cell_fits=whole, **facts
    )


def _enough(free: int | None, needed: int | None, printed: int) -> bool | None:
    """Whether so many bytes are free; None where either is unknown, or the request is not known so closely."""
    if free is None or needed is None or needed - printed <= free < needed + printed:
        return None
    return free >= needed
