"""The blocks of the replayed allocator: split, put together, and found by their size."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Piece:
    """A block in a segment, linked to its neighbors there; `age` is how many segments there were before this one."""

    address: int
    size: int
    small: bool
    age: int = 0
    used: bool = False
    before: Piece | None = None
    after: Piece | None = None
    grows: bool = False


class Pieces:
    """The free blocks of the small or the large pool: by size, then those of the oldest segment first.

    Attributes:
        tail: The last block of the segment that grows, or None.
    """

    def __init__(self) -> None:
        self._free: list[tuple[int, int, int, Piece]] = []
        self.tail: Piece | None = None

    def smallest(self, wanted: int, *, tail_last: bool) -> Piece | None:
        """Find the smallest block that is large enough, without taking it.

        Args:
            wanted: Bytes.
            tail_last: What can still grow counts as larger than all others.
        """
        at = bisect_left(self._free, wanted, key=lambda one: one[0])
        if tail_last and at + 1 < len(self._free) and self._free[at][-1] is self.tail:
            at += 1
        return self._free[at][-1] if at < len(self._free) else None

    def whole_segments(self) -> list[Piece]:
        """The blocks that are all of their segments."""
        return [piece for *_, piece in self._free if piece.before is None and piece.after is None]

    def split(self, piece: Piece, wanted: int) -> None:
        """Make a free block of what is left of one.

        Args:
            piece: The block, which keeps its beginning.
            wanted: Bytes that it keeps.
        """
        rest = Piece(
            piece.address + wanted, piece.size - wanted, piece.small, piece.age, False, piece, piece.after, piece.grows
        )
        if piece.after is not None:
            piece.after.before = rest
        piece.size, piece.after = wanted, rest
        if self.tail is piece:
            self.tail = rest
        self.put(rest)

    def merged(self, piece: Piece) -> Piece:
        """Put a block and its free neighbors together."""
        after, before = piece.after, piece.before
        if after is not None and not after.used:
            self.take(after)
            self._join(piece, after)
        if before is not None and not before.used:
            self.take(before)
            self._join(before, piece)
            return before
        return piece

    def _join(self, first: Piece, second: Piece) -> None:
        first.size, first.after = first.size + second.size, second.after
        if second.after is not None:
            second.after.before = first
        if self.tail is second:
            self.tail = first

    def put(self, piece: Piece) -> None:
        """Add a free block."""
        insort(self._free, (piece.size, piece.age, piece.address, piece), key=lambda one: one[:3])

    def take(self, piece: Piece) -> None:
        """Take a free block away."""
        free = self._free
        at = bisect_left(free, (piece.size, piece.age, piece.address), key=lambda one: one[:3])
        free.pop(at)
