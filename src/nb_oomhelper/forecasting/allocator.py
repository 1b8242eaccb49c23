"""PyTorch's caching allocator, replayed: from sizes that are asked for to what is reserved of the device.

The rules are those of c10/cuda/CUDACachingAllocator.cpp (PyTorch 2.13 and 2.14): blocks of 512 bytes; requests up to
1 MiB share segments of 2 MiB, those below 10 MiB segments of 20 MiB, larger ones have a segment of their own in whole
2 MiB; the smallest free block that is large enough is taken, of those of one size the one in the oldest segment, and
split where enough is left of it. Expandable segments grow page by page, 2 MiB or 20 MiB each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.forecasting.pieces import Piece, Pieces

_OPTION = re.compile(r"(\w+):(\[[^\]]*\]|[^,]*)")  # a value may be a list: `[256:1,512:2]`
_MIB = 1 << 20
_ROUND, _SMALL = 512, _MIB
_SMALL_SEGMENT, LARGE_SEGMENT, _OWN_SEGMENT, _OWN_ROUND = 2 * _MIB, 20 * _MIB, 10 * _MIB, 2 * _MIB
_GAP = 1 << 44  # between the made-up addresses of two growing segments


class NoRoomError(Exception):
    """The device has no room for a request, not even once the cache is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What PYTORCH_ALLOC_CONF sets, as far as it is replayed.

    Attributes:
        expandable: Segments grow.
        largest_split: Bytes above which a block is not split, or None.
        divisions: Into how many steps a power of two is divided for rounding; 0 for none.
        others: Settings that are not replayed.
    """

    expandable: bool = False
    largest_split: int | None = None
    divisions: int = 0
    others: tuple[str, ...] = ()

    def rounded(self, size: int) -> int:
        """Bytes of the block that a request gets."""
        size, parts = max(size, 1), self.divisions
        if parts > 1 and size > _ROUND * parts:
            below = 1 << (size.bit_length() - 1)
            step = below // parts
            return size if size == below or not step else -(-size // step) * step
        return -(-size // _ROUND) * _ROUND

    def splits(self, small: bool, wanted: int, left: int) -> bool:
        """Whether what is left of a block becomes one of its own.

        Args:
            small: It is in the pool of small blocks.
            wanted: Bytes of the request.
            left: Bytes of the rest.
        """
        if small or self.expandable:
            return left >= _ROUND
        return (self.largest_split is None or wanted < self.largest_split) and left > _SMALL

    def too_large(self, wanted: int, size: int) -> bool:
        """Whether a free block is kept for larger requests.

        Args:
            wanted: Bytes of the request.
            size: Bytes of the block.
        """
        most = self.largest_split
        if most is None or self.expandable:
            return False
        return wanted < most <= size or (wanted >= most and size >= wanted + LARGE_SEGMENT)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the allocator's settings from environment variables."""
    text = environment.get("PYTORCH_CUDA_ALLOC_CONF") or environment.get("PYTORCH_ALLOC_CONF") or ""
    pairs = dict(_OPTION.findall(text.replace(" ", "")))
    split, divisions = pairs.pop("max_split_size_mb", ""), pairs.pop("roundup_power2_divisions", "")
    left = [name for name in pairs if name not in ("expandable_segments", "per_process_memory_fraction", "backend")]
    left += ["backend"] if pairs.get("backend", "native") != "native" else []
    left += [] if divisions.isdecimal() or not divisions else ["roundup_power2_divisions"]
    return Settings(
        expandable=pairs.get("expandable_segments", "").lower() == "true",
        largest_split=int(split) * _MIB if split.isdecimal() else None,
        divisions=int(divisions) if divisions.isdecimal() else 0,
        others=tuple(left),
    )


