"""What an allocator holds from the driver, segment by segment, and what of it comes free where tensors go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSegment:
    """One stretch of addresses that an allocator holds from the driver.

    Attributes:
        start, size: Its first address, and its bytes.
        page: Bytes of the pages that are given back one by one; 0 where all of it is given back or nothing.
        small: Whether only requests up to 1 MiB are served from it.
        shared: Whether requests that name no pool may have what is free of it.
        kept: Whether emptying the cache leaves it as it is: a graph's pool, while that lives.
        used: Address and bytes of each block that is in use, ascending.
    """

    start: int
    size: int
    page: int = 0
    small: bool = False
    shared: bool = True
    kept: bool = False
    used: tuple[tuple[int, int], ...] = ()

    def free_runs(self, gone: Collection[int] = ()) -> Iterator[tuple[int, int]]:
        """Find where in it free bytes begin, and how many they are, once the blocks at `gone` are free."""
        place = self.start
        for address, size in self.used:
            if address in gone:
                continue
            if address > place:
                yield place - self.start, address - place
            place = address + size
        if place < self.start + self.size:
            yield place - self.start, self.start + self.size - place

    def given_back(self, begin: int, size: int) -> int:
        """Count the bytes of a free run that emptying the cache gives back.

        Args:
            begin, size: As `free_runs` gives them.
        """
        if self.kept:
            return 0
        if not self.page:
            return size if size == self.size else 0
        return max(0, (begin + size) // self.page - -(-begin // self.page)) * self.page


@dataclass(frozen=True, slots=True, kw_only=True)
class ComesFree:
    """What there is once tensors are gone and the cache is emptied.

    Attributes:
        freed: Bytes of the blocks that are free then, and were in use.
        given_back: Bytes that the driver has back.
        largest: Bytes of the largest free piece that the allocator still has for a request of more than 1 MiB, or 0.
        pieces: Bytes of all of these.
    """

    freed: int
    given_back: int
    largest: int
    pieces: int


def comes_free(segments: Iterable[CacheSegment], gone: Collection[int] = ()) -> ComesFree:
    """Tell what comes free where the blocks at these addresses do.

    Args:
        segments: All that the allocator holds on the device.
        gone: Addresses; those of no block count for nothing.
    """
    freed = given_back = largest = pieces = 0
    for one in segments:
        freed += sum(size for address, size in one.used if address in gone)
        for begin, size in one.free_runs(gone):
            back = one.given_back(begin, size)
            given_back += back
            if one.shared and not one.small and size > back:
                # of pages that go, what lies before and after them stays, in two pieces at most
                pieces += size - back
                largest = max(largest, size - back)
    return ComesFree(freed=freed, given_back=given_back, largest=largest, pieces=pieces)
