"""How much address space this process may still map, where that is limited; told cheaply, even where none is left."""

from __future__ import annotations

import os
from pathlib import Path

PUT_BY = 128 << 20  # bytes at most that are put by for the moment when there is no room left
_SHARE = 6  # of the room, so much at most is put by: it is the user's, and a release needs room, too
_LEAST = 16 << 20  # bytes below which nobody would be helped
SCARCE = 64 << 20  # bytes; with less room than this, every step of ours must be one that can be done without


def limits() -> tuple[int | None, int | None]:
    """RLIMIT_AS and RLIMIT_DATA of this process in bytes; None where there is none."""
    try:
        import resource

        found = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    except (ImportError, AttributeError, OSError, ValueError):  # Windows, or a system without these limits
        return None, None
    address_space, data = (None if limit == resource.RLIM_INFINITY else limit for limit in found)
    return address_space, data


def used() -> tuple[int | None, int | None]:
    """Bytes that count against each of the two; None where that cannot be told."""
    try:
        # proc(5): the size of all mappings is the first figure, data and stack the sixth, in pages
        pages = Path("/proc/self/statm").read_text("ascii").split()
        size = os.sysconf("SC_PAGE_SIZE")
        return int(pages[0]) * size, int(pages[5]) * size
    except (AttributeError, OSError, ValueError, IndexError):  # a system without /proc
        return None, None


def room() -> int | None:
    """Bytes that this process may still map under RLIMIT_AS and RLIMIT_DATA.

    Returns:
        The tighter of the two; None where nothing limits it, or it cannot be told.
    """
    try:
        bounds = limits()
        if bounds == (None, None):
            return None
        pairs = zip(bounds, used(), strict=True)
        left = [limit - taken for limit, taken in pairs if limit is not None and taken is not None]
        return max(0, min(left)) if left else None
    except MemoryError:
        return 0


def put_by(left: int) -> int:
    """Say how much of the room is put by for an error.

    Args:
        left: Bytes that this process may still map, with what is put by already.

    Returns:
        Bytes; 0 where it would be too little to help.
    """
    share = min(PUT_BY, left // _SHARE)
    return share if share >= _LEAST else 0


def is_scarce() -> bool:
    """Whether so little is left that even a message in many parts may fail half-way."""
    left = room()
    return left is not None and left < SCARCE
