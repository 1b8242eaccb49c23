"""How many parts a fix works in."""

from __future__ import annotations

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import Shortage
from nb_oomhelper.source.in_parts import PARTS

_APART = 33 * 2**20  # bytes: what is larger never lies among other things (mallopt(3): DEFAULT_MMAP_THRESHOLD_MAX)
_LARGEST = 128 * 2**20  # bytes: larger parts are no quicker
_AT_ONCE = 12  # arrays as large as one part, that may be there at once


def count_parts(event: OomEvent, shortage: Shortage, largest: int = 0) -> int:
    """Tell in how many parts to do what failed.

    On the host, parts of the size that the C library puts among other things leave holes in which the next ones do not
    fit, for something of each is kept behind them. So there are fewer and larger ones, where there is room for these.

    Args:
        event: What failed.
        shortage: What the cell needs.
        largest: Bytes of the largest array that is made in parts as well, and was there by then.
    """
    size = min(_LARGEST, (shortage.room or 0) // _AT_ONCE)
    if event.backend != "host" or event.requested is None or size < _APART:
        return PARTS
    return min(PARTS, max(2, max(event.requested, largest) // size))
