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
    **facts: Any,
) -> Outcome:
    """Compare the figures before and after.

    Args:
        fix: What was done.
        before, after: The figures, in bytes.
        requested, rerun: Bytes that the failed request and the whole cell need.
        facts: More of the outcome's attributes.

    Returns:
        The outcome, with the bytes freed and whether the request and the cell would fit now.
    """
    freed = decrease(before.resident, after.resident)
    if before.backend != "host":
        freed = decrease(before.allocated, after.allocated)
    fits, whole = (
        None if needed is None or after.free is None else after.free >= needed for needed in (requested, rerun)
    )
    return Outcome(
        fix=fix, before=before, after=after, freed=freed, requested=requested, fits=fits, whole_cell_fits=whole, **facts
    )
