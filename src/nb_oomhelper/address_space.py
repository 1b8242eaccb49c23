"""How much address space this process may still map, where that is limited; told cheaply, even where none is left."""

from __future__ import annotations

import os
from pathlib import Path

SCARCE = 64 << 20  # bytes; with less room than this, every step of ours must be one that can be done without


def room() -> int | None:
    """Bytes that this process may still map under RLIMIT_AS and RLIMIT_DATA.

    Returns:
        The tighter of the two; None where nothing limits it, or it cannot be told.
    """
    try:
        import resource

        limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
        if all(limit == resource.RLIM_INFINITY for limit in limits):
            return None
        # proc(5): the size of all mappings is the first figure, data and stack the sixth, in pages
        pages = Path("/proc/self/statm").read_text("ascii").split()
        used = [int(pages[field]) * os.sysconf("SC_PAGE_SIZE") for field in (0, 5)]
        left = [limit - taken for limit, taken in zip(limits, used, strict=True) if limit != resource.RLIM_INFINITY]
        return max(0, min(left))
    except (ImportError, AttributeError, OSError, ValueError, IndexError):  # Windows, or a system without /proc
        return None
    except MemoryError:
        return 0


def is_scarce() -> bool:
    """Whether so little is left that even a message in many parts may fail half-way."""
    left = room()
    return left is not None and left < SCARCE
