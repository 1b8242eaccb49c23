"""How much address space this process may still map, where that is limited; told cheaply, even where none is left.

For an error there must be some. A soft limit that the process may raise is raised for the while (`widen`): that takes
nothing from the user's cells. Where the hard limit stands in the way, some is put by beforehand (shell/reserve.py).
"""

from __future__ import annotations

import os
from pathlib import Path

PUT_BY = 128 << 20  # bytes at most that are had for the moment when there is no room left
_SHARE = 6  # of the room, so much at most is put by: it is the user's, and a release needs room, too
_LEAST = 16 << 20  # bytes below which nobody would be helped
SCARCE = 64 << 20  # bytes; with less room than this, every step of ours must be one that can be done without
_KINDS = ("RLIMIT_AS", "RLIMIT_DATA")
_widened: dict[str, tuple[int, int]] = {}  # the user's soft limit, and the one that stands for it now


def limits() -> tuple[int | None, int | None]:
    """RLIMIT_AS and RLIMIT_DATA of this process in bytes, as the user has them; None where there is none."""
    address_space, data = (None if found is None else _own(kind, found[0]) for kind, found in _read())
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


def room(*, widened: bool = True) -> int | None:
    """Bytes that this process may still map under RLIMIT_AS and RLIMIT_DATA.

    Args:
        widened: With what the limits are raised by for the while.

    Returns:
        The tighter of the two; None where nothing limits it, or it cannot be told.
    """
    try:
        found = [None if one is None else (one[0] if widened else _own(kind, one[0])) for kind, one in _read()]
        if found == [None, None]:
            return None
        pairs = zip(found, used(), strict=True)
        left = [limit - taken for limit, taken in pairs if limit is not None and taken is not None]
        return max(0, min(left)) if left else None
    except MemoryError:
        return 0


def can_widen() -> bool:
    """Whether there is a limit, and each that there is may be raised by this process itself."""
    found = [(_own(kind, one[0]), one[1]) for kind, one in _read() if one is not None]
    return bool(found) and all(hard is None or hard - own >= PUT_BY for own, hard in found)


def widen(size: int) -> None:
    """Raise the soft limits for the while; each stays what it is where that fails.

    Args:
        size: Bytes above what the user has set.
    """
    for kind, one in _read():
        if one is not None:
            own = _own(kind, one[0])
            _set(kind, own, own + size)


def narrow(spare: int = 0) -> None:
    """Put the limits back, but for those that somebody has set meanwhile.

    Args:
        spare: Bytes that can be had all the same while the process holds all that it may.
    """
    if not _widened:
        return
    for (kind, one), taken in zip(_read(), used(), strict=True):
        if one is not None and kind in _widened:
            own = _own(kind, one[0])
            _set(kind, own, min(one[0], max(own, (taken or 0) + spare)))


def put_by(left: int) -> int:
    """Say how much of the room is put by for an error, where the limit cannot be raised.

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


def _read() -> list[tuple[str, tuple[int, int | None] | None]]:
    """Each limit's soft and hard bytes; None where there is no limit, or no hard one."""
    try:
        import resource

        found = [resource.getrlimit(getattr(resource, kind)) for kind in _KINDS]
    except (ImportError, AttributeError, OSError, ValueError):  # Windows, or a system without these limits
        return [(kind, None) for kind in _KINDS]
    endless = resource.RLIM_INFINITY
    return [
        (kind, None if soft == endless else (soft, None if hard == endless else hard))
        for kind, (soft, hard) in zip(_KINDS, found, strict=True)
    ]


def _own(kind: str, soft: int) -> int:
    """The user's soft limit: the one that stands, unless it is ours."""
    own, ours = _widened.get(kind, (soft, None))
    return own if soft == ours else soft


def _set(kind: str, own: int, soft: int) -> None:
    import resource

    number = getattr(resource, kind)
    hard = resource.getrlimit(number)[1]
    try:
        resource.setrlimit(number, (soft, hard))
    except (OSError, ValueError):  # above the hard one
        return
    _widened.pop(kind, None)
    if soft != own:
        _widened[kind] = (own, soft)