class CachingAllocator:
    """One device's pool, for one stream.

    Attributes:
        allocated, reserved: Bytes now.
        peak_allocated, peak_reserved: The most that they have been.
    """

    def __init__(self, settings: Settings, room: int | None = None) -> None:
        """Begin with an empty pool.

        Args:
            settings: As PyTorch has them.
            room: Bytes that the device still has to reserve; None is without end.
        """
        self._settings, self._room = settings, room
        self._pools = {True: Pieces(), False: Pieces()}
        self._used: dict[int, Piece] = {}
        self._next, self._segments = _GAP << 4, 0
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = 0

    def begin(self, segments: Iterable[dict[str, Any]]) -> None:
        """Take over the segments that there are, as `torch.cuda.memory_snapshot()` tells them.

        Args:
            segments: Of one device, the oldest first; private pools are left out.
        """
        for told in segments:
            if tuple(told.get("segment_pool_id", (0, 0))) == (0, 0):
                self._take_over(told)
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def _take_over(self, told: dict[str, Any]) -> None:
        small, grows = told["segment_type"] == "small", bool(told.get("is_expandable"))
        last: Piece | None = None
        address = told["address"]
        for block in told["blocks"]:
            used = block["state"] != "inactive"
            piece = Piece(address, block["size"], small, self._segments, used, last, None, grows)
            if last is not None:
                last.after = piece
            address, last = address + piece.size, piece
            if piece.used:
                self._used[piece.address] = piece
                self.allocated += piece.size
            else:
                self._pools[small].put(piece)
        if grows:
            self._pools[small].tail = last
        self.reserved += told["total_size"]
        self._segments += 1

    def allocate(self, size: int) -> int:
        """Give room for a request.

        Args:
            size: Bytes that are asked for.

        Returns:
            Its address.

        Raises:
            NoRoomError: There is none.
        """
        wanted = self._settings.rounded(size)
        small = wanted <= _SMALL
        piece = self._find(wanted, small)
        if piece is None:
            piece = self._reserve(wanted, small)
        if self._settings.splits(piece.small, wanted, piece.size - wanted):
            self._pools[small].split(piece, wanted)
        piece.used = True
        self._used[piece.address] = piece
        self.allocated += piece.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return piece.address

    def free(self, address: int) -> None:
        """Give a block back to the pool; what is not known there is nothing."""
        piece = self._used.pop(address, None)
        if piece is None:
            return
        self.allocated -= piece.size
        piece.used = False
        pool = self._pools[piece.small]
        pool.put(pool.merged(piece))

    def _find(self, wanted: int, small: bool) -> Piece | None:
        piece = self._pools[small].smallest(wanted, tail_last=self._settings.expandable)
        if piece is None or self._settings.too_large(wanted, piece.size):
            return None
        self._pools[small].take(piece)
        return piece

    def _reserve(self, wanted: int, small: bool) -> Piece:
        if self._settings.expandable:
            return self._grow(wanted, small)
        size = _segment(wanted, small)
        self._make_room(size)
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        self._next += size + _GAP
        self._segments += 1
        return Piece(self._next - size, size, small, self._segments)

    def _grow(self, wanted: int, small: bool) -> Piece:
        """Map as many pages more as the last free piece of the growing segment lacks."""
        page, pool = _SMALL_SEGMENT if small else LARGE_SEGMENT, self._pools[small]
        tail = pool.tail
        have = tail.size if tail is not None and not tail.used else 0
        more = -(-(wanted - have) // page) * page
        self._make_room(more)
        tail = pool.tail  # emptying the cache may have taken it
        self.reserved += more
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        if tail is not None and not tail.used:
            pool.take(tail)
            tail.size += more
            return tail
        start = tail.address + tail.size if tail is not None else self._new_range()
        piece = Piece(start, more, small, before=tail, grows=True)
        if tail is not None:
            tail.after = piece
        pool.tail = piece
        return piece

    def _new_range(self) -> int:
        self._next += _GAP
        return self._next

    def _make_room(self, size: int) -> None:
        if self._room is None or self.reserved + size <= self._room:
            return
        self._empty_cache()
        if self.reserved + size > self._room:
            raise NoRoomError

    def begin_anew(self) -> None:
        """Give back what is free, and count the most from here on."""
        self._empty_cache()
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def _empty_cache(self) -> None:
        """Give whole free segments back."""
        for pool in self._pools.values():
            for piece in pool.whole_segments():
                pool.take(piece)
                self.reserved -= piece.size
                pool.tail = None if pool.tail is piece else pool.tail


def _segment(wanted: int, small: bool) -> int:
    """Bytes of a new segment."""
    if small:
        return _SMALL_SEGMENT
    return LARGE_SEGMENT if wanted < _OWN_SEGMENT else -(-wanted // _OWN_ROUND) * _OWN_ROUND
