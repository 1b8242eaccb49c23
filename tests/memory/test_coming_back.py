"""What comes back where tensors go: of use to a request only where it lies together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nb_oomhelper.memory.coming_back import ComingBack, coming_back
from nb_oomhelper.records.cache import CacheSegment, comes_free
from nb_oomhelper.records.memory import MemorySnapshot
from tests.makers import ALLOCATOR, CUPY, DEVICE, SNAPSHOT, held, holding

pytestmark = pytest.mark.plain

MIB, GIB = 1 << 20, 1 << 30


def segment(*used: int, start: int = 0, size: int = 20 * MIB, **facts: Any) -> CacheSegment:
    """A segment with a block of 8 MiB at each of these places, counted in MiB."""
    return CacheSegment(start=start, size=size, used=tuple((start + one * MIB, 8 * MIB) for one in used), **facts)


class TestSegment:
    def test_free_runs(self) -> None:
        one = segment(0, 8)
        assert list(one.free_runs()) == [(16 * MIB, 4 * MIB)]
        assert list(one.free_runs({0})) == [(0, 8 * MIB), (16 * MIB, 4 * MIB)]
        assert list(one.free_runs({8 * MIB})) == [(8 * MIB, 12 * MIB)]
        assert list(one.free_runs({0, 8 * MIB})) == [(0, 20 * MIB)]
        assert list(segment(0, 8, 12, size=20 * MIB).free_runs()) == []

    def test_whole_or_not_at_all(self) -> None:
        one = segment(0, 8, start=GIB)
        assert comes_free([one], {GIB}).given_back == 0
        found = comes_free([one], {GIB, GIB + 8 * MIB, 5})
        assert (found.freed, found.given_back, found.largest, found.pieces) == (16 * MIB, 20 * MIB, 0, 0)

    def test_page_by_page(self) -> None:
        one = segment(2, 42, size=100 * MIB, page=20 * MIB)
        found = comes_free([one], {42 * MIB})
        assert (found.freed, found.given_back) == (8 * MIB, 80 * MIB)
        assert found.largest == 10 * MIB

    def test_what_no_other_request_may_have(self) -> None:
        kept, dead, small = segment(0, shared=False, kept=True), segment(0, shared=False), segment(0, small=True)
        assert comes_free([kept], {0}).given_back == 0
        assert comes_free([dead], {0}).given_back == comes_free([small], {0}).given_back == 20 * MIB
        assert [comes_free([one]).largest for one in (kept, dead, small)] == [0, 0, 0]


def snapshot(*segments: CacheSegment, **facts: Any) -> MemorySnapshot:
    """Two holders, one of them with the first block of each segment, the other with the second."""
    places = [[one.used[index][0] for one in segments] for index in (0, 1)]
    rows = [holding(kind, kind, sum(8 * MIB for _ in segments)) for kind in ("failed_cell", "variable")]
    holdings = replace(held(*rows), addresses=(tuple(places[0]), tuple(places[1])))
    size = sum(one.size for one in segments)
    back = comes_free(segments).given_back
    own = replace(ALLOCATOR, allocated=16 * MIB * len(segments), reserved=size, whole=back, segments=segments)
    return replace(SNAPSHOT, allocator=replace(own, **facts), holdings=holdings)


def after(memory: MemorySnapshot, *released: int, before: tuple[int, ...] = ()) -> ComingBack:
    return coming_back(memory, frozenset(before), frozenset(released), 0, emptied=True)


class TestComingBack:
    SHARED = tuple(segment(0, 8, start=place * GIB) for place in (1, 2, 3))

    def test_tensors_that_share_segments_make_no_piece(self) -> None:
        found = after(snapshot(*self.SHARED), 0)
        assert (found.freed, found.least, found.most, found.piece) == (24 * MIB, 0, 0, 8 * MIB)
        assert found.in_sum == 3 * 12 * MIB  # what was free before, too
        assert after(snapshot(*self.SHARED), 0, 1).least == 60 * MIB

    def test_after_another_fix(self) -> None:
        found = after(snapshot(*self.SHARED), 1, before=(0,))
        assert (found.freed, found.least) == (24 * MIB, 60 * MIB)

    def test_too_many_blocks_to_know(self) -> None:
        found = after(snapshot(*self.SHARED, segments=None), 0)
        assert (found.least, found.most, found.piece) == (0, 24 * MIB + 12 * MIB, None)

    def test_what_no_address_is_known_of_may_come_in_any_piece(self) -> None:
        memory = snapshot(*self.SHARED)
        unplaced = replace(memory, holdings=replace(memory.holdings, addresses=((), ())))
        found = after(unplaced, 0)
        assert (found.freed, found.least, found.most) == (24 * MIB, 0, 24 * MIB)

    def test_another_frameworks_cache(self) -> None:
        memory = replace(snapshot(*self.SHARED), others=(replace(CUPY, allocated=0),))
        found = after(memory, 0)
        assert (found.least, found.most) == (GIB, GIB)
        limited = replace(memory, allocator=replace(memory.allocator, limit=4 * GIB))  # type: ignore[type-var]
        assert (after(limited, 0).least, after(limited, 0).most) == (0, GIB)

    def test_a_process_gives_back_to_the_driver(self) -> None:
        found = coming_back(snapshot(*self.SHARED), frozenset(), frozenset(), GIB, emptied=False, outside=True)
        assert (found.freed, found.least, found.most, found.piece) == (GIB, GIB, GIB, None)

    @pytest.mark.parametrize(("limit", "useful"), [(8, 2), (6, 0), (7, 0.5), (None, 2)])
    def test_what_a_process_frees_past_the_limit_is_of_no_use(self, limit: int | None, useful: float) -> None:
        own = replace(ALLOCATOR, reserved=5 * GIB + GIB // 2, limit=None if limit is None else limit * GIB)
        memory = replace(SNAPSHOT, allocator=own, device=replace(DEVICE, free=GIB // 2 if limit == 8 else GIB))
        found = coming_back(memory, frozenset(), frozenset(), 2 * GIB, emptied=False, outside=True)
        assert (found.freed, found.least) == (2 * GIB, useful * GIB)

    def test_where_what_goes_lies_is_unknown(self) -> None:
        found = coming_back(snapshot(*self.SHARED), frozenset(), frozenset(), 24 * MIB, emptied=False)
        assert (found.freed, found.least, found.most) == (24 * MIB, 0, 24 * MIB)

    @pytest.mark.parametrize(
        ("piece", "requested", "printed", "said", "fits"),
        [
            (None, 100, 0, False, False),
            (100 * MIB, 100 * MIB, 0, False, True),
            (100 * MIB, 101 * MIB, 0, False, False),
            (100 * MIB, 101 * MIB, MIB, False, None),
            (5 * MIB, 20 * MIB, 0, False, None),  # the text says 20 for 5
            (0, 20 * MIB, 0, False, False),
            (0, 100 * MIB, 0, True, True),
        ],
    )
    def test_a_piece_serves(self, piece: Any, requested: int, printed: int, said: bool, fits: bool | None) -> None:
        back = ComingBack(freed=0, least=0, most=0, in_sum=0, piece=piece)
        assert back.served(requested, printed, said) is fits

    def test_requests_are_rounded_up_to_pages(self) -> None:
        assert ComingBack(freed=0, least=0, most=0, in_sum=0, page=20).asked(41) == 60
        assert ComingBack(freed=0, least=0, most=0, in_sum=0).asked(41) == 41
