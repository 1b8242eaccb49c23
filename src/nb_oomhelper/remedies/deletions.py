"""Which variables are deleted in one go, where none of them would do alone."""

from __future__ import annotations

from collections.abc import Container

from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.holdings import Holdings

_MOST = 5  # variables
_WORTH = 0.05  # of what is missing: what a variable must keep alone
_PLENTY = 1.1  # times what the cell may need: as much is to be free when it runs again


def delete_together(held: Holdings, diagnosis: Diagnosis, needed: Container[str]) -> tuple[str, ...]:
    """Choose variables that nothing needs, the largest first, until the cell has plenty of room.

    Args:
        held: Who keeps what.
        diagnosis: What the cell needs, and what was free.
        needed: Variables that the cell needs.

    Returns:
        Two names or more; none where one is enough, there are no more, or what the cell had made was not measured.
    """
    if diagnosis.rerun is None or diagnosis.free is None or diagnosis.made is None:
        return ()
    failed = held.of_failures()
    missing = (diagnosis.rerun + diagnosis.hidden) * _PLENTY - diagnosis.free
    rows = [(held.rows[index], index) for index in held.of_kind("variable")]
    large = [(-row.own, row.name, index) for row, index in rows if row.own >= _WORTH * missing and row.own]
    chosen: dict[str, int] = {}
    for _, name, index in sorted(large):
        if held.freed_by(failed.union(chosen.values())) >= missing or len(chosen) == _MOST:
            break
        if name.isidentifier() and name not in needed:
            chosen[name] = index
    return tuple(chosen) if len(chosen) > 1 else ()
