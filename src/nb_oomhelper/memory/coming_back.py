"""What a request can have once holders are gone: their bytes are of use only where they lie together."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nb_oomhelper.memory.room import left_of
from nb_oomhelper.records.cache import ComesFree, comes_free
from nb_oomhelper.records.memory import AllocatorMemory, MemorySnapshot

_SMALL_REQUEST = 20 << 20  # bytes: PyTorch prints this for all from 1 to 10 MiB, which a smaller piece may serve


@dataclass(frozen=True, slots=True, kw_only=True)
class ComingBack:
    """Bytes that come back, of this framework's allocator and of others.

    Attributes:
        freed: Bytes of tensors that are gone then.
        least, most: Bytes that one more request can have, beside what is free: surely, and at best.
        in_sum: The most that several requests can have.
        piece: Bytes of the largest piece that the allocator keeps, and can serve a request from; None where its
            pieces are not known.
        page: Bytes that a request is rounded up to; 1 where it is not.
        earlier_gaps: Bytes between tensors that are not the failed cell's: they were of no use to it, either.
    """

    freed: int
    least: int
    most: int
    in_sum: int
    piece: int | None = None
    page: int = 1
    earlier_gaps: int = 0

    def asked(self, requested: int) -> int:
        """Give what a request takes of the driver."""
        return -(-requested // self.page) * self.page

    def served(self, requested: int, printed: int, fits: bool | None) -> bool | None:
        """Say whether a request fits, where what the driver has said so far.

        Args:
            requested: Its bytes.
            printed: Bytes by which they may be more or less.
            fits: Whether the driver has as much.
        """
        if fits or self.piece is None:
            return fits
        if self.piece >= requested + printed:
            return True
        unsure = self.piece >= requested - printed or (self.piece > 0 and requested <= _SMALL_REQUEST)
        return None if unsure else fits


def coming_back(
    snapshot: MemorySnapshot,
    before: frozenset[int],
    released: frozenset[int],
    frees: int,
    *,
    emptied: bool,
    outside: bool = False,
) -> ComingBack:
    """Tell what comes back where holders go.

    Args:
        snapshot: Memory, with its holders.
        before: Holders that are gone already: indexes of rows of the snapshot's holdings.
        released: Those that go now.
        frees: Bytes that go now where it is not holders that go.
        emptied: Whether the caches are emptied, too.
        outside: What goes is another process's.
    """
    held, own = snapshot.holdings, snapshot.allocator
    earlier = held.freed_by(before)
    freed = held.freed_by(before | released) - earlier if released else frees
    if outside:
        useful = earlier + _below_limit(snapshot, freed)
        return ComingBack(freed=freed, least=useful, most=useful, in_sum=useful)
    if own is None or own.whole is None or own.never_releases:
        return _in_sum(snapshot, earlier, freed, emptied=emptied)
    others, others_at_most = _of_others(snapshot) if emptied else (0, 0)
    if own.segments is None:  # too many blocks to know which of them lie together
        at_most = earlier + freed + (own.cached or 0) + others_at_most
        return ComingBack(freed=freed, least=own.whole + others, most=at_most, in_sum=at_most)
    then = comes_free(own.segments, held.freed_at(before | released))
    gone = then.freed - comes_free(own.segments, held.freed_at(before)).freed
    unplaced = max(0, earlier + freed - then.freed)  # another framework's, or of objects that no address is known of
    if released and unplaced < 1 << 20:
        freed, unplaced = gone, 0
    earlier = comes_free(own.segments, held.freed_at(held.of_kind("failed_cell"))).pieces
    return replace(_in_pieces(own, then, freed, unplaced, others, others_at_most), earlier_gaps=earlier)


def _in_pieces(
    own: AllocatorMemory, then: ComesFree, freed: int, unplaced: int, others: int, others_at_most: int
) -> ComingBack:
    page = max((one.page for one in own.segments or () if not one.small), default=0)
    joined = then.largest if page else 0  # what is left of pages may lie beside those that are mapped anew
    return ComingBack(
        freed=freed,
        least=then.given_back + others,
        most=then.given_back + others_at_most + unplaced + joined,
        in_sum=then.given_back + then.pieces + others_at_most + unplaced,
        piece=then.largest,
        page=page or 1,
    )


def _in_sum(snapshot: MemorySnapshot, earlier: int, freed: int, *, emptied: bool) -> ComingBack:
    """Where it lies does not count, as for the driver itself; or nobody knows it."""
    back = earlier + freed
    least, most = (0, back) if snapshot.mixed else (back, back)
    if emptied:
        least, most = least + (snapshot.releasable or 0), most + (snapshot.releasable_at_most or 0)
    return ComingBack(freed=freed, least=least, most=most, in_sum=most)


def _below_limit(snapshot: MemorySnapshot, size: int) -> int:
    """What this process can have of bytes that come free on the device: what lies past its limit is of no use."""
    own, free = snapshot.allocator, snapshot.device.free if snapshot.device else None
    below = left_of(own.limit, own.reserved) if own else None
    return size if below is None or free is None else max(0, min(free + size, below) - min(free, below))


def _of_others(snapshot: MemorySnapshot) -> tuple[int, int]:
    """Bytes that the other frameworks' caches give back, at least and at most; past a limit they are of no use."""
    least = 0 if snapshot.mixed else sum(one.releasable or 0 for one in snapshot.others)
    return least, sum(one.releasable_at_most or 0 for one in snapshot.others)
